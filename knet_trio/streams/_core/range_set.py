"""Sets of integers that are mostly without gaps, as ranges."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class RangeSet:
    """Integers as ranges ``[start, end)``, in ascending order, which neither overlap nor touch."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __len__(self) -> int:
        """Return how many ranges there are."""
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._starts, number) - 1
        return index >= 0 and number < self._ends[index]

    @property
    def end(self) -> int:
        """One more than the highest number, 0 if there is none."""
        return self._ends[-1] if self._ends else 0

    def first(self) -> tuple[int, int]:
        """Return the lowest range; there has to be one."""
        return self._starts[0], self._ends[0]

    def newest(self, count: int) -> list[tuple[int, int]]:
        """Return up to ``count`` ranges, the highest first."""
        pairs = zip(self._starts[-count:], self._ends[-count:], strict=True)
        return list(pairs)[::-1]

    def overlaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return what the ranges have in common with ``[start, end)``, in ascending order."""
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        pairs = zip(self._starts[first:last], self._ends[first:last], strict=True)
        return [(max(start, low), min(end, high)) for low, high in pairs]

    def add(self, start: int, end: int) -> bool:
        """Add the numbers from ``start`` to before ``end``; return whether any is new."""
        starts, ends = self._starts, self._ends
        if start >= end:
            return False
        if not ends or start > ends[-1]:
            starts.append(start)
            ends.append(end)
            return True
        if start == ends[-1]:
            ends[-1] = end
            return True
        # Those that it overlaps or touches become one.
        first = bisect_left(ends, start)
        last = bisect_right(starts, end)
        if first < last and starts[first] <= start and end <= ends[first]:
            return False
        if first < last:
            start = min(start, starts[first])
            end = max(end, ends[last - 1])
        starts[first:last] = [start]
        ends[first:last] = [end]
        return True

    def remove(self, start: int, end: int) -> None:
        """Remove the numbers from ``start`` to before ``end``, those that are there."""
        starts, ends = self._starts, self._ends
        if start >= end or not ends:
            return
        first = bisect_right(ends, start)
        last = bisect_left(starts, end)
        if first >= last:
            return
        kept = [(starts[first], start), (end, ends[last - 1])]
        kept = [(low, high) for low, high in kept if low < high]
        starts[first:last] = [low for low, _ in kept]
        ends[first:last] = [high for _, high in kept]

    def drop_first(self) -> int:
        """Remove the lowest range, and return its end."""
        del self._starts[0]
        return self._ends.pop(0)

    def clear(self) -> None:
        """Remove all."""
        self._starts.clear()
        self._ends.clear()
