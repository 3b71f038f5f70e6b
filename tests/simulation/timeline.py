"""What was so, and when."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right


class Timeline:
    """A condition over time: off at first."""

    def __init__(self) -> None:
        self._times: list[float] = [-math.inf]
        self._values: list[bool] = [False]

    def set(self, now: float, value: bool) -> None:
        """It is so from now on."""
        if value != self._values[-1]:
            self._times.append(now)
            self._values.append(value)

    def at(self, time: float) -> bool:
        """Whether it was so at a time; at a change, what came after."""
        return self._values[bisect_right(self._times, time) - 1]

    def since(self, time: float) -> float:
        """When what was so at that time had begun to be so."""
        return self._times[bisect_right(self._times, time) - 1]

    def until(self, time: float) -> float:
        """When what was so at that time ended; infinity if it is still so."""
        index = bisect_right(self._times, time)
        return self._times[index] if index < len(self._times) else math.inf

    def ever(self, value: bool, begin: float, end: float) -> bool:
        """Whether it was ``value`` at some time from ``begin`` to ``end``, both included."""
        first = bisect_right(self._times, begin) - 1
        last = bisect_right(self._times, end)
        # A change at `begin` itself leaves what was before in doubt.
        if self._times[first] == begin and first:
            first -= 1
        return value in self._values[first:last]

    def became(self, value: bool, begin: float, end: float) -> bool:
        """Whether it began to be ``value`` at some time from ``begin`` to ``end``."""
        first, last = bisect_left(self._times, begin), bisect_right(self._times, end)
        return value in self._values[first:last]

    @property
    def now(self) -> bool:
        """Whether it is so."""
        return self._values[-1]
