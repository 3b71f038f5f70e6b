"""Runs: consecutive data packets, decoded together.

Packets that a host sends together mostly arrive together. They differ only in fields that count up:
the sequence numbers of whole messages, or the fragments of one message after the other. Such a run
is decoded by columns: one byte of the header in all packets at once, compared with the expected
bytes. The result is the same as if each packet were decoded on its own; this is only for speed.

If the last fragments of messages are shorter than the others, a sender may first send the other
fragments of several messages, since packets of one size go in one system call, and then the last
fragments. Both are runs too. The first of the last fragments ends the train of the others, since a
train may end with a shorter packet.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from knet_trio._core.onwire import (
    DATA_HEADER_SIZE,
    MAX_MESSAGE,
    MAX_SEQ,
    Data,
    decode_untrusted,
)
from knet_trio.errors import PacketError

MAX_RUN: Final = 256
"""The most packets of a run."""

# Bytes of the header that are the same in all packets of a run: version, type, node, compress,
# broadcast, frag_num and channel. Bytes without a meaning may differ.
_SAME: Final = (0, 1, 2, 3, 8, 10, 11, 13)
_SEQ_HIGH: Final = 6
_SEQ_LOW: Final = 7
_FRAG_SEQ: Final = 12
# Up to this size, joining packets is faster than cutting out their headers.
_SHORT: Final = 256
_COUNTING: Final = bytes(range(256)) * 2
_SINGLE: Final = [bytes((value,)) for value in range(256)]


class DataRun(NamedTuple):
    """Several data packets that differ only in fields that count up from one packet to the next.

    The first packet is fragment ``frag_seq`` of message ``seq``. Fragments of one message go up to
    number ``cycle``; then come those of the next message, from its first fragment on. If ``cycle``
    is ``frag_num``, the run has all fragments of a message. With ``cycle`` 1 each packet is
    fragment ``frag_seq`` of the next message, as with whole messages.
    """

    node: int
    seq: int
    compress: int
    broadcast: bool
    frag_num: int
    frag_seq: int
    channel: int
    payloads: list[bytes]
    cycle: int

    @property
    def message_count(self) -> int:
        """The number of messages that have packets in the run."""
        if self.cycle == 1:
            return len(self.payloads)
        return (self.frag_seq + len(self.payloads) - 2) // self.cycle + 1

    def packets(self) -> list[Data]:
        """Return the packets one by one."""
        node, seq, compress, broadcast, frag_num, frag_seq, channel, payloads, cycle = self
        if cycle == 1:
            return [
                Data(node, seq + i, compress, broadcast, frag_num, frag_seq, channel, payload)
                for i, payload in enumerate(payloads)
            ]
        return [
            Data(
                node,
                seq + place // cycle,
                compress,
                broadcast,
                frag_num,
                place % cycle + 1,
                channel,
                payload,
            )
            for place, payload in enumerate(payloads, frag_seq - 1)
        ]

    def packet(self, seq: int, frag_seq: int, payload: bytes) -> Data:
        """Return one packet of the run, given the fields that count up."""
        node, _, compress, broadcast, frag_num, _, channel, _, _ = self
        return Data(node, seq, compress, broadcast, frag_num, frag_seq, channel, payload)

    def part(self, start: int, end: int) -> DataRun:
        """Return the run of the packets from index ``start`` up to, but not including, ``end``."""
        node, seq, compress, broadcast, frag_num, frag_seq, channel, payloads, cycle = self
        if not start and end == len(payloads):
            return self
        if cycle == 1:
            seq += start
        else:
            messages, index = divmod(frag_seq - 1 + start, cycle)
            seq += messages
            frag_seq = index + 1
        return DataRun(
            node, seq, compress, broadcast, frag_num, frag_seq, channel, payloads[start:end], cycle
        )

    def ends(self) -> range:
        """Return the index after the last packet of each message but the last."""
        skipped = 0 if self.cycle == 1 else self.frag_seq - 1
        return range(self.cycle - skipped, len(self.payloads), self.cycle)


def decode_train_untrusted(data: bytes, size: int) -> DataRun | None:
    """Decode a train of packets as a run.

    If only a shorter last packet does not fit into the run, it is left out.

    Args:
        data: The packets, joined.
        size: The size of each packet in bytes; the last may be shorter.

    Returns:
        The run, of all packets or of all but the last. None if they are not a run of data packets;
        each has to be decoded on its own then.
    """
    count = -(-len(data) // size) if size else 0
    if (
        not 2 <= count <= MAX_RUN
        or size > DATA_HEADER_SIZE + MAX_MESSAGE
        or len(data) - (count - 1) * size <= DATA_HEADER_SIZE
    ):
        return None
    end = len(data) - len(data) % size
    first = _decode_headers(data, size, count)
    if first is None:
        if end == len(data) or count == 2:
            return None
        first = _decode_headers(data[:end], size, count - 1)
        if first is None:
            return None
        data = data[:end]
    # For packets that all have this size, ``struct`` cuts out the payloads twice as fast as slices.
    cut = f"{DATA_HEADER_SIZE}x{size - DATA_HEADER_SIZE}s"
    payloads = [payload for (payload,) in struct.iter_unpack(cut, memoryview(data)[:end])]
    if end < len(data):
        payloads.append(data[end + DATA_HEADER_SIZE :])
    return _make_run(first, payloads)


def decode_spread_untrusted(
    data: bytes, start: int, stride: int, ends: Sequence[int]
) -> DataRun | None:
    """Decode packets that begin at equal distances, with other bytes between them, as a run.

    Args:
        data: The packets and the bytes between them.
        start: The index where the first packet begins.
        stride: The distance in bytes from the beginning of a packet to that of the next.
        ends: The index where each packet ends.

    Returns:
        The run. None if they are not a run of data packets; each has to be decoded on its own then.
    """
    count = len(ends)
    if not 2 <= count <= MAX_RUN:
        return None
    starts = range(start + DATA_HEADER_SIZE, start + DATA_HEADER_SIZE + count * stride, stride)
    payloads = [data[begin:end] for begin, end in zip(starts, ends, strict=True)]
    sizes = list(map(len, payloads))
    if not min(sizes) > 0 or max(sizes) > MAX_MESSAGE:
        return None
    first = _decode_headers(data, stride, count, start)
    return None if first is None else _make_run(first, payloads)


def decode_packets_untrusted(packets: Sequence[bytes]) -> DataRun | None:
    """Decode packets of any sizes as a run.

    Returns:
        The run. None if they are not a run of data packets; each has to be decoded on its own then.
    """
    if not 2 <= len(packets) <= MAX_RUN:
        return None
    sizes = list(map(len, packets))
    if sizes[0] <= _SHORT and sizes.count(sizes[0]) == len(sizes):
        return decode_train_untrusted(b"".join(packets), sizes[0])
    if min(sizes) <= DATA_HEADER_SIZE or max(sizes) > DATA_HEADER_SIZE + MAX_MESSAGE:
        return None
    headers = b"".join([packet[:DATA_HEADER_SIZE] for packet in packets])
    first = _decode_headers(headers, DATA_HEADER_SIZE, len(packets))
    if first is None:
        return None
    return _make_run(first, [packet[DATA_HEADER_SIZE:] for packet in packets])


class _First(NamedTuple):
    """The first packet of a run, with a placeholder as its payload, and the ``cycle``."""

    packet: Data
    cycle: int


def _make_run(first: _First, payloads: list[bytes]) -> DataRun:
    return DataRun(*first.packet[:-1], payloads, first.cycle)


def _decode_headers(data: bytes, stride: int, count: int, start: int = 0) -> _First | None:
    """Decode ``count`` headers from ``start`` on, each ``stride`` bytes after the one before.

    Returns:
        The first packet and the ``cycle``; None if the headers are not those of a run.
    """
    for column in _SAME:
        if data[start + column :: stride].count(data[start + column]) != count:
            return None
    try:
        # With a byte more, since a data packet without a payload is not valid.
        first = decode_untrusted(data[start : start + DATA_HEADER_SIZE + 1])
    except PacketError:
        return None
    if not isinstance(first, Data):
        return None
    frag_seqs = data[start + _FRAG_SEQ :: stride]
    cycle = _find_cycle(first, frag_seqs)
    if cycle == 1:
        # For each packet, how many messages after the first one its message is.
        steps = _COUNTING[:count]
        messages = count
        expected = _SINGLE[first.frag_seq] * count
    else:
        skipped = first.frag_seq - 1
        messages = (skipped + count - 1) // cycle + 1
        end = skipped + count
        steps = b"".join([step * cycle for step in _SINGLE[:messages]])[skipped:end]
        expected = (_COUNTING[1 : cycle + 1] * messages)[skipped:end]
    if cycle > first.frag_num or first.seq + messages - 1 > MAX_SEQ:
        return None
    high, low = divmod(first.seq, 256)
    # Where the low byte has passed 255, the high one is one more.
    highs = _SINGLE[high] * (256 - low) + _SINGLE[(high + 1) & 0xFF] * low
    if (
        frag_seqs == expected
        and data[start + _SEQ_LOW :: stride] == steps.translate(_COUNTING[low : low + 256])
        and data[start + _SEQ_HIGH :: stride] == steps.translate(highs)
    ):
        return _First(first, cycle)
    return None


def _find_cycle(first: Data, frag_seqs: bytes) -> int:
    """Return the only possible ``cycle`` of a run whose packets have these ``frag_seqs``."""
    if first.frag_num == 1 or frag_seqs[1] == first.frag_seq:
        return 1
    again = frag_seqs.find(1, 1)
    # A wrong result is found out when all numbers are compared with the expected ones.
    return first.frag_num if again < 0 else max(frag_seqs[again - 1], first.frag_seq)
