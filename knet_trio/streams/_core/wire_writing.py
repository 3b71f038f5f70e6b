"""Writing packets and frames."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final
from zlib import crc32

from knet_trio._core.parted import LARGE_PART, Parted, Parts
from knet_trio.streams._core.limits import MAX_CHECKED, MAX_REASON
from knet_trio.streams._core.wire import (
    ACCEPT_LAYOUT,
    ACK_LAYOUT,
    ACK_TYPE,
    AFTER_CHECKSUM_LAYOUT,
    ANSWER_AFTER_CHECKSUM_LAYOUT,
    CHECKSUM_SIZE,
    CLOSE_LAYOUT,
    CREDIT_LAYOUT,
    DATA_LAYOUT,
    DATA_TYPE,
    FRAMES_KIND,
    HEADER_SIZE,
    RESET_LAYOUT,
    STREAMS_LAYOUT,
    STREAMS_VERSION,
    WHOLE_AFTER_CHECKSUM_LAYOUT,
    WHOLE_LAYOUT,
    Code,
    FrameType,
    StreamPacketKind,
)

# The longest range in an ACK frame.
_LONGEST: Final = 0xFFFFFFFF


def write_packet(
    kind: StreamPacketKind,
    sender: int,
    receiver: int,
    number: int,
    parts: Sequence[bytes | memoryview],
    *,
    checked: bool,
) -> bytes:
    """Return a packet; with ``checked`` it has a checksum if it is at most ``MAX_CHECKED`` long."""
    head = AFTER_CHECKSUM_LAYOUT.pack(STREAMS_VERSION, kind, 0, sender, receiver, number)
    checksum = 0
    if checked and HEADER_SIZE + sum(map(len, parts)) <= MAX_CHECKED:
        checksum = crc32(head)
        for part in parts:
            checksum = crc32(part, checksum)
        checksum = checksum or 0xFFFFFFFF
    return b"".join((checksum.to_bytes(CHECKSUM_SIZE, "big"), head, *parts))


def write_data_packet(
    sender: int, receiver: int, number: int, frame: bytes, data: memoryview, *, checked: bool
) -> bytes:
    """Return a packet with one DATA frame: the fast path of ``write_packet``."""
    head = (
        AFTER_CHECKSUM_LAYOUT.pack(STREAMS_VERSION, FRAMES_KIND, 0, sender, receiver, number)
        + frame
    )
    return _join(head, data, checked=checked)


def write_last_packet(
    sender: int,
    receiver: int,
    number: int,
    stream: int,
    kind: int,
    data: bytes | memoryview,
    ack: tuple[int, int, float] | None,
    *,
    checked: bool,
) -> bytes:
    """Return a packet with a whole stream in one DATA frame: the fast path for requests.

    Args:
        sender: The local connection id.
        receiver: The remote connection id.
        number: The number of the packet.
        stream: The key of the stream.
        kind: The use of the stream.
        data: All bytes of the stream.
        ack: The first and the last packet number to acknowledge and the delay [seconds]; None for
            no acknowledgement.
        checked: True for a packet with a checksum.
    """
    size = len(data)
    if ack is None:
        head = WHOLE_AFTER_CHECKSUM_LAYOUT.pack(
            STREAMS_VERSION,
            FRAMES_KIND,
            0,
            sender,
            receiver,
            number,
            DATA_TYPE,
            kind,
            1,
            0,
            size,
            stream,
            0,
        )
    else:
        first, last, delay = ack
        head = ANSWER_AFTER_CHECKSUM_LAYOUT.pack(
            STREAMS_VERSION,
            FRAMES_KIND,
            0,
            sender,
            receiver,
            number,
            ACK_TYPE,
            0,
            0,
            min(int(delay * 1e6), 0xFFFFFFFF),
            last,
            min(last - first, _LONGEST),
            DATA_TYPE,
            kind,
            1,
            0,
            size,
            stream,
            0,
        )
    return _join(head, data, checked=checked)


def _join(head: bytes, data: bytes | memoryview, *, checked: bool) -> bytes:
    """Return a packet: its checksum, ``head`` and ``data``."""
    checksum = 0
    if checked and CHECKSUM_SIZE + len(head) + len(data) <= MAX_CHECKED:
        checksum = crc32(data, crc32(head)) or 0xFFFFFFFF
    return b"".join((checksum.to_bytes(CHECKSUM_SIZE, "big"), head, data))


def write_run(
    sender: int,
    receiver: int,
    number: int,
    stream: int,
    kind: int,
    offset: int,
    pieces: Sequence[Sequence[bytes | memoryview]],
    size: int,
    *,
    asks: bool,
    checked: bool,
) -> Sequence[bytes]:
    """Return packets numbered from ``number`` with one DATA frame each.

    The parts of large packets are not joined.

    Args:
        sender: The local connection id.
        receiver: The remote connection id.
        number: The number of the first packet.
        stream: The key of the stream.
        kind: The use of the stream.
        offset: The position of the first piece in the stream.
        pieces: The data of each packet, in parts, without the last byte of the stream.
        size: The size of each piece [bytes].
        asks: True if the last packet is to be acknowledged at once.
        checked: True for packets with checksums.
    """
    last_number = number + len(pieces) - 1
    pack = WHOLE_AFTER_CHECKSUM_LAYOUT.pack
    packets: list[bytes] = []
    large: list[Parts] = []
    checksum = 0
    checked = checked and WHOLE_LAYOUT.size + size <= MAX_CHECKED
    for parts in pieces:
        head = pack(
            STREAMS_VERSION,
            FRAMES_KIND,
            0,
            sender,
            receiver,
            number,
            DATA_TYPE,
            kind,
            0,
            asks and number == last_number,
            size,
            stream,
            offset,
        )
        number += 1
        offset += size
        if checked:
            checksum = crc32(head)
            for part in parts:
                checksum = crc32(part, checksum)
            checksum = checksum or 0xFFFFFFFF
        head = checksum.to_bytes(CHECKSUM_SIZE, "big") + head
        if size >= LARGE_PART:
            large.append((head, *parts))
        else:
            packets.append(b"".join((head, *parts)))
    return Parted(large) if large else packets


def write_data_head(
    stream: int, kind: int, offset: int, length: int, *, last: bool, asks: bool = False
) -> bytes:
    """Return the head of a DATA frame, without its data."""
    return DATA_LAYOUT.pack(DATA_TYPE, kind, last, asks, length, stream, offset)


def write_ack(ranges: Sequence[tuple[int, int]], delay: float) -> bytes:
    """Return an ACK frame for ranges ``[start, end)`` of packet numbers, the highest first.

    Ranges that do not fit its fields of 32 bits are cut or left out: they were acknowledged long
    ago.
    """
    low, end = ranges[0]
    first = min(end - 1 - low, _LONGEST)
    fields: list[int] = []
    before = low
    # A range that does not fit is cut to its upper part, and lower ranges are left out.
    fits = first == end - 1 - low
    for start, stop in ranges[1:]:
        if not fits or before - stop > _LONGEST:
            break
        length = min(stop - start, _LONGEST)
        fits = length == stop - start
        fields += (before - stop, length)
        before = start
    microseconds = min(int(delay * 1e6), 0xFFFFFFFF)
    head = ACK_LAYOUT.pack(ACK_TYPE, len(fields) // 2, 0, microseconds, end - 1, first)
    return head + struct.pack(f">{len(fields)}I", *fields) if fields else head


def write_credit(stream: int, limit: int) -> bytes:
    """Return a CREDIT frame."""
    return CREDIT_LAYOUT.pack(FrameType.CREDIT, 0, 0, 0, stream, limit)


def write_streams(limit: int) -> bytes:
    """Return a STREAMS frame."""
    return STREAMS_LAYOUT.pack(FrameType.STREAMS, 0, 0, 0, limit)


def write_accept(stream: int) -> bytes:
    """Return an ACCEPT frame."""
    return ACCEPT_LAYOUT.pack(FrameType.ACCEPT, 0, 0, 0, stream)


def write_reset(stream: int, halves: int, code: Code, reason: str) -> bytes:
    """Return a RESET frame."""
    text = cut_reason(reason)
    return RESET_LAYOUT.pack(FrameType.RESET, halves, code, 0, len(text), stream) + text


def write_close(code: Code, reason: str) -> bytes:
    """Return the body of a CLOSE packet."""
    text = cut_reason(reason)
    return CLOSE_LAYOUT.pack(code, 0, len(text)) + text


def cut_reason(reason: str) -> bytes:
    """Return a reason in UTF-8, cut to ``MAX_REASON`` bytes."""
    return reason.encode(errors="replace")[:MAX_REASON]
