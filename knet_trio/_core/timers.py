"""A queue of deadlines that are cheap to move."""

from __future__ import annotations

import heapq
import math
from itertools import islice
from typing import Generic, TypeVar

K = TypeVar("K")


class TimerQueue(Generic[K]):
    """One deadline, in seconds, for each key.

    Keys with the same deadline share one entry of the heap, since links of one interval ping at the
    same moments. A moved deadline leaves its old entry in the heap, to be skipped when it comes up.
    Both make it cheap to move a deadline, which heartbeats do all the time.
    """

    def __init__(self) -> None:
        self._deadlines: dict[K, float] = {}
        # The keys of each deadline in the heap, in the order in which they were set.
        self._keys: dict[float, dict[K, None]] = {}
        self._heap: list[float] = []

    def __len__(self) -> int:
        return len(self._deadlines)

    def get(self, key: K) -> float | None:
        """Return the deadline of ``key``; None if it has none."""
        return self._deadlines.get(key)

    def set(self, key: K, deadline: float) -> None:
        """Set the deadline of ``key``; ``math.inf`` removes it."""
        before = self._deadlines.get(key)
        if before == deadline:
            return
        if before is not None:
            del self._keys[before][key]
        if deadline == math.inf:
            self._deadlines.pop(key, None)
            return
        self._deadlines[key] = deadline
        keys = self._keys.get(deadline)
        if keys is not None:
            keys[key] = None
            return
        self._keys[deadline] = {key: None}
        heapq.heappush(self._heap, deadline)
        if len(self._heap) > 64 + 4 * len(self._deadlines):
            self._compact()

    def discard(self, key: K) -> None:
        """Remove ``key`` and its deadline, if it has one."""
        self.set(key, math.inf)

    def next(self) -> float:
        """Return the earliest deadline; ``math.inf`` if there is none."""
        while self._heap:
            deadline = self._heap[0]
            if self._keys[deadline]:
                return deadline
            self._forget_earliest()
        return math.inf

    def pop_due(self, now: float, limit: float = math.inf) -> list[K]:
        """Remove and return the keys whose deadline has come, earliest first.

        Args:
            now: The time in seconds.
            limit: The most keys to return.
        """
        due: list[K] = []
        while len(due) < limit and (deadline := self.next()) <= now and deadline < math.inf:
            keys = self._keys[deadline]
            if len(keys) <= limit - len(due):
                due += keys
                self._forget_earliest()
            else:
                some = list(islice(keys, int(limit) - len(due)))
                for key in some:
                    del keys[key]
                due += some
        for key in due:
            del self._deadlines[key]
        return due

    def _forget_earliest(self) -> None:
        del self._keys[heapq.heappop(self._heap)]

    def _compact(self) -> None:
        self._keys = {deadline: keys for deadline, keys in self._keys.items() if keys}
        self._heap = sorted(self._keys)
