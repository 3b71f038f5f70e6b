"""UDP: one socket for each local address and port, and more for single peers where that helps.

A peer recognises a link by the exact address and port its packets come from, so everything goes
out of that address. Calls are made on the plain non-blocking socket, and trio is asked only to
wait: a third of the cost of ``trio.socket``'s calls. Datagrams of one size go and come many to a
call where the kernel can do that (``offload``).
"""

from __future__ import annotations

import errno
import math
import socket
import sys
import termios
import time
from collections.abc import Callable, Sequence
from fcntl import ioctl
from ipaddress import ip_address
from typing import ClassVar, Final

import trio

from knet_trio._core.sizes import UDP_HEADER
from knet_trio._transport import offload, options
from knet_trio._transport.backlog import Backlogs
from knet_trio._transport.errqueue import TOLD_LATE, read_errors
from knet_trio._transport.interfaces import GONE, Interfaces, SocketName
from knet_trio.abc import Arrivals, Endpoint, PathTrouble, SocketWatch, Train, Transport
from knet_trio.address import Address, socket_address
from knet_trio.errors import TransportError

# What one wake-up takes from a socket at most, in calls and in bytes; the last train may go beyond.
RECEIVE_CALLS: Final = 64
RECEIVE_BYTES: Final = 192 * 1024
# Falling asleep and waking up takes longer than all the work on a message. So where single
# datagrams have come that close, in seconds, so many times in a row, and the thread slept in
# between, the next ones are awaited awake, each for a few turns of the loop: as long as a peer on a
# fast network takes to answer. If one has not come by then, it is as it was at first.
CLOSE: Final = 0.001
AWAKE_AFTER: Final = 16
AWAKE_TURNS: Final = 32
_DATAGRAM: Final = 65536
# Bytes from which what comes next is read into a buffer and copied from there. The memory of what
# is read as bytes is that of the largest datagram, of which the system takes back what is not used:
# for 64 KB that takes three times as long as the copy.
_LARGE: Final = 16384
_received: Final = memoryview(bytearray(_DATAGRAM))
_buffers: Final = (_received,)
# Bytes of a datagram that is little work.
_SMALL: Final = 4096
_MOST_DESTINATIONS: Final = 4096
# Trains refused in a row, though each of their datagrams was taken, that show that this will stay.
_MOST_REFUSALS: Final = 3
# Times that an error may be told before what there is to be read.
_LOOKS: Final = 3
# Less than a datagram takes of the receive buffer beside its bytes (struct sk_buff and what it
# ends with).
_BOOKKEEPING: Final = 512

_backlogs: Final = Backlogs()


def _room_taken(train: Train) -> int:
    """Return about how many bytes of a receive buffer a train took, less rather than more."""
    return len(train.data) + _BOOKKEEPING


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
        mark = dscp if high_priority else None
        try:
            name = socket_address(local)
            sock = options.new_socket(socket.AF_INET6 if local.is_ipv6 else socket.AF_INET)
        except OSError as error:
            raise TransportError.from_os_error(doing, error) from error
        try:
            small = options.set_all(sock, options.SOCKET_BUFFER, mark)
            if privileged and small is not None:
                raise TransportError(
                    f"{small}, or leave out privileged=True", errno=errno.ENAMETOOLONG
                )
            sock.bind(name)
        except OSError as error:
            sock.close()
            raise TransportError.from_os_error(doing, error) from error
        except BaseException:
            sock.close()
            raise
        endpoint = UdpEndpoint(sock, mark)
        endpoint.small_buffers = small
        return endpoint


class UdpEndpoint(Endpoint):
    """A bound UDP socket.

    Args:
        sock: The socket.
        mark: The DSCP of its packets, None for those without priority.
        shared: The endpoint beside which it was connected, None if it is not connected.
        peer: The address that it is connected to.
    """

    def __init__(
        self,
        sock: socket.socket,
        mark: int | None,
        shared: UdpEndpoint | None = None,
        peer: Address | None = None,
    ) -> None:
        self._sock = sock
        self._interfaces = Interfaces()
        self.local = shared.local if shared else self._interfaces.from_kernel(sock.getsockname())
        # So that it is known by that name from now on.
        self._interfaces.to_kernel(self.local)
        self._mark = mark
        self._shared = shared
        self._connected: dict[Address, UdpEndpoint] = {}
        # Those of them that are not read yet, since packets from before may wait here: each with
        # what is to be read here before that, in bytes.
        self._behind: dict[trio.Event, int] = {}
        # Set once everything that came to the shared socket before has been worked on.
        self._may_read: trio.Event | None = None if shared is None else trio.Event()
        # What the socket is given for them, None for the one it is connected to; and back.
        self._names: dict[Address, SocketName | None] = {} if peer is None else {peer: None}
        self._sources: dict[SocketName, Address] = {}
        self._peer = peer
        self._ancillary_size = offload.ANCILLARY_SIZE if offload.receive_coalesced(sock) else 0
        self._segmented = True
        self._trains_refused = 0
        self._crowded = offload.Crowded()
        self._send_buffer = options.buffer_size(sock, socket.SO_SNDBUF)
        self._receive_buffer = options.buffer_size(sock, socket.SO_RCVBUF)
        # Whether a call was told of an error that is on the error queue with its destination.
        self._told = False
        # Troubles that are not told before what arrived ahead of them, and about how much of the
        # receive buffer has been taken since they were put here or there were none.
        self._held: list[PathTrouble] = []
        self._taken = 0
        self._closed = False
        # Whether somebody works on what was received last.
        self._at_work = False
        # Waits for the socket while little comes to it, and who takes that.
        self._watch: SocketWatch | None = None
        self._take: Callable[[bytes, Address], bool] | None = None
        # What came while it waited, and was more than that.
        self._first: list[Train] = []
        # When something last arrived, and whether that was closely after the time before; how often
        # in a row that was so; whether to stay awake for the next.
        self._arrived_at = -math.inf
        self._is_busy = False
        self._in_a_row = 0
        self._stays_awake = False
        # Whether what arrived last was large.
        self._are_large = False

    # Receiving.

    async def receive(self) -> Arrivals:
        """Wait for the socket and drain it, up to a bound."""
        if self._may_read is not None:
            await self._wait_for_shared()
        self._at_work = False
        if not self.is_welcome:
            self._in_a_row = 0
            self._stays_awake = False
        turns = AWAKE_TURNS if self._stays_awake else 0
        watch = self._watch
        while True:
            if self._closed:
                await trio.lowlevel.checkpoint()
                raise trio.ClosedResourceError("the endpoint was closed")
            if self._behind:
                self._let_others_read()
            if self._held:
                # The kernel has told them, and does not wake anybody for them again.
                await trio.lowlevel.checkpoint()
            elif turns:
                turns -= 1
                if not turns:
                    self._in_a_row = 0
                    self._stays_awake = False
                await trio.lowlevel.checkpoint()
            else:
                began = self._look_at_clocks() if self._in_a_row >= AWAKE_AFTER else None
                try:
                    if watch is None or self._is_busy or self._behind:
                        await trio.lowlevel.wait_readable(self._sock)
                    else:
                        await watch.wait_readable(self._sock, self._take_one)
                except trio.ClosedResourceError:
                    # Or ``troubles`` has read something for us.
                    continue
                if began is not None:
                    self._in_a_row = 0
                    wall, cpu = self._look_at_clocks()
                    # While other tasks had work to do, nobody slept who could have been awake.
                    self._stays_awake = 2 * (cpu - began[1]) < wall - began[0]
            if self._closed:
                # mypy does not know what may happen in an await.
                continue  # type: ignore[unreachable]
            arrivals = self._drain(is_woken=not turns)
            for event in self._behind:
                self._behind[event] -= sum(map(_room_taken, arrivals.trains))
            if arrivals.trains or arrivals.troubles:
                now = time.perf_counter()
                self._is_busy = now - self._arrived_at < CLOSE
                # More than one at once is a stream, which waits for nobody.
                if len(arrivals.trains) == 1 and self._is_busy:
                    self._in_a_row += 1
                else:
                    self._in_a_row = 0
                    self._stays_awake = False
                self._arrived_at = now
                self._at_work = True
                return arrivals

    def use_watch(self, watch: SocketWatch, take: Callable[[bytes, Address], bool]) -> None:
        """Wait in ``watch`` while little comes to the socket."""
        self._watch, self._take = watch, take
        watch.join()

    def _take_one(self) -> bool:
        """Take a small datagram that came alone; return False if there is more to do than that."""
        try:
            data, ancillary, _, name = self._sock.recvmsg(_DATAGRAM, self._ancillary_size)
        except BlockingIOError:
            return True
        except OSError:
            self._told = True
            return False
        source = self._sources.get(name) or self._remember(name)
        if ancillary or len(data) > _SMALL:
            size = offload.received_size(ancillary) if ancillary else None
            self._first.append(Train(data, size or len(data), source))
            return False
        assert self._take is not None
        self._at_work = True
        is_data = self._take(data, source)
        self._at_work = False
        if is_data:
            before, self._arrived_at = self._arrived_at, time.perf_counter()
            # One message after the other is what a task of its own is for.
            self._is_busy = self._arrived_at - before < CLOSE
            return not self._is_busy
        return True

    def _wake(self) -> None:
        """Wake who waits for the socket, though it may stay open."""
        if self._watch is not None:
            self._watch.wake(self._sock)
        trio.lowlevel.notify_closing(self._sock)

    @staticmethod
    def _look_at_clocks() -> tuple[float, float]:
        """Return the time, and the CPU time of this thread, in seconds."""
        return time.perf_counter(), time.thread_time()

    async def _wait_for_shared(self) -> None:
        """Wait until what came to the shared socket before this one was connected has been read.

        The peer sent it before what comes here.
        """
        shared, may_read = self._shared, self._may_read
        assert shared is not None
        assert may_read is not None
        if not shared._closed and (shared._at_work or shared._first or not shared._is_empty()):
            shared._behind[may_read] = shared._receive_buffer
            # It may be asleep though there is something, of which another has read an error.
            shared._wake()
            await may_read.wait()
        self._may_read = None

    @property
    def drained(self) -> bool:
        """Whether all that has arrived was taken and worked on."""
        if self._closed:
            return True
        if self._at_work or self._first:
            return False
        # An error that is told first says nothing of what there is to be read.
        return any(self._is_empty() for _ in range(_LOOKS))

    def _is_empty(self) -> bool:
        """Return whether there is nothing to be read."""
        try:
            self._sock.recvmsg(0, 0, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            # It is on the error queue, and says nothing of what there is to be read.
            self._told = True
        return False

    def _let_others_read(self) -> None:
        """Let connected sockets be read, if what came here before them has been worked on."""
        is_empty = self._is_empty()
        for event, left in list(self._behind.items()):
            if is_empty or left <= 0:
                del self._behind[event]
                event.set()

    def _drain(self, *, is_woken: bool) -> Arrivals:
        trains, self._first = self._first, []
        sock, ancillary_size, sources = self._sock, self._ancillary_size, self._sources
        room = RECEIVE_BYTES
        for _ in range(RECEIVE_CALLS):
            try:
                if self._are_large:
                    length, ancillary, _, name = sock.recvmsg_into(_buffers, ancillary_size)
                    data = bytes(_received[:length])
                else:
                    data, ancillary, _, name = sock.recvmsg(_DATAGRAM, ancillary_size)
                    length = len(data)
            except BlockingIOError:
                if self._told or (is_woken and not (trains or self._held)):
                    # There is something on the error queue, also if this is all there was to wake
                    # up for. What has arrived until now comes first.
                    self._told = False
                    told = read_errors(self._sock, self._interfaces)
                    self._held += told
                    if told:
                        continue
                # All that had arrived before what is held has been read.
                troubles, self._held = self._held, []
                self._taken = 0
                return Arrivals(trains, troubles)
            except OSError:
                self._told = True
                continue
            source = sources.get(name) or self._remember(name)
            size = offload.received_size(ancillary) if ancillary else None
            trains.append(Train(data, size or length, source))
            self._are_large = size is None and length > _LARGE
            room -= length
            if room < 0:
                break
        return Arrivals(trains, self._troubles_in_flood(trains))

    def _troubles_in_flood(self, trains: Sequence[Train]) -> list[PathTrouble]:
        """Return the troubles that may be told though there is more to be read.

        Once as much has been read as the receive buffer holds, everything has been read that was in
        it when the error queue was read.
        """
        self._taken += sum(map(_room_taken, trains))
        if self._taken < self._receive_buffer:
            return []
        self._taken = 0
        self._told = False
        troubles, self._held = self._held, read_errors(self._sock, self._interfaces)
        return troubles

    def _remember(self, name: SocketName) -> Address:
        source = self._interfaces.from_kernel(name)
        if len(self._sources) >= _MOST_DESTINATIONS:
            self._sources.clear()
        self._sources[name] = source
        return source

    # Sending.

    def send_nowait(self, datagrams: Sequence[bytes], destination: Address) -> int:
        """Send datagrams until the socket's buffer, or a queue behind it, is full."""
        try:
            name = self._names[destination]
        except KeyError:
            name = self._find_name(destination)
        sent, count = 0, len(datagrams)
        try:
            if count == 1:
                if name is None:
                    self._send(datagrams[0], name)
                else:
                    try:
                        self._sock.sendto(datagrams[0], name)
                    except OSError as error:
                        self._send_again(datagrams[0], name, error)
                return 1
            while sent < count:
                length = 1
                if self._segmented and destination not in self._crowded:
                    length = offload.train_length(datagrams, sent)
                    if length > 1 and not _backlogs.allow_train(self):
                        length = 1
                if length == 1:
                    self._send(datagrams[sent], name)
                    sent += 1
                    continue
                taken = self._send_train(datagrams[sent : sent + length], name, destination)
                sent += taken
                if taken < length:
                    break
        except BlockingIOError:
            return sent
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                self._crowded.add(destination)
            elif error.errno in GONE and "%" in destination.host:
                # The interface may come back, under the same name and with another index.
                self._names.pop(destination, None)
            if not sent:
                raise
        return sent

    def _find_name(self, destination: Address) -> SocketName | None:
        is_bound = "%" not in destination.host or self._come_back()
        if destination == self._peer:
            name = None
        else:
            name = self._interfaces.to_kernel(destination)
            if len(self._names) >= _MOST_DESTINATIONS:
                self._names.clear()
        if is_bound:
            self._names[destination] = name
        return name

    def _come_back(self) -> bool:
        """Open the socket anew if its interface has come back: it is bound to the one it lost.

        Returns:
            Whether it is bound to the interface that has the name now.
        """
        interface = self.local.host.partition("%")[2]
        if not interface:
            return True
        shared = self._shared
        if shared is not None:
            shared._come_back()
        try:
            if self._interfaces.find_index(interface) == self._sock.getsockname()[3]:
                return True
            sock = options.new_socket(socket.AF_INET6)
        except OSError:
            # It is gone, or has another name.
            return False
        try:
            if shared is None or self._peer is None:
                options.set_all(sock, options.SOCKET_BUFFER, self._mark)
                sock.bind(self._interfaces.to_kernel(self.local))
            else:
                options.set_all(sock, options.CONNECTED_SEND_BUFFER, self._mark)
                shared._bind_beside(sock)
                sock.connect(self._interfaces.to_kernel(self._peer))
            offload.receive_coalesced(sock)
        except OSError:
            # The next send tries again.
            sock.close()
            return False
        self._wake()
        old, self._sock = self._sock, sock
        old.close()
        return True

    def _send(self, datagram: bytes, name: SocketName | None) -> None:
        try:
            if name is None:
                self._sock.send(datagram)
            else:
                self._sock.sendto(datagram, name)
        except OSError as error:
            self._send_again(datagram, name, error)

    def _send_again(self, datagram: bytes, name: SocketName | None, error: OSError) -> None:
        """Send what was refused with ``error`` once more, if that was about an earlier packet.

        An ICMP error is told on the next send, which then was not made: it is on the error queue,
        and the packet deserves its own try.
        """
        if error.errno not in TOLD_LATE:
            raise error
        self._told = True
        if name is None:
            self._sock.send(datagram)
        else:
            self._sock.sendto(datagram, name)

    def _send_train(
        self, train: Sequence[bytes], name: SocketName | None, destination: Address
    ) -> int:
        """Send ``train`` in one call, or else one by one; return how many were taken."""
        try:
            self._sock.sendmsg([b"".join(train)], offload.cut_into(len(train[0])), 0, name)
        except BlockingIOError:
            raise
        except OSError as error:
            is_full = error.errno == errno.ENOBUFS
            if is_full:
                self._crowded.add(destination)
            else:
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
                # What may be about an earlier datagram says nothing of trains.
                if not is_full and error.errno not in TOLD_LATE:
                    self._trains_refused += 1
                    self._segmented = self._trains_refused < _MOST_REFUSALS
            return taken
        self._trains_refused = 0
        return len(train)

    async def wait_sendable(self) -> None:
        """Wait for room in the socket's buffer."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("the endpoint was closed")
        try:
            await trio.lowlevel.wait_writable(self._sock)
        except trio.ClosedResourceError:
            # Or ``troubles`` has woken everybody. Nobody relies on there being room.
            if self._closed:
                raise

    @property
    def backlog(self) -> float:
        """How much of the send buffer is in use by what has not left the machine."""
        if self._closed:
            return 0.0
        return min(1.0, self.unsent() / self._send_buffer)

    def unsent(self) -> int:
        """Return the bytes that wait in this machine to be sent, with the kernel's bookkeeping."""
        return int.from_bytes(ioctl(self._sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    def troubles(self) -> list[PathTrouble]:
        """Read the error queue: what the network says is kept for ``receive``."""
        told = read_errors(self._sock, self._interfaces)
        self._told = False
        held = [trouble for trouble in told if not trouble.local]
        if held and not self._held:
            # Who waits to receive is not woken by the kernel for them any more. Wake everybody who
            # waits for the socket, which stays open.
            self._wake()
        self._held += held
        return [trouble for trouble in told if trouble.local]

    # The socket itself.

    def connect(self, destination: Address) -> UdpEndpoint | None:
        """Bind a socket to the same address and connect it.

        Returns None also for a wildcard address: the kernel would settle on one of this machine's
        addresses once and for all.
        """
        if self._shared is not None or destination in self._connected:
            return None
        if ip_address(self.local.host.partition("%")[0]).is_unspecified:
            return None
        try:
            name = self._interfaces.to_kernel(destination)
            sock = options.new_socket(self._sock.family)
        except OSError:
            return None
        try:
            options.set_all(sock, options.CONNECTED_SEND_BUFFER, self._mark)
            self._bind_beside(sock)
            sock.connect(name)
            endpoint = UdpEndpoint(sock, self._mark, self, destination)
        except OSError:
            sock.close()
            return None
        except BaseException:
            sock.close()
            raise
        self._connected[destination] = endpoint
        return endpoint

    def _bind_beside(self, sock: socket.socket) -> None:
        """Bind ``sock`` to the address that this one has.

        All sockets that have the address must allow that. This one does so for no longer than it
        takes: any program may bind the address meanwhile. The connected ones may allow it all the
        time, as long as this one does not.
        """
        options.allow_sharing(sock, True)
        options.allow_sharing(self._sock, True)
        try:
            sock.bind(self._sock.getsockname())
        finally:
            options.allow_sharing(self._sock, False)

    def set_dscp(self, dscp: int) -> None:
        """Set the type of service, and the priority in this machine's own queues."""
        self._mark = dscp
        try:
            options.set_priority(self._sock, dscp)
        except OSError as error:
            raise TransportError.from_os_error(
                f"cannot mark packets of {self.local}", error
            ) from error
        for endpoint in self._connected.values():
            endpoint.set_dscp(dscp)

    def close(self) -> None:
        """Close the socket."""
        if self._closed:
            return
        self._closed = True
        _backlogs.forget(self)
        for event in self._behind:
            event.set()
        for endpoint in self._connected.values():
            options.allow_sharing(endpoint._sock, False)
        if self._shared is not None and self._peer is not None:
            self._shared._connected.pop(self._peer, None)
        self._wake()
        if self._watch is not None:
            self._watch.leave()
        self._sock.close()
