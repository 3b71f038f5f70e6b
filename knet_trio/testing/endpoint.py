"""Sockets on a simulated network, as a handle sees them."""

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

# What is taken at once, as from a real socket (transport/udp.py).
RECEIVE_TRAINS: Final = 64
RECEIVE_BYTES: Final = 384 * 1024
TRAIN_DATAGRAMS: Final = 64
TRAIN_BYTES: Final = 65535
# The share of the send buffer that a socket for one peer alone has.
CONNECTED_SHARE: Final = 1 / 8


def onwire_size(destination: Address, datagram: bytes) -> int:
    """How many bytes a datagram has with its headers."""
    headers = (IPV6_HEADER if destination.is_ipv6 else IPV4_HEADER) + UDP_HEADER
    return headers + len(datagram)


class Medium(Protocol):
    """The network, as its sockets see it."""

    @abstractmethod
    def connect(
        self, endpoint: SimulatedEndpoint, destination: Address
    ) -> SimulatedEndpoint | None:
        """A socket at the same address for one peer alone, None if that cannot be."""

    @abstractmethod
    def forget(self, endpoint: SimulatedEndpoint) -> None:
        """A socket is closed."""


class SimulatedEndpoint(Endpoint):
    """A socket on a simulated network.

    ``seen`` is the address that others see it at, which is ``local`` unless it has moved. ``peer``
    is whom it is for alone, None for everybody.
    """

    def __init__(
        self,
        medium: Medium,
        local: Address,
        interface: InterfaceState,
        peer: Address | None = None,
    ) -> None:
        self.local = self.seen = local
        self.interface = interface
        self.peer = peer
        self._medium = medium
        self._closed = False
        # Whether somebody works on what was received last.
        self._at_work = False
        # What was sent and is still on this machine, in bytes.
        self._unsent = 0
        self._datagrams: deque[tuple[bytes, Address]] = deque()
        self._held = 0
        # How many bytes were taken so far, and how many when each trouble came.
        self._taken = 0
        self._troubles: list[tuple[PathTrouble, int]] = []
        self._readers = trio.lowlevel.ParkingLot()
        self._senders = trio.lowlevel.ParkingLot()

    # What the handle does.

    async def receive(self) -> Arrivals:
        """Wait until there is something, unless the interface is paused, and take it."""
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
        """Put datagrams on the wire, until one is refused or finds no room."""
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
            # As Linux has it: for IPv4 without the port.
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
        """Wait until half of the send buffer is empty and the interface is not paused."""
        if self._writable:
            await trio.lowlevel.checkpoint()
        while True:
            await self._check_open()
            if self._writable:
                return
            await self._senders.park()

    @property
    def backlog(self) -> float:
        """How much of the send buffer is in use by what has not left the machine."""
        return 0.0 if self._closed else min(1.0, self._unsent / self._send_buffer)

    @property
    def drained(self) -> bool:
        """Whether all that has arrived was taken and worked on."""
        return self._closed or not (self._at_work or self._datagrams)

    def connect(self, destination: Address) -> SimulatedEndpoint | None:
        """A socket at the same address for one peer alone, unless the interface is down."""
        return None if self._closed else self._medium.connect(self, destination)

    def troubles(self) -> list[PathTrouble]:
        """Take what the interface said; what came back waits for what had arrived before."""
        local = [trouble for trouble, _ in self._troubles if trouble.local]
        self._troubles = [
            (trouble, taken) for trouble, taken in self._troubles if not trouble.local
        ]
        return local

    def set_dscp(self, dscp: int) -> None:
        """Nothing here goes by that."""

    def close(self) -> None:
        """Give the address back, and wake whoever waits."""
        if not self._closed:
            self._closed = True
            self._medium.forget(self)
            self.wake()

    # What the network does.

    def put(self, datagram: bytes, source: Address) -> bool:
        """A datagram arrives; False if there is no room for it."""
        if self._held + len(datagram) > self.interface.settings.receive_buffer:
            return False
        self._held += len(datagram)
        self._datagrams.append((datagram, source))
        self._readers.unpark_all()
        return True

    def tell(self, trouble: PathTrouble) -> None:
        """There is something on the error queue."""
        self._troubles.append((trouble, self._taken))
        self._readers.unpark_all()

    def queued(self, size: int) -> None:
        """A packet of ``size`` bytes waits in a queue of the machine."""
        self._unsent += size

    def left(self, size: int) -> None:
        """It has left the machine."""
        self._unsent -= size
        if self._writable:
            self._senders.unpark_all()

    def wake(self) -> None:
        """Have those who wait look again: the interface is another, or not paused any more."""
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
        # As Linux has it, so that a sender is not woken for each packet.
        return not self.interface.paused and 2 * self._unsent <= self._send_buffer

    async def _check_open(self) -> None:
        if self._closed:
            # Who was cancelled and then closed it, after it had been woken, is cancelled.
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("the endpoint was closed")

    def _trains(self) -> list[Train]:
        """What a kernel with segmentation offload would give, one train after the other."""
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
        """Take the troubles that no datagram has to be told before.

        All, once nothing waits, and else those that came as many bytes ago as the buffer holds.
        """
        if not self._datagrams:
            due = len(self._troubles)
        else:
            before = self._taken - self.interface.settings.receive_buffer
            due = sum(taken <= before for _, taken in self._troubles)
        told, self._troubles = self._troubles[:due], self._troubles[due:]
        return [trouble for trouble, _ in told]


class Binder(Protocol):
    """Who binds sockets to addresses."""

    @abstractmethod
    def bind(self, local: Address) -> SimulatedEndpoint:
        """A socket bound to ``local``. Raises TransportError if that cannot be."""


class SimulatedTransport(Transport):
    """UDP, as far as a handle can tell."""

    name: ClassVar[str] = "udp"
    transport_id: ClassVar[int] = 1
    header_size: ClassVar[int] = UDP_HEADER

    def __init__(self, binder: Binder) -> None:
        self._binder = binder

    def open_endpoint(
        self, local: Address, *, privileged: bool, high_priority: bool, dscp: int
    ) -> SimulatedEndpoint:
        """Bind ``local`` on the network; nothing here goes by the options."""
        return self._binder.bind(local)


def _refusal(number: int) -> OSError:
    return OSError(number, os.strerror(number))
