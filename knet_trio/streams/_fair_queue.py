"""A queue of what came from several hosts, which is taken from round the hosts."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import trio

from knet_trio.streams._bell import Bell

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Things that came from hosts, those of each in their order.

    Args:
        why_closed: What waiting tasks are told when it is closed.
    """

    def __init__(self, why_closed: str) -> None:
        self._why_closed = why_closed
        self._queues: dict[int, deque[T]] = {}
        self._takers = Bell()
        self._closed = False

    def count(self, host_id: int) -> int:
        """Return how many there are of a host."""
        return len(self._queues.get(host_id, ()))

    def put(self, host_id: int, item: T) -> None:
        """Add something of a host."""
        queue = self._queues.get(host_id)
        if queue is None:
            self._queues[host_id] = deque((item,))
        else:
            queue.append(item)
        self._takers.ring_for_one()

    async def take(self) -> T:
        """Wait for something and take it. A full checkpoint; cancelled, it has taken nothing."""
        if self._queues or self._closed:
            # Else what waits is a checkpoint.
            await trio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise trio.ClosedResourceError(self._why_closed)
            if self._queues:
                return self._take()
            await self._takers.wait()

    def close(self) -> list[T]:
        """Have taking raise ``trio.ClosedResourceError``, and return what is left."""
        self._closed = True
        self._takers.ring()
        left = [item for queue in self._queues.values() for item in queue]
        self._queues.clear()
        return left

    def _take(self) -> T:
        host_id, queue = next(iter(self._queues.items()))
        item = queue.popleft()
        if not queue and len(self._queues) == 1:
            self._queues.clear()
            return item
        # It goes to the end of the round.
        del self._queues[host_id]
        if queue:
            self._queues[host_id] = queue
        if self._queues:
            self._takers.ring_for_one()
        return item
