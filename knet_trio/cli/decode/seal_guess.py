"""A guess of the cipher and hash of packets that no key opens, by their sizes.

Every host sends pings and pongs, usually more than anything else. All of them have the same size:
26 bytes, or two blocks with AES-CBC, plus the salt and the hash. All sizes with AES-CBC differ by
complete blocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

_SALT: Final = 16
_BLOCK: Final = 16
_PING: Final = 26
_PING_IN_BLOCKS: Final = 32
# The smallest packet is the reply to a probe of the path MTU.
_LEAST: Final = 9
_HASHES: Final = (
    ("md5", 16),
    ("sha1", 20),
    ("sha224", 28),
    ("sha256", 32),
    ("sha384", 48),
    ("sha512", 64),
)
# Fewer pings are not enough for a guess.
_ENOUGH: Final = 3


class _Seal(NamedTuple):
    name: str
    hash_size: int
    in_blocks: bool


_SEALS: Final = {
    **{_SALT + _PING + size: _Seal(f"AES-CTR with {name}", size, False) for name, size in _HASHES},
    **{
        _SALT + _PING_IN_BLOCKS + size: _Seal(f"AES-CBC with {name}", size, True)
        for name, size in _HASHES
    },
}


class SealedSizes:
    """The sizes of the packets of one direction that no key opens, in bytes."""

    def __init__(self) -> None:
        self._pings: Counter[int] = Counter()
        self._rests: set[int] = set()
        self._least = 1 << 16

    def add(self, size: int) -> None:
        """Count a packet."""
        if size in _SEALS:
            self._pings[size] += 1
        self._rests.add(size % _BLOCK)
        self._least = min(self._least, size)

    def count(self, size: int) -> int:
        """Return the number of packets of ``size``, one of the sizes of pings."""
        return self._pings[size]

    def may_be(self, size: int) -> bool:
        """Return whether there are pings of ``size``, and all other sizes are compatible."""
        seal = _SEALS[size]
        if self._pings[size] < _ENOUGH:
            return False
        if seal.in_blocks:
            # The size of a train is a multiple.
            return self._rests <= {seal.hash_size * i % _BLOCK for i in range(1, _BLOCK)}
        return self._least >= _SALT + _LEAST + seal.hash_size


def guess_seal(directions: Sequence[SealedSizes]) -> str | None:
    """Return the cipher and hash that fit all directions, None if there are none.

    The result is a guess: another protocol may have packets of these sizes.
    """
    counts = {
        size: sum(direction.count(size) for direction in directions)
        for size in _SEALS
        if directions and all(direction.may_be(size) for direction in directions)
    }
    return _SEALS[max(counts, key=counts.__getitem__)].name if counts else None
