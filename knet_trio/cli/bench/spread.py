"""The median of some values and their range."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

import attrs


@attrs.frozen
class Spread:
    """The median of some values, and their range.

    Attributes:
        median: The median.
        least: The least value.
        greatest: The greatest value.
    """

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the spread of ``values``, one at least."""
        numbers = list(values)
        return cls(statistics.median(numbers), min(numbers), max(numbers))

    def excludes(self, value: float) -> bool:
        """Return whether all values are on one side of ``value``."""
        return not self.least <= value <= self.greatest

    def as_json(self) -> dict[str, float | None]:
        """Return the spread as a JSON object."""
        return {name: plain(value) for name, value in attrs.asdict(self).items()}


def plain(value: float) -> float | None:
    """Return ``value`` with six digits, None for NaN, which JSON does not have."""
    return None if math.isnan(value) else float(f"{value:.6g}")
