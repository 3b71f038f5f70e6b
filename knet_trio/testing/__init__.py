"""A simulated network, and simulated time, to test programs that use knet_trio.

From the bottom up::

    conditions   what a wire and an interface are like
    passage      what became of a packet
    wire         one direction between two addresses: which packets pass, and when
    timeline     what happens later
    endpoint     the sockets, as a handle sees them
    network      all of it, and what a test can do to it
    replay       running a program on it, the same way each time

``docs/testing.md`` shows how to use it.
"""

from __future__ import annotations

from knet_trio.testing.conditions import Conditions, Interface
from knet_trio.testing.network import SimulatedNetwork, open_network
from knet_trio.testing.passage import Fate, NetworkStatistics, Passage
from knet_trio.testing.replay import run

__all__ = [
    "Conditions",
    "Fate",
    "Interface",
    "NetworkStatistics",
    "Passage",
    "SimulatedNetwork",
    "open_network",
    "run",
]
