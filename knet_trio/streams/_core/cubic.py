"""CUBIC (RFC 9438): the window after a loss is a cubic function of the time since then.

The window quickly returns to its size at the loss, stays near it for a while and then grows ever
faster. So it depends less on the round-trip time than NewReno, whose growth is its lower bound.
"""

from __future__ import annotations

import math
from typing import Final

from knet_trio.streams._core.congestion import CongestionControl

CUBIC_LOSS: Final = 0.7
CUBIC_SCALE: Final = 0.4
# The growth per round trip, in packets, of a flow with the same average window as Reno's.
_RENO_GROWTH: Final = 3 * (1 - CUBIC_LOSS) / (1 + CUBIC_LOSS)


class Cubic(CongestionControl):
    """A congestion window that is a cubic function of time."""

    def __init__(self, piece: int) -> None:
        super().__init__(piece)
        # In bytes: the window at the last loss, and NewReno's window now.
        self._peak: float = 0.0
        self._like_reno: float = 0.0
        # When the growth after the last loss began; how long it takes to reach the peak.
        self._epoch: float | None = None
        self._climb = 0.0
        self._peak_before: float = 0.0

    def _grow(self, size: int, now: float, round_trip: float) -> None:
        piece = self.piece
        window = self.window
        if self._epoch is None:
            self._epoch = now
            self._like_reno = window
            if self._peak <= window:
                self._peak, self._climb = window, 0.0
            else:
                self._climb = math.pow((self._peak - window) / piece / CUBIC_SCALE, 1 / 3)
        growth = 1.0 if self._like_reno >= self._peak else _RENO_GROWTH
        self._like_reno += growth * piece * size / window
        later = now - self._epoch + round_trip - self._climb
        target = self._peak + CUBIC_SCALE * piece * later**3
        target = min(max(target, window), 1.5 * window)
        grown = window + (target - window) * size / window
        self.window = int(max(grown, self._like_reno))

    def _reduced(self) -> int:
        window = self.window
        self._peak_before = self._peak
        # Fast convergence: a flow with less than at the loss before leaves room to others.
        self._peak = window * (1 + CUBIC_LOSS) / 2 if window < self._peak else window
        self._epoch = None
        return int(window * CUBIC_LOSS)

    def _restored(self) -> None:
        self._peak = self._peak_before
        self._epoch = None

    def _collapsed(self) -> None:
        self._epoch = None
