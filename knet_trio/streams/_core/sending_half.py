"""The sending half of a stream: its bytes from ``write`` until they are acknowledged.

::

    OPEN --- finish ---> ENDING --- everything is acknowledged ---> DONE
      |                    |
      +------ reset -------+----> RESET       aborted here; the peer is notified
      +--- peer stops -----+----> STOPPED     the peer does not want the bytes

Places in a stream are counted in bytes from its beginning. The end has a place of its own after
the last byte, and is sent, lost and acknowledged like one more byte. So "everything is
acknowledged" is one range of places, from 0 to one past the end::

      0      base          next      written
      |-------|-------------|-----------|-+
       acknow-   in flight     unsent     the end
       ledged    or lost
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from knet_trio.streams._core.limits import INITIAL_CREDIT
from knet_trio.streams._core.quick_enum import QuickEnum
from knet_trio.streams._core.range_set import RangeSet


class SendingStage(QuickEnum):
    """The stage of a sending half; the value describes it."""

    OPEN = "the program may send more"
    ENDING = "the program has sent its last byte; not everything is acknowledged"
    DONE = "everything is acknowledged"
    RESET = "given up by the program"
    STOPPED = "the other side wants no more"


class SendingCue(QuickEnum):
    """An event in the life of a sending half; the value describes it."""

    FINISH = "the program has no more to send"
    ARRIVED = "everything is acknowledged, including the end"
    GIVE_UP = "the program gives up, or the stream fails"
    PEER_STOPS = "a RESET of the other side's receiving half comes"


SENDING_TRANSITIONS: Final = {
    (SendingStage.OPEN, SendingCue.FINISH): SendingStage.ENDING,
    (SendingStage.OPEN, SendingCue.GIVE_UP): SendingStage.RESET,
    (SendingStage.OPEN, SendingCue.PEER_STOPS): SendingStage.STOPPED,
    (SendingStage.ENDING, SendingCue.ARRIVED): SendingStage.DONE,
    (SendingStage.ENDING, SendingCue.GIVE_UP): SendingStage.RESET,
    (SendingStage.ENDING, SendingCue.PEER_STOPS): SendingStage.STOPPED,
}
"""The next stage for each stage and cue. Other combinations change nothing."""

_FINISHED: Final = SENDING_TRANSITIONS[SendingStage.OPEN, SendingCue.FINISH]
# Smaller writes are joined up to this size.
_GATHERED: Final = 4096
# Acknowledged chunks, and bytes in them, at which the lists are shortened.
_KEPT_CHUNKS: Final = 32
_KEPT_BYTES: Final = 64 * 1024


class SendingHalf:
    """The sending half of a stream.

    Attributes:
        stage: The stage.
        is_over: True if there is nothing more to send, retransmit or wait for.
        written: Bytes that the program has written.
        base: The first place that is not acknowledged.
        next: The first place that was never sent.
        limit: The credit: the number of bytes that may be sent.
    """

    __slots__ = (
        "_arrived",
        "_chunks",
        "_first",
        "_lost",
        "_opened",
        "_starts",
        "base",
        "is_over",
        "limit",
        "next",
        "stage",
        "written",
    )

    def __init__(self, *, opens: bool) -> None:
        self.stage: SendingStage = SendingStage.OPEN
        self.is_over: bool = False
        self.written: int = 0
        self.base: int = 0
        self.next: int = 0
        self.limit: int = INITIAL_CREDIT
        # Whether the peer knows the stream, or a packet that opens it is in flight.
        self._opened = not opens
        # Created when needed: most streams are short.
        self._lost: RangeSet | None = None
        self._arrived: RangeSet | None = None
        # The chunks that are not acknowledged yet, and the place where each begins.
        self._starts: list[int] = []
        self._chunks: list[memoryview] = []
        self._first = 0

    @property
    def unsent(self) -> int:
        """The number of bytes that were never sent."""
        return max(0, self.written - self.next)

    # From the program.

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes to send. They must not change from now on."""
        if self.stage is not SendingStage.OPEN or not data:
            return
        chunks, size = self._chunks, len(data)
        if (
            size < _GATHERED
            and chunks
            and self._starts[-1] >= self.next
            and len(chunks[-1]) + size <= _GATHERED
        ):
            chunks[-1] = memoryview(bytes(chunks[-1]) + data)
        else:
            self._starts.append(self.written)
            chunks.append(memoryview(data))
        self.written += size

    def write_whole(self, data: bytes | memoryview) -> bool:
        """Add all bytes and the end, and mark them as sent in one packet.

        Returns:
            True if nothing was written before and the credit suffices. If False, nothing has
            happened.
        """
        size = len(data)
        if self.stage is not SendingStage.OPEN or self.written or size > self.limit:
            return False
        self.stage = _FINISHED
        if size:
            self._starts.append(0)
            self._chunks.append(memoryview(data))
        self._opened = True
        self.written = size
        self.next = size + 1
        return True

    def advance(self, cue: SendingCue) -> bool:
        """Apply a cue; return whether it has changed the stage."""
        stage = SENDING_TRANSITIONS.get((self.stage, cue))
        if stage is None:
            return False
        self.stage = stage
        if stage is not SendingStage.ENDING:
            self.is_over = True
            self._lost = None
            self._starts.clear()
            self._chunks.clear()
        return True

    # To the other side.

    def has_something(self) -> bool:
        """Return whether there are bytes or an end that may be sent now."""
        if self.is_over:
            return False
        return not self._opened or bool(self._lost) or self.next < self._sendable()

    def _sendable(self) -> int:
        """Return the first place that may not be sent."""
        if self.written > self.limit:
            return self.limit
        return self.written + (self.stage is SendingStage.ENDING)

    def take(self, room: int) -> tuple[int, int]:
        """Take the next piece to send, of at most ``room`` bytes; return its first and end place.

        Lost pieces come first. ``has_something`` must be true.
        """
        self._opened = True
        lost = self._lost
        if lost:
            start, stop = lost.first()
            stop = self._cut(start, stop, room)
            lost.remove(start, stop)
            return start, stop
        start = self.next
        self.next = stop = self._cut(start, self._sendable(), room)
        return start, stop

    def never_sent(self) -> int:
        """Return the number of new bytes that may be sent; 0 if lost bytes come first."""
        if self._lost or self.is_over:
            return 0
        return max(0, min(self.written, self.limit) - self.next)

    def take_run(self, size: int, count: int) -> tuple[int, list[list[memoryview]]]:
        """Take ``count`` pieces of ``size`` new bytes each.

        Returns:
            The place of the first piece, and the parts of each piece (mostly one).
        """
        self._opened = True
        begin = self.next
        self.next += size * count
        index = bisect_right(self._starts, begin) - 1
        chunk = self._chunks[index]
        start = begin - self._starts[index]
        length = len(chunk)
        pieces: list[list[memoryview]] = []
        for _ in range(count):
            stop = start + size
            parts = [chunk[start:stop]]
            while stop > length:
                stop -= length
                index += 1
                chunk = self._chunks[index]
                length = len(chunk)
                parts.append(chunk[:stop])
            pieces.append(parts)
            start = stop
        return begin, pieces

    def _cut(self, start: int, stop: int, room: int) -> int:
        """Return the end of a piece that starts at ``start``: at most ``stop`` and ``room``."""
        data_stop = min(stop, self.written, start + room)
        # The end takes no room: send it with the last bytes, not in a frame of its own.
        return stop if data_stop == self.written else data_stop

    def data(self, start: int, stop: int) -> memoryview:
        """Return the bytes of a piece."""
        stop = min(stop, self.written)
        if start >= stop:
            return memoryview(b"")
        index = bisect_right(self._starts, start) - 1
        offset = start - self._starts[index]
        chunk = self._chunks[index]
        size = stop - start
        found = chunk[offset : offset + size]
        if len(found) == size:
            return found
        parts = [found]
        missing = size - len(found)
        while missing:
            index += 1
            parts.append(self._chunks[index][:missing])
            missing -= len(parts[-1])
        return memoryview(b"".join(parts))

    def is_last(self, stop: int) -> bool:
        """Return whether a piece up to ``stop`` includes the end of the stream."""
        return stop > self.written

    # From the other side.

    def credit(self, limit: int) -> bool:
        """Raise the credit to ``limit``; return whether it has grown."""
        if limit <= self.limit:
            return False
        self.limit = limit
        return True

    def arrived(self, start: int, stop: int) -> None:
        """Note that a piece was acknowledged."""
        if self.is_over:
            return
        if self._lost:
            self._lost.remove(start, stop)
        if start > self.base:
            if self._arrived is None:
                self._arrived = RangeSet()
            self._arrived.add(start, stop)
            return
        if stop > self.base:
            self.base = stop
            while self._arrived and self._arrived.first()[0] <= self.base:
                self.base = max(self.base, self._arrived.drop_first())
        if self.base > self.written:
            self.advance(SendingCue.ARRIVED)
        else:
            self._drop_chunks()

    def _drop_chunks(self) -> None:
        # Drop the chunks before the one with the first place that is still needed.
        count = bisect_right(self._starts, self.base) - 1
        if self.base >= self.written:
            count = len(self._starts)
        if count == len(self._starts) or (
            count > 0
            and (count > _KEPT_CHUNKS or self._starts[count] - self._starts[0] > _KEPT_BYTES)
        ):
            del self._starts[:count]
            del self._chunks[:count]

    def lose(self, start: int, stop: int) -> None:
        """Note that a piece has to be sent again."""
        if self.is_over:
            return
        if start == stop:
            # An empty piece opens the stream, which anything sent since does as well.
            self._opened = self.next > 0
            return
        start = max(start, self.base)
        if start >= stop:
            return
        if self._lost is None:
            self._lost = RangeSet()
        self._lost.add(start, stop)
        for low, high in self._arrived or ():
            if low >= stop:
                break
            self._lost.remove(low, high)
