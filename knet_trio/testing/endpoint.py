"""Sockets on a simulated network, as a handle sees them, and the interfaces they are bound to."""

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
from knet_trio.testing.conditions import Interface

# What is taken at once, as from a real socket (transport/udp.py).
RECEIVE_TRAINS: Final = 64
RECEIVE_BYTES: Final = 192 * 1024
TRAIN_DATAGRAMS: Final = 64
TRAIN_BYTES: Final = 65535


def onwire_size(destination: Address, datagram: bytes) -> int:
    """How many bytes a datagram has with its headers."""
    headers = (IPV6_HEADER if destination.is_ipv6 else IPV4_HEADER) + UDP_HEADER
    return headers + len(datagram)


class InterfaceState:
    """The interface with one address, as it is now."""

    def __init__(self, settings: Interface) -> None:
        self.settings = settings
        self.up = True
        self.paused = False
        # Sockets that were refused an oversized packet here.
        self.too_big = 0
        # When it will have sent what it has taken.
        self._sent_at = 0.0

    def configure(self, settings: Interface) -> None:
        """It is another from now on; what waits in the old one leaves in its time."""
        self.settings = settings
        self._sent_at = 0.0

    def depart(self, size: int, now: float) -> float | None:
        """When a packet of ``size`` bytes will have been sent; None if there is no room for it."""
        rate = self.settings.rate
        begins = max(now, self._sent_at)
        if begins > now and (begins - now) * rate + size > self.settings.send_buffer:
            return None
        self._sent_at = begins + size / rate
        return self._sent_at

    def room_at(self, now: float) -> float:
        """When there is room for more."""
        # Half of it empty, so that a sender is not woken for each packet.
        return max(now, self._sent_at - self.settings.send_buffer / self.settings.rate / 2)


class Carrier(Protocol):
    """The network, as its sockets see it."""

    @abstractmethod
    def carry(
        self, source: Address, destination: Address, datagram: bytes, size: int, departure: float
    ) -> None:
        """Take a packet that leaves its interface at ``departure``."""

    @abstractmethod
    def release(self, endpoint: SimulatedEndpoint) -> None:
        """Forget a socket that is closed."""


class SimulatedEndpoint(Endpoint):
    """A socket on a simulated network.

    ``seen`` is the address that others see it at, which is ``local`` unless it has moved.
    """

    def __init__(self, carrier: Carrier, local: Address, interface: InterfaceState) -> None:
        self.local = self.seen = local
        self.interface = interface
        self._carrier = carrier
        self._closed = False
        self._datagrams: deque[tuple[bytes, Address]] = deque()
        self._held = 0
        self._troubles: list[PathTrouble] = []
        self._readers = trio.lowlevel.ParkingLot()
        self._senders = trio.lowlevel.ParkingLot()

    # What the handle does.

    async def receive(self) -> Arrivals:
        """Wait until there is something, unless the interface is paused, and take it."""
        if self._closed or self._readable:
            await trio.lowlevel.checkpoint()
        while True:
            self._check_open()
            if self._readable:
                return Arrivals(self._trains(), self.troubles())
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
        departure = interface.depart(size, now)
        if departure is None:
            return False
        self._carrier.carry(self.seen, destination, datagram, size, departure)
        return True

    async def wait_sendable(self) -> None:
        """Wait until the interface has room and is not paused."""
        if self._closed or not self.interface.paused:
            await trio.lowlevel.checkpoint()
        while True:
            self._check_open()
            if self.interface.paused:
                await self._senders.park()
                continue
            now = trio.current_time()
            room_at = self.interface.room_at(now)
            if room_at <= now:
                return
            with trio.move_on_at(room_at):
                await self._senders.park()

    def troubles(self) -> list[PathTrouble]:
        """Take what came back of earlier sends."""
        taken, self._troubles = self._troubles, []
        return taken

    def set_dscp(self, dscp: int) -> None:
        """Nothing here goes by that."""

    def close(self) -> None:
        """Give the address back, and wake whoever waits."""
        if not self._closed:
            self._closed = True
            self._carrier.release(self)
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
        self._troubles.append(trouble)
        self._readers.unpark_all()

    def wake(self) -> None:
        """Have those who wait look again: the interface is not paused any more."""
        self._readers.unpark_all()
        self._senders.unpark_all()

    @property
    def _readable(self) -> bool:
        return bool(self._datagrams or self._troubles) and not self.interface.paused

    def _check_open(self) -> None:
        if self._closed:
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
        return trains


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
