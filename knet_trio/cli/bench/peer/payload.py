"""The bytes of messages, the same as those of the libknet peer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

WORDS: Final = (
    b"node",
    b"link",
    b'"status": ',
    b"0.125",
    b"reachable",
    b"token",
    b"member",
    b'{"id": ',
    b"lost",
    b"passive",
    b"12845",
    b"10.0.0.1",
    b"true",
    b"null",
    b"quorum",
    b"}, ",
)


def payload(kind: str, size: int) -> bytes:
    """Return ``size`` bytes: ``random`` ones, ``text`` that can be compressed, or ``zeros``."""
    if kind == "zeros":
        return bytes(size)
    numbers = _numbers()
    if kind == "random":
        return bytes(islice(numbers, size))
    text = bytearray()
    while len(text) < size:
        text += WORDS[next(numbers) & 15]
    return bytes(text[:size])


def _numbers() -> Iterator[int]:
    state = 1
    while True:
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        yield state >> 24
