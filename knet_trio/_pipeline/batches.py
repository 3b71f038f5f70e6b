"""Batches: messages that are handled together.

A batch is small enough for one turn of the loop, and large enough to make the cost of a task switch
or a system call small for each message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from knet_trio._core.parted import Parted

BATCH_MESSAGES: Final = 64
BATCH_BYTES: Final = 192 * 1024


def pack(datas: Iterable[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield ``datas`` in batches of at most 64 messages and 192 KiB, while they come."""
    if isinstance(datas, Parted):
        each = max(1, min(BATCH_MESSAGES, BATCH_BYTES // max(datas.sizes)))
        for start in range(0, len(datas), each):
            yield datas[start : start + each]
        return
    batch: list[bytes] = []
    size = 0
    for data in datas:
        size += len(data)
        if batch and size > BATCH_BYTES:
            yield batch
            batch, size = [], len(data)
        batch.append(data)
        if len(batch) == BATCH_MESSAGES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def cut(datas: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield at most 64 messages as one batch, or as several if they exceed 192 KiB."""
    if len(datas) == 1 or sum(map(len, datas)) <= BATCH_BYTES:
        yield datas
    else:
        yield from pack(datas)
