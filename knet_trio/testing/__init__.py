"""A simulated network, and simulated time, to test programs that use knet_trio.

From the bottom up::

    conditions   what a wire, an interface and a route are like
    packets      what became of a packet
    wire         one direction between two addresses: which packets pass, and when
    timeline     what happens later
    queues       where packets wait on the machine that sends them
    endpoint     the sockets, as a handle sees them
    sockets      which of them has which address
    chunks       what the ends of an association say to each other
    pieces       messages that are cut, and put together
    association  one end of an association
    sctp         who has which end, and who listens
    fabric       the way of a packet through all of that
    network      all of it, and what a test can do to it
    running      running a program on it, the same way each time

``docs/testing.md`` shows how to use it.
"""

from __future__ import annotations

from knet_trio.testing.conditions import Conditions, Interface, Route
from knet_trio.testing.network import SimulatedNetwork, open_network
from knet_trio.testing.packets import Fate, NetworkStatistics, PacketRecord
from knet_trio.testing.running import run

__all__ = [
    "Conditions",
    "Fate",
    "Interface",
    "NetworkStatistics",
    "PacketRecord",
    "Route",
    "SimulatedNetwork",
    "open_network",
    "run",
]
