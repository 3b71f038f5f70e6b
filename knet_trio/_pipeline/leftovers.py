"""Messages that were taken out of lanes unsent: counting them, and telling who waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from knet_trio._state.context import Context
from knet_trio._state.send_lane import LaneItem

_AT_ONCE: Final = 32
"""Items that are given up between two looks at whether the turn is over."""

GiveUp = Callable[[Sequence[LaneItem]], None]


class _Heap:
    """What is left of one lane, and how it is given up."""

    __slots__ = ("give_up", "items")

    def __init__(self, items: deque[LaneItem], give_up: GiveUp) -> None:
        self.items = items
        self.give_up = give_up

    def do_piece(self) -> None:
        items = [self.items.popleft() for _ in range(min(_AT_ONCE, len(self.items)))]
        for item in items:
            if not item.urgent:
                # That was in no lane of messages.
                item.batch.drop()
        self.give_up(items)


class Leftovers:
    """What was taken out of full lanes, all at once, and is given up in turns."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._heaps: dict[_Heap, None] = {}

    def add(self, items: deque[LaneItem], give_up: GiveUp) -> None:
        """Give up ``items``: as many as there is time for now, the others in turns.

        Args:
            items: What was taken out of one lane; it is used up.
            give_up: Called with a few of them: counts them, and tells those who wait.
        """
        heap = _Heap(items, give_up)
        is_over = self._context.turns.is_over
        while heap.items and not is_over():
            heap.do_piece()
        if heap.items:
            self._heaps[heap] = None
            self._context.chores.add(self, [heap], self._work)

    def finish_in_pieces(self) -> Iterator[None]:
        """Give up everything, since the handle has ended; a little of it for each item."""
        while self._heaps:
            yield from self._work(next(iter(self._heaps)))

    def _work(self, heap: _Heap) -> Iterator[None]:
        while heap.items:
            heap.do_piece()
            yield
        self._heaps.pop(heap, None)
