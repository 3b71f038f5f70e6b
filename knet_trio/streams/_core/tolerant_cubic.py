"""CUBIC that does not take every loss for congestion.

On a path that loses one packet in fifty whatever is sent, CUBIC's window falls to a dozen packets.
Where a round trip is shorter than a scheduler's time slice, that is far less than the path takes. A
loss is a sign of congestion if a queue has grown, so that round trips have become longer; or if
much is lost, as where queues are short. Other losses leave the window as it is.
"""

from __future__ import annotations

from typing import Final

from knet_trio.streams._core.cubic import Cubic

TOLERATED: Final = 0.05
"""The share of bytes that may be lost."""
TOLERATED_QUEUE: Final = 0.02
"""Seconds by which a round trip may be longer than the shortest."""
_COUNTED: Final = 200
"""Packets over which the share is taken, at least."""


class TolerantCubic(Cubic):
    """CUBIC, but for losses that are few and come without a queue."""

    def __init__(self, piece: int) -> None:
        super().__init__(piece)
        self._arrived_lately = 0
        self._lost_lately = 0

    def acknowledged(
        self, size: int, sent: float, now: float, round_trip: float, *, full: bool
    ) -> None:
        """Note that packets have arrived."""
        self._arrived_lately += size
        if full:
            super().acknowledged(size, sent, now, round_trip, full=True)

    def lost(self, size: int, sent: float, now: float, queueing: float) -> bool:
        """Note that packets are lost."""
        self._lost_lately += size
        total = self._lost_lately + self._arrived_lately
        share = self._lost_lately / total
        if total > max(2 * self.window, 2 * _COUNTED * self.piece):
            # What was long ago counts half as much each time.
            self._lost_lately //= 2
            self._arrived_lately //= 2
        few = share <= TOLERATED or self._lost_lately <= TOLERATED * _COUNTED * self.piece
        if few and queueing <= TOLERATED_QUEUE:
            return False
        return super().lost(size, sent, now, queueing)

    def _collapsed(self) -> None:
        super()._collapsed()
        self._arrived_lately = self._lost_lately = 0
