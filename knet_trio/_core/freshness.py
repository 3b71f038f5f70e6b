"""Recognising copies of control packets that somebody recorded.

The protocol has no field for that. It has fields that come back as they were sent, and fields that
no host sends twice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

# The pings that are remembered of one link, and the probes that may be on their way.
MAX_PINGS: Final = 1024
MAX_PROBES: Final = 128
_NUMBERS: Final = 0x10000


class SeenPings:
    """The stamps of pings that came before.

    No host sends a stamp twice, so the second time it is a copy. With more than ``limit`` the
    oldest is forgotten.
    """

    def __init__(self, limit: int = MAX_PINGS) -> None:
        self._limit = limit
        self._stamps: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._stamps)

    def __contains__(self, stamp: bytes) -> bool:
        return stamp in self._stamps

    def add(self, stamp: bytes) -> None:
        """Remember a ping with ``stamp``."""
        self._stamps[stamp] = None
        if len(self._stamps) > self._limit:
            self._stamps.popitem(last=False)

    def is_copy(self, stamp: bytes) -> bool:
        """Return whether a ping with ``stamp`` came before, and remember it."""
        if stamp in self._stamps:
            return True
        self.add(stamp)
        return False


class ProbeNumbers:
    """Numbers that take the place of the size in path MTU probes, which the peer sends back.

    If it were the size itself, the reply to an earlier probe of that size would do for the next.
    Each number is drawn by ``randbelow`` and good for one reply. Of more than ``limit`` without a
    reply, the oldest is forgotten.
    """

    def __init__(self, randbelow: Callable[[int], int], limit: int = MAX_PROBES) -> None:
        self._randbelow = randbelow
        self._limit = limit
        self._sizes: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sizes)

    def draw(self, size: int) -> int:
        """Return a number for a probe of ``size`` bytes."""
        number = self._randbelow(_NUMBERS)
        while number in self._sizes:
            number = self._randbelow(_NUMBERS)
        self._sizes[number] = size
        if len(self._sizes) > self._limit:
            self._sizes.popitem(last=False)
        return number

    def take(self, number: int) -> int | None:
        """Return the size that the probe with ``number`` asked about; None if there was none."""
        return self._sizes.pop(number, None)
