"""Collect what is delivered as a whole: requests, answers and messages.

Each host has a share of memory for them. While the share has room, bytes are taken as they arrive.
When it is full, only the oldest incomplete item continues; the others wait in the windows of their
streams. So the oldest item always completes, however many are under way, and all together hold
little more than the share and one item of the largest size.
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
"""Bytes that one host may have in incomplete items and items that the program has not taken."""
# Bytes that are read or copied in one turn: the system has to find memory for them.
_AT_ONCE: Final = 256 * 1024


class CollectingShare:
    """The memory for the requests, answers or messages of one host.

    Attributes:
        held: Bytes in use.
    """

    def __init__(self) -> None:
        self.held: int = 0
        self._incomplete: dict[Collector, None] = {}
        self._is_going_on = self._again = False

    def begin(self, collector: Collector) -> None:
        """Register a collector that starts."""
        self._incomplete[collector] = None

    def may_take(self, collector: Collector, size: int) -> bool:
        """Return whether ``collector`` may take ``size`` bytes more."""
        if self.held + size <= SHARE:
            return True
        return next(iter(self._incomplete), None) is collector and (
            self.held - collector.size <= SHARE
        )

    def end(self, collector: Collector) -> None:
        """Note that a collector is complete or has failed."""
        if self._incomplete.pop(collector, collector) is None and self._incomplete:
            self._go_on()

    def release(self, size: int) -> bool:
        """Release ``size`` bytes that the program has taken or that were dropped.

        Returns:
            True if other collectors may have continued, so that there is something to send.
        """
        self.held -= size
        if not self._incomplete:
            return False
        self._go_on()
        return True

    def _go_on(self) -> None:
        """Let waiting collectors take what there is room for, oldest first."""
        self._again = True
        if self._is_going_on:
            # A collector ended in the loop below, which may have made room for others.
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
    """An item that arrived in one packet; it occupies its host's share until it is dropped.

    Args:
        share: The share of the host.
        data: The bytes of the item.
    """

    __slots__ = ("_data", "_share")

    def __init__(self, share: CollectingShare, data: bytes) -> None:
        self._share = share
        self._data = data
        share.held += len(data)

    def data(self) -> bytes:
        """Return the bytes of the item."""
        return self._data

    def drop(self) -> bool:
        """Release the memory; call it once. Return whether collectors may have continued."""
        return self._share.release(len(self._data))


def take_whole(
    connection: Connection, stream: StreamState, share: CollectingShare, limit: int
) -> Whole | None:
    """Take a complete item off a stream: the fast path for items of one packet.

    Returns:
        The item, or None if it is incomplete, has more than ``limit`` bytes or finds no room: use
        a Collector then.
    """
    receiving = stream.receiving
    size = receiving.next - receiving.read_to
    if receiving.stage is not ReceivingStage.WHOLE or size > limit or share.held + size > SHARE:
        return None
    return Whole(share, connection.read_whole(stream))


class Collector:
    """Collects the bytes of one stream until the item is complete.

    Args:
        pump: The pump of the host.
        connection: The connection of the stream.
        stream: The stream.
        share: The share that the bytes are counted in.
        limit: The largest item that is accepted, in bytes.
        done: Called once: with None when the item is complete, or with the failure.

    Attributes:
        size: Bytes collected so far.
        waits: True if bytes have arrived for which the share has no room.
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
        self.size: int = 0
        self.waits: bool = False
        self._pump = pump
        self._connection = connection
        self._stream = stream
        self._share = share
        self._limit = limit
        self._done: Callable[[Failure | None], None] | None = done
        self._parts: list[bytes] = []
        share.begin(self)

    def data(self) -> bytes:
        """Return the bytes collected so far."""
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    async def join(self) -> None:
        """Join the parts, so that ``data`` returns at once.

        A large item takes several turns. Cannot be cancelled.
        """
        if self.size <= _AT_ONCE:
            return
        # A buffer of full size: it neither grows nor is copied at the end.
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
        """Take the bytes that have arrived."""
        if self._done is None:
            return
        stream, receiving = self._stream, self._stream.receiving
        failure = stream.receiving_failure
        if failure is None and not stream.opened_here:
            # The peer no longer waits for the answer.
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
        """Stop collecting and release the memory, without calling ``done``."""
        if self._done is not None:
            self._done = None
            self.drop()
            self._share.end(self)

    def drop(self) -> bool:
        """Release the memory; return whether other collectors may have continued."""
        self._parts.clear()
        size, self.size = self.size, 0
        return self._share.release(size)

    def _too_large(self) -> None:
        reason = f"it has more than {self._limit} bytes"
        self._connection.reset(self._stream, SENDING | RECEIVING, Code.REFUSED, reason)
        # Not REFUSED, which says that the peer did nothing: it may have done what was requested.
        self._end(Failure(FailureCause.TOO_LARGE, reason))
        self._pump.flush()

    def _end(self, failure: Failure | None) -> None:
        done, self._done = self._done, None
        if failure is not None:
            self.drop()
        self._share.end(self)
        if done is not None:
            done(failure)
