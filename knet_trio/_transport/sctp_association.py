"""SCTP associations: one kind that this host makes, and one that a peer has made.

::

    Association                    sends and receives over the socket of an association
      |- ConnectingAssociation     made by this host for a link, again whenever it is lost
      |                            (in ``sctp_connecting``)
      '- AcceptedAssociation       made by a peer; it ends when it is lost

The loss of an association is reported after all packets that came over it before.
"""

from __future__ import annotations

import errno
import math
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import trio

from knet_trio._core.parted import Parted
from knet_trio._transport.sctp_system import AssociationLostError, AssociationSocket
from knet_trio.abc import (
    Arrivals,
    ConnectionChange,
    Endpoint,
    PathTrouble,
    PeerEndpoint,
    SocketWatch,
    Train,
)
from knet_trio.address import Address
from knet_trio.errors import TransportError

# The most that one wake-up takes from a socket, in calls and in bytes.
RECEIVE_CALLS: Final = 64
RECEIVE_BYTES: Final = 384 * 1024
# The largest packet, in bytes, that is little work.
_SMALL: Final = 4096
# The most seconds between packets that come in close succession.
_CLOSE: Final = 0.001
# The seconds to wait if the system reports room but has none: it may have no memory.
_PAUSE: Final = 0.01
# The most small packets that wait here for room in the send buffer, and go before all others.
_MOST_URGENT: Final = 8


class Association(Endpoint):
    """An endpoint with the socket of an association, while there is one.

    Args:
        local: The local address, that of the listener.
        peer: The address of the peer.
        source: The address that is reported as the source of its packets.
        can_watch: True if a ``SocketWatch`` can wait for its sockets.

    Attributes:
        peer: The address of the peer.
        source: The address that is reported as the source of its packets.
        has_spoken: True if a packet has come over it.
        heard_at: When something last came over it, in seconds on Trio's clock.
    """

    def __init__(self, local: Address, peer: Address, source: Address, *, can_watch: bool) -> None:
        self.local = local
        self.peer = peer
        self.source = source
        self.has_spoken = False
        self._can_watch = can_watch
        self._sock: AssociationSocket | None = None
        self._closed = False
        # Set when the socket changes, or is gone.
        self._changed = trio.Event()
        self._changes: deque[ConnectionChange] = deque()
        self._urgent: deque[bytes] = deque()
        # True if the system has reported room, and nothing has been sent since.
        self._room_is_untried = False
        self._watch: SocketWatch | None = None
        self._take: Callable[[bytes, Address], bool] | None = None
        # Packets that were read in the watch, for the task that receives.
        self._first: list[Train] = []
        # True if the last read found nothing.
        self._is_empty = False
        self._at_work = False
        self._arrived_at = self.heard_at = -math.inf
        self._is_busy = False

    def _use(self, sock: AssociationSocket) -> None:
        """Use ``sock``, which has an association, to send and receive."""
        self._sock = sock
        self.heard_at = trio.current_time()
        self.fault = None
        if self._watch is not None:
            self._watch.join()
        self._notify()

    def _drop(self) -> AssociationSocket | None:
        """Stop using the socket, and return it to be closed; None if there is no socket."""
        sock, self._sock = self._sock, None
        self._urgent.clear()
        if sock is not None:
            self._wake(sock)
            if self._watch is not None:
                self._watch.leave()
        self._notify()
        return sock

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _wake(self, sock: AssociationSocket) -> None:
        if self._watch is not None and sock.watched is not None:
            self._watch.wake(sock.watched)
        sock.wake()

    def _break(self, reason: str, number: int = 0) -> None:
        """Handle the loss of the association."""
        raise NotImplementedError

    # Receiving.

    async def receive(self) -> Arrivals:
        """Wait until packets arrive, or the association is established or lost.

        Raises:
            trio.ClosedResourceError: The endpoint was closed.
        """
        self._at_work = False
        while True:
            if self._closed:
                await trio.lowlevel.checkpoint()
                raise trio.ClosedResourceError("the endpoint was closed")
            if self._has_pending():
                await trio.lowlevel.checkpoint()
                if not self._has_pending():
                    # The association was reset meanwhile, which is not reported.
                    continue
                trains, self._first = self._first, []
                change = None if trains else self._changes.popleft()
                self._at_work = bool(trains)
                return Arrivals(trains, [], change)
            sock = self._sock
            if sock is None:
                await self._wait_connected()
                continue
            await self._wait_readable(sock)
            trains = self._drain()
            if trains:
                now = time.perf_counter()
                self._is_busy = now - self._arrived_at < _CLOSE
                self._arrived_at = now
                self.heard_at = trio.current_time()
                self._at_work = True
                return Arrivals(trains, [])

    def _has_pending(self) -> bool:
        """Return whether there is something to report that does not come from the socket."""
        return bool(self._changes or (self._first and self._sock is None))

    async def _wait_connected(self) -> None:
        """Wait until there may be an association."""
        await self._changed.wait()

    async def _wait_readable(self, sock: AssociationSocket) -> None:
        if self._watch is None or self._is_busy or sock.watched is None:
            await sock.wait_readable()
            return
        try:
            await self._watch.wait_readable(sock.watched, self._take_one)
        except trio.ClosedResourceError:
            # The socket was replaced or closed.
            return

    def use_watch(self, watch: SocketWatch, take: Callable[[bytes, Address], bool]) -> None:
        """Wait in ``watch`` while the association is quiet.

        Args:
            watch: The watch.
            take: Called with each small packet and its source; returns True for data.
        """
        if not self._can_watch:
            return
        self._watch, self._take = watch, take
        if self._sock is not None:
            watch.join()

    def _take_one(self) -> bool:
        """Take a single small packet; return False if the receiving task has to run."""
        sock = self._sock
        assert sock is not None
        assert self._take is not None
        # Otherwise the receiving task decides whether the packets are useful.
        is_known = self.has_spoken and self.is_welcome
        packet = self._read(sock)
        if packet is None:
            return self._sock is sock
        if len(packet) > _SMALL or not is_known:
            self._first.append(Train(packet, len(packet), self.source))
            return False
        self._at_work = True
        is_data = self._take(packet, self.source)
        self._at_work = False
        self.heard_at = trio.current_time()
        if is_data:
            before, self._arrived_at = self._arrived_at, time.perf_counter()
            self._is_busy = self._arrived_at - before < _CLOSE
            return not self._is_busy
        return True

    def _drain(self) -> list[Train]:
        trains, self._first = self._first, []
        room = RECEIVE_BYTES
        for _ in range(RECEIVE_CALLS):
            # The association may be lost while it is read.
            sock = self._sock
            packet = None if sock is None else self._read(sock)
            if packet is not None:
                trains.append(Train(packet, len(packet), self.source))
                room -= len(packet)
            if sock is None or self._is_empty or room < 0:
                break
        return trains

    def _read(self, sock: AssociationSocket) -> bytes | None:
        """Read once; return a whole packet, or None."""
        self._is_empty = False
        try:
            packet = sock.read()
        except BlockingIOError:
            self._is_empty = True
            return None
        except AssociationLostError as error:
            self._break(error.reason, error.number)
            return None
        if packet is not None:
            self.has_spoken = True
        return packet

    @property
    def drained(self) -> bool:
        """True if all packets that have arrived were read and handled."""
        if self._at_work or self._first or self._changes:
            return False
        return self._sock is None or self._sock.is_empty()

    # Sending.

    def send_nowait(self, datagrams: Sequence[bytes], destination: Address) -> int:
        """Send datagrams until the send buffer is full; return how many were sent.

        Raises:
            OSError: There is no association, or the system refuses the first datagram.
        """
        sock = self._connected()
        sent = 0
        try:
            if self._urgent and not self._send_urgent(sock):
                return 0
            if type(datagrams) is Parted:
                for parts in datagrams.parts:
                    sock.send_parts(parts)
                    sent += 1
                    self._room_is_untried = False
                return sent
            for datagram in datagrams:
                sock.send(datagram)
                sent += 1
                self._room_is_untried = False
        except BlockingIOError:
            return sent
        except OSError:
            # If the association is lost, the receiving task finds out.
            if not sent:
                raise
        return sent

    def send_urgent_nowait(self, datagram: bytes, destination: Address) -> bool:
        """Send a small datagram ahead of the data in the send buffer.

        If there is no room, the datagram waits here, and goes before all that is sent later.

        Returns:
            True if the datagram was sent or waits here.
        """
        sock = self._connected()
        if len(datagram) > _SMALL:
            return self.send_nowait((datagram,), destination) == 1
        if len(self._urgent) >= _MOST_URGENT and not self._send_urgent(sock):
            return False
        self._urgent.append(datagram)
        self._send_urgent(sock)
        return True

    def _connected(self) -> AssociationSocket:
        """Return the socket of the association, or raise OSError (ENOTCONN)."""
        if self._sock is None:
            raise OSError(errno.ENOTCONN, self.fault or os.strerror(errno.ENOTCONN))
        return self._sock

    def _send_urgent(self, sock: AssociationSocket) -> bool:
        """Send the waiting urgent packets; return whether the system took all of them."""
        urgent = self._urgent
        while urgent:
            packet = urgent.popleft()
            try:
                sock.send_urgent(packet)
            except BlockingIOError:
                urgent.appendleft(packet)
                return False
        return True

    async def wait_sendable(self) -> None:
        """Wait for room in the send buffer, or for an association.

        Raises:
            trio.ClosedResourceError: The endpoint was closed.
        """
        if self._closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("the endpoint was closed")
        sock = self._sock
        if sock is None:
            await self._changed.wait()
            return
        if self._room_is_untried:
            await trio.sleep(_PAUSE)
            if self._sock is not sock:
                return
        self._room_is_untried = True
        await sock.wait_writable()
        if self._sock is sock:
            # If the association is lost, the receiving task finds out. That there is room is only a
            # hint.
            with suppress(OSError):
                self._send_urgent(sock)

    @property
    def backlog(self) -> float:
        """The share of the send buffer in use, by data not acknowledged yet, from 0 to 1."""
        return 0.0 if self._sock is None else self._sock.backlog()

    # The socket itself.

    def troubles(self) -> list[PathTrouble]:
        """Return an empty list: the only trouble of an association is its loss."""
        return []

    def set_dscp(self, dscp: int) -> None:
        """Set the DSCP of packets, and their priority in this machine's queues."""
        if self._sock is not None:
            self._set_dscp_of(self._sock, dscp)

    def _set_dscp_of(self, sock: AssociationSocket, dscp: int) -> None:
        try:
            sock.set_dscp(dscp)
        except OSError as error:
            raise TransportError.from_os_error(
                f"cannot mark packets of {self.local}", error
            ) from error

    def reset(self, reason: str) -> None:
        """Abort the association, which notifies the peer at once."""
        sock = self._drop()
        if sock is not None:
            sock.abort()

    def close(self) -> None:
        """Close the socket. Packets in the send buffer are still sent."""
        if self._closed:
            return
        self._closed = True
        self.fault = "the endpoint is closed"
        sock = self._drop()
        if sock is not None:
            sock.close()


class AcceptedAssociation(Association, PeerEndpoint):
    """An association that a peer has made. It ends when it is lost.

    Args:
        local: The local address, that of the listener.
        peer: The address of the peer.
        sock: The socket of the association.
        over: Called when the association has ended or is closed.
        can_watch: True if a ``SocketWatch`` can wait for its socket.
    """

    def __init__(
        self,
        local: Address,
        peer: Address,
        sock: AssociationSocket,
        over: Callable[[AcceptedAssociation], None],
        *,
        can_watch: bool,
    ) -> None:
        super().__init__(local, peer, peer, can_watch=can_watch)
        self._over = over
        self._use(sock)

    def _break(self, reason: str, number: int = 0) -> None:
        sock = self._drop()
        if sock is not None:
            sock.close()
            self._end(reason, number)

    def reset(self, reason: str) -> None:
        """Abort the association, which ends it."""
        sock = self._drop()
        if sock is not None:
            sock.abort()
            self._end(reason, 0)

    def _end(self, reason: str, number: int) -> None:
        self.fault = reason
        self.ended = True
        self._changes.append(ConnectionChange(self.peer, False, reason, number))
        self._over(self)

    def close(self) -> None:
        """Close the socket. Packets in the send buffer are still sent."""
        super().close()
        if not self.ended:
            self.ended = True
            self._over(self)
