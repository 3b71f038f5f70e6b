"""The detection of recorded control packets.

The protocol has no field for that. But it has fields that the peer sends back unchanged, and fields
in which no host sends the same value twice.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from knet_trio._core.onwire import TIME_SIZE

# The pings remembered for one link, and the probes without a reply.
MAX_PINGS: Final = 1024
MAX_PROBES: Final = 128
_NUMBERS: Final = 0x10000
_MASK: Final = 0xFFFF
_EMPTY: Final = array("H")


class SeenPings:
    """The stamps of the last pings that came.

    No host sends a stamp twice, so a ping with a known stamp is a copy. With more than ``limit``
    stamps the oldest is forgotten.

    ::

        ring      | stamp 2049 | stamp 2050 | stamp 1027 | ... | stamp 2048 |
        newest    by bucket of a hash, the number of the newest stamp
        before    by place in the ring, the number of the stamp before it in its bucket

    The search for a stamp goes from the newest of its bucket backwards, to the end of the ring. So
    a stamp takes 20 bytes, an eighth of what it takes in a dictionary: there may be thousands of
    links.

    Numbers have 16 bits. The number of a stamp that left the ring long ago may pass for a newer
    one. Then stamps are compared that differ, which is harmless. Since ages have to grow from one
    stamp to the next, the search ends.

    Args:
        limit: The number of stamps that are remembered, 1 to 32768.
    """

    __slots__ = ("_before", "_count", "_limit", "_newest", "_ring")

    def __init__(self, limit: int = MAX_PINGS) -> None:
        self._limit = limit
        # The number of the last stamp. It starts so high that the initial zeros in `_newest` and
        # `_before` are not numbers in the ring.
        self._count = limit
        self._ring = bytearray()
        self._newest = self._before = _EMPTY

    def __len__(self) -> int:
        return min(self._count - self._limit, self._limit)

    def __contains__(self, stamp: bytes) -> bool:
        ring, count, limit = self._ring, self._count, self._limit
        if not ring:
            return False
        # Each process has its own hash seed, so an attacker cannot fill one bucket.
        number = self._newest[hash(stamp) % limit]
        age, last_age = count - number & _MASK, -1
        while last_age < age < limit:
            place = (count - age) % limit
            if ring.startswith(stamp, place * TIME_SIZE):
                return True
            last_age, age = age, count - self._before[place] & _MASK
        return False

    def add(self, stamp: bytes) -> None:
        """Remember the 16 bytes of ``stamp``."""
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
        """Return whether a ping with ``stamp`` came before; remember the stamp."""
        if stamp in self:
            return True
        self.add(stamp)
        return False


class ProbeNumbers:
    """The random numbers in the size field of path MTU probes, which the peer sends back.

    With the size itself in this field, a recorded reply to an earlier probe of that size would be
    taken for a new one. Each number is good for one reply.

    Args:
        randbelow: Returns a random number below its argument.
        limit: The most probes without a reply. With more, the oldest is forgotten.
    """

    def __init__(self, randbelow: Callable[[int], int], limit: int = MAX_PROBES) -> None:
        self._randbelow = randbelow
        self._limit = limit
        self._sizes: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sizes)

    def draw(self, size: int) -> int:
        """Return a new number for a probe of ``size`` bytes."""
        number = self._randbelow(_NUMBERS)
        while number in self._sizes:
            number = self._randbelow(_NUMBERS)
        self._sizes[number] = size
        if len(self._sizes) > self._limit:
            self._sizes.popitem(last=False)
        return number

    def take(self, number: int) -> int | None:
        """Return the size of the probe with ``number``, in bytes; None if there was none."""
        return self._sizes.pop(number, None)
