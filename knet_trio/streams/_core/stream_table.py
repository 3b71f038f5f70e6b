"""The streams of a connection by their numbers, and how many there may be.

Numbers are never used twice on a connection, and never left out. So a number that was seen and is
not there any more is of a stream that is over, however late a frame of it comes: that is why
a request is done once at most.
"""

from __future__ import annotations

from typing import Final

from knet_trio.streams._core.faults import Fault, StreamPacketError
from knet_trio.streams._core.limits import MAX_STREAMS
from knet_trio.streams._core.range_set import RangeSet
from knet_trio.streams._core.stream_state import StreamState
from knet_trio.streams._core.wire import StreamKind

# Streams of the other side that end before it is told that it may open as many more; and how many
# it may still open, as far as it knows, when it is told of each: the others may stay for long.
_TOLD_AFTER: Final = MAX_STREAMS // 4


class StreamTable:
    """The streams of a connection.

    Attributes:
        streams: Those that are not over, by their keys; to be read only.
        limit: How many streams the other side may open, from the beginning of the connection.
    """

    __slots__ = ("_next", "_peer_limit", "_seen", "_told", "limit", "streams")

    def __init__(self) -> None:
        self.streams: dict[int, StreamState] = {}
        self._next = 0
        self._peer_limit = MAX_STREAMS
        self._seen = RangeSet()
        self.limit = self._told = MAX_STREAMS

    @property
    def can_open(self) -> bool:
        """Whether the other side lets this one open another stream."""
        return self._next < self._peer_limit

    @property
    def room(self) -> int:
        """How many more."""
        return self._peer_limit - self._next

    def all(self) -> list[StreamState]:
        """Return all streams."""
        return list(self.streams.values())

    def open(self, kind: StreamKind) -> StreamState:
        """Open a stream; ``can_open`` has to be true."""
        stream = StreamState(2 * self._next, kind)
        self._next += 1
        self.streams[stream.key] = stream
        return stream

    def allow(self, limit: int) -> bool:
        """Note that the other side lets ``limit`` streams be opened; return whether it is news."""
        if limit <= self._peer_limit:
            return False
        self._peer_limit = limit
        return True

    def get(self, key: int) -> StreamState | None:
        """Return a stream that is there, else None."""
        return self.streams.get(key)

    def find(self, key: int) -> StreamState | None:
        """Return a stream, None if it is over or was never heard of.

        Raises:
            StreamPacketError: It is one of this side that was never opened.
        """
        stream = self.streams.get(key)
        if stream is None and not key & 1 and key >> 1 >= self._next:
            raise StreamPacketError(Fault.NOT_OPENED, f"stream {key >> 1} was never opened")
        return stream

    def admit(self, key: int, kind: StreamKind) -> tuple[StreamState | None, bool]:
        """Return a stream that a DATA frame is of, and whether the frame has opened it.

        Raises:
            StreamPacketError: The other side may not open it, or it has another kind.
        """
        stream = self.find(key)
        if stream is not None:
            if stream.kind is not kind:
                raise StreamPacketError(Fault.WRONG_KIND, f"stream {key >> 1} is no {kind.name}")
            return stream, False
        if not key & 1 or not self._see(key >> 1):
            return None, False
        stream = self.streams[key] = StreamState(key, kind)
        return stream, True

    def forget(self, key: int) -> bool:
        """Note that a stream is over that the other side may have opened, or gives up unopened.

        Returns:
            Whether the other side is to be told that it may open more.
        """
        known = self.streams.pop(key, None) is not None
        if not key & 1 or not (known or self._see(key >> 1)):
            return False
        self.limit += 1
        return self.limit - self._told >= _TOLD_AFTER or self._told - self._seen.end < _TOLD_AFTER

    def told(self) -> int:
        """Return the limit to tell to the other side."""
        self._told = self.limit
        return self.limit

    def _see(self, number: int) -> bool:
        """Return whether the other side's stream ``number`` is seen for the first time."""
        # What it was not told it cannot know. So one that takes in nothing cannot have ever more
        # streams refused, and what is to be said of them pile up here.
        if number >= self._told:
            raise StreamPacketError(
                Fault.STREAMS_EXCEEDED, f"stream {number} of at most {self._told}"
            )
        return self._seen.add(number, number + 1)
