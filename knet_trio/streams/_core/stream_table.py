"""The streams of a connection by their numbers, and the limits on their count.

The numbers of a connection's streams are consecutive and never reused. So a number that was seen
and is not in the table belongs to a stream that is over, however late a frame of it arrives.
Therefore a request is handled at most once.
"""

from __future__ import annotations

from typing import Final

from knet_trio.streams._core.faults import Fault, StreamPacketError
from knet_trio.streams._core.limits import MAX_STREAMS
from knet_trio.streams._core.range_set import RangeSet
from knet_trio.streams._core.stream_state import StreamState
from knet_trio.streams._core.wire import StreamKind

# The peer's limit is announced after this many of its streams have ended; or after each of them
# while the peer may open fewer than this: its other streams may stay open for long.
_ANNOUNCED_AFTER: Final = MAX_STREAMS // 4


class StreamTable:
    """The streams of a connection.

    Attributes:
        streams: The streams that are not over, by key. Read-only.
        limit: The number of streams that the peer may open, from the start of the connection.
    """

    __slots__ = ("_announced", "_next", "_peer_limit", "_seen", "limit", "streams")

    def __init__(self) -> None:
        self.streams: dict[int, StreamState] = {}
        self._next = 0
        self._peer_limit = MAX_STREAMS
        self._seen = RangeSet()
        self.limit: int = MAX_STREAMS
        self._announced = MAX_STREAMS

    @property
    def can_open(self) -> bool:
        """True if the peer's limit allows another stream."""
        return self._next < self._peer_limit

    @property
    def room(self) -> int:
        """The number of streams that may be opened now."""
        return self._peer_limit - self._next

    def all(self) -> list[StreamState]:
        """Return all streams."""
        return list(self.streams.values())

    def open(self, kind: StreamKind) -> StreamState:
        """Open a stream; ``can_open`` must be true."""
        stream = StreamState(2 * self._next, kind)
        self._next += 1
        self.streams[stream.key] = stream
        return stream

    def allow(self, limit: int) -> bool:
        """Raise the peer's limit to ``limit`` streams; return whether it has grown."""
        if limit <= self._peer_limit:
            return False
        self._peer_limit = limit
        return True

    def get(self, key: int) -> StreamState | None:
        """Return a stream, or None if it is not in the table."""
        return self.streams.get(key)

    def find(self, key: int) -> StreamState | None:
        """Return a stream that a frame names, or None if it is over or new.

        Raises:
            StreamPacketError: The key is of this side, which never opened the stream.
        """
        stream = self.streams.get(key)
        if stream is None and not key & 1 and key >> 1 >= self._next:
            raise StreamPacketError(Fault.NOT_OPENED, f"stream {key >> 1} was never opened")
        return stream

    def admit(self, key: int, kind: StreamKind) -> tuple[StreamState | None, bool]:
        """Return the stream of a DATA frame, and whether the frame has opened it.

        Returns:
            The stream, or None if it is over; and True if it is new.

        Raises:
            StreamPacketError: The peer may not open the stream, or it has another kind.
        """
        stream = self.find(key)
        if stream is not None:
            if stream.kind is not kind:
                raise StreamPacketError(
                    Fault.WRONG_KIND, f"stream {key >> 1} is {stream.kind.name}, not {kind.name}"
                )
            return stream, False
        if not key & 1 or not self._see(key >> 1):
            return None, False
        stream = self.streams[key] = StreamState(key, kind)
        return stream, True

    def forget(self, key: int) -> bool:
        """Remove a stream that is over, or that the peer gives up before it has opened it.

        Returns:
            True if a new limit should be announced to the peer.
        """
        known = self.streams.pop(key, None) is not None
        if not key & 1 or not (known or self._see(key >> 1)):
            return False
        self.limit += 1
        return (
            self.limit - self._announced >= _ANNOUNCED_AFTER
            or self._announced - self._seen.end < _ANNOUNCED_AFTER
        )

    def announce(self) -> int:
        """Return the limit to announce to the peer, and note that it is announced."""
        self._announced = self.limit
        return self.limit

    def _see(self, number: int) -> bool:
        """Return whether the peer's stream ``number`` is seen for the first time."""
        # Compare with the announced limit: otherwise a peer that never reads could have ever more
        # streams refused, and the RESET frames would pile up here.
        if number >= self._announced:
            raise StreamPacketError(
                Fault.STREAMS_EXCEEDED, f"stream {number} of at most {self._announced}"
            )
        return self._seen.add(number, number + 1)
