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
    pytest_plugin  the fixture ``knet_network`` and the mark ``knet``

``docs/testing.md`` shows how to use it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
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

# Names are imported when they are first asked for: pytest imports the plugin, and so this module,
# in every run where knet_trio is installed. The imports above say the same to type checkers.
_MODULE_OF: Final = {
    "Conditions": "conditions",
    "Fate": "packets",
    "Interface": "conditions",
    "NetworkStatistics": "packets",
    "PacketRecord": "packets",
    "Route": "conditions",
    "SimulatedNetwork": "network",
    "open_network": "network",
    "run": "running",
}


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=None)
    value: object = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
