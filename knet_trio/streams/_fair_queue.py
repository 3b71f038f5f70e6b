"""A queue of items from several hosts, served round-robin over the hosts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import trio

from knet_trio.streams._bell import Bell
from knet_trio.streams._core.limits import MAX_STREAMS

T = TypeVar("T")

SWEPT: Final = 2 * MAX_STREAMS
"""Items of one host at which the queue is swept: at least half of them belong to ended streams."""


class FairQueue(Generic[T]):
    """A round-robin queue; the items of each host stay in order.

    Args:
        why_closed: The text of the ClosedResourceError that waiting tasks get on close.
        is_over: Returns True for an item that can be dropped because nobody needs it.
        drop: Called with each item that is dropped for that reason.
    """

    def __init__(
        self, why_closed: str, is_over: Callable[[T], bool], drop: Callable[[T], object]
    ) -> None:
        self._why_closed = why_closed
        self._is_over = is_over
        self._drop = drop
        self._queues: dict[int, deque[T]] = {}
        self._takers = Bell()
        self._closed = False

    def count(self, host_id: int) -> int:
        """Return how many items of a host are queued."""
        return len(self._queues.get(host_id, ()))

    def put(self, host_id: int, item: T) -> None:
        """Add an item of a host."""
        queue = self._queues.get(host_id)
        if queue is None:
            self._queues[host_id] = deque((item,))
        else:
            queue.append(item)
            if len(queue) >= SWEPT:
                self._sweep(host_id, queue)
        self._takers.ring_for_one()

    async def take(self) -> T:
        """Wait for an item and take it.

        A full checkpoint. If cancelled, no item is taken.

        Raises:
            trio.ClosedResourceError: The queue was closed.
        """
        if self._queues or self._closed:
            # Otherwise waiting below is a checkpoint.
            await trio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise trio.ClosedResourceError(self._why_closed)
            if self._queues:
                return self._take()
            await self._takers.wait()

    def close(self) -> list[T]:
        """Make ``take`` raise ``trio.ClosedResourceError``; return the remaining items."""
        self._closed = True
        self._takers.ring()
        left = [item for queue in self._queues.values() for item in queue]
        self._queues.clear()
        return left

    def _sweep(self, host_id: int, queue: deque[T]) -> None:
        """Drop items that are over: their number is unbounded while nobody takes any."""
        over = [item for item in queue if self._is_over(item)]
        self._queues[host_id] = deque(item for item in queue if not self._is_over(item))
        if not self._queues[host_id]:
            del self._queues[host_id]
        for item in over:
            self._drop(item)

    def _take(self) -> T:
        host_id, queue = next(iter(self._queues.items()))
        item = queue.popleft()
        if not queue and len(self._queues) == 1:
            self._queues.clear()
            return item
        # The host goes to the end of the round.
        del self._queues[host_id]
        if queue:
            self._queues[host_id] = queue
        if self._queues:
            self._takers.ring_for_one()
        return item
