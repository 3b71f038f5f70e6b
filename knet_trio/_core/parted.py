"""Messages or datagrams in parts, which are joined only where it cannot be avoided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias, overload

Parts: TypeAlias = tuple[bytes | memoryview, ...]

LARGE_PART: Final = 32 * 1024
"""The size in bytes from which copying a part costs more than handling parts. No two datagrams of
this size fit into one train."""


class Parted(Sequence[bytes]):
    """Messages, or datagrams, each of several parts.

    Senders hand the parts to the system as they are. For everything else this is a sequence of
    bytes; each access to an item joins its parts.

    Args:
        parts: The parts of each item. They must not change.
        sizes: The size of each item in bytes; None counts them.

    Attributes:
        parts: The parts of each item.
        sizes: The size of each item in bytes.
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
        """Return the same items, each with one of ``heads`` in front."""
        parts = [(head, *each) for head, each in zip(heads, self.parts, strict=True)]
        sizes = [len(head) + size for head, size in zip(heads, self.sizes, strict=True)]
        return Parted(parts, sizes)
