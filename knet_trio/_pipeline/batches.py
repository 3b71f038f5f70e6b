"""What passes between the stages of the way out of a message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

# What one item holds at most, so that it is little enough work for one turn.
ITEM_MESSAGES: Final = 64
ITEM_BYTES: Final = 192 * 1024
# A message of which that many fit.
SHORT: Final = ITEM_BYTES // ITEM_MESSAGES


class Outgoing(NamedTuple):
    """Messages as the user gave them; ``to`` None leaves their way to the filter."""

    datas: Sequence[bytes]
    channel: int
    to: tuple[int, ...] | None


class Addressed(NamedTuple):
    """Messages that know where to go: ``hosts`` None is everybody."""

    datas: Sequence[bytes]
    channel: int
    hosts: tuple[int, ...] | None
    compress: int = 0


class Sealed(NamedTuple):
    """Messages as the datagrams that go on the wire, the same ones to every host.

    Each datagram is a message, or with ``fragments`` all of them are one. ``packets`` is what is in
    the envelopes, None where there are none: a message may have to be fragmented once more.
    """

    datagrams: Sequence[bytes]
    hosts: tuple[int, ...] | None
    fragments: bool = False
    packets: Sequence[bytes] | None = None

    @property
    def messages(self) -> int:
        """How many."""
        return 1 if self.fragments else len(self.datagrams)


def pack_messages(
    datas: Sequence[bytes], channel: int, to: tuple[int, ...] | None = None
) -> list[Outgoing]:
    """``datas`` as items, none of which is too large."""
    if len(datas) <= ITEM_MESSAGES and sum(map(len, datas)) <= ITEM_BYTES:
        return [Outgoing(datas, channel, to)] if datas else []
    items: list[Outgoing] = []
    start = size = 0
    for i, data in enumerate(datas):
        size += len(data)
        if i > start and (i - start == ITEM_MESSAGES or size > ITEM_BYTES):
            items.append(Outgoing(datas[start:i], channel, to))
            start, size = i, len(data)
    items.append(Outgoing(datas[start:], channel, to))
    return items


def join(first: Sequence[bytes], second: Sequence[bytes]) -> list[bytes] | None:
    """Both in one, if they are short enough for one item."""
    if len(first) + len(second) > ITEM_MESSAGES or max(map(len, second)) > SHORT:
        return None
    # Lists are made here and in front of here, so nobody else has them.
    joined: list[bytes] = first if isinstance(first, list) else list(first)
    joined.extend(second)
    return joined
