"""Receiving from a UDP socket: what wakes the task that does, and what it reads then.

A socket is waited for in one of three ways, by how close to each other datagrams come::

    now and then               with the other quiet sockets of the handle, in a SocketWatch
    closely, one by one        awake, for a few turns of the loop
    closely, many at once      asleep, by the task on its own
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

# What one wake-up takes from a socket at most, in calls and in bytes; the last train may go beyond.
RECEIVE_CALLS: Final = 64
RECEIVE_BYTES: Final = 384 * 1024
# Falling asleep and waking up takes longer than all the work on a message. So where single
# datagrams have come that close, in seconds, so many times in a row, and the thread slept in
# between, the next ones are awaited awake, each for a few turns of the loop: as long as a peer on a
# fast network takes to answer. If one has not come by then, it is as it was at first.
CLOSE: Final = 0.001
AWAKE_AFTER: Final = 16
AWAKE_TURNS: Final = 64
_DATAGRAM: Final = 65536
# Once a datagram has more bytes than this, the next is read into a buffer and copied from there.
# What ``recvmsg`` returns has memory for the largest datagram at first and gives back the rest: for
# 64 KB that takes three times as long as the copy.
_LARGE: Final = 16384
# Bytes of a datagram that is little work.
_SMALL: Final = 4096
# Addresses that packets come from, remembered as the kernel names them.
_MOST_SOURCES: Final = 4096
# Times that an error may be told before what there is to be read.
_LOOKS: Final = 3
# Less than a datagram takes of the receive buffer beside its bytes (struct sk_buff and what it
# ends with).
_BOOKKEEPING: Final = 512


class _LargeBuffer(threading.local):
    """The buffer of a thread: while one waits for the system, others run."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_DATAGRAM))
        # As ``recvmsg_into`` wants it.
        self.views = (self.view,)


_large: Final = _LargeBuffer()


def _room_taken(train: Train) -> int:
    """Return about how many bytes of a receive buffer a train took, less rather than more."""
    return len(train.data) + _BOOKKEEPING


class UdpReceiver(Endpoint):
    """An endpoint as far as it receives.

    Args:
        sock: The socket.
        after: The endpoint of which everything has to be read first that has come to it when this
            one is first read; None if there is none.
    """

    def __init__(self, sock: socket.socket, after: UdpReceiver | None) -> None:
        self._sock = sock
        self._interfaces = Interfaces()
        self._sources: dict[SocketName, Address] = {}
        self._ancillary_size = offload.ANCILLARY_SIZE if offload.receive_coalesced(sock) else 0
        self._receive_buffer = options.buffer_size(sock, socket.SO_RCVBUF)
        self._closed = False
        # None again once that has been read.
        self._after = after
        # Those that are to be read after this one: each with what is to be read here before that,
        # in bytes.
        self._behind: dict[trio.Event, int] = {}
        # Whether a call was told of an error that is on the error queue with its destination.
        self._told = False
        # Troubles that are not told before what arrived ahead of them, and about how much of the
        # receive buffer has been taken since they were put here or there were none.
        self._held: list[PathTrouble] = []
        self._taken = 0
        # Whether somebody works on what was received last.
        self._at_work = False
        # What waits for the socket while little comes to it, and who works on that.
        self._watch: SocketWatch | None = None
        self._take: Callable[[bytes, Address], bool] | None = None
        # What was read there and is for the task that receives: a train, or a large datagram.
        self._first: list[Train] = []
        # When something last arrived, and whether that was closely after the time before; how often
        # in a row that was so; whether to stay awake for the next.
        self._arrived_at = -math.inf
        self._is_busy = False
        self._in_a_row = 0
        self._stays_awake = False
        # Whether what arrived last was large.
        self._are_large = False

    async def receive(self) -> Arrivals:
        """Wait for the socket and drain it, up to a bound."""
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

    async def _wait_for_earlier(self, other: UdpReceiver) -> None:
        """Wait until what came to the shared socket before this one was connected has been read.

        The peer sent it before what comes here.
        """
        if not other._closed and (other._at_work or other._first or not other._is_empty()):
            may_read = trio.Event()
            other._behind[may_read] = other._receive_buffer
            # It may be asleep though there is something, of which another has read an error.
            other._wake()
            await may_read.wait()
        self._after = None

    @property
    def overflows(self) -> int:
        """How many packets found the receive buffer full, or were damaged."""
        return 0 if self._closed else options.dropped_packets(self._sock)

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
        if len(self._sources) >= _MOST_SOURCES:
            self._sources.clear()
        self._sources[name] = source
        return source

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

    def close(self) -> None:
        """Close the socket, and wake who waits for it."""
        self._closed = True
        for event in self._behind:
            event.set()
        self._wake()
        if self._watch is not None:
            self._watch.leave()
        self._sock.close()
