"""The simulated network that a test controls."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from itertools import combinations, product
from typing import final

import trio

from knet_trio._constructors import NoPublicConstructor, construct
from knet_trio._opening import opens
from knet_trio._state.turns import counted_turns
from knet_trio._state.workers import simulated_workers
from knet_trio._transport import substitute_transports
from knet_trio._transport.sctp import SctpTransport
from knet_trio.address import parse_address
from knet_trio.config import check_boolean
from knet_trio.testing.conditions import (
    Conditions,
    Interface,
    Route,
    check_seed,
    check_type,
)
from knet_trio.testing.endpoint import SimulatedTransport
from knet_trio.testing.fabric import Fabric
from knet_trio.testing.packets import NetworkStatistics, PacketRecord
from knet_trio.testing.wire import Wire

AddressLike = str | IPv4Address | IPv6Address
"""An IP address, without a port."""

AddressTuple = tuple[AddressLike, int]
"""An IP address and a port."""


@final
class SimulatedNetwork(metaclass=NoPublicConstructor):
    """A simulated network: addresses, and a wire in each direction between every two of them.

    ``open_network`` returns it. An address such as ``"10.0.0.1"`` exists once a link is bound to it
    or a method was called with it. Changes apply to packets sent from then on; packets in flight
    arrive. All methods raise InvalidArgumentError for an invalid IP address.
    """

    _MADE_BY = "knet_trio.testing.open_network() or run()"

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def __repr__(self) -> str:
        return f"<SimulatedNetwork: seed={self.seed}>"

    @property
    def seed(self) -> int:
        """The seed of all random decisions."""
        return self._fabric.seed

    # Wires.

    @property
    def conditions(self) -> Conditions:
        """The conditions of every wire without its own. Settable."""
        return self._fabric.conditions

    @conditions.setter
    def conditions(self, conditions: Conditions) -> None:
        self._fabric.conditions = conditions

    def set_wire(
        self,
        a: AddressLike,
        b: AddressLike,
        conditions: Conditions | None,
        *,
        one_way: bool = False,
    ) -> None:
        """Set the conditions of the wire between two addresses.

        Args:
            a: One address.
            b: The other address.
            conditions: The conditions; None for those of the network.
            one_way: True to set only the direction from ``a`` to ``b``.
        """
        for wire in self._ways(a, b, one_way):
            wire.own = conditions

    def get_wire(self, source: AddressLike, destination: AddressLike) -> Conditions:
        """Return the conditions of the wire from one address to another.

        Args:
            source: The address that sends.
            destination: The address that receives.
        """
        (wire,) = self._ways(source, destination, one_way=True)
        return wire.own or self.conditions

    def cut(
        self, a: AddressLike, b: AddressLike, *, one_way: bool = False, tells: bool = False
    ) -> None:
        """Cut the wire between two addresses, until ``mend`` or ``heal``.

        Args:
            a: One address.
            b: The other address.
            one_way: True to cut only the direction from ``a`` to ``b``.
            tells: True if a router answers "host unreachable" (ICMP); False to lose packets
                silently.
        """
        tells = check_boolean("tells", tells)
        for wire in self._ways(a, b, one_way):
            wire.cut = True
            wire.tells = tells

    def mend(self, a: AddressLike, b: AddressLike, *, one_way: bool = False) -> None:
        """Undo ``cut``.

        Args:
            a: One address.
            b: The other address.
            one_way: True to mend only the direction from ``a`` to ``b``.
        """
        for wire in self._ways(a, b, one_way):
            wire.cut = False

    def break_connections(self, a: AddressLike, b: AddressLike) -> int:
        """Break all SCTP connections between two addresses, as a firewall that forgets them does.

        Both ends are notified at once, even over a wire that is cut, and attempts to connect fail.
        New connections are made after ``reconnect_interval``. UDP has no connections.

        Args:
            a: One address.
            b: The other address.

        Returns:
            The number of ends that were notified.
        """
        return self._fabric.sctp.break_between(_host(a), _host(b))

    def partition(self, *groups: Iterable[AddressLike]) -> None:
        """Cut every wire between addresses of different groups, until ``heal``.

        Addresses that are in no group keep their wires.

        Args:
            *groups: The addresses of each group.
        """
        for group, other in combinations([list(group) for group in groups], 2):
            for a, b in product(group, other):
                self.cut(a, b)

    def heal(self) -> None:
        """Mend all wires that are cut."""
        for wire in self._fabric.wires.values():
            wire.cut = False

    # Interfaces.

    def set_interface(self, address: AddressLike, interface: Interface) -> None:
        """Set the properties of the interface with an address.

        Packets that wait in its queue are sent at the new rate.

        Args:
            address: The address.
            interface: The properties.
        """
        state = self._fabric.state(_host(address))
        state.configure(interface)
        self._fabric.wake(state)

    def get_interface(self, address: AddressLike) -> Interface:
        """Return the properties of the interface with an address.

        Args:
            address: The address.
        """
        return self._fabric.state(_host(address)).settings

    # Routes.

    def set_route(
        self,
        source: AddressLike,
        destinations: AddressLike | Iterable[AddressLike],
        route: Route | None,
    ) -> None:
        """Give the routes from one address to others a common queue.

        The queue is on the sending machine, before the interface's own: packets in it occupy the
        send buffers of their sockets. Packets in former queues of these routes, which no other
        route shares, move to it. If one of the routes was held, all of them are held.

        Args:
            source: The address that sends.
            destinations: The address or addresses that receive.
            route: The properties of the queue; None for an unlimited rate.
        """
        if isinstance(destinations, AddressLike):
            destinations = [destinations]
        hosts = [_host(destination) for destination in destinations]
        self._fabric.state(_host(source)).set_route(hosts, route or Route())

    def hold(self, a: AddressLike, b: AddressLike, *, one_way: bool = False) -> None:
        """Hold all packets between two addresses on the sending machines, until ``release``.

        They wait there while there is room: see ``Interface``. Routes with a common queue are held
        together.

        Args:
            a: One address.
            b: The other address.
            one_way: True to hold only the direction from ``a`` to ``b``.
        """
        for source, destination in self._pairs(a, b, one_way):
            self._fabric.state(source).hold(destination)

    def release(self, a: AddressLike, b: AddressLike, *, one_way: bool = False) -> None:
        """Undo ``hold``: the waiting packets are sent now.

        Args:
            a: One address.
            b: The other address.
            one_way: True to release only the direction from ``a`` to ``b``.
        """
        for source, destination in self._pairs(a, b, one_way):
            self._fabric.state(source).release(destination)

    def take_down(self, *addresses: AddressLike) -> None:
        """Switch interfaces off: sending fails with ENETUNREACH, arriving packets are lost.

        Others see the same of a machine without power; then end its program too.

        Args:
            *addresses: The addresses of the interfaces.
        """
        for address in addresses:
            self._fabric.state(_host(address)).up = False

    def bring_up(self, *addresses: AddressLike) -> None:
        """Switch interfaces on again.

        Args:
            *addresses: The addresses of the interfaces.
        """
        for address in addresses:
            self._fabric.state(_host(address)).up = True

    def pause(self, *addresses: AddressLike) -> None:
        """Pause a process, as others see it: its sockets neither send nor deliver packets.

        Packets that arrive wait in its receive buffers while there is room. Others see no
        difference to a stopped process (SIGSTOP). The process itself goes on: its pings are left
        out, its messages wait, and without pongs it takes its links down.

        Args:
            *addresses: All addresses at which the process has links.
        """
        for address in addresses:
            self._fabric.state(_host(address)).paused = True

    def resume(self, *addresses: AddressLike) -> None:
        """Undo ``pause``: the waiting packets are received and sent now.

        Args:
            *addresses: The addresses that were paused.
        """
        for address in addresses:
            state = self._fabric.state(_host(address))
            state.paused = False
            self._fabric.wake(state)

    def move(self, old: AddressLike, new: AddressLike) -> None:
        """Move the sockets at one address to another, as a NAT does that changes its mapping.

        The sockets stay open and do not notice; others see their packets come from ``new`` and
        reach them there. Sockets that are bound to ``old`` later are at ``old``.

        Args:
            old: The present address.
            new: The new address.

        Raises:
            InvalidArgumentError: Nothing is at ``old``, or ``new`` is in use.
        """
        self._fabric.move(_host(old), _host(new))

    # Packets of attackers.

    def inject(self, data: bytes, source: AddressTuple, destination: AddressTuple) -> bool:
        """Deliver a packet now, with a source address of choice.

        Use it to play an attacker, who replays packets that ``trace`` has recorded or forges new
        ones, from any address.

        Args:
            data: The payload of the packet.
            source: The source address and port in its header.
            destination: The destination address and port.

        Returns:
            True if a socket received the packet.
        """
        return self._fabric.inject(bytes(data), parse_address(*source), parse_address(*destination))

    # Observation.

    @property
    def trace(self) -> Callable[[PacketRecord], None] | None:
        """A function that is called for each packet at the end of its way, or None. Settable."""
        return self._fabric.trace

    @trace.setter
    def trace(self, trace: Callable[[PacketRecord], None] | None) -> None:
        self._fabric.trace = trace

    def statistics(self) -> NetworkStatistics:
        """Return the present counters."""
        return self._fabric.statistics()

    def _ways(self, a: AddressLike, b: AddressLike, one_way: bool) -> list[Wire]:
        return [self._fabric.wire(*pair) for pair in self._pairs(a, b, one_way)]

    @staticmethod
    def _pairs(a: AddressLike, b: AddressLike, one_way: bool) -> list[tuple[str, str]]:
        """Return source and destination of each direction."""
        source, destination = _host(a), _host(b)
        there = [(source, destination)]
        return there if check_boolean("one_way", one_way) else [*there, (destination, source)]


@opens("open_network() as network")
async def open_network(
    seed: int | None = None,
    *,
    conditions: Conditions = Conditions(),  # noqa: B008  # frozen
    interface: Interface = Interface(),  # noqa: B008  # frozen
) -> AsyncGenerator[SimulatedNetwork, None]:
    """Open a simulated network, which carries all links that are added in the block.

    Links that are added by tasks started in the block use it too. The network has UDP and SCTP.
    Open and close handles inside the block.

    The network works with any clock. ``knet_trio.testing.run`` adds a clock that jumps from event
    to event, and makes the whole run repeatable. The block owns a nursery, so errors leave it in
    exception groups.

    Args:
        seed: The seed of all random decisions. None draws one; an error that leaves the block has a
            note with the seed.
        conditions: The conditions of every wire, until set otherwise.
        interface: The properties of every interface, until set otherwise.

    Yields:
        The network.

    Raises:
        InvalidArgumentError: An argument has the wrong type.
    """
    check_seed(seed)
    check_type("conditions", conditions, Conditions)
    check_type("interface", interface, Interface)
    seed = secrets.randbelow(2**32) if seed is None else seed
    fabric = Fabric(seed, conditions, interface)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fabric.timeline.run, name="simulated network")
            with (
                substitute_transports(
                    SimulatedTransport(fabric), SctpTransport(fabric.sctp.listen)
                ),
                simulated_workers(),
                counted_turns(),
            ):
                yield construct(SimulatedNetwork, fabric)
            nursery.cancel_scope.cancel()
    except BaseException as error:
        error.add_note(f"on a simulated network with seed={seed}")
        raise


def _host(address: AddressLike) -> str:
    """Return an address in its canonical form."""
    return parse_address(address, 0).host
