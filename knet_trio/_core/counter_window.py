"""Which packets of one life of a host have been taken, by the counters that they were sealed with.

A counter runs over all packets that a host seals, for whichever host and link. So those that come
here are far apart, and one that comes over a slow link may be far behind the newest. They are
remembered in chunks of bits that are made when one in them is taken; a chunk in which all are taken
is a constant that all windows share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

WIDTH: Final = 1 << 18
"""Counters from the newest one on down that are remembered; older ones count as taken."""

_CHUNK_BITS: Final = 13
_CHUNK: Final = 1 << _CHUNK_BITS
_FULL: Final = (1 << _CHUNK) - 1
_MOST_CHUNKS: Final = WIDTH >> _CHUNK_BITS


class CounterWindow:
    """The counters that have been taken, above a floor.

    Args:
        floor: No counter up to this one is ever taken.

    Attributes:
        floor: The same.
        newest: The highest counter that was taken, at first the floor.
    """

    __slots__ = ("_chunks", "_lowest", "floor", "newest")

    def __init__(self, floor: int) -> None:
        self.floor = self.newest = floor
        # The bits of the counters that were taken, by the counters shifted to the right.
        self._chunks: dict[int, int] = {}
        # No chunk below this one is there.
        self._lowest = 0

    def is_new(self, counter: int) -> bool:
        """Return whether the packet with ``counter`` may be taken: it has not been, and can be."""
        if counter > self.newest:
            return True
        if counter <= self.floor or counter <= self.newest - WIDTH:
            return False
        return not self._chunks.get(counter >> _CHUNK_BITS, 0) >> (counter & _CHUNK - 1) & 1

    def mark(self, counter: int) -> None:
        """Note that the packet with ``counter``, which is new, has been taken."""
        place = counter >> _CHUNK_BITS
        chunk = self._chunks.get(place, 0) | 1 << (counter & _CHUNK - 1)
        # So that full ones are one object, wherever they are.
        self._chunks[place] = _FULL if chunk == _FULL else chunk
        if counter > self.newest:
            self.newest = counter
            self._forget()

    def are_new(self, counters: Sequence[int]) -> bool:
        """Return whether packets with ``counters``, which go up, may all be taken."""
        return counters[0] > self.newest or all(map(self.is_new, counters))

    def mark_all(self, counters: Sequence[int]) -> None:
        """Note that packets with ``counters``, which go up and are new, have been taken."""
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
        """Forget the chunks that are behind the window now."""
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
