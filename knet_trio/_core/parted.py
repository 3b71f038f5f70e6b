"""Messages or datagrams in parts, which nobody puts together who can do without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias, overload

Parts: TypeAlias = tuple[bytes | memoryview, ...]

LARGE_PART: Final = 32 * 1024
"""Bytes from which on a copy takes longer than all else about parts. No two of that size go into
one train."""


class Parted(Sequence[bytes]):
    """Messages, or datagrams, each of several parts.

    Whoever sends one gives its parts to the system. To all others it is a sequence of bytes, which
    are put together each time.

    Args:
        parts: The parts of each. They must not change.

    Attributes:
        parts: The same.
        sizes: The bytes of each.
    """

    __slots__ = ("parts", "sizes")

    def __init__(self, parts: Sequence[Parts], sizes: Sequence[int] | None = None) -> None:
        self.parts = parts
        self.sizes = [sum(map(len, each)) for each in parts] if sizes is None else sizes

    def __len__(self) -> int:
        return len(self.parts)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> Parted: ...

    def __getitem__(self, index: int | slice) -> bytes | Parted:
        if isinstance(index, slice):
            return Parted(self.parts[index], self.sizes[index])
        return b"".join(self.parts[index])

    def with_heads(self, heads: Sequence[bytes]) -> Parted:
        """Return the same with another part in front of each."""
        parts = [(head, *each) for head, each in zip(heads, self.parts, strict=True)]
        sizes = [len(head) + size for head, size in zip(heads, self.sizes, strict=True)]
        return Parted(parts, sizes)
