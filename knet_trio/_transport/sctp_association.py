"""Associations over SCTP: one that this host makes, and makes again, and one that a peer has made.

::

    Association                    sends and receives over the socket of an association
      |- ConnectingAssociation     made by this host for a link, again whenever it is lost
      '- AcceptedAssociation       made by a peer; it ends when it is lost

An association that is broken is told of after all that came over it before.
"""

from __future__ import annotations

import errno
import math
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import trio

from knet_trio._core.connection import Connector, ConnectPhase
from knet_trio._core.parted import Parted, Parts
from knet_trio._transport import options, sctp_socket
from knet_trio._transport.interfaces import Interfaces
from knet_trio.abc import (
    Arrivals,
    ConnectionChange,
    Endpoint,
    PathTrouble,
    PeerEndpoint,
    SocketWatch,
    Train,
)
from knet_trio.address import ANY_PORT, Address
from knet_trio.errors import TransportError

# The largest packet, in bytes.
_PACKET: Final = 65536
# What one wake-up takes from a socket at most, in calls and in bytes.
RECEIVE_CALLS: Final = 64
RECEIVE_BYTES: Final = 384 * 1024
# Bytes of a packet that is little work, and seconds between packets that come closely.
_SMALL: Final = 4096
_CLOSE: Final = 0.001
# Small packets for which there was no room in the send buffer, and that go before all others.
_MOST_URGENT: Final = 8


class Association(Endpoint):
    """The socket of an association, while there is one.

    Args:
        local: The address of this end, as the listener has it.
        peer: The address at the other end.
        source: Where what comes over it is said to come from.

    Attributes:
        peer: The address at the other end.
        source: Where what comes over it is said to come from.
        has_spoken: Whether anything has come over it.
    """

    def __init__(self, local: Address, peer: Address, source: Address) -> None:
        self.local = local
        self.peer = peer
        self.source = source
        self._sock: socket.socket | None = None
        self._send_buffer = math.inf
        self._closed = False
        # Set when there is another socket, or none.
        self._changed = trio.Event()
        self._news: deque[ConnectionChange] = deque()
        self._urgent: deque[bytes] = deque()
        # The beginning of a packet of which more is to come; None while its rest is thrown away.
        self._begun: bytes | None = b""
        self._watch: SocketWatch | None = None
        self._take: Callable[[bytes, Address], bool] | None = None
        # What was read in the watch and is for the task that receives.
        self._first: list[Train] = []
        # Whether there was nothing to be read the last time.
        self._is_empty = False
        self._at_work = False
        self._arrived_at = -math.inf
        self._is_busy = False
        # Whether a packet has come over it.
        self.has_spoken = False

    def _use(self, sock: socket.socket) -> None:
        """Send and receive over ``sock``, which has an association."""
        self._sock = sock
        self.fault = None
        self._send_buffer = options.buffer_size(sock, socket.SO_SNDBUF)
        if self._watch is not None:
            self._watch.join()
        self._tell_all()

    def _drop(self) -> socket.socket | None:
        """Use the socket no more, and return it to be closed; None if there is none."""
        sock, self._sock = self._sock, None
        self._urgent.clear()
        self._begun = b""
        if sock is not None:
            self._wake(sock)
            if self._watch is not None:
                self._watch.leave()
        self._tell_all()
        return sock

    def _tell_all(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _wake(self, sock: socket.socket) -> None:
        if self._watch is not None:
            self._watch.wake(sock)
        trio.lowlevel.notify_closing(sock)

    def _break(self, reason: str, number: int = 0) -> None:
        """Note that the association is lost."""
        raise NotImplementedError

    # Receiving.

    async def receive(self) -> Arrivals:
        """Wait until something arrives, or until the association is there, or lost."""
        self._at_work = False
        while True:
            if self._closed:
                await trio.lowlevel.checkpoint()
                raise trio.ClosedResourceError("the endpoint was closed")
            sock = self._sock
            if self._news or (self._first and sock is None):
                await trio.lowlevel.checkpoint()
                trains, self._first = self._first, []
                change = None if trains else self._news.popleft()
                self._at_work = bool(trains)
                return Arrivals(trains, [], change)
            if sock is None:
                await self._wait_connected()
                continue
            await self._wait_readable(sock)
            trains = self._drain()
            if trains:
                now = time.perf_counter()
                self._is_busy = now - self._arrived_at < _CLOSE
                self._arrived_at = now
                self._at_work = True
                return Arrivals(trains, [])

    async def _wait_connected(self) -> None:
        """Wait until there may be an association."""
        await self._changed.wait()

    async def _wait_readable(self, sock: socket.socket) -> None:
        try:
            if self._watch is None or self._is_busy:
                await trio.lowlevel.wait_readable(sock)
            else:
                await self._watch.wait_readable(sock, self._take_one)
        except trio.ClosedResourceError:
            # Another socket, or none, has taken its place.
            return

    def use_watch(self, watch: SocketWatch, take: Callable[[bytes, Address], bool]) -> None:
        """Wait in ``watch`` while little comes over the association."""
        self._watch, self._take = watch, take
        if self._sock is not None:
            watch.join()

    def _take_one(self) -> bool:
        """Take a small packet that came alone; return False if there is more to do than that."""
        sock = self._sock
        assert sock is not None
        assert self._take is not None
        packet = self._read(sock)
        if packet is None:
            return self._sock is sock
        if len(packet) > _SMALL:
            self._first.append(Train(packet, len(packet), self.source))
            return False
        self._at_work = True
        is_data = self._take(packet, self.source)
        self._at_work = False
        if is_data:
            before, self._arrived_at = self._arrived_at, time.perf_counter()
            self._is_busy = self._arrived_at - before < _CLOSE
            return not self._is_busy
        return True

    def _drain(self) -> list[Train]:
        trains, self._first = self._first, []
        room = RECEIVE_BYTES
        for _ in range(RECEIVE_CALLS):
            # It may be lost while it is read.
            sock = self._sock
            packet = None if sock is None else self._read(sock)
            if packet is not None:
                trains.append(Train(packet, len(packet), self.source))
                room -= len(packet)
            if sock is None or self._is_empty or room < 0:
                break
        return trains

    def _read(self, sock: socket.socket) -> bytes | None:
        """Read once; return a whole packet, None if there is none or only a part of one."""
        self._is_empty = False
        try:
            data, _, flags, _ = sock.recvmsg(_PACKET)
        except BlockingIOError:
            self._is_empty = True
            return None
        except OSError as error:
            self._break(_words_for(error), error.errno or 0)
            return None
        if flags & sctp_socket.MSG_NOTIFICATION:
            lost = sctp_socket.read_loss_untrusted(data)
            if lost is not None:
                self._break(lost)
            return None
        if not data:
            self._break("the peer has closed the association")
            return None
        return self._join(data, is_end=bool(flags & socket.MSG_EOR))

    def _join(self, data: bytes, *, is_end: bool) -> bytes | None:
        """Return the packet that ``data`` ends, else None.

        One that is larger than any can be comes out cut off, and is refused for that.
        """
        begun = self._begun
        if begun is None:
            if is_end:
                self._begun = b""
            return None
        packet = begun + data if begun else data
        if is_end:
            self._begun = b""
            self.has_spoken = True
            return packet
        if len(packet) >= _PACKET:
            self._begun = None
            return packet
        self._begun = packet
        return None

    @property
    def drained(self) -> bool:
        """Whether all that has arrived was taken and worked on."""
        if self._at_work or self._first or self._news:
            return False
        if self._sock is None:
            return True
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            # It is lost, and whoever receives is told.
            return False
        return False

    # Sending.

    def send_nowait(self, datagrams: Sequence[bytes], destination: Address) -> int:
        """Send datagrams until the send buffer is full."""
        sock = self._sock
        if sock is None:
            raise OSError(errno.ENOTCONN, self.fault or os.strerror(errno.ENOTCONN))
        sent = 0
        try:
            if self._urgent and not self._send_urgent(sock):
                return 0
            if type(datagrams) is Parted:
                for parts in datagrams.parts:
                    _send_parts(sock, parts)
                    sent += 1
                return sent
            for datagram in datagrams:
                sock.send(datagram, socket.MSG_NOSIGNAL)
                sent += 1
        except BlockingIOError:
            return sent
        except OSError:
            # If the association is lost, whoever receives finds out.
            if not sent:
                raise
        return sent

    def send_urgent_nowait(self, datagram: bytes, destination: Address) -> bool:
        """Send a small datagram; one that finds no room goes before all that is sent later."""
        if self.send_nowait((datagram,), destination):
            return True
        if len(self._urgent) >= _MOST_URGENT or len(datagram) > _SMALL:
            return False
        self._urgent.append(datagram)
        return True

    def _send_urgent(self, sock: socket.socket) -> bool:
        """Send what is urgent; return whether all of it has been taken."""
        urgent = self._urgent
        try:
            while urgent:
                sock.send(urgent[0], socket.MSG_NOSIGNAL)
                urgent.popleft()
        except BlockingIOError:
            return False
        return True

    async def wait_sendable(self) -> None:
        """Wait for room in the send buffer, or for an association."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("the endpoint was closed")
        sock = self._sock
        if sock is None:
            await self._changed.wait()
            return
        try:
            await trio.lowlevel.wait_writable(sock)
            if self._sock is sock:
                self._send_urgent(sock)
        except (trio.ClosedResourceError, OSError):
            # It is lost, and whoever receives is told. Nobody relies on there being room.
            return

    @property
    def backlog(self) -> float:
        """How much of the send buffer is in use by what the peer has not acknowledged."""
        if self._sock is None:
            return 0.0
        return min(1.0, options.queued_bytes(self._sock) / self._send_buffer)

    # The socket itself.

    def troubles(self) -> list[PathTrouble]:
        """Return nothing: an association is lost, or it is not."""
        return []

    def set_dscp(self, dscp: int) -> None:
        """Set the type of service, and the priority in this machine's own queues."""
        if self._sock is not None:
            _set_dscp(self._sock, dscp, self.local)

    def reset(self, reason: str) -> None:
        """Break the association: the peer is told at once."""
        sock = self._drop()
        if sock is not None:
            sctp_socket.abort(sock)

    def close(self) -> None:
        """Close the socket; what waits to be sent is still sent."""
        if self._closed:
            return
        self._closed = True
        sock = self._drop()
        if sock is not None:
            sock.close()


class AcceptedAssociation(Association, PeerEndpoint):
    """An association that a peer has made. It ends when it is lost.

    Args:
        over: Called when it has ended, or is closed.
    """

    def __init__(
        self,
        local: Address,
        peer: Address,
        sock: socket.socket,
        over: Callable[[AcceptedAssociation], None],
    ) -> None:
        super().__init__(local, peer, peer)
        self._over = over
        self._use(sock)

    def _break(self, reason: str, number: int = 0) -> None:
        sock = self._drop()
        if sock is not None:
            sock.close()
            self._end(reason, number)

    def reset(self, reason: str) -> None:
        """Break the association for good."""
        sock = self._drop()
        if sock is not None:
            sctp_socket.abort(sock)
            self._end(reason, 0)

    def _end(self, reason: str, number: int) -> None:
        self.fault = reason
        self.ended = True
        self._news.append(ConnectionChange(self.peer, False, reason, number))
        self._over(self)

    def close(self) -> None:
        """Close the socket; what waits to be sent is still sent."""
        super().close()
        if not self.ended:
            self.ended = True
            self._over(self)


class ConnectingAssociation(Association):
    """An association that this host makes with the peer of a link, and makes again.

    Args:
        interval: The seconds from one attempt to the next.
        mark: The DSCP of its packets, None for those without priority.
        interfaces: The interfaces that the local address may name.
        over: Called when it is closed.
    """

    def __init__(
        self,
        local: Address,
        peer: Address,
        interval: float,
        mark: int | None,
        interfaces: Interfaces,
        over: Callable[[ConnectingAssociation], None],
    ) -> None:
        super().__init__(local, peer, peer._replace(port=ANY_PORT))
        self.fault = "it is not connected yet"
        self._mark = mark
        self._interfaces = interfaces
        self._over = over
        self._connector = Connector(interval)
        self._attempt: socket.socket | None = None

    async def _wait_connected(self) -> None:
        attempt = self._attempt
        if attempt is None:
            deadline = self._connector.deadline
            if trio.current_time() < deadline:
                with trio.move_on_at(deadline):
                    await self._changed.wait()
                return
            self._begin()
            await trio.lowlevel.checkpoint()
            return
        try:
            await trio.lowlevel.wait_writable(attempt)
        except trio.ClosedResourceError:
            return
        if self._attempt is not attempt:
            return
        number = sctp_socket.take_error(attempt)
        if not number:
            try:
                attempt.getpeername()
            except OSError as error:
                number = error.errno or errno.ENOTCONN
        if number:
            self._break(f"cannot connect to {self.peer}: {os.strerror(number)}", number)
            return
        self._attempt = None
        self._connector.taken()
        self._use(attempt)
        self._news.append(
            ConnectionChange(self.peer, True, f"the peer has taken an association at {self.peer}")
        )

    def _begin(self) -> None:
        """Begin to connect."""
        self._connector.begin(trio.current_time())
        try:
            local = self._interfaces.to_kernel(self.local._replace(port=0))
            peer = self._interfaces.to_kernel(self.peer)
            family = socket.AF_INET6 if self.local.is_ipv6 else socket.AF_INET
            self._attempt = sock = sctp_socket.new_socket(family)
            sctp_socket.set_options(sock, self._mark)
            sctp_socket.set_retry(sock, self._connector.interval)
            sock.bind(local)
            sock.connect(peer)
        except BlockingIOError:
            return
        except OSError as error:
            words = os.strerror(error.errno or 0)
            self._break(f"cannot connect to {self.peer}: {words}", error.errno or 0)

    def _break(self, reason: str, number: int = 0) -> None:
        if self._stop():
            self.fault = reason
            self._news.append(ConnectionChange(self.peer, False, reason, number))

    def _stop(self) -> bool:
        """Give up the association, or the attempt; return whether there was one."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self._wake(attempt)
            attempt.close()
        sock = self._drop()
        if sock is not None:
            sctp_socket.abort(sock)
        return self._connector.broken()

    def set_reconnect_interval(self, interval: float) -> None:
        """Try every ``interval`` seconds to connect."""
        self._connector.interval = interval
        self._tell_all()

    def reset(self, reason: str) -> None:
        """Break the association, and make a new one."""
        if self._connector.phase is ConnectPhase.CONNECTED:
            self._stop()
            self.fault = reason
            self._news.clear()

    def set_dscp(self, dscp: int) -> None:
        """Set the type of service, also of later associations."""
        self._mark = dscp
        super().set_dscp(dscp)

    def close(self) -> None:
        """Connect no more."""
        if self._closed:
            return
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self._wake(attempt)
            attempt.close()
        super().close()
        self._over(self)


def _send_parts(sock: socket.socket, parts: Parts) -> None:
    sock.sendmsg(parts, (), socket.MSG_NOSIGNAL)


def _words_for(error: OSError) -> str:
    return f"the association is lost: {os.strerror(error.errno or 0)}"


def _set_dscp(sock: socket.socket, dscp: int, local: Address) -> None:
    try:
        options.set_priority(sock, dscp)
    except OSError as error:
        raise TransportError.from_os_error(f"cannot mark packets of {local}", error) from error
