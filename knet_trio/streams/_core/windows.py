"""The receive windows: the bytes that each stream of a connection may send before they are read.

There is no window of the whole connection on the wire: streams that nobody reads could use it up
and block all others. Instead each stream has its own window, and their sum is bounded. A stream
starts with ``INITIAL_CREDIT``, and the number of streams is limited. More comes out of a budget. A
stream that is read gets ``FIRST_WINDOW``, and its window doubles each time half of it is read
within a few round trips, but a window never grows by more than half of the unused budget. So the
budget is never used up, a stream that is read slowly never has a large window, and a stream that is
not read keeps its window and takes at most half of the growth of another stream.
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
    """The receive windows of one connection.

    Attributes:
        left: The unused budget [bytes].
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = WINDOW_BUDGET

    def open(self, stream: StreamState, now: float) -> bool:
        """Give a stream its first window; return whether its credit has grown."""
        self._widen(stream, FIRST_WINDOW)
        return self._grant(stream, now)

    def read(self, stream: StreamState, now: float, round_trip: float) -> bool:
        """Give credit for bytes that were read; return whether the credit has grown."""
        receiving = stream.receiving
        if not receiving.wants_more or receiving.size is not None:
            return False
        if 2 * (receiving.limit - receiving.read_to) > stream.window:
            return False
        if now - stream.credited < _ROUND_TRIPS * round_trip or stream.window < FIRST_WINDOW:
            self._widen(stream, max(FIRST_WINDOW, min(2 * stream.window, MAX_WINDOW)))
        return self._grant(stream, now)

    def close(self, stream: StreamState) -> None:
        """Return the window of an ended stream to the budget."""
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
