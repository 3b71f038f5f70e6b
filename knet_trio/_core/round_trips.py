"""The histogram of all round trips of a link."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Final

BOUNDS: Final = (
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
)
"""The longest round trip of each bucket, in seconds. One more bucket is for longer ones."""


class RoundTrips:
    """A histogram of round trips.

    Attributes:
        total: The sum of all round trips, in seconds.
    """

    def __init__(self) -> None:
        self.clear()

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of round trips in each bucket: one bucket more than ``BOUNDS`` has items."""
        return tuple(self._counts)

    def add(self, seconds: float) -> None:
        """Count a round trip."""
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def clear(self) -> None:
        """Forget all round trips."""
        self.total: float = 0.0
        # An array, since there may be thousands of links.
        self._counts = array("Q", bytes(8 * (len(BOUNDS) + 1)))
