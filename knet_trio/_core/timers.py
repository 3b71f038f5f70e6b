"""Deadlines of many things, which are cheap to move."""

from __future__ import annotations

import heapq
import math
from typing import Generic, TypeVar

K = TypeVar("K")


class TimerQueue(Generic[K]):
    """One deadline, in seconds, for each key.

    A moved deadline leaves its old entry in the heap, to be skipped when it comes up. That makes
    moving one cheap, which is what heartbeats do all day.
    """

    def __init__(self) -> None:
        self._deadlines: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._counter = 0

    def __len__(self) -> int:
        return len(self._deadlines)

    def get(self, key: K) -> float | None:
        """Return the deadline of ``key``, None if it has none."""
        return self._deadlines.get(key)

    def set(self, key: K, deadline: float) -> None:
        """Set the deadline of ``key``; ``math.inf`` removes it."""
        if deadline == math.inf:
            self.discard(key)
            return
        self._deadlines[key] = deadline
        self._counter += 1
        heapq.heappush(self._heap, (deadline, self._counter, key))
        if len(self._heap) > 64 + 4 * len(self._deadlines):
            self._compact()

    def discard(self, key: K) -> None:
        """Remove ``key`` if it is there."""
        self._deadlines.pop(key, None)

    def next(self) -> float:
        """Return the earliest deadline, ``math.inf`` if there is none."""
        while self._heap:
            deadline, _, key = self._heap[0]
            if self._deadlines.get(key) == deadline:
                return deadline
            heapq.heappop(self._heap)
        return math.inf

    def pop_due(self, now: float, limit: float = math.inf) -> list[K]:
        """Remove and return keys whose deadline is not after ``now``, earliest first.

        Args:
            now: The time.
            limit: How many at most.
        """
        due: list[K] = []
        while self._deadlines and len(due) < limit and self.next() <= now:
            key = heapq.heappop(self._heap)[2]
            del self._deadlines[key]
            due.append(key)
        return due

    def _compact(self) -> None:
        self._heap = [(when, i, key) for i, (key, when) in enumerate(self._deadlines.items())]
        heapq.heapify(self._heap)
