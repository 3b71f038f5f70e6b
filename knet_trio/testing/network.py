"""The simulated network that a test holds."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address
from itertools import combinations, product

import trio

from knet_trio._state.turns import counted_turns
from knet_trio._state.workers import simulated_workers
from knet_trio._transport import substitute_transports
from knet_trio._transport.sctp import SctpTransport
from knet_trio.address import parse_address
from knet_trio.config import check_boolean
from knet_trio.testing.conditions import Conditions, Interface, Route
from knet_trio.testing.endpoint import SimulatedTransport
from knet_trio.testing.fabric import Fabric
from knet_trio.testing.packets import NetworkStatistics, PacketRecord
from knet_trio.testing.wire import Wire

AddressLike = str | IPv4Address | IPv6Address
"""An IP address, without a port."""

AddressTuple = tuple[AddressLike, int]
"""An IP address and a port."""


class SimulatedNetwork:
    """Addresses, a wire each way between every two of them, and what happens to packets there.

    ``open_network`` makes it. An address, ``"10.0.0.1"``, is there once a link is bound to it or it
    was named here. Changes apply to what is sent from then on; what is on its way arrives. All
    methods raise InvalidArgumentError for what is not an IP address.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def __repr__(self) -> str:
        return f"<SimulatedNetwork: seed={self.seed}>"

    @property
    def seed(self) -> int:
        """The number that decides everything that is left to chance."""
        return self._fabric.seed

    # Wires.

    @property
    def conditions(self) -> Conditions:
        """The conditions of every wire that was not given its own. Settable."""
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
        """Give the wire between two addresses conditions of its own; None for the network's.

        With ``one_way`` only the direction from ``a`` to ``b``.
        """
        for wire in self._ways(a, b, one_way):
            wire.own = conditions

    def get_wire(self, source: AddressLike, destination: AddressLike) -> Conditions:
        """Return the conditions from ``source`` to ``destination``."""
        (wire,) = self._ways(source, destination, one_way=True)
        return wire.own or self.conditions

    def cut(
        self, a: AddressLike, b: AddressLike, *, one_way: bool = False, tells: bool = False
    ) -> None:
        """Let nothing pass between two addresses, until ``mend`` or ``heal``.

        With ``one_way`` only from ``a`` to ``b``. With ``tells`` a router answers that the host is
        unreachable; else packets are lost silently.
        """
        tells = check_boolean("tells", tells)
        for wire in self._ways(a, b, one_way):
            wire.cut = True
            wire.tells = tells

    def mend(self, a: AddressLike, b: AddressLike, *, one_way: bool = False) -> None:
        """Undo ``cut``."""
        for wire in self._ways(a, b, one_way):
            wire.cut = False

    def break_connections(self, a: AddressLike, b: AddressLike) -> int:
        """Break all connections between two addresses, as a firewall does that forgets them.

        Both ends are told at once, even where nothing passes, and those that are still being made
        fail. New ones are made as soon as ``reconnect_interval`` allows. UDP has none.

        Returns:
            How many ends were told.
        """
        return self._fabric.sctp.break_between(_host(a), _host(b))

    def partition(self, *groups: Iterable[AddressLike]) -> None:
        """Cut every wire between addresses of different ``groups``, until ``heal``.

        Addresses that no group names keep their wires.
        """
        for group, other in combinations([list(group) for group in groups], 2):
            for a, b in product(group, other):
                self.cut(a, b)

    def heal(self) -> None:
        """Mend everything that is cut."""
        for wire in self._fabric.wires.values():
            wire.cut = False

    # Interfaces.

    def set_interface(self, address: AddressLike, interface: Interface) -> None:
        """Set the properties of the interface with ``address``.

        What waits to be sent is sent at the new rate.
        """
        state = self._fabric.state(_host(address))
        state.configure(interface)
        self._fabric.wake(state)

    def get_interface(self, address: AddressLike) -> Interface:
        """Return the properties of the interface with ``address``."""
        return self._fabric.state(_host(address)).settings

    # Routes.

    def set_route(
        self,
        source: AddressLike,
        destinations: AddressLike | Iterable[AddressLike],
        route: Route | None,
    ) -> None:
        """Have all that ``source`` sends to ``destinations`` wait in one queue; None for no queue.

        That queue is on the sending machine, before that of the interface: what waits in it is in
        the send buffers of the sockets that sent it. What waited before goes on in it. If one of
        the routes was held, all with the same queue are.
        """
        if isinstance(destinations, AddressLike):
            destinations = [destinations]
        hosts = [_host(destination) for destination in destinations]
        self._fabric.state(_host(source)).set_route(hosts, route or Route())

    def hold(self, a: AddressLike, b: AddressLike, *, one_way: bool = False) -> None:
        """Let nothing that is sent between two addresses leave its machine, until ``release``.

        It waits there while there is room: see ``Interface``. With ``one_way`` only what ``a``
        sends to ``b``. Routes with one queue in common are held together.
        """
        for source, destination in self._pairs(a, b, one_way):
            self._fabric.state(source).hold(destination)

    def release(self, a: AddressLike, b: AddressLike, *, one_way: bool = False) -> None:
        """Undo ``hold``: what waits is sent now."""
        for source, destination in self._pairs(a, b, one_way):
            self._fabric.state(source).release(destination)

    def take_down(self, *addresses: AddressLike) -> None:
        """Switch interfaces off: sending fails with ENETUNREACH, what arrives is lost silently.

        That is also what others see of a machine without power, whose program is the test's to end.
        """
        for address in addresses:
            self._fabric.state(_host(address)).up = False

    def bring_up(self, *addresses: AddressLike) -> None:
        """Switch interfaces on again."""
        for address in addresses:
            self._fabric.state(_host(address)).up = True

    def pause(self, *addresses: AddressLike) -> None:
        """Stop a process, as others see it: nothing leaves its sockets or comes out of them.

        Name all addresses it has links at. What arrives waits in its sockets while they have room.
        Others see no difference to a process that was stopped (SIGSTOP), but the process does,
        since its own time goes on: its pings are left out, its messages wait, and missing pongs it
        takes its links down.
        """
        for address in addresses:
            self._fabric.state(_host(address)).paused = True

    def resume(self, *addresses: AddressLike) -> None:
        """Let it go on: what waits is received and sent now."""
        for address in addresses:
            state = self._fabric.state(_host(address))
            state.paused = False
            self._fabric.wake(state)

    def move(self, old: AddressLike, new: AddressLike) -> None:
        """Have what is at address ``old`` at ``new`` from now on, like a NAT that maps it anew.

        Its sockets stay open and do not notice; others see packets come from ``new``, and reach
        it there. Sockets that are bound to ``old`` later are at ``old``.

        Raises:
            InvalidArgumentError: Nothing is at ``old``, or something is at ``new``.
        """
        self._fabric.move(_host(old), _host(new))

    # What others send.

    def inject(self, data: bytes, source: AddressTuple, destination: AddressTuple) -> bool:
        """Have a packet arrive now that somebody sent with ``source`` in its header.

        So an attacker sends what ``trace`` has recorded, or what he has made, from whichever
        address he likes.

        Args:
            data: The bytes of the packet.
            source: The address and port that it says it comes from.
            destination: Those that it is for.

        Returns:
            Whether a socket has it.
        """
        return self._fabric.inject(bytes(data), parse_address(*source), parse_address(*destination))

    # What it knows.

    @property
    def trace(self) -> Callable[[PacketRecord], None] | None:
        """Called for each packet when its way has ended; at first None. Settable."""
        return self._fabric.trace

    @trace.setter
    def trace(self, trace: Callable[[PacketRecord], None] | None) -> None:
        self._fabric.trace = trace

    def statistics(self) -> NetworkStatistics:
        """Return the counters as they are now."""
        return self._fabric.statistics()

    def _ways(self, a: AddressLike, b: AddressLike, one_way: bool) -> list[Wire]:
        return [self._fabric.wire(*pair) for pair in self._pairs(a, b, one_way)]

    @staticmethod
    def _pairs(a: AddressLike, b: AddressLike, one_way: bool) -> list[tuple[str, str]]:
        """Source and destination of each way."""
        source, destination = _host(a), _host(b)
        there = [(source, destination)]
        return there if check_boolean("one_way", one_way) else [*there, (destination, source)]


@asynccontextmanager
async def open_network(
    seed: int | None = None,
    *,
    conditions: Conditions = Conditions(),  # noqa: B008  # frozen
    interface: Interface = Interface(),  # noqa: B008  # frozen
) -> AsyncGenerator[SimulatedNetwork, None]:
    """Open a simulated network, which carries the links that are added in the block.

    Links added by tasks that were started in it are on it too. There are UDP and SCTP.
    Open handles in the block, and close them in it.

    It works with every clock. ``knet_trio.testing.run`` brings one that jumps from event to event,
    and has the whole program run the same way each time. The block owns a nursery, so errors leave
    it in exception groups.

    Args:
        seed: Decides everything that is left to chance. None draws one; an error that leaves the
            block has a note that tells it.
        conditions: Those of every wire until it is given others.
        interface: The properties of every interface until it is given others.
    """
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
                yield SimulatedNetwork(fabric)
            nursery.cancel_scope.cancel()
    except BaseException as error:
        error.add_note(f"on a simulated network with seed={seed}")
        raise


def _host(address: AddressLike) -> str:
    """An address in its canonical form."""
    return parse_address(address, 0).host
