"""Putting together what is wanted whole: requests, answers and messages.

What a host sends that way has a share of memory of its own. While there is room in it, all that
comes is taken as it comes. If there is not, only the oldest one that is not whole goes on; the
others wait, in the windows of their streams. So however many are begun, the oldest gets done, and
they hold little more than the share and the largest there may be.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Final

import trio

from knet_trio.streams._core.connection import Connection
from knet_trio.streams._core.receiving_half import ReceivingStage
from knet_trio.streams._core.stream_state import Failure, FailureCause, StreamState
from knet_trio.streams._core.wire import RECEIVING, SENDING, Code

if TYPE_CHECKING:
    from knet_trio.streams._host_pump import HostPump

SHARE: Final = 16 * 1024 * 1024
"""Bytes that a host may have in what is not whole yet, or not taken by the program."""
# Bytes that are read, or put together, at once: the system has to find memory for them.
_AT_ONCE: Final = 256 * 1024


class CollectingShare:
    """The memory for what one host sends.

    Attributes:
        held: Bytes in it.
    """

    def __init__(self) -> None:
        self.held = 0
        self._incomplete: dict[Collector, None] = {}
        self._is_going_on = self._again = False

    def begin(self, collector: Collector) -> None:
        """Note that something begins to be put together."""
        self._incomplete[collector] = None

    def may_take(self, collector: Collector, size: int) -> bool:
        """Return whether ``size`` bytes more may be taken."""
        if self.held + size <= SHARE:
            return True
        return next(iter(self._incomplete), None) is collector and (
            self.held - collector.size <= SHARE
        )

    def end(self, collector: Collector) -> None:
        """Note that something is whole, or will not be."""
        if self._incomplete.pop(collector, collector) is None and self._incomplete:
            self._go_on()

    def release(self, size: int) -> bool:
        """Give back memory: the program has it now, or it is dropped.

        Returns:
            Whether others may have gone on, so that there is something to send.
        """
        self.held -= size
        if not self._incomplete:
            return False
        self._go_on()
        return True

    def _go_on(self) -> None:
        """Have those that wait take what there is room for, in their order."""
        self._again = True
        if self._is_going_on:
            # One of those that go on has ended, and may have made room for others.
            return
        self._is_going_on = True
        while self._again:
            self._again = False
            for collector in list(self._incomplete):
                if collector.waits:
                    if not self.may_take(collector, 1):
                        break
                    collector.touched()
        self._is_going_on = False


class Whole:
    """What came all at once, and has its place in the share of its host until it is dropped.

    Args:
        share: The share.
        data: The bytes.
    """

    __slots__ = ("_data", "_share")

    def __init__(self, share: CollectingShare, data: bytes) -> None:
        self._share = share
        self._data = data
        share.held += len(data)

    def data(self) -> bytes:
        """Return what has come."""
        return self._data

    def drop(self) -> bool:
        """Give back the memory of it, once; return whether others may have gone on."""
        return self._share.release(len(self._data))


def take_whole(
    connection: Connection, stream: StreamState, share: CollectingShare, limit: int
) -> Whole | None:
    """Take all that a stream has, the short way for what came in one packet.

    Returns:
        None if it is not all there, has more than ``limit`` bytes, or finds no room: a Collector
        deals with that.
    """
    receiving = stream.receiving
    size = receiving.next - receiving.read_to
    if receiving.stage is not ReceivingStage.WHOLE or size > limit or share.held + size > SHARE:
        return None
    return Whole(share, connection.read_whole(stream))


class Collector:
    """Puts together what comes on a stream.

    Args:
        pump: Of the host.
        connection: The connection of the stream.
        stream: The stream.
        share: The memory that it takes.
        limit: How many bytes there may be.
        done: Called once: with None when all is there, or with why it will not be.

    Attributes:
        size: How many bytes there are.
        waits: Whether there is more that there was no room for.
    """

    def __init__(
        self,
        pump: HostPump,
        connection: Connection,
        stream: StreamState,
        share: CollectingShare,
        limit: int,
        done: Callable[[Failure | None], None],
    ) -> None:
        self.size = 0
        self.waits = False
        self._pump = pump
        self._connection = connection
        self._stream = stream
        self._share = share
        self._limit = limit
        self._done: Callable[[Failure | None], None] | None = done
        self._parts: list[bytes] = []
        share.begin(self)

    def data(self) -> bytes:
        """Return what has come."""
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    async def join(self) -> None:
        """Put together what has come, so that ``data`` takes no time. It is not cancelled.

        Much of it takes several turns.
        """
        if self.size <= _AT_ONCE:
            return
        # It is filled in place, and neither grows nor is copied at the end.
        whole = BytesIO(bytes(self.size))
        parts, self._parts = self._parts[::-1], []
        left = _AT_ONCE
        while parts:
            part = parts.pop()
            whole.write(part)
            left -= len(part)
            if left <= 0:
                left = _AT_ONCE
                await trio.lowlevel.cancel_shielded_checkpoint()
        self._parts.append(whole.getvalue())

    def touched(self) -> None:
        """Take what has come."""
        if self._done is None:
            return
        stream, receiving = self._stream, self._stream.receiving
        failure = stream.receiving_failure
        if failure is None and not stream.opened_here:
            # Nobody waits for the answer any more.
            failure = stream.sending_failure
        if failure is not None:
            self._end(failure)
            return
        while receiving.available:
            size = min(receiving.available, _AT_ONCE)
            if self.size + size > self._limit:
                self._too_large()
                return
            self.waits = not self._share.may_take(self, size)
            if self.waits:
                return
            part = self._connection.read(stream, size, trio.current_time())
            self._parts.append(part)
            self.size += len(part)
            self._share.held += len(part)
        if receiving.stage is ReceivingStage.WHOLE:
            self._connection.end_read(stream)
            self._end(None)

    def abandon(self) -> None:
        """Want it no more."""
        if self._done is not None:
            self._done = None
            self.drop()
            self._share.end(self)

    def drop(self) -> bool:
        """Give back the memory of what has come; return whether others may have gone on."""
        self._parts.clear()
        size, self.size = self.size, 0
        return self._share.release(size)

    def _too_large(self) -> None:
        reason = f"it has more than {self._limit} bytes"
        self._connection.reset(self._stream, SENDING | RECEIVING, Code.REFUSED, reason)
        # Not a refusal of the other side: it may have done what it was asked for.
        self._end(Failure(FailureCause.TOO_LARGE, reason))
        self._pump.flush()

    def _end(self, failure: Failure | None) -> None:
        done, self._done = self._done, None
        if failure is not None:
            self.drop()
        self._share.end(self)
        if done is not None:
            done(failure)
