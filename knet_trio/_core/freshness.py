"""Recognising copies of control packets that somebody recorded.

The protocol has no field for that. It has fields that come back as they were sent, and fields that
no host sends twice.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from knet_trio._core.onwire import TIME_SIZE

# The pings that are remembered of one link, and the probes that may be on their way.
MAX_PINGS: Final = 1024
MAX_PROBES: Final = 128
_NUMBERS: Final = 0x10000
_MASK: Final = 0xFFFF
_EMPTY: Final = array("H")


class SeenPings:
    """The stamps of pings that came before.

    No host sends a stamp twice, so the second time it is a copy. With more than ``limit`` the
    oldest is forgotten.

    ::

        ring      | stamp 2049 | stamp 2050 | stamp 1027 | ... | stamp 2048 |
        newest    by bucket of a hash, the number of the stamp that came last
        before    by place in the ring, the number of the stamp before it in its bucket

    A stamp is looked for from the newest of its bucket backwards, as far as the ring goes. So each
    takes 20 bytes, an eighth of what a dictionary takes for it: there may be thousands of links.

    Numbers are kept in 16 bits. One that has left the ring long ago may pass for a newer one. That
    can only lead to stamps that are compared and differ, and since ages have to grow from one to
    the next, the walk ends.

    Args:
        limit: How many are remembered, 1 to 32768.
    """

    __slots__ = ("_before", "_count", "_limit", "_newest", "_ring")

    def __init__(self, limit: int = MAX_PINGS) -> None:
        self._limit = limit
        # The number of the last stamp. What is zero at first is thereby no number in the ring.
        self._count = limit
        self._ring = bytearray()
        self._newest = self._before = _EMPTY

    def __len__(self) -> int:
        return min(self._count - self._limit, self._limit)

    def __contains__(self, stamp: bytes) -> bool:
        ring, count, limit = self._ring, self._count, self._limit
        if not ring:
            return False
        # The seed of the hash is drawn for each process, so nobody can fill one bucket.
        number = self._newest[hash(stamp) % limit]
        age, last_age = count - number & _MASK, -1
        while last_age < age < limit:
            place = (count - age) % limit
            if ring.startswith(stamp, place * TIME_SIZE):
                return True
            last_age, age = age, count - self._before[place] & _MASK
        return False

    def add(self, stamp: bytes) -> None:
        """Remember a ping with ``stamp``, of 16 bytes."""
        limit = self._limit
        if not self._ring:
            self._ring = bytearray(TIME_SIZE * limit)
            self._newest = array("H", bytes(2 * limit))
            self._before = array("H", bytes(2 * limit))
        self._count = count = self._count + 1
        bucket, place = hash(stamp) % limit, count % limit
        self._ring[place * TIME_SIZE : (place + 1) * TIME_SIZE] = stamp
        self._before[place] = self._newest[bucket]
        self._newest[bucket] = count & _MASK

    def is_copy(self, stamp: bytes) -> bool:
        """Return whether a ping with ``stamp`` came before, and remember it."""
        if stamp in self:
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
