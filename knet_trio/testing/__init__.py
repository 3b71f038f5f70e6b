"""A simulated network and simulated time, for tests of programs that use knet_trio.

From the bottom up::

    conditions   the settings of wires, interfaces and routes
    packets      the fates of packets, and the counters
    wire         one direction between two addresses: which packets pass, and when
    timeline     the scheduler of later events
    queues       the queues of a sending machine
    endpoint     UDP sockets, as a handle sees them
    sockets      the table of UDP sockets by address
    chunks       the packets of SCTP associations
    pieces       fragmentation and reassembly of SCTP messages
    association  one end of an SCTP association
    sctp         the table of SCTP associations and listeners
    fabric       the way of a packet through all of that
    network      the network that a test controls
    running      running a program on a network, repeatably

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
