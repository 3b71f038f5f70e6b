"""CUBIC that finds out whether its losses are congestion, and ignores them if they are not.

On a path that loses one packet in fifty whatever is sent, CUBIC's window falls to a dozen packets.
Where a round trip is shorter than a scheduler's time slice, that is far less than the path takes.
But who ignores losses at a queue that overflows takes it away from those who do not. Neither the
share of losses nor the delay tells one from the other: short queues overflow before they delay
much, and a busy processor delays as a queue does. What tells them apart is an experiment::

    YIELDING --- some of 500 packets were lost ---> TRYING
        ^                                             |
        +---------- clearly more are lost ------------+

YIELDING is CUBIC as it is, with the small window that losses make. TRYING ignores losses as long as
round trips do not become much longer, and lets the window grow. If the losses come from congestion,
they become more with it, and that ends the trial; the next one is not before some time, and twice
as long a time after each. If they come without regard to what is sent, their share stays the same,
and the trial goes on.
"""

from __future__ import annotations

import math
from typing import Final

from knet_trio.streams._core.cubic import Cubic

COUNTED: Final = 500
"""Packets over which the share of losses is taken before a trial."""
COUNTED_IN_TRIAL: Final = 1000
"""Packets over which it is taken in a trial."""
TOLERATED: Final = 0.05
"""The share of packets that may be lost: with more, losses are never ignored."""
TOLERATED_QUEUE: Final = 0.02
"""Seconds by which a round trip may be longer than the shortest while losses are ignored."""
GROWTH: Final = 2.0
"""Losses may become more by this factor in a trial ..."""
MARGIN: Final = 0.003
"""... and by this share, before they count as congestion: small numbers vary by chance."""
FIRST_PAUSE: Final = 1.0
"""Seconds from a trial that failed to the next; twice as many after each that fails."""
LONGEST_PAUSE: Final = 60.0
GOOD_TRIAL: Final = 2.0
"""Seconds after which a trial has not failed at all: the next pause is the first again."""


class TolerantCubic(Cubic):
    """CUBIC, but for losses that do not depend on what is sent.

    Attributes:
        is_trying: Whether losses are ignored for now.
    """

    def __init__(self, piece: int) -> None:
        super().__init__(piece)
        self.is_trying = False
        # Bytes that have arrived and that were lost, of those that are counted now.
        self._arrived = 0
        self._lost = 0
        # The share that was lost in the last count before the trial; when the trial began.
        self._usual = 0.0
        self._began = 0.0
        self._pause = FIRST_PAUSE
        self._next_trial = -math.inf
        # The window that was too large in the last trial.
        self._too_much: float = math.inf

    def acknowledged(
        self, size: int, sent: float, now: float, round_trip: float, *, full: bool
    ) -> None:
        """Note that packets have arrived."""
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
                    # It grows slowly from here on.
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
            # Quickly to where it was not too much, and slowly from there on.
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
