"""A set of integers with few gaps, stored as ranges."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class RangeSet:
    """A set of integers as ranges ``[start, end)``, ascending, neither overlapping nor touching."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __len__(self) -> int:
        """Return the number of ranges."""
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._starts, number) - 1
        return index >= 0 and number < self._ends[index]

    @property
    def end(self) -> int:
        """The highest number plus one; 0 if the set is empty."""
        return self._ends[-1] if self._ends else 0

    def first(self) -> tuple[int, int]:
        """Return the lowest range; the set must not be empty."""
        return self._starts[0], self._ends[0]

    def newest(self, count: int) -> list[tuple[int, int]]:
        """Return up to ``count`` ranges, the highest first."""
        pairs = zip(self._starts[-count:], self._ends[-count:], strict=True)
        return list(pairs)[::-1]

    def overlaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the intersection with ``[start, end)`` as ranges, in ascending order."""
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        pairs = zip(self._starts[first:last], self._ends[first:last], strict=True)
        return [(max(start, low), min(end, high)) for low, high in pairs]

    def add(self, start: int, end: int) -> bool:
        """Add the range ``[start, end)``; return whether any number is new."""
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
        # Merge it with the ranges that it overlaps or touches.
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
        """Remove the numbers in ``[start, end)`` that are in the set."""
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
        """Remove the lowest range and return its end; the set must not be empty."""
        del self._starts[0]
        return self._ends.pop(0)

    def clear(self) -> None:
        """Remove all numbers."""
        self._starts.clear()
        self._ends.clear()
