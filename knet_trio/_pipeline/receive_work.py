"""How much work there is in what comes in, and which part of it was for data that is sealed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from knet_trio._core.onwire import TYPE_DATA
from knet_trio.errors import PacketError

CLEAR_SHARE: Final = 4
"""How many bytes of a datagram in clear that came alone are as much work as one that is sealed."""

CLEAR_TRAIN_SHARE: Final = 3
"""The same for trains in clear, of large datagrams."""

LARGE_DATAGRAM: Final = 1024
"""Bytes from which on a datagram of a train costs by its size, not as one more."""

DATA: Final = bytes([TYPE_DATA])
"""The second byte of a data packet."""


def count_clear_train(length: int, size: int) -> int:
    """Return how much work a train in clear is, in bytes of what is sealed.

    Args:
        length: Its bytes.
        size: Those of each datagram in it.
    """
    return length if size < LARGE_DATAGRAM else length // CLEAR_TRAIN_SHARE


def share_of_sealed(
    opened: Sequence[bytes | PacketError], datagrams: Sequence[bytes], sealed: int
) -> float:
    """Return which part of the work of opening ``datagrams`` was for the ``sealed`` data in them.

    What does not open costs less than what does, but in packets as well as in bytes it costs
    something. So the lesser of both shares is taken: nobody can drive the time up with noise.
    """
    size = sum(
        len(datagram)
        for packet, datagram in zip(opened, datagrams, strict=True)
        if packet is not datagram and isinstance(packet, bytes) and packet[1:2] == DATA
    )
    return min(sealed / len(datagrams), size / max(1, sum(map(len, datagrams))))
