"""CUBIC that ignores losses which an experiment shows not to be congestion.

On a path that loses one packet in fifty at random, CUBIC's window falls to a dozen packets. Where a
round trip is shorter than a scheduler's time slice, that is far below the path's capacity. But a
flow that ignores losses at an overflowing queue takes capacity from flows that do not. Neither the
loss rate nor the delay separates the two cases: short queues overflow before they delay much, and a
busy processor delays as a queue does. An experiment does::

    YIELDING --- some of 500 packets were lost ---> TRYING
        ^                                             |
        +---------- clearly more are lost ------------+

YIELDING is plain CUBIC, with the small window that losses cause. TRYING ignores losses and lets the
window grow while round trips do not become much longer. If the losses come from congestion, their
share grows with the window, which ends the trial; the next trial starts after a pause, which
doubles after each failed trial. If the losses are independent of the traffic, their share stays the
same and the trial goes on.
"""

from __future__ import annotations

import math
from typing import Final

from knet_trio.streams._core.cubic import Cubic

COUNTED: Final = 500
"""Packets over which the loss rate is measured before a trial."""
COUNTED_IN_TRIAL: Final = 1000
"""Packets over which the loss rate is measured in a trial."""
TOLERATED: Final = 0.05
"""The highest loss rate at which losses are ignored."""
TOLERATED_QUEUE: Final = 0.02
"""Seconds that a round trip may exceed the shortest one while losses are ignored."""
GROWTH: Final = 2.0
"""The loss rate may grow by this factor in a trial ..."""
MARGIN: Final = 0.003
"""... and this share of packets before losses count as congestion: small numbers vary by chance."""
FIRST_PAUSE: Final = 1.0
"""Seconds from a failed trial to the next; doubled after each failed trial."""
LONGEST_PAUSE: Final = 60.0
GOOD_TRIAL: Final = 2.0
"""Seconds after which the end of a trial is not a failure: the next pause is the first again."""


class TolerantCubic(Cubic):
    """CUBIC that ignores losses that are independent of the traffic.

    Attributes:
        is_trying: True during a trial, while losses are ignored.
    """

    def __init__(self, piece: int) -> None:
        super().__init__(piece)
        self.is_trying = False
        # Bytes acknowledged and bytes lost in the present count.
        self._arrived = 0
        self._lost = 0
        # The loss rate of the last count before the trial; when the trial began.
        self._usual = 0.0
        self._began = 0.0
        self._pause = FIRST_PAUSE
        self._next_trial = -math.inf
        # The window at which the last trial failed.
        self._too_much: float = math.inf

    def acknowledged(
        self, size: int, sent: float, now: float, round_trip: float, *, full: bool
    ) -> None:
        """Note that packets were acknowledged."""
        self._arrived += size
        if self._arrived >= (COUNTED_IN_TRIAL if self.is_trying else COUNTED) * self.piece:
            self._end_count(now)
        if full:
            super().acknowledged(size, sent, now, round_trip, full=True)

    def lost(self, size: int, sent: float, now: float, queueing: float) -> bool:
        """Note that packets are lost."""
        self._lost += size
        if self.is_trying:
            most = min(GROWTH * self._usual + MARGIN, TOLERATED)
            if self._lost > most * COUNTED_IN_TRIAL * self.piece:
                self._end_trial(now)
            elif queueing <= TOLERATED_QUEUE:
                if queueing > TOLERATED_QUEUE / 2:
                    # The window grows slowly from here on.
                    self.threshold = min(self.threshold, self.window)
                return False
        return super().lost(size, sent, now, queueing)

    def _end_count(self, now: float) -> None:
        share = self._lost / (self._lost + self._arrived)
        self._lost = self._arrived = 0
        if not self.is_trying and 0 < share <= TOLERATED and now >= self._next_trial:
            self.is_trying = True
            self._usual = share
            self._began = now
            # Grow quickly up to a safe size, and slowly from there on.
            self.threshold = self._too_much / 2

    def _end_trial(self, now: float) -> None:
        self.is_trying = False
        self._too_much = self.window
        self._lost = self._arrived = 0
        if now - self._began > GOOD_TRIAL:
            self._pause = FIRST_PAUSE
        self._next_trial = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _collapsed(self) -> None:
        super()._collapsed()
        self.is_trying = False
        self._lost = self._arrived = 0
