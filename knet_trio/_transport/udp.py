"""UDP: one socket for each local address and port, shared by the links that use it.

A peer recognises a link by the exact address and port its packets come from, so everything goes
out of the bound socket. Calls are made on the plain non-blocking socket, and trio is asked only to
wait: a third of the cost of ``trio.socket``'s calls. Datagrams of one size go and come many to a
call where the kernel can do that (``offload``).
"""

from __future__ import annotations

import errno
import math
import socket
import time
from collections.abc import Sequence
from typing import ClassVar, Final

import trio

from knet_trio._core.sizes import UDP_HEADER
from knet_trio._transport import offload
from knet_trio._transport.errqueue import keep_errors, read_errors, received_address
from knet_trio.abc import Arrivals, Endpoint, PathTrouble, Train, Transport
from knet_trio.address import Address, socket_address
from knet_trio.errors import TransportError

SOCKET_BUFFER: Final = 8 * 1024 * 1024
HIGH_PRIORITY: Final = 6
TOS_LOW_DELAY: Final = 0x10
# What one wake-up may take from a socket, in calls and about so many bytes: under a millisecond's
# work for the stages behind it.
RECEIVE_CALLS: Final = 64
RECEIVE_BYTES: Final = 192 * 1024
# Falling asleep and waking up takes longer than all the work on a message. So where arrivals are
# that close, in seconds, so many times in a row, the next one is awaited awake for a few turns of
# the loop: as long as a round trip takes on a fast network, and no longer.
CLOSE: Final = 0.0005
AWAKE_AFTER: Final = 16
AWAKE_TURNS: Final = 64
_DATAGRAM: Final = 65536
_MOST_DESTINATIONS: Final = 4096
# Trains refused in a row, though each of their datagrams was taken, that show that this will stay.
_MOST_REFUSALS: Final = 3

SocketName = tuple[str, int] | tuple[str, int, int, int]

# Not named by the socket module of every supported Python. Source: linux/in.h, linux/in6.h,
# asm-generic/socket.h.
IP_MTU_DISCOVER: Final = 10
IPV6_MTU_DISCOVER: Final = 23
PMTUDISC_PROBE: Final = 3
IP_FREEBIND: Final = 15
IPV6_FREEBIND: Final = 78
SO_SNDBUFFORCE: Final = 32
SO_RCVBUFFORCE: Final = 33


class UdpTransport(Transport):
    """Plain UDP over IPv4 or IPv6."""

    name: ClassVar[str] = "udp"
    transport_id: ClassVar[int] = 1
    header_size: ClassVar[int] = UDP_HEADER

    def open_endpoint(
        self, local: Address, *, privileged: bool, high_priority: bool, dscp: int
    ) -> UdpEndpoint:
        """Bind a socket with the options the protocol wants."""
        doing = f"cannot bind UDP {local}"
        try:
            name = socket_address(local)
            family = socket.AF_INET6 if local.is_ipv6 else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        except OSError as error:
            raise TransportError.from_os_error(doing, error) from error
        try:
            sock.setblocking(False)
            _set_buffers(sock, insist=privileged)
            _set_path_options(sock)
            if high_priority:
                _set_priority(sock, dscp)
            sock.bind(name)
        except OSError as error:
            sock.close()
            raise TransportError.from_os_error(doing, error) from error
        except BaseException:
            sock.close()
            raise
        return UdpEndpoint(sock)


class UdpEndpoint(Endpoint):
    """A bound UDP socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.local = received_address(sock.getsockname())
        self._destinations: dict[Address, SocketName] = {}
        self._coalesced = offload.receive_coalesced(sock)
        self._segmented = True
        self._trains_refused = 0
        # Whether a send was told of an error since the error queue was read.
        self._told = False
        # When something last arrived, and how often in a row closely after the time before.
        self._arrived_at = -math.inf
        self._in_a_row = 0

    async def receive(self) -> Arrivals:
        """Wait for the socket and drain it, up to a bound."""
        turns = AWAKE_TURNS if self.is_awake else 0
        while True:
            if self._sock.fileno() < 0:
                await trio.lowlevel.checkpoint()
                raise trio.ClosedResourceError("the endpoint was closed")
            if turns:
                turns -= 1
                await trio.lowlevel.checkpoint()
                if self._sock.fileno() < 0:
                    continue
            else:
                await trio.lowlevel.wait_readable(self._sock)
            arrivals = self._drain()
            if arrivals.trains or arrivals.troubles:
                self._count_close()
                return arrivals

    @property
    def is_awake(self) -> bool:
        """Whether what arrives next is expected so soon that it is not slept for."""
        return self._in_a_row >= AWAKE_AFTER

    def _count_close(self) -> None:
        now = time.perf_counter()
        self._in_a_row = self._in_a_row + 1 if now - self._arrived_at < CLOSE else 0
        self._arrived_at = now

    def _drain(self) -> Arrivals:
        trains: list[Train] = []
        # Once a send was told, no receive is: then this would be read when nothing else is left,
        # and what the network said of a peer that was not there yet would count against one that
        # has answered since.
        troubles = self.troubles() if self._told else []
        room = RECEIVE_BYTES
        for _ in range(RECEIVE_CALLS):
            try:
                train = self._receive_train()
            except BlockingIOError:
                # Woken for nothing to read means that there is something on the error queue.
                if not trains:
                    troubles += self.troubles()
                break
            except OSError:
                # What it says is on the error queue as well, with the destination.
                troubles += self.troubles()
                continue
            trains.append(train)
            room -= len(train.data)
            if room < 0:
                break
        if len(trains) == RECEIVE_CALLS or room < 0:
            # Never idle: the error queue must not wait for that.
            troubles += self.troubles()
        return Arrivals(trains, troubles)

    def _receive_train(self) -> Train:
        if not self._coalesced:
            data, name = self._sock.recvfrom(_DATAGRAM)
            return Train(data, len(data), received_address(name))
        data, ancillary, _, name = self._sock.recvmsg(_DATAGRAM, offload.ANCILLARY_SIZE)
        size = offload.received_size(ancillary) if ancillary else None
        return Train(data, size or len(data), received_address(name))

    def send_nowait(self, datagrams: Sequence[bytes], destination: Address) -> int:
        """Send datagrams until the socket's buffer is full."""
        name = self._destinations.get(destination)
        if name is None:
            if len(self._destinations) >= _MOST_DESTINATIONS:
                self._destinations.clear()
            name = self._destinations[destination] = socket_address(destination)
        if len(datagrams) == 1:
            try:
                self._send(datagrams[0], name)
            except BlockingIOError:
                return 0
            return 1
        sent = 0
        try:
            while sent < len(datagrams):
                length = offload.train_length(datagrams, sent) if self._segmented else 1
                if length == 1:
                    self._send(datagrams[sent], name)
                    sent += 1
                    continue
                taken = self._send_train(datagrams[sent : sent + length], name)
                sent += taken
                if taken < length:
                    break
        except BlockingIOError:
            return sent
        except OSError:
            if not sent:
                raise
        return sent

    def _send(self, datagram: bytes, name: SocketName) -> None:
        try:
            self._sock.sendto(datagram, name)
        except OSError as error:
            # An ICMP error of an earlier packet is told on the next send, which then was not
            # made: it is on the error queue, and the packet deserves its own try.
            if error.errno not in _TOLD_LATE:
                raise
            self._told = True
            self._sock.sendto(datagram, name)

    def _send_train(self, train: Sequence[bytes], name: SocketName) -> int:
        """Send ``train`` in one call, or else one by one; how many were taken."""
        cut = offload.cut_into(len(train[0]))
        try:
            self._sock.sendmsg([b"".join(train)], cut, 0, name)
        except BlockingIOError:
            raise
        except OSError:
            self._told = True
            # Who is to blame, the train or one of its datagrams, shows when they go alone.
            taken = 0
            try:
                for datagram in train:
                    self._send(datagram, name)
                    taken += 1
            except OSError:
                if not taken:
                    raise
            else:
                self._trains_refused += 1
                # An error of an earlier packet refuses one train; what refuses all is for good.
                self._segmented = self._trains_refused < _MOST_REFUSALS
            return taken
        self._trains_refused = 0
        return len(train)

    async def wait_sendable(self) -> None:
        """Wait for room in the socket's buffer."""
        await trio.lowlevel.wait_writable(self._sock)

    def troubles(self) -> list[PathTrouble]:
        """Read the error queue."""
        self._told = False
        return read_errors(self._sock)

    def set_dscp(self, dscp: int) -> None:
        """Set the type of service, and the priority in this machine's own queues."""
        try:
            _set_priority(self._sock, dscp)
        except OSError as error:
            raise TransportError.from_os_error(
                f"cannot mark packets of {self.local}", error
            ) from error

    def close(self) -> None:
        """Close the socket."""
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()


_TOLD_LATE: Final = {
    errno.ECONNREFUSED,
    errno.EMSGSIZE,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.EHOSTDOWN,
    errno.ENONET,
    errno.ECONNABORTED,
}


def _set_buffers(sock: socket.socket, *, insist: bool) -> None:
    for plain, forced in (
        (socket.SO_RCVBUF, SO_RCVBUFFORCE),
        (socket.SO_SNDBUF, SO_SNDBUFFORCE),
    ):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, SOCKET_BUFFER)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, plain, SOCKET_BUFFER)
        # The kernel doubles the value for its own bookkeeping.
        size = sock.getsockopt(socket.SOL_SOCKET, plain) // 2
        if insist and size < SOCKET_BUFFER:
            raise TransportError(
                f"the socket buffers are {size} bytes instead of {SOCKET_BUFFER}: raise"
                " net.core.rmem_max and net.core.wmem_max, run with CAP_NET_ADMIN, or leave out"
                " privileged=True",
                errno=errno.ENAMETOOLONG,
            )


def _set_path_options(sock: socket.socket) -> None:
    keep_errors(sock)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
        sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)


def _set_priority(sock: socket.socket, dscp: int) -> None:
    # The six bits of DSCP are the upper ones of the byte.
    tos = dscp << 2 if dscp else TOS_LOW_DELAY
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
    # After the type of service, which sets a priority of its own.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, HIGH_PRIORITY)
