"""How many bytes each stream of a connection may send before they are read.

There is no window of the whole connection on the wire. If there were, streams that nobody reads
could use it up, and hold up all others. Instead each stream has its own, and what they add up to is
bounded: a stream begins with ``INITIAL_CREDIT``, which nobody has to ask for, and the number of
streams is limited. More comes out of a budget. A stream of which bytes are read gets
``FIRST_WINDOW``, and twice as much each time as it reads half of its window within a few round
trips, but never more than half of what is left of the budget. So there is always something left,
a stream that is read slowly never has a large window, and one that is not read at all keeps the
window that it has, and no other stream has less for it than half of what it would have.
"""

from __future__ import annotations

from knet_trio.streams._core.limits import (
    FIRST_WINDOW,
    INITIAL_CREDIT,
    MAX_OFFSET,
    MAX_WINDOW,
    WINDOW_BUDGET,
)
from knet_trio.streams._core.stream_state import StreamState

# A window is large enough if reading half of it takes this many round trips.
_ROUND_TRIPS = 4


class ReceiveWindows:
    """The windows of the streams of one connection.

    Attributes:
        left: Bytes that are left of the budget.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = WINDOW_BUDGET

    def open(self, stream: StreamState, now: float) -> bool:
        """Give a stream its first window; return whether its limit has grown."""
        self._widen(stream, FIRST_WINDOW)
        return self._grant(stream, now)

    def read(self, stream: StreamState, now: float, round_trip: float) -> bool:
        """Give credit for what was read; return whether the stream's limit has grown."""
        receiving = stream.receiving
        if not receiving.wants_more or receiving.size is not None:
            return False
        if 2 * (receiving.limit - receiving.read_to) > stream.window:
            return False
        if now - stream.credited < _ROUND_TRIPS * round_trip or stream.window < FIRST_WINDOW:
            self._widen(stream, max(FIRST_WINDOW, min(2 * stream.window, MAX_WINDOW)))
        return self._grant(stream, now)

    def close(self, stream: StreamState) -> None:
        """Take back the window of a stream that is over."""
        self.left += stream.window - INITIAL_CREDIT
        stream.window = INITIAL_CREDIT

    def _widen(self, stream: StreamState, window: int) -> None:
        growth = min(window - stream.window, self.left // 2)
        if growth > 0:
            stream.window += growth
            self.left -= growth

    @staticmethod
    def _grant(stream: StreamState, now: float) -> bool:
        limit = min(stream.receiving.read_to + stream.window, MAX_OFFSET)
        if limit <= stream.receiving.limit:
            return False
        stream.receiving.limit = limit
        stream.credited = now
        return True
