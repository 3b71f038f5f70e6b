"""The receiving side of a UDP socket: how it is waited for, and how it is read.

The way to wait depends on how datagrams come::

    now and then                       with the handle's other quiet sockets, in a SocketWatch
    in close succession, one by one    awake, for a few turns of the loop
    in close succession, many at once  asleep, in a task of the socket's own
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import trio

from knet_trio._transport import offload, options
from knet_trio._transport.errqueue import read_errors
from knet_trio._transport.interfaces import Interfaces, SocketName
from knet_trio.abc import Arrivals, Endpoint, PathTrouble, SocketWatch, Train
from knet_trio.address import Address

# The most that one wake-up takes from a socket, in calls and in bytes. The last train may exceed
# the bytes.
RECEIVE_CALLS: Final = 64
RECEIVE_BYTES: Final = 384 * 1024
# Falling asleep and waking up takes longer than all the work on a message. So if single datagrams
# have come within CLOSE seconds of each other, AWAKE_AFTER times in a row, and the thread slept in
# between, the task waits awake for the next ones, AWAKE_TURNS turns of the loop for each: as long
# as a peer on a fast network takes to answer. If none comes in that time, the task sleeps again.
CLOSE: Final = 0.001
AWAKE_AFTER: Final = 16
AWAKE_TURNS: Final = 64
_DATAGRAM: Final = 65536
# After a datagram of more bytes than this, the next one is read into a buffer and copied from
# there. ``recvmsg`` first allocates memory for the largest datagram and then gives back the rest:
# for 64 KB that takes three times as long as the copy.
_LARGE: Final = 16384
# The largest datagram, in bytes, that is little work.
_SMALL: Final = 4096
# The most source addresses that are remembered by the kernel's names for them.
_MOST_SOURCES: Final = 4096
# How often the socket is checked for being empty: a check may report an error instead.
_LOOKS: Final = 3
# A lower bound, in bytes, on the room that a datagram takes in the receive buffer beside its own
# bytes (struct sk_buff and the end of its buffer).
_BOOKKEEPING: Final = 512


class _LargeBuffer(threading.local):
    """The receive buffer of a thread: while one thread is in a system call, others run."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_DATAGRAM))
        # The form that ``recvmsg_into`` needs.
        self.views = (self.view,)


_large: Final = _LargeBuffer()


def _room_taken(train: Train) -> int:
    """Return a lower bound on the bytes that a train took in the receive buffer."""
    return len(train.data) + _BOOKKEEPING


class UdpReceiver(Endpoint):
    """The receiving side of a UDP endpoint.

    Args:
        sock: The socket.
        after: The endpoint that is read first: all packets that are in it when this endpoint is
            first read go before the packets of this one. None if there is none.
    """

    def __init__(self, sock: socket.socket, after: UdpReceiver | None) -> None:
        self._sock = sock
        self._interfaces = Interfaces()
        self._sources: dict[SocketName, Address] = {}
        self._ancillary_size = offload.ANCILLARY_SIZE if offload.receive_coalesced(sock) else 0
        self._receive_buffer = options.buffer_size(sock, socket.SO_RCVBUF)
        self._closed = False
        # None again once that endpoint has been read.
        self._after = after
        # The endpoints that wait for this one to be read, each with the bytes to read before.
        self._behind: dict[trio.Event, int] = {}
        # True if a call has reported an error that is on the error queue with its destination.
        self._errors_queued = False
        # Troubles that are not reported before the packets that arrived ahead of them, and about
        # how many bytes of the receive buffer were read since they were put here or there was none.
        self._held: list[PathTrouble] = []
        self._taken = 0
        # True while the packets that were received last are being handled.
        self._at_work = False
        # The watch that waits for the socket while it is quiet, and what handles its packets.
        self._watch: SocketWatch | None = None
        self._take: Callable[[bytes, Address], bool] | None = None
        # Packets read in the watch for the receiving task: a train, or a large datagram.
        self._first: list[Train] = []
        # When something last arrived; whether that was right after the time before; how often in a
        # row it was so; and whether to stay awake for the next datagram.
        self._arrived_at = -math.inf
        self._is_busy = False
        self._in_a_row = 0
        self._stays_awake = False
        # True if the last datagram was large.
        self._are_large = False

    async def receive(self) -> Arrivals:
        """Wait for the socket and drain it, up to a bound.

        Raises:
            trio.ClosedResourceError: The endpoint was closed.
        """
        if self._after is not None:
            await self._wait_for_earlier(self._after)
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
                # The kernel has reported these troubles, and does not wake the task for them again.
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
                    # Closed, or ``troubles`` has read something for this task.
                    continue
                if began is not None:
                    self._in_a_row = 0
                    wall, cpu = self._look_at_clocks()
                    # Staying awake saves time only if the thread slept most of the time.
                    self._stays_awake = 2 * (cpu - began[1]) < wall - began[0]
            if self._closed:
                # mypy does not know that this may change during an await.
                continue  # type: ignore[unreachable]
            arrivals = self._drain(is_woken=not turns)
            for event in self._behind:
                self._behind[event] -= sum(map(_room_taken, arrivals.trains))
            if arrivals.trains or arrivals.troubles:
                now = time.perf_counter()
                self._is_busy = now - self._arrived_at < CLOSE
                # Several at once are a stream, whose sender does not wait for answers.
                if len(arrivals.trains) == 1 and self._is_busy:
                    self._in_a_row += 1
                else:
                    self._in_a_row = 0
                    self._stays_awake = False
                self._arrived_at = now
                self._at_work = True
                return arrivals

    def use_watch(self, watch: SocketWatch, take: Callable[[bytes, Address], bool]) -> None:
        """Wait in ``watch`` while the socket is quiet.

        Args:
            watch: The watch.
            take: Called with each small datagram and its source; returns True for data.
        """
        self._watch, self._take = watch, take
        watch.join()

    def _take_one(self) -> bool:
        """Take a single small datagram; return False if the receiving task has to run."""
        try:
            data, ancillary, _, name = self._sock.recvmsg(_DATAGRAM, self._ancillary_size)
        except BlockingIOError:
            return True
        except OSError:
            self._errors_queued = True
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
            # For one message after the other, the socket's own task receives.
            self._is_busy = self._arrived_at - before < CLOSE
            return not self._is_busy
        return True

    def _wake(self) -> None:
        """Wake all tasks that wait for the socket, though it may stay open."""
        if self._watch is not None:
            self._watch.wake(self._sock)
        trio.lowlevel.notify_closing(self._sock)

    @staticmethod
    def _look_at_clocks() -> tuple[float, float]:
        """Return the time, and the CPU time of this thread, in seconds."""
        return time.perf_counter(), time.thread_time()

    async def _wait_for_earlier(self, other: UdpReceiver) -> None:
        """Wait until the packets that came to the shared socket before have been read.

        The peer sent them before those that come to this socket.
        """
        if not other._closed and (other._at_work or other._first or not other._is_empty()):
            may_read = trio.Event()
            other._behind[may_read] = other._receive_buffer
            # Its task may be asleep though the socket has something: another task took the error.
            other._wake()
            await may_read.wait()
        self._after = None

    @property
    def overflows(self) -> int:
        """The number of packets dropped with a full receive buffer, or since they were damaged."""
        return 0 if self._closed else options.dropped_packets(self._sock)

    @property
    def drained(self) -> bool:
        """True if all packets that have arrived were read and handled."""
        if self._closed:
            return True
        if self._at_work or self._first:
            return False
        # A check may report an error instead, which does not show whether there is data.
        return any(self._is_empty() for _ in range(_LOOKS))

    def _is_empty(self) -> bool:
        """Return whether there is nothing to read."""
        try:
            self._sock.recvmsg(0, 0, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            # The error is on the error queue, and does not show whether there is data.
            self._errors_queued = True
        return False

    def _let_others_read(self) -> None:
        """Let connected sockets be read, if the packets that came here before were handled."""
        is_empty = self._is_empty()
        for event, left in list(self._behind.items()):
            if is_empty or left <= 0:
                del self._behind[event]
                event.set()

    def _drain(self, *, is_woken: bool) -> Arrivals:
        trains, self._first = self._first, []
        sock, ancillary_size, sources = self._sock, self._ancillary_size, self._sources
        room = RECEIVE_BYTES - len(trains[0].data) if trains else RECEIVE_BYTES
        for _ in range(RECEIVE_CALLS):
            try:
                if self._are_large:
                    length, ancillary, _, name = sock.recvmsg_into(_large.views, ancillary_size)
                    data = bytes(_large.view[:length])
                else:
                    data, ancillary, _, name = sock.recvmsg(_DATAGRAM, ancillary_size)
                    length = len(data)
            except BlockingIOError:
                if self._errors_queued or (is_woken and not (trains or self._held)):
                    # There is something on the error queue: a call has said so, or the wake-up had
                    # no other reason. The packets that have arrived until now come first.
                    self._errors_queued = False
                    reports = read_errors(self._sock, self._interfaces)
                    self._held += reports
                    if reports:
                        continue
                # All packets that had arrived before the held troubles have been read.
                troubles, self._held = self._held, []
                self._taken = 0
                return Arrivals(trains, troubles)
            except OSError:
                self._errors_queued = True
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
        """Return the troubles that may be reported although there is more to read.

        After as many bytes as the receive buffer holds were read, all packets have been read that
        were in it when the error queue was read.
        """
        self._taken += sum(map(_room_taken, trains))
        if self._taken < self._receive_buffer:
            return []
        self._taken = 0
        self._errors_queued = False
        troubles, self._held = self._held, read_errors(self._sock, self._interfaces)
        return troubles

    def _remember(self, name: SocketName) -> Address:
        source = self._interfaces.from_kernel(name)
        if len(self._sources) >= _MOST_SOURCES:
            self._sources.clear()
        self._sources[name] = source
        return source

    def troubles(self) -> list[PathTrouble]:
        """Read the error queue.

        Returns:
            The troubles that this machine reports. Those of the network are kept for ``receive``.
        """
        reports = read_errors(self._sock, self._interfaces)
        self._errors_queued = False
        held = [trouble for trouble in reports if not trouble.local]
        if held and not self._held:
            # The kernel no longer wakes the receiving task for these troubles. Wake all tasks that
            # wait for the socket, which stays open.
            self._wake()
        self._held += held
        return [trouble for trouble in reports if trouble.local]

    def close(self) -> None:
        """Close the socket, and wake all tasks that wait for it."""
        self._closed = True
        for event in self._behind:
            event.set()
        self._wake()
        if self._watch is not None:
            self._watch.leave()
        self._sock.close()
