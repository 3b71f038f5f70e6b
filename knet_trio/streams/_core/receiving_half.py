"""The receiving half of a stream: the bytes that have arrived, until the program has read them.

::

    OPEN --- the end arrives ---> SIZED --- all bytes arrive ---> WHOLE --- all is read ---> DONE
      |                             |                               |
      +--------- peer gives up -----+----> RESET                    |
      +--------- program stops -----+-------------------------------+----> STOPPED

Bytes that arrive after a gap are kept in segments, within the credit. There are at most
``MAX_SEGMENTS`` of them, and at most one for each ``SEGMENT_CREDIT`` bytes of the window: so a peer
that sends single bytes does not use more memory.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import Final

from knet_trio.streams._core.faults import Fault, StreamPacketError
from knet_trio.streams._core.limits import INITIAL_CREDIT, MAX_SEGMENTS, SEGMENT_CREDIT
from knet_trio.streams._core.quick_enum import QuickEnum


class ReceivingStage(QuickEnum):
    """The stage of a receiving half; the value describes it."""

    OPEN = "more bytes are to come"
    SIZED = "the number of bytes is known"
    WHOLE = "all bytes have arrived"
    DONE = "the program has read all bytes and the end"
    RESET = "given up by the other side"
    STOPPED = "the program wants no more"


class ReceivingCue(QuickEnum):
    """An event in the life of a receiving half; the value describes it."""

    END_KNOWN = "a DATA frame with the end comes"
    ALL_HERE = "no byte before the end is missing"
    ALL_READ = "the program has read all bytes and the end"
    PEER_GIVES_UP = "a RESET of the other side's sending half comes, or the stream fails"
    STOP = "the program wants no more"


RECEIVING_TRANSITIONS: Final = {
    (ReceivingStage.OPEN, ReceivingCue.END_KNOWN): ReceivingStage.SIZED,
    (ReceivingStage.OPEN, ReceivingCue.PEER_GIVES_UP): ReceivingStage.RESET,
    (ReceivingStage.OPEN, ReceivingCue.STOP): ReceivingStage.STOPPED,
    (ReceivingStage.SIZED, ReceivingCue.ALL_HERE): ReceivingStage.WHOLE,
    (ReceivingStage.SIZED, ReceivingCue.PEER_GIVES_UP): ReceivingStage.RESET,
    (ReceivingStage.SIZED, ReceivingCue.STOP): ReceivingStage.STOPPED,
    (ReceivingStage.WHOLE, ReceivingCue.ALL_READ): ReceivingStage.DONE,
    (ReceivingStage.WHOLE, ReceivingCue.STOP): ReceivingStage.STOPPED,
}
"""The next stage for each stage and cue. Other combinations change nothing."""

_WHOLE_AT_ONCE: Final = RECEIVING_TRANSITIONS[
    RECEIVING_TRANSITIONS[ReceivingStage.OPEN, ReceivingCue.END_KNOWN], ReceivingCue.ALL_HERE
]
# Smaller pieces are joined in one buffer, so that a few bytes do not cost an object each.
_GATHERED: Final = 1024


class ReceivingHalf:
    """The receiving half of a stream.

    Attributes:
        stage: The stage.
        wants_more: True while further bytes are expected and wanted.
        is_over: True if there is nothing more to receive or to read.
        read_to: Bytes that the program has read.
        next: The place of the first missing byte.
        size: The size of the whole stream [bytes]; None while it is not known.
        limit: The credit: the number of bytes that the peer may send.
    """

    __slots__ = (
        "_ready",
        "_segments",
        "_starts",
        "is_over",
        "limit",
        "next",
        "read_to",
        "size",
        "stage",
        "wants_more",
    )

    def __init__(self) -> None:
        self.stage: ReceivingStage = ReceivingStage.OPEN
        self.wants_more: bool = True
        self.is_over: bool = False
        self.read_to: int = 0
        self.next: int = 0
        self.size: int | None = None
        self.limit: int = INITIAL_CREDIT
        self._ready: deque[memoryview | bytearray | bytes] = deque()
        # Segments after a gap and their places, ascending; segments do not overlap.
        self._starts: list[int] = []
        self._segments: list[memoryview] = []

    @property
    def available(self) -> int:
        """The number of bytes that the program can read now."""
        return self.next - self.read_to

    def advance(self, cue: ReceivingCue) -> bool:
        """Apply a cue; return whether it has changed the stage."""
        stage = RECEIVING_TRANSITIONS.get((self.stage, cue))
        if stage is None:
            return False
        self.stage = stage
        if stage is not ReceivingStage.SIZED:
            self.wants_more = False
            self.is_over = stage is not ReceivingStage.WHOLE
        if stage is ReceivingStage.RESET or stage is ReceivingStage.STOPPED:
            # Discard everything, so that a reader finds a failure and not the end.
            self.read_to = self.next
            self._ready.clear()
            self._starts.clear()
            self._segments.clear()
        return True

    def check(self, offset: int, size: int, *, last: bool) -> None:
        """Check a frame before ``receive``.

        Raises:
            StreamPacketError: The frame violates the protocol or finds no room. Nothing has
                changed.
        """
        stop = offset + size
        if stop > self.limit:
            raise StreamPacketError(
                Fault.CREDIT_EXCEEDED, f"{stop} bytes on a stream with credit for {self.limit}"
            )
        if self.size is not None and (stop > self.size or (last and stop != self.size)):
            raise StreamPacketError(
                Fault.WRONG_SIZE, f"{stop} bytes on a stream of {self.size} bytes"
            )
        if last and self._starts and self._starts[-1] + len(self._segments[-1]) > stop:
            raise StreamPacketError(Fault.WRONG_SIZE, "a stream ends before its last byte")
        if last and stop < self.next:
            raise StreamPacketError(Fault.WRONG_SIZE, "a stream ends before its last byte")
        if offset > self.next and self.wants_more and self._has_many_segments():
            raise StreamPacketError(Fault.TOO_MANY_SEGMENTS, "a stream has too many gaps")

    def _has_many_segments(self) -> bool:
        count = len(self._starts)
        window = self.limit - self.read_to
        return count >= MAX_SEGMENTS or count * SEGMENT_CREDIT >= window

    def receive(self, offset: int, data: memoryview, *, last: bool) -> bool:
        """Add bytes that passed ``check``; return whether there is more to read now."""
        if not self.wants_more:
            return False
        before = self.next
        if last and self.size is None:
            self.size = offset + len(data)
            self.advance(ReceivingCue.END_KNOWN)
        if offset <= self.next:
            self._append(data[self.next - offset :] if offset < self.next else data)
            if self._starts:
                self._join()
        elif data:
            self._keep(offset, data)
        if self.next == self.size and self.advance(ReceivingCue.ALL_HERE):
            return True
        return self.next > before

    def receive_whole(self, data: memoryview) -> bool:
        """Add all bytes of the stream at once, if none have arrived and the credit suffices.

        Returns:
            True if they were added. If False, nothing has happened.
        """
        size = len(data)
        if self.stage is not ReceivingStage.OPEN or self.next or self._starts or size > self.limit:
            return False
        self.size = self.next = size
        self.stage = _WHOLE_AT_ONCE
        self.wants_more = False
        if size:
            # Mostly read at once, and then without another copy.
            self._ready.append(bytes(data) if size < _GATHERED else _without_the_rest(data))
        return True

    def receive_run(self, offset: int, first: memoryview, more: list[memoryview]) -> bool:
        """Add consecutive pieces of equal size, none of them the last, if they continue the stream.

        Returns:
            True if they were added. If False, nothing has happened.
        """
        size = len(first)
        stop = offset + size * (1 + len(more))
        if (
            offset != self.next
            or self._starts
            or stop > self.limit
            or self.stage is not ReceivingStage.OPEN
            or size < _GATHERED
        ):
            return False
        self._ready.append(first)
        self._ready.extend(more)
        self.next = stop
        return True

    def read(self, limit: int) -> bytes:
        """Remove and return up to ``limit`` bytes; empty if none are available."""
        ready = self._ready
        parts: list[memoryview | bytearray | bytes] = []
        room = limit
        while ready and room:
            chunk = ready[0]
            if len(chunk) > room:
                parts.append(chunk[:room])
                ready[0] = memoryview(chunk)[room:]
                room = 0
            else:
                parts.append(chunk)
                ready.popleft()
                room -= len(chunk)
        data = bytes(parts[0]) if len(parts) == 1 else b"".join(parts)
        self.read_to += len(data)
        return data

    def read_all(self) -> bytes:
        """Remove and return all available bytes."""
        ready = self._ready
        data = bytes(ready[0]) if len(ready) == 1 else b"".join(ready)
        ready.clear()
        self.read_to = self.next
        return data

    def _append(self, data: memoryview) -> None:
        size = len(data)
        if not size:
            return
        self.next += size
        ready = self._ready
        if size >= _GATHERED:
            ready.append(_without_the_rest(data))
            return
        last = ready[-1] if ready else None
        # A buffer that was partly read is a memoryview, which cannot grow.
        if isinstance(last, bytearray) and len(last) < _GATHERED:
            last += data
        else:
            ready.append(bytearray(data))

    def _keep(self, offset: int, data: memoryview) -> None:
        """Keep bytes after a gap, without those that are kept already."""
        starts, segments = self._starts, self._segments
        index = bisect_right(starts, offset)
        if index:
            stop = starts[index - 1] + len(segments[index - 1])
            if stop > offset:
                data = data[stop - offset :]
                offset = stop
        while data:
            size = len(data)
            later = starts[index] if index < len(starts) else offset + size
            room = min(size, later - offset)
            if room:
                starts.insert(index, offset)
                segments.insert(index, _without_the_rest(data[:room]))
                index += 1
            if room == size:
                return
            skipped = later + len(segments[index]) - offset
            data = data[skipped:]
            offset += skipped
            index += 1

    def _join(self) -> None:
        """Append the segments that are no longer behind a gap."""
        starts, segments = self._starts, self._segments
        count = 0
        for start, segment in zip(starts, segments, strict=True):
            if start > self.next:
                break
            count += 1
            if start + len(segment) > self.next:
                self._append(segment[self.next - start :])
        if count:
            del starts[:count]
            del segments[:count]


def _without_the_rest(data: memoryview) -> memoryview:
    """Return ``data``, copied if it would keep a much larger packet alive."""
    whole = data.obj
    if isinstance(whole, bytes) and len(whole) > 2 * len(data) + _GATHERED:
        return memoryview(bytes(data))
    return data
