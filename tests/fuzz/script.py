"""Bytes as a series of small decisions, so that the fuzzer's changes to them change one each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Script:
    """Reads from the front. When the bytes are used up, everything is 0 or empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes, or as many as there are."""
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def number(self, size: int = 1) -> int:
        """The next bytes as a number."""
        return int.from_bytes(self.take(size), "big")

    def flag(self) -> bool:
        """Whether the next byte is odd."""
        return self.number() % 2 == 1

    def choose(self, choices: Sequence[T]) -> T:
        """One of ``choices``, of which there are at most 256."""
        return choices[self.number() % len(choices)]

    def chunk(self) -> bytes:
        """Up to 255 bytes, the first byte says how many."""
        return self.take(self.number())

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))
