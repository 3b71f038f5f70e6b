"""Giving up unsent messages of lanes: counting them, and waking the tasks that wait for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from knet_trio._state.context import Context
from knet_trio._state.send_lane import LaneItem

_AT_ONCE: Final = 32
"""Items that are given up between two checks of the turn."""

GiveUp = Callable[[Sequence[LaneItem]], None]


class _Heap:
    """The items of one lane, and the function that gives them up."""

    __slots__ = ("give_up", "items")

    def __init__(self, items: deque[LaneItem], give_up: GiveUp) -> None:
        self.items = items
        self.give_up = give_up

    def do_piece(self) -> None:
        items = [self.items.popleft() for _ in range(min(_AT_ONCE, len(self.items)))]
        for item in items:
            if not item.urgent:
                # An urgent item was not counted by the lane.
                item.batch.drop()
        self.give_up(items)


class Leftovers:
    """Items that were taken out of lanes all at once and are given up in turns."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._heaps: dict[_Heap, None] = {}

    def add(self, items: deque[LaneItem], give_up: GiveUp) -> None:
        """Give up ``items``: some in this turn, the others in later turns.

        Args:
            items: The items of one lane; the deque is emptied.
            give_up: Called with a few items: counts them, and wakes the tasks that wait.
        """
        heap = _Heap(items, give_up)
        is_over = self._context.turns.is_over
        while heap.items and not is_over():
            heap.do_piece()
        if heap.items:
            self._heaps[heap] = None
            self._context.chores.add(self, [heap], self._work)

    def finish_in_pieces(self) -> Iterator[None]:
        """Give up everything, since the handle has ended: yield after each piece."""
        while self._heaps:
            yield from self._work(next(iter(self._heaps)))

    def _work(self, heap: _Heap) -> Iterator[None]:
        while heap.items:
            heap.do_piece()
            yield
        self._heaps.pop(heap, None)
