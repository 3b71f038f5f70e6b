"""The parts of a simulated network, and the way of a packet through them."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple

import trio

from knet_trio.abc import PathTrouble
from knet_trio.address import Address
from knet_trio.errors import InvalidArgumentError
from knet_trio.testing.chunks import Chunk
from knet_trio.testing.conditions import Conditions, Interface
from knet_trio.testing.endpoint import Binder, Medium, SimulatedEndpoint
from knet_trio.testing.packets import Fate, NetworkStatistics, PacketRecord
from knet_trio.testing.queues import InterfaceState, Outgoing
from knet_trio.testing.sctp import Paths, SctpStack
from knet_trio.testing.sockets import Sockets
from knet_trio.testing.timeline import Timeline
from knet_trio.testing.wire import Wire

# An ICMP message with the headers of the packet that caused it.
_ICMP_SIZE: Final = 56


class _Packet(NamedTuple):
    sent: float
    source: Address
    destination: Address
    data: bytes
    size: int
    taken: float
    chunk: Chunk | None


class Fabric(Medium, Binder, Paths):
    """The wires, interfaces and sockets of a simulated network.

    Args:
        seed: The seed of all random decisions.
        conditions: The conditions of wires without their own.
        interface: The initial settings of interfaces.

    Attributes:
        trace: Called for each packet at the end of its way; None for no trace.
        timeline: The scheduler of later events.
        wires: The wires, by source and destination address.
        sctp: The sockets of associations.
    """

    def __init__(self, seed: int, conditions: Conditions, interface: Interface) -> None:
        self.seed = seed
        self.conditions = conditions
        self.trace: Callable[[PacketRecord], None] | None = None
        self.timeline: Timeline = Timeline()
        # By source and destination.
        self.wires: dict[tuple[str, str], Wire] = {}
        self._interface = interface
        self._interfaces: dict[str, InterfaceState] = {}
        self._sockets = Sockets()
        self.sctp: SctpStack = SctpStack(seed, self)
        self._sent = self._duplicated = self._ended = self._troubles = 0
        self._fates: Counter[Fate] = Counter()

    def wire(self, source: str, destination: str) -> Wire:
        """Return the wire from one address to another."""
        wire = self.wires.get((source, destination))
        if wire is None:
            wire = Wire(f"{self.seed} {source} {destination}")
            self.wires[source, destination] = wire
        return wire

    def state(self, host: str) -> InterfaceState:
        """Return the interface with an address; create it if needed."""
        state = self._interfaces.get(host)
        if state is None:
            state = self._interfaces[host] = InterfaceState(
                self._interface, self.timeline, self._carry
            )
        return state

    def wake(self, state: InterfaceState) -> None:
        """Let the sockets of an interface check its state again."""
        for endpoint in self._sockets:
            if endpoint.interface is state:
                endpoint.wake()
        self.sctp.wake(state)

    def move(self, old: str, new: str) -> None:
        """Move an interface and its sockets to another address."""
        if new in self._interfaces:
            raise InvalidArgumentError(f"{new} is in use: move {old} to a free address")
        if old not in self._interfaces:
            raise InvalidArgumentError(f"nothing is at {old}: give an address that is in use")
        self._interfaces[new] = self._interfaces.pop(old)
        self._sockets.move(old, new)
        self.sctp.move(old, new)

    def path_mtu(self, source: str, destination: str) -> int:
        """Return the largest packet that passes between two addresses now, in bytes."""
        conditions = self.wire(source, destination).own or self.conditions
        return min(conditions.mtu, self.state(source).settings.mtu)

    def statistics(self) -> NetworkStatistics:
        """Return the present counters."""
        return NetworkStatistics(
            sent=self._sent,
            duplicated=self._duplicated,
            in_flight=self._sent + self._duplicated - self._ended,
            fates=MappingProxyType(Counter(self._fates)),
            too_big=sum(interface.too_big for interface in self._interfaces.values()),
            troubles=self._troubles,
        )

    # Called by sockets.

    def bind(self, local: Address) -> SimulatedEndpoint:
        """Bind a socket to ``local``; port 0 chooses a free port."""
        local = self._sockets.choose_address(local)
        endpoint = SimulatedEndpoint(self, local, self.state(local.host))
        self._sockets.add(endpoint)
        return endpoint

    def connect(
        self, endpoint: SimulatedEndpoint, destination: Address
    ) -> SimulatedEndpoint | None:
        """Return a socket at the address of ``endpoint``, connected to ``destination``.

        Returns:
            None if the interface is down, ``endpoint`` is connected itself, or there is such a
            socket already.
        """
        if endpoint.peer is not None or not endpoint.interface.up:
            return None
        if self._sockets.find_connected(endpoint.seen, destination) is not None:
            return None
        connected = SimulatedEndpoint(self, endpoint.local, endpoint.interface, destination)
        connected.seen = endpoint.seen
        self._sockets.add(connected)
        return connected

    def forget(self, endpoint: SimulatedEndpoint) -> None:
        """Remove a socket that was closed."""
        self._sockets.remove(endpoint)

    def inject(self, data: bytes, source: Address, destination: Address) -> bool:
        """Deliver a packet that no socket here has sent; return whether a socket received it."""
        interface = self._interfaces.get(destination.host)
        endpoint = self._sockets.find(destination, source)
        if interface is None or not interface.up or endpoint is None:
            return False
        return endpoint.put(data, source)

    def _carry(self, outgoing: Outgoing, departure: float) -> None:
        """Send a packet that leaves its interface at ``departure`` over its wire."""
        self._sent += 1
        _, source, destination, datagram, size, taken, chunk = outgoing
        packet = _Packet(departure, source, destination, datagram, size, taken, chunk)
        wire = self.wire(source.host, destination.host)
        conditions = wire.own or self.conditions
        if chunk is not None:
            # A piece that was cut for a larger path MTU is fragmented on the way.
            size = min(size, conditions.mtu)
        outcome = wire.carry(conditions, size, departure)
        if isinstance(outcome, Fate):
            self._end(packet, outcome, departure)
            self._complain(packet, outcome, wire, conditions)
            return
        self._duplicated += len(outcome) - 1
        for arrival, damaged in outcome:
            # None if the checksum detects the damage.
            data: bytes | None = datagram
            if damaged:
                checked = conditions.checksum or chunk is not None
                data = None if checked else wire.damage(datagram)
            self.timeline.at(arrival, partial(self._arrive, packet, data, arrival))

    def _arrive(self, packet: _Packet, data: bytes | None, now: float) -> None:
        """Deliver a packet that has reached its destination."""
        self._end(packet, self._receive(packet, data), now)

    def _receive(self, packet: _Packet, data: bytes | None) -> Fate:
        interface = self._interfaces.get(packet.destination.host)
        if interface is None:
            return Fate.NO_HOST
        if not interface.up:
            return Fate.DOWN
        if packet.size > interface.settings.mtu and packet.chunk is None:
            return Fate.TOO_BIG
        if data is None:
            return Fate.CORRUPTED
        if packet.chunk is not None:
            return self.sctp.receive(packet.destination, packet.source, packet.chunk)
        endpoint = self._sockets.find(packet.destination, packet.source)
        if endpoint is None:
            self._refuse(packet)
            return Fate.REFUSED
        if not endpoint.put(data, packet.source):
            return Fate.BUFFER_FULL
        return Fate.DELIVERED if data is packet.data else Fate.DAMAGED

    def _end(self, packet: _Packet, fate: Fate, now: float) -> None:
        self._ended += 1
        self._fates[fate] += 1
        if self.trace is not None:
            sent, source, destination, data, _, taken, chunk = packet
            transport = "udp" if chunk is None else "sctp"
            self.trace(PacketRecord(sent, now, source, destination, data, fate, taken, transport))

    # ICMP.

    def _complain(self, packet: _Packet, fate: Fate, wire: Wire, conditions: Conditions) -> None:
        """Send the ICMP message of a router for a packet that did not pass, if it sends one."""
        if packet.chunk is not None:
            # An association retransmits the packet anyway.
            return
        if fate is Fate.TOO_BIG and not conditions.black_hole:
            trouble = PathTrouble(packet.destination, errno.EMSGSIZE, conditions.mtu, local=False)
        elif fate is Fate.CUT and wire.tells:
            trouble = PathTrouble(packet.destination, errno.EHOSTUNREACH, None, local=False)
        else:
            return
        # The router is half-way: half the latency there, half back.
        self._report(packet.source, trouble, packet.sent + conditions.latency)

    def _refuse(self, packet: _Packet) -> None:
        """Send the ICMP message "port unreachable" of the destination."""
        back = self.wire(packet.destination.host, packet.source.host)
        outcome = back.carry(back.own or self.conditions, _ICMP_SIZE, trio.current_time())
        if not isinstance(outcome, Fate):
            trouble = PathTrouble(packet.destination, errno.ECONNREFUSED, None, local=False)
            self._report(packet.source, trouble, outcome[0].arrival)

    def _report(self, source: Address, trouble: PathTrouble, when: float) -> None:
        def arrive() -> None:
            endpoint = self._sockets.find(source, trouble.destination)
            if endpoint is not None and endpoint.interface.up:
                self._troubles += 1
                endpoint.tell(trouble)

        self.timeline.at(when, arrive)
