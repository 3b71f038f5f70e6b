"""The bytes of each job, and what names them."""

from __future__ import annotations

import random
import struct
from typing import Final, NamedTuple

_HEAD: Final = struct.Struct("!IIQ")
HEAD_SIZE: Final = _HEAD.size
_ALL: Final = random.Random(7).randbytes(1 << 20)


class Head(NamedTuple):
    """What begins all that is sent.

    Attributes:
        job: The job it belongs to.
        part: Which of its messages or attempts it is.
        life: A number that no other life of a host has.
    """

    job: int
    part: int
    life: int


def make_bytes(job: int, size: int, *, back: bool = False) -> bytes:
    """The bytes of a job that go one way: others than those of all other jobs."""
    start = (job * 7919 + back * 524_287) % (len(_ALL) - size)
    return _ALL[start : start + size]


def write_head(head: Head) -> bytes:
    """Put it in bytes."""
    return _HEAD.pack(*head)


def read_head(data: bytes) -> Head:
    """Take it out of the beginning of them."""
    return Head(*_HEAD.unpack_from(data))
