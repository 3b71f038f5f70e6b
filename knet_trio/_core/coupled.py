"""Datagrams of one size that are adjacent in memory, ready to be sent as a train."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import overload

from knet_trio._core.parted import Parted


class Coupled(Sequence[bytes]):
    """Datagrams of one size in one piece; the last may be shorter.

    Senders of trains take the whole view as it is. For everything else this is a sequence of bytes.

    Args:
        data: The datagrams.
        size: The size of each datagram in bytes, at least 1.

    Attributes:
        view: A view of ``data``.
        size: The size of each datagram but the last, in bytes.
    """

    __slots__ = ("_count", "size", "view")

    def __init__(self, data: bytes | memoryview, size: int) -> None:
        self.view = memoryview(data)
        self.size = size
        self._count = -(-len(data) // size)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(index, slice):
            start, end, step = index.indices(self._count)
            if step != 1:
                return [self[place] for place in range(start, end, step)]
            if not start and end == self._count:
                return self
            return Coupled(self.view[start * self.size : end * self.size], self.size)
        place = index + self._count if index < 0 else index
        if not 0 <= place < self._count:
            raise IndexError("index is past the last datagram")
        return bytes(self.view[place * self.size : (place + 1) * self.size])


def size_of(datagrams: Sequence[bytes], count: int) -> int:
    """Return the total size of the first ``count`` of ``datagrams``, in bytes."""
    if type(datagrams) is Coupled:
        return min(count * datagrams.size, len(datagrams.view))
    if type(datagrams) is Parted:
        return sum(datagrams.sizes[:count])
    if count == 1:
        return len(datagrams[0])
    return sum(map(len, datagrams if count == len(datagrams) else islice(datagrams, count)))


def joined(train: Sequence[bytes]) -> tuple[bytes | memoryview, int]:
    """Return datagrams of one size, the last maybe shorter, in one piece, and that size."""
    if isinstance(train, Coupled):
        return train.view, train.size
    return b"".join(train), len(train[0])
