"""A scheduler of later events."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Final

import trio

# The number of calls before other tasks get a turn.
_BATCH: Final = 256


class Timeline:
    """Calls functions at given times; calls for the same time in the order they were added."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._added = 0
        self._sooner = trio.Event()

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Call ``action`` at the time ``when`` of Trio's clock."""
        heap = self._heap
        if not heap or when < heap[0][0]:
            self._sooner.set()
        self._added += 1
        heapq.heappush(heap, (when, self._added, action))

    async def run(self) -> None:
        """Call functions when they are due, until cancelled."""
        heap = self._heap
        while True:
            now = trio.current_time()
            done = 0
            while heap and heap[0][0] <= now:
                heapq.heappop(heap)[2]()
                done += 1
                if done % _BATCH == 0:
                    await trio.lowlevel.checkpoint()
            self._sooner = trio.Event()
            with trio.move_on_at(heap[0][0] if heap else math.inf):
                await self._sooner.wait()
