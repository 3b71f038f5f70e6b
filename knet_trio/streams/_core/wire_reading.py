"""Reading packets and frames from untrusted bytes.

Functions named ``_untrusted`` raise StreamPacketError and no other error. Fast paths return None
for bytes that they do not handle.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, TypeAlias
from zlib import crc32

from knet_trio.streams._core.faults import Fault, StreamPacketError
from knet_trio.streams._core.limits import (
    MAX_ACK_RANGES,
    MAX_FRAMES,
    MAX_NUMBER,
    MAX_OFFSET,
    MAX_REASON,
)
from knet_trio.streams._core.wire import (
    ACCEPT_LAYOUT,
    ACK_FRAME_SIZE,
    ACK_LAYOUT,
    ACK_RANGE_SIZE,
    ACK_TYPE,
    ANSWER_LAYOUT,
    CHECKSUM_SIZE,
    CLOSE_LAYOUT,
    CREDIT_LAYOUT,
    DATA_FRAME_SIZE,
    DATA_LAYOUT,
    DATA_TYPE,
    FRAMES_KIND,
    HEADER_LAYOUT,
    HEADER_SIZE,
    PING_TYPE,
    RECEIVING,
    RESET_LAYOUT,
    SENDING,
    STREAMS_LAYOUT,
    STREAMS_VERSION,
    WHOLE_AFTER_CHECKSUM_LAYOUT,
    WHOLE_LAYOUT,
    AcceptFrame,
    AckFrame,
    Code,
    CreditFrame,
    DataFrame,
    FrameType,
    PacketHeader,
    PingFrame,
    ResetFrame,
    StreamFrame,
    StreamKind,
    StreamPacketKind,
    StreamsFrame,
)

_UNCHECKED: Final = bytes(CHECKSUM_SIZE)
_KINDS: Final = {int(kind): kind for kind in StreamKind}
_CODES: Final = {int(code): code for code in Code}
_PACKET_KINDS: Final = {int(kind): kind for kind in StreamPacketKind}


def read_header_untrusted(packet: bytes) -> PacketHeader:
    """Read the header of a packet and check the checksum of the whole packet.

    Raises:
        StreamPacketError: The bytes are not a packet of this protocol.
    """
    if len(packet) < HEADER_SIZE:
        raise StreamPacketError(
            Fault.MALFORMED, f"packet has {len(packet)} bytes, a header has {HEADER_SIZE}"
        )
    checksum, version, kind, _, sender, receiver, number = HEADER_LAYOUT.unpack_from(packet)
    if version != STREAMS_VERSION:
        raise StreamPacketError(
            Fault.WRONG_VERSION, f"protocol version {version}, not {STREAMS_VERSION}"
        )
    if checksum and checksum != (crc32(memoryview(packet)[CHECKSUM_SIZE:]) or 0xFFFFFFFF):
        raise StreamPacketError(Fault.WRONG_CHECKSUM, "wrong checksum")
    known = _PACKET_KINDS.get(kind)
    if known is None:
        raise StreamPacketError(Fault.UNKNOWN_KIND, f"packet kind {kind} is not known")
    if number > MAX_NUMBER or not sender:
        raise StreamPacketError(
            Fault.MALFORMED, f"packet number {number} or sender id {sender} is out of range"
        )
    if not receiver and known is not StreamPacketKind.HELLO:
        raise StreamPacketError(Fault.MALFORMED, f"{known.name} packet without a receiver id")
    return PacketHeader(known, sender, receiver, number)


_WholeFields: TypeAlias = tuple[int, int, int, StreamKind, int, int, memoryview, int, int]


def read_whole_untrusted(packet: bytes) -> _WholeFields | None:
    """Read a packet with a single DATA frame: the fast path for the most frequent packet.

    Returns:
        Sender id, receiver id, packet number, kind, key, offset, bytes, ``last`` and ``asks`` of
        the frame. None for any other or an invalid packet, which the general functions handle.
    """
    size = len(packet)
    if size < WHOLE_LAYOUT.size:
        return None
    checksum, version, kind, _, sender, receiver, number, *rest = WHOLE_LAYOUT.unpack_from(packet)
    frame, use, last, asks, length, key, start = rest
    if frame != DATA_TYPE or kind != FRAMES_KIND or length != size - WHOLE_LAYOUT.size:
        return None
    known = _KINDS.get(use)
    if (
        version != STREAMS_VERSION
        or known is None
        or last > 1
        or asks > 1
        or start + length > MAX_OFFSET
    ):
        return None
    view = memoryview(packet)
    if checksum and checksum != (crc32(view[CHECKSUM_SIZE:]) or 0xFFFFFFFF):
        return None
    if number > MAX_NUMBER or not sender:
        return None
    data = view[WHOLE_LAYOUT.size :]
    return sender, receiver, number, known, key, start, data, last, asks


_AnswerFields: TypeAlias = tuple[
    int, int, int, tuple[int, int], float, StreamKind, int, int, memoryview, int, int
]


def read_answer_untrusted(packet: bytes) -> _AnswerFields | None:
    """Read a packet with an ACK of one range and one DATA frame: the fast path for requests.

    Returns:
        Sender id, receiver id, packet number; the acknowledged range ``[start, end)`` and its delay
        in seconds; kind, key, offset, bytes, ``last`` and ``asks`` of the DATA frame. None for any
        other or an invalid packet, which the general functions handle.
    """
    size = len(packet)
    if size < ANSWER_LAYOUT.size or packet[HEADER_SIZE] != ACK_TYPE:
        return None
    (
        checksum,
        version,
        kind,
        _,
        sender,
        receiver,
        number,
        _,
        count,
        _,
        delay,
        largest,
        first,
        frame,
        use,
        last,
        asks,
        length,
        key,
        start,
    ) = ANSWER_LAYOUT.unpack_from(packet)
    known = _KINDS.get(use)
    if (
        frame != DATA_TYPE
        or kind != FRAMES_KIND
        or count
        or length != size - ANSWER_LAYOUT.size
        or version != STREAMS_VERSION
        or known is None
        or last > 1
        or asks > 1
        or start + length > MAX_OFFSET
        or first > largest
        or largest > MAX_NUMBER
        or number > MAX_NUMBER
        or not sender
    ):
        return None
    view = memoryview(packet)
    if checksum and checksum != (crc32(view[CHECKSUM_SIZE:]) or 0xFFFFFFFF):
        return None
    data = view[ANSWER_LAYOUT.size :]
    acknowledged = largest - first, largest + 1
    return (
        sender,
        receiver,
        number,
        acknowledged,
        delay / 1e6,
        known,
        key,
        start,
        data,
        last,
        asks,
    )


def read_run_untrusted(packets: Sequence[bytes], start: int) -> list[memoryview]:
    """Read packets that continue the one at ``start``, which ``read_whole_untrusted`` has read.

    Returns:
        The data of the following packets, up to the first that does not have the same size and
        stream, the next number and offset, and a right checksum.
    """
    first = packets[start]
    size = len(first)
    fields = WHOLE_LAYOUT.unpack_from(first)
    _, _, _, _, sender, receiver, number, _, use, _, _, length, key, offset = fields
    pack = WHOLE_AFTER_CHECKSUM_LAYOUT.pack
    found: list[memoryview] = []
    for index in range(start + 1, min(len(packets), start + 1 + MAX_NUMBER - number)):
        packet = packets[index]
        number += 1
        offset += length
        head = pack(
            STREAMS_VERSION,
            FRAMES_KIND,
            0,
            sender,
            receiver,
            number,
            DATA_TYPE,
            use,
            0,
            0,
            length,
            key,
            offset,
        )
        if len(packet) != size or packet[CHECKSUM_SIZE : WHOLE_LAYOUT.size] != head:
            break
        view = memoryview(packet)
        checksum = packet[:CHECKSUM_SIZE]
        if checksum != _UNCHECKED and checksum != (
            crc32(view[CHECKSUM_SIZE:]) or 0xFFFFFFFF
        ).to_bytes(CHECKSUM_SIZE, "big"):
            break
        found.append(view[WHOLE_LAYOUT.size :])
    return found


def read_frames_untrusted(packet: bytes) -> list[StreamFrame]:
    """Read the frames of a packet whose header has been read.

    Raises:
        StreamPacketError: A frame is cut off, unknown or invalid.
    """
    size = len(packet)
    view = memoryview(packet)
    frames: list[StreamFrame] = []
    start = HEADER_SIZE
    try:
        while start < size:
            if len(frames) == MAX_FRAMES:
                raise StreamPacketError(Fault.MALFORMED, f"more than {MAX_FRAMES} frames")
            kind = packet[start]
            if kind == DATA_TYPE:
                _, use, last, asks, length, stream, offset = DATA_LAYOUT.unpack_from(packet, start)
                start += DATA_FRAME_SIZE
                end = start + length
                if end > size or offset + length > MAX_OFFSET or last > 1 or asks > 1:
                    raise _malformed("DATA")
                frames.append(
                    DataFrame(stream, _KINDS[use], offset, view[start:end], last == 1, asks == 1)
                )
                start = end
            elif kind == ACK_TYPE:
                frame, start = _read_ack(packet, start)
                frames.append(frame)
            elif kind == PING_TYPE:
                frames.append(PingFrame())
                start += 1
            else:
                other, start = _read_other(packet, start)
                frames.append(other)
    except (struct.error, KeyError):
        raise StreamPacketError(
            Fault.MALFORMED, "a frame is cut off, or has an unknown kind or code"
        ) from None
    if not frames:
        raise StreamPacketError(Fault.MALFORMED, "packet without frames")
    return frames


def read_close_untrusted(packet: bytes) -> tuple[Code, str]:
    """Read code and reason of a CLOSE packet whose header has been read."""
    try:
        code, _, length = CLOSE_LAYOUT.unpack_from(packet, HEADER_SIZE)
        reason = _reason(packet, HEADER_SIZE + CLOSE_LAYOUT.size, length)
        return _CODES[code], reason
    except (struct.error, KeyError):
        raise _malformed("CLOSE") from None


def _read_ack(packet: bytes, start: int) -> tuple[AckFrame, int]:
    _, count, _, delay, largest, first = ACK_LAYOUT.unpack_from(packet, start)
    start += ACK_FRAME_SIZE
    low = largest - first
    if count > MAX_ACK_RANGES or low < 0 or largest > MAX_NUMBER:
        raise _malformed("ACK")
    if not count:
        return AckFrame(((low, largest + 1),), delay / 1e6), start
    fields = struct.unpack_from(f">{2 * count}I", packet, start)
    ranges = [(low, largest + 1)]
    for gap, length in zip(fields[::2], fields[1::2], strict=True):
        high = low - gap
        low = high - length
        if not gap or not length or low < 0:
            raise _malformed("ACK")
        ranges.append((low, high))
    return AckFrame(tuple(ranges), delay / 1e6), start + ACK_RANGE_SIZE * count


def _read_other(packet: bytes, start: int) -> tuple[StreamFrame, int]:
    kind = packet[start]
    if kind == FrameType.CREDIT:
        *_, stream, limit = CREDIT_LAYOUT.unpack_from(packet, start)
        if limit > MAX_OFFSET:
            raise _malformed("CREDIT")
        return CreditFrame(stream, limit), start + CREDIT_LAYOUT.size
    if kind == FrameType.STREAMS:
        *_, limit = STREAMS_LAYOUT.unpack_from(packet, start)
        return StreamsFrame(limit), start + STREAMS_LAYOUT.size
    if kind == FrameType.ACCEPT:
        *_, stream = ACCEPT_LAYOUT.unpack_from(packet, start)
        return AcceptFrame(stream), start + ACCEPT_LAYOUT.size
    if kind == FrameType.RESET:
        _, halves, code, _, length, stream = RESET_LAYOUT.unpack_from(packet, start)
        if not 0 < halves <= SENDING | RECEIVING:
            raise _malformed("RESET")
        reason = _reason(packet, start + RESET_LAYOUT.size, length)
        return ResetFrame(stream, halves, _CODES[code], reason), start + RESET_LAYOUT.size + length
    raise StreamPacketError(Fault.UNKNOWN_FRAME, f"frame type {kind} is not known")


def _reason(packet: bytes, start: int, length: int) -> str:
    if length > MAX_REASON or start + length > len(packet):
        raise _malformed("reason")
    # A large packet may be a view.
    return str(packet[start : start + length], errors="replace")


def _malformed(what: str) -> StreamPacketError:
    return StreamPacketError(Fault.MALFORMED, f"{what} with invalid values")
