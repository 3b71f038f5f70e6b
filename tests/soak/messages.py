"""Messages that say what they are."""

from __future__ import annotations

import math
import random
import struct
import zlib
from typing import Final, NamedTuple

# Magic, sender, number, size of all, checksum of what follows and of this without the checksum.
_HEADER: Final = struct.Struct(">4sHIII")
_UNSEALED: Final = struct.Struct(">4sHII")
_MAGIC: Final = b"soak"
MIN_SIZE: Final = 64
MAX_SIZE: Final = 65000


class Name(NamedTuple):
    """Which message it is: who sent it, and how many that one had sent before."""

    sender: int
    number: int


def make_message(name: Name, size: int) -> bytes:
    """A message of ``size`` bytes that no compressor makes smaller."""
    filler = random.Random(name.number).randbytes(size - _HEADER.size)
    return _HEADER.pack(_MAGIC, *name, size, _checksum(name, size, filler)) + filler


def read_name(data: bytes) -> Name | None:
    """Which message begins so, None if it is none."""
    if len(data) < _HEADER.size:
        return None
    magic, sender, number, _, _ = _HEADER.unpack_from(data)
    return Name(int(sender), int(number)) if magic == _MAGIC else None


def check_message(data: bytes) -> Name | None:
    """Which message it is, None if it is none, or not as it was sent."""
    name = read_name(data)
    if name is None:
        return None
    _, _, _, size, checksum = _HEADER.unpack_from(data)
    whole = size == len(data) and checksum == _checksum(name, size, data[_HEADER.size :])
    return name if whole else None


def choose_size(rng: random.Random) -> int:
    """As many in every doubling of the size."""
    return round(MIN_SIZE * math.pow(MAX_SIZE / MIN_SIZE, rng.random()))


def _checksum(name: Name, size: int, filler: bytes) -> int:
    head = _UNSEALED.pack(_MAGIC, *name, size)
    checksum: int = zlib.crc32(filler, zlib.crc32(head))
    return checksum
