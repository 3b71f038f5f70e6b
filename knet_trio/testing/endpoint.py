"""UDP sockets on a simulated network, as a handle sees them."""

from __future__ import annotations

import errno
import os
from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import ClassVar, Final, Protocol

import trio

from knet_trio._core.sizes import IPV4_HEADER, IPV6_HEADER, UDP_HEADER
from knet_trio.abc import Arrivals, Endpoint, PathTrouble, Train, Transport
from knet_trio.address import Address
from knet_trio.testing.queues import InterfaceState, Outgoing

# The most that one receive returns, as with a real socket (_transport/udp.py).
RECEIVE_TRAINS: Final = 64
RECEIVE_BYTES: Final = 384 * 1024
TRAIN_DATAGRAMS: Final = 64
TRAIN_BYTES: Final = 65535
# The share of the send buffer that a connected socket has.
CONNECTED_SHARE: Final = 1 / 8


def onwire_size(destination: Address, datagram: bytes) -> int:
    """Return the size of a datagram with its headers, in bytes."""
    headers = (IPV6_HEADER if destination.is_ipv6 else IPV4_HEADER) + UDP_HEADER
    return headers + len(datagram)


class Medium(Protocol):
    """The network, as its sockets see it."""

    @abstractmethod
    def connect(
        self, endpoint: SimulatedEndpoint, destination: Address
    ) -> SimulatedEndpoint | None:
        """Return a connected socket at the same address; None if that is not possible."""

    @abstractmethod
    def forget(self, endpoint: SimulatedEndpoint) -> None:
        """Forget a socket that was closed."""


class SimulatedEndpoint(Endpoint):
    """A UDP socket on a simulated network.

    Attributes:
        local: The address that the socket was bound to.
        seen: The address of the socket as others see it; differs from ``local`` after a move.
        interface: The interface with its address.
        peer: The peer of a connected socket; None for an unconnected one.
    """

    def __init__(
        self,
        medium: Medium,
        local: Address,
        interface: InterfaceState,
        peer: Address | None = None,
    ) -> None:
        self.local = local
        self.seen: Address = local
        self.interface = interface
        self.peer = peer
        self._medium = medium
        self._closed = False
        # Whether the handle still processes the datagrams received last.
        self._at_work = False
        # Bytes sent that are still on this machine.
        self._unsent = 0
        self._datagrams: deque[tuple[bytes, Address]] = deque()
        self._held = 0
        # Bytes received by the handle so far, and that number when each trouble arrived.
        self._taken = 0
        self._troubles: list[tuple[PathTrouble, int]] = []
        self._readers = trio.lowlevel.ParkingLot()
        self._senders = trio.lowlevel.ParkingLot()

    # Called by the handle.

    async def receive(self) -> Arrivals:
        """Wait for datagrams or troubles and return them; wait while the interface is paused."""
        self._at_work = False
        if self._readable:
            await trio.lowlevel.checkpoint()
        while True:
            await self._check_open()
            if self._readable:
                self._at_work = True
                return Arrivals(self._trains(), self._due_troubles())
            await self._readers.park()

    def send_nowait(self, datagrams: Sequence[bytes], destination: Address) -> int:
        """Send datagrams until one is refused or finds no room; return the number sent.

        Raises:
            OSError: The first datagram was refused.
        """
        now = trio.current_time()
        for taken, datagram in enumerate(datagrams):
            try:
                sent = self._send(datagram, destination, now)
            except OSError:
                if taken:
                    return taken
                raise
            if not sent:
                return taken
        return len(datagrams)

    def _send(self, datagram: bytes, destination: Address, now: float) -> bool:
        interface = self.interface
        if self._closed:
            raise _refusal(errno.EBADF)
        if interface.paused:
            return False
        if not interface.up:
            raise _refusal(errno.ENETUNREACH)
        size = onwire_size(destination, datagram)
        mtu = interface.settings.mtu
        if size > mtu:
            interface.too_big += 1
            # As on Linux, without the port for IPv4.
            to = destination if destination.is_ipv6 else destination._replace(port=0)
            self.tell(PathTrouble(to, errno.EMSGSIZE, mtu, local=True))
            raise _refusal(errno.EMSGSIZE)
        if self._unsent >= self._send_buffer:
            return False
        packet = Outgoing(self, self.seen, destination, datagram, size, now)
        if not interface.send(packet, now):
            raise _refusal(errno.ENOBUFS)
        return True

    async def wait_sendable(self) -> None:
        """Wait until the send buffer is half empty and the interface is not paused."""
        if self._writable:
            await trio.lowlevel.checkpoint()
        while True:
            await self._check_open()
            if self._writable:
                return
            await self._senders.park()

    @property
    def backlog(self) -> float:
        """The used share of the send buffer, 0 to 1."""
        return 0.0 if self._closed else min(1.0, self._unsent / self._send_buffer)

    @property
    def drained(self) -> bool:
        """True if all datagrams that arrived were received and processed."""
        return self._closed or not (self._at_work or self._datagrams)

    def connect(self, destination: Address) -> SimulatedEndpoint | None:
        """Return a connected socket at the same address; None if the interface is down."""
        return None if self._closed else self._medium.connect(self, destination)

    def troubles(self) -> list[PathTrouble]:
        """Return the local troubles; remote ones wait for the datagrams that arrived before."""
        local = [trouble for trouble, _ in self._troubles if trouble.local]
        self._troubles = [
            (trouble, taken) for trouble, taken in self._troubles if not trouble.local
        ]
        return local

    def set_dscp(self, dscp: int) -> None:
        """Do nothing: the simulation ignores DSCP."""

    def close(self) -> None:
        """Release the address and wake all waiting tasks."""
        if not self._closed:
            self._closed = True
            self._medium.forget(self)
            self.wake()

    # Called by the network.

    def put(self, datagram: bytes, source: Address) -> bool:
        """Add a datagram that arrives; return False if the receive buffer has no room."""
        if self._held + len(datagram) > self.interface.settings.receive_buffer:
            return False
        self._held += len(datagram)
        self._datagrams.append((datagram, source))
        self._readers.unpark_all()
        return True

    def tell(self, trouble: PathTrouble) -> None:
        """Put a trouble on the error queue."""
        self._troubles.append((trouble, self._taken))
        self._readers.unpark_all()

    def queued(self, size: int) -> None:
        """Count a packet of ``size`` bytes that enters a queue of the machine."""
        self._unsent += size

    def left(self, size: int) -> None:
        """Note that a packet of ``size`` bytes has left the machine."""
        self._unsent -= size
        if self._writable:
            self._senders.unpark_all()

    def wake(self) -> None:
        """Let waiting tasks check again: the interface was changed or resumed."""
        self._readers.unpark_all()
        self._senders.unpark_all()

    @property
    def _readable(self) -> bool:
        return bool(self._datagrams or self._troubles) and not self.interface.paused

    @property
    def _send_buffer(self) -> float:
        size = self.interface.settings.send_buffer
        return size if self.peer is None else size * CONNECTED_SHARE

    @property
    def _writable(self) -> bool:
        # As on Linux, so that a sender is not woken for each packet.
        return not self.interface.paused and 2 * self._unsent <= self._send_buffer

    async def _check_open(self) -> None:
        if self._closed:
            # If the task was cancelled too, raise Cancelled and not ClosedResourceError.
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("the endpoint was closed")

    def _trains(self) -> list[Train]:
        """Return waiting datagrams as trains, as a kernel with UDP_GRO does."""
        waiting = self._datagrams
        trains: list[Train] = []
        room = RECEIVE_BYTES
        while waiting and room > 0 and len(trains) < RECEIVE_TRAINS:
            datagram, source = waiting.popleft()
            coupled, size = [datagram], len(datagram)
            most = min(TRAIN_DATAGRAMS, TRAIN_BYTES // size) if size else 1
            while waiting and len(coupled) < most and len(coupled[-1]) == size:
                following, its_source = waiting[0]
                if its_source != source or not 0 < len(following) <= size:
                    break
                coupled.append(following)
                waiting.popleft()
            data = b"".join(coupled)
            trains.append(Train(data, size, source))
            room -= len(data)
            self._held -= len(data)
            self._taken += len(data)
        return trains

    def _due_troubles(self) -> list[PathTrouble]:
        """Remove and return the troubles that do not have to wait for datagrams.

        These are all troubles if no datagram waits, else those that arrived at least one receive
        buffer of bytes ago.
        """
        if not self._datagrams:
            due = len(self._troubles)
        else:
            before = self._taken - self.interface.settings.receive_buffer
            due = sum(taken <= before for _, taken in self._troubles)
        due_troubles, self._troubles = self._troubles[:due], self._troubles[due:]
        return [trouble for trouble, _ in due_troubles]


class Binder(Protocol):
    """Binds sockets to addresses."""

    @abstractmethod
    def bind(self, local: Address) -> SimulatedEndpoint:
        """Return a socket bound to ``local``.

        Raises:
            TransportError: The address cannot be bound.
        """


class SimulatedTransport(Transport):
    """A transport that looks like UDP to a handle."""

    name: ClassVar[str] = "udp"
    transport_id: ClassVar[int] = 1
    header_size: ClassVar[int] = UDP_HEADER

    def __init__(self, binder: Binder) -> None:
        self._binder = binder

    def open_endpoint(
        self, local: Address, *, privileged: bool, high_priority: bool, dscp: int
    ) -> SimulatedEndpoint:
        """Bind ``local`` on the simulated network; the options have no effect."""
        return self._binder.bind(local)


def _refusal(number: int) -> OSError:
    return OSError(number, os.strerror(number))
