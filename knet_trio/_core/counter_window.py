"""The window of counters: which packets of one life of a host have been taken.

A host counts all packets that it seals, whatever their host and link. So the counters that arrive
here are far apart, and a packet that comes over a slow link may be far behind the newest. The
window remembers them in chunks of bits. A chunk is made when a counter in it is taken; full chunks
are one constant that all windows share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

WIDTH: Final = 3 << 14
"""The counters remembered, from the newest one down; older ones count as taken.

The numbers of messages come round after 65535, and each message takes a counter at least. A packet
that is held back until then would pass for one of another message. So this is less than all numbers
but those of the window of numbers, and of what is sealed later than it is numbered: 4096 each.
"""

_CHUNK_BITS: Final = 13
_CHUNK: Final = 1 << _CHUNK_BITS
_FULL: Final = (1 << _CHUNK) - 1
_MOST_CHUNKS: Final = WIDTH >> _CHUNK_BITS


class CounterWindow:
    """The counters that have been taken, above a floor.

    Args:
        floor: The highest counter that is never taken.
        ceiling: The lowest counter above the floor that is not taken any more; None for no such
            bound.

    Attributes:
        floor: The highest counter that is never taken.
        ceiling: The lowest counter above the floor that is not taken any more.
        newest: The highest counter that was taken, at first the floor.
    """

    __slots__ = ("_chunks", "_lowest", "ceiling", "floor", "newest")

    def __init__(self, floor: int, ceiling: int | None = None) -> None:
        self.floor = self.newest = floor
        self.ceiling: float = math.inf if ceiling is None else ceiling
        # The bits of the counters that were taken, by the high bits of the counters.
        self._chunks: dict[int, int] = {}
        # There is no chunk below this one.
        self._lowest = 0

    def is_new(self, counter: int) -> bool:
        """Return whether ``counter`` may be taken: it is in the window and was not taken."""
        if counter > self.newest:
            return counter < self.ceiling
        if counter <= self.floor or counter <= self.newest - WIDTH:
            return False
        return not self._chunks.get(counter >> _CHUNK_BITS, 0) >> (counter & _CHUNK - 1) & 1

    def mark(self, counter: int) -> None:
        """Mark ``counter``, which is new, as taken."""
        place = counter >> _CHUNK_BITS
        chunk = self._chunks.get(place, 0) | 1 << (counter & _CHUNK - 1)
        # All full chunks are one object, to save memory.
        self._chunks[place] = _FULL if chunk == _FULL else chunk
        if counter > self.newest:
            self.newest = counter
            self._forget()

    def are_new(self, counters: Sequence[int]) -> bool:
        """Return whether the rising ``counters`` may all be taken."""
        if counters[0] > self.newest:
            return counters[-1] < self.ceiling
        return all(map(self.is_new, counters))

    def mark_all(self, counters: Sequence[int]) -> None:
        """Mark the rising ``counters``, which are all new, as taken."""
        first, last = counters[0], counters[-1]
        place = last >> _CHUNK_BITS
        if last - first + 1 != len(counters) or first >> _CHUNK_BITS != place:
            for counter in counters:
                self.mark(counter)
            return
        chunk = self._chunks.get(place, 0) | (1 << len(counters)) - 1 << (first & _CHUNK - 1)
        self._chunks[place] = _FULL if chunk == _FULL else chunk
        if last > self.newest:
            self.newest = last
            self._forget()

    def take(self, counter: int) -> bool:
        """Mark ``counter`` if it is new; return whether it was."""
        if not self.is_new(counter):
            return False
        self.mark(counter)
        return True

    def _forget(self) -> None:
        """Forget the chunks that the window has left behind."""
        lowest = self.newest - WIDTH + 1 >> _CHUNK_BITS
        if lowest <= self._lowest:
            return
        chunks = self._chunks
        if lowest - self._lowest > _MOST_CHUNKS:
            for place in [place for place in chunks if place < lowest]:
                del chunks[place]
        else:
            for place in range(self._lowest, lowest):
                chunks.pop(place, None)
        self._lowest = lowest
