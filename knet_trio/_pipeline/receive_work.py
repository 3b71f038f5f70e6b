"""The amount of work that received datagrams are, and the share of sealed data in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from knet_trio._core.onwire import TYPE_DATA
from knet_trio.errors import PacketError

CLEAR_SHARE: Final = 4
"""Bytes of a single datagram in clear that are as much work as one sealed byte."""

CLEAR_TRAIN_SHARE: Final = 3
"""The same for trains in clear, of large datagrams."""

LARGE_DATAGRAM: Final = 1024
"""The size from which the cost of a datagram in a train depends on its bytes, in bytes."""

DATA: Final = bytes([TYPE_DATA])
"""The second byte of a data packet."""


def count_clear_train(length: int, size: int) -> int:
    """Return how much work a train in clear is, in sealed bytes.

    Args:
        length: The size of the train, in bytes.
        size: The size of each datagram in it, in bytes.
    """
    return length if size < LARGE_DATAGRAM else length // CLEAR_TRAIN_SHARE


def share_of_sealed(
    opened: Sequence[bytes | PacketError], datagrams: Sequence[bytes], sealed: int
) -> float:
    """Return the share of sealed data packets in the work of opening ``datagrams``.

    A datagram that does not open costs less than one that does, but more than nothing. So the
    lesser of the shares in packets and in bytes is taken: noise cannot drive the time up.

    Args:
        opened: A packet or an error for each datagram.
        datagrams: The datagrams.
        sealed: The number of sealed data packets among them.

    Returns:
        The share, 0 to 1.
    """
    size = sum(
        len(datagram)
        for packet, datagram in zip(opened, datagrams, strict=True)
        if packet is not datagram and isinstance(packet, bytes) and packet[1:2] == DATA
    )
    return min(sealed / len(datagrams), size / max(1, sum(map(len, datagrams))))
