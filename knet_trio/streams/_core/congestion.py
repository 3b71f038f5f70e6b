"""Congestion control: the number of bytes that may be in flight.

``CongestionControl`` is the interface and ``NewReno`` the algorithm of RFC 9002 (section 7); the
module ``cubic`` has another algorithm.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Final

INITIAL_PIECES: Final = 10
MIN_PIECES: Final = 4
"""The smallest window, in packets: two probes, and two more so that losses are detected soon."""
RENO_LOSS: Final = 0.5


class CongestionControl(ABC):
    """The congestion window of a connection.

    Attributes:
        window: The bytes that may be in flight.
        piece: The size of a full packet [bytes].
        threshold: The slow start threshold [bytes]; infinity before the first loss.
    """

    def __init__(self, piece: int) -> None:
        self.piece: int = piece
        self.window: int = INITIAL_PIECES * piece
        self.threshold: float = math.inf
        # A packet sent before this time belongs to the loss that was reacted to then.
        self._recovery_began = -math.inf
        self._before: tuple[int, float] | None = None

    @property
    def in_slow_start(self) -> bool:
        """True while the window doubles each round trip."""
        return self.window < self.threshold

    def set_piece(self, piece: int) -> None:
        """Set the size of a full packet."""
        if piece != self.piece:
            self.piece = piece
            self.window = max(self.window, MIN_PIECES * piece)

    def acknowledged(
        self, size: int, sent: float, now: float, round_trip: float, *, full: bool
    ) -> None:
        """Note that packets were acknowledged.

        Args:
            size: The bytes of the packets.
            sent: When the last of them was sent.
            now: The time.
            round_trip: The smoothed round-trip time [seconds].
            full: True if the window was in use; it grows only then.
        """
        if not full or sent <= self._recovery_began:
            return
        if self.in_slow_start:
            self.window += size
        else:
            self._grow(size, now, round_trip)

    def lost(self, size: int, sent: float, now: float, queueing: float) -> bool:
        """Note that packets are lost.

        Args:
            size: The bytes of the packets.
            sent: When the last of them was sent.
            now: The time.
            queueing: The round-trip time above the shortest one [seconds].

        Returns:
            True if the window was reduced, which happens at most once per round trip.
        """
        del queueing
        if sent <= self._recovery_began:
            return False
        self._recovery_began = now
        self._before = self.window, self.threshold
        self.threshold = self.window = max(self._reduced(), MIN_PIECES * self.piece)
        return True

    def were_not_lost(self) -> None:
        """Undo the last reduction: the packets declared lost have arrived after all."""
        if self._before is not None:
            window, threshold = self._before
            self._before = None
            self.window = max(self.window, window)
            self.threshold = threshold
            self._restored()

    def collapse(self) -> None:
        """Return to the smallest window, after persistent congestion."""
        self.window = MIN_PIECES * self.piece
        self._recovery_began = -math.inf
        self._before = None
        self._collapsed()

    @abstractmethod
    def _grow(self, size: int, now: float, round_trip: float) -> None:
        """Grow the window after ``size`` bytes were acknowledged, outside of slow start."""

    @abstractmethod
    def _reduced(self) -> int:
        """Return the window after a loss."""

    @abstractmethod
    def _restored(self) -> None:
        """Undo the state changes of ``_reduced``."""

    @abstractmethod
    def _collapsed(self) -> None:
        """Forget the state that was learned of the path."""


class NewReno(CongestionControl):
    """A window that grows by a packet each round trip and is halved after a loss."""

    def __init__(self, piece: int) -> None:
        super().__init__(piece)
        self._arrived = 0

    def _grow(self, size: int, now: float, round_trip: float) -> None:
        self._arrived += size
        if self._arrived >= self.window:
            self._arrived -= self.window
            self.window += self.piece

    def _reduced(self) -> int:
        self._arrived = 0
        return int(self.window * RENO_LOSS)

    def _restored(self) -> None:
        self._arrived = 0

    def _collapsed(self) -> None:
        self._arrived = 0
