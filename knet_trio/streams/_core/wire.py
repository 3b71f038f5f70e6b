r"""Packets and their frames, as bytes.

Each packet is one message of the channel. It begins with a header::

     0        4        5        6        8                16               24               32
    +--------+--------+--------+--------+----------------+----------------+----------------+----
    |checksum|version | kind   | 0      | sender's id    | receiver's id  | packet number  | frames
    +--------+--------+--------+--------+----------------+----------------+----------------+----

    HELLO     no frames; the receiver's id is 0 as long as it is not known, the number is 0
    FRAMES    frames, one after the other up to the end of the packet
    UNKNOWN   no frames: there is no connection with the id ``sender``; the number is 0
    CLOSE     code u8, 0 u8, length u16, then the reason: the connection ends; the number is 0

An id is that of a connection, see ``conversation``. The checksum is the CRC-32 of all that follows
it; 0 is none. Frames begin with their type::

    PING      type u8
    ACK       type u8, count u8, 0 u16, delay u32, largest u64, first u32, then ``count`` times
              gap u32, length u32
    DATA      type u8, kind u8, last u8, 0 u8, length u32, stream u64, offset u64, then the bytes
    CREDIT    type u8, 0 u8 u16 u32, stream u64, limit u64
    STREAMS   type u8, 0 u8 u16 u32, limit u64
    ACCEPT    type u8, 0 u8 u16 u32, stream u64
    RESET     type u8, halves u8, code u8, 0 u8, length u32, stream u64, then the reason

Integers are big-endian. A stream is twice its number, plus one if the receiver of the frame opened
the stream; so the lowest bit is turned over on the way.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias
from zlib import crc32

from knet_trio.streams._core.faults import Fault, StreamPacketError
from knet_trio.streams._core.limits import (
    MAX_ACK_RANGES,
    MAX_NUMBER,
    MAX_OFFSET,
    MAX_REASON,
)

STREAMS_VERSION: Final = 1
HEADER_SIZE: Final = 32
CHECKSUM_SIZE: Final = 4


class StreamPacketKind(enum.IntEnum):
    """What a packet is."""

    HELLO = 1
    FRAMES = 2
    UNKNOWN = 3
    CLOSE = 4


class FrameType(enum.IntEnum):
    """What a frame is."""

    PING = 1
    ACK = 2
    DATA = 3
    CREDIT = 4
    STREAMS = 5
    ACCEPT = 6
    RESET = 7


class StreamKind(enum.IntEnum):
    """What a stream is for."""

    STREAM = 1
    REQUEST = 2
    MESSAGE = 3


class Code(enum.IntEnum):
    """Why a stream or a connection is ended."""

    CANCELLED = 1
    """Who opened it, or was to send, gave it up."""
    REFUSED = 2
    """Nobody takes it, or it is larger than what is taken."""
    FAILED = 3
    """Whoever had to answer failed."""
    CLOSED = 4
    """The receiver reads no more; of a connection: everything here is closed."""
    VIOLATION = 5
    """The other side broke the rules."""
    SILENCE = 6
    """The other side was not heard of for too long."""


SENDING: Final = 1
RECEIVING: Final = 2
"""The halves of a stream that a RESET ends, as the one who sends it sees them; both are 3."""

_HEADER = struct.Struct(">IBBHQQQ")
_AFTER_CHECKSUM = struct.Struct(">BBHQQQ")
_ACK = struct.Struct(">BBHIQI")
_DATA = struct.Struct(">BBBBIQQ")
_CREDIT = struct.Struct(">BBHIQQ")
_STREAMS = struct.Struct(">BBHIQ")
_ACCEPT = struct.Struct(">BBHIQ")
_RESET = struct.Struct(">BBBBIQ")
_CLOSE = struct.Struct(">BBH")
# A header and a DATA frame in one.
_WHOLE = struct.Struct(">IBBHQQQBBBBIQQ")
_WHOLE_AFTER_CHECKSUM = struct.Struct(">BBHQQQBBBBIQQ")

PING_FRAME: Final = bytes([FrameType.PING])
ACK_FRAME_SIZE: Final = _ACK.size
ACK_RANGE_SIZE: Final = 8
DATA_FRAME_SIZE: Final = _DATA.size
MAX_CONTROL_SIZE: Final = _RESET.size + MAX_REASON
"""The largest frame that is neither DATA nor ACK."""

_UNCHECKED: Final = bytes(CHECKSUM_SIZE)
_FRAMES: Final = int(StreamPacketKind.FRAMES)
_PING_TYPE: Final = int(FrameType.PING)
_ACK_TYPE: Final = int(FrameType.ACK)
_DATA_TYPE: Final = int(FrameType.DATA)
_KINDS: Final = {int(kind): kind for kind in StreamKind}
_CODES: Final = {int(code): code for code in Code}
_PACKET_KINDS: Final = {int(kind): kind for kind in StreamPacketKind}


class PacketHeader(NamedTuple):
    """The header of a packet.

    Attributes:
        kind: What it is.
        sender: The id of the connection at the one who sent it.
        receiver: The id of the connection at the one it is for; 0 if it is not known yet.
        number: Its number among those of the connection.
    """

    kind: StreamPacketKind
    sender: int
    receiver: int
    number: int


class PingFrame(NamedTuple):
    """Asks for an acknowledgement, and nothing else."""


class AckFrame(NamedTuple):
    """Which packets have arrived.

    Attributes:
        ranges: Ranges ``[start, end)`` of packet numbers, the highest first.
        delay: Seconds since the packet with the highest number arrived.
    """

    ranges: tuple[tuple[int, int], ...]
    delay: float


class DataFrame(NamedTuple):
    """Bytes of a stream; the first one of a stream opens it."""

    stream: int
    kind: StreamKind
    offset: int
    data: memoryview
    last: bool


class CreditFrame(NamedTuple):
    """How many bytes of a stream may be sent, from its beginning."""

    stream: int
    limit: int


class StreamsFrame(NamedTuple):
    """How many streams the other side may open, from the beginning of the connection."""

    limit: int


class AcceptFrame(NamedTuple):
    """A stream is taken, or a message is in the receiver's queue."""

    stream: int


class ResetFrame(NamedTuple):
    """Halves of a stream end before their time."""

    stream: int
    halves: int
    code: Code
    reason: str


StreamFrame: TypeAlias = (
    PingFrame | AckFrame | DataFrame | CreditFrame | StreamsFrame | AcceptFrame | ResetFrame
)


# Reading.


def read_header_untrusted(packet: bytes) -> PacketHeader:
    """Read the header of a packet, and check the whole packet against its checksum.

    Raises StreamPacketError, and nothing else, for bytes that are not a packet of this protocol.
    """
    if len(packet) < HEADER_SIZE:
        raise StreamPacketError(
            Fault.MALFORMED, f"{len(packet)} bytes are fewer than the {HEADER_SIZE} of a header"
        )
    checksum, version, kind, _, sender, receiver, number = _HEADER.unpack_from(packet)
    if version != STREAMS_VERSION:
        raise StreamPacketError(
            Fault.WRONG_VERSION, f"it is of protocol version {version}, not {STREAMS_VERSION}"
        )
    if checksum and checksum != (crc32(memoryview(packet)[CHECKSUM_SIZE:]) or 0xFFFFFFFF):
        raise StreamPacketError(Fault.WRONG_CHECKSUM, "it was damaged on the way")
    known = _PACKET_KINDS.get(kind)
    if known is None:
        raise StreamPacketError(Fault.UNKNOWN_KIND, f"packet kind {kind} is not known")
    if number >= MAX_NUMBER or not sender:
        raise StreamPacketError(Fault.MALFORMED, f"packet number {number} of sender {sender}")
    return PacketHeader(known, sender, receiver, number)


_WholeFields: TypeAlias = tuple[int, int, int, StreamKind, int, int, memoryview, int]


def read_whole_untrusted(packet: bytes) -> _WholeFields | None:
    """Read a packet that is one DATA frame: the short way for what comes most.

    Returns:
        Sender, receiver, number, the kind of the stream, the stream, the offset, the bytes and
        whether they are the last; None if it is anything else, or not valid, which the other
        functions find out.
    """
    size = len(packet)
    if size < _WHOLE.size:
        return None
    (
        checksum,
        version,
        kind,
        _,
        sender,
        receiver,
        number,
        frame,
        use,
        last,
        _,
        length,
        key,
        start,
    ) = _WHOLE.unpack_from(packet)
    if frame != _DATA_TYPE or kind != _FRAMES or length != size - _WHOLE.size:
        return None
    known = _KINDS.get(use)
    if version != STREAMS_VERSION or known is None or last > 1 or start + length > MAX_OFFSET:
        return None
    view = memoryview(packet)
    if checksum and checksum != (crc32(view[CHECKSUM_SIZE:]) or 0xFFFFFFFF):
        return None
    if number >= MAX_NUMBER or not sender:
        return None
    return sender, receiver, number, known, key, start, view[_WHOLE.size :], last


def read_run_untrusted(packets: Sequence[bytes], start: int) -> list[memoryview]:
    """Read packets that continue the one at ``start``, which ``read_whole_untrusted`` has read.

    Returns:
        The bytes of those after it that have its size and its stream, the numbers and the offsets
        that follow, and the right checksum, up to the first that has not.
    """
    first = packets[start]
    size = len(first)
    _, _, _, _, sender, receiver, number, _, use, _, _, length, key, offset = _WHOLE.unpack_from(
        first
    )
    pack = _WHOLE_AFTER_CHECKSUM.pack
    found: list[memoryview] = []
    for index in range(start + 1, len(packets)):
        packet = packets[index]
        number += 1
        offset += length
        head = pack(
            STREAMS_VERSION,
            _FRAMES,
            0,
            sender,
            receiver,
            number,
            _DATA_TYPE,
            use,
            0,
            0,
            length,
            key,
            offset,
        )
        if len(packet) != size or packet[CHECKSUM_SIZE : _WHOLE.size] != head:
            break
        view = memoryview(packet)
        checksum = packet[:CHECKSUM_SIZE]
        if checksum != _UNCHECKED and checksum != (
            crc32(view[CHECKSUM_SIZE:]) or 0xFFFFFFFF
        ).to_bytes(CHECKSUM_SIZE, "big"):
            break
        found.append(view[_WHOLE.size :])
    return found


def read_frames_untrusted(packet: bytes) -> list[StreamFrame]:
    """Read the frames of a packet whose header has been read.

    Raises StreamPacketError, and nothing else, if they are not all whole and known.
    """
    size = len(packet)
    view = memoryview(packet)
    frames: list[StreamFrame] = []
    start = HEADER_SIZE
    try:
        while start < size:
            kind = packet[start]
            if kind == _DATA_TYPE:
                _, use, last, _, length, stream, offset = _DATA.unpack_from(packet, start)
                start += DATA_FRAME_SIZE
                end = start + length
                if end > size or offset + length > MAX_OFFSET or last > 1:
                    raise _malformed("DATA")
                frames.append(DataFrame(stream, _KINDS[use], offset, view[start:end], last == 1))
                start = end
            elif kind == _ACK_TYPE:
                frame, start = _read_ack(packet, start)
                frames.append(frame)
            elif kind == _PING_TYPE:
                frames.append(PingFrame())
                start += 1
            else:
                other, start = _read_other(packet, start)
                frames.append(other)
    except (struct.error, KeyError):
        raise StreamPacketError(
            Fault.MALFORMED, f"a frame of type {packet[start]} is cut off, or of an unknown kind"
        ) from None
    if not frames:
        raise StreamPacketError(Fault.MALFORMED, "there are no frames in it")
    return frames


def read_close_untrusted(packet: bytes) -> tuple[Code, str]:
    """Read why a connection ends, from a packet whose header has been read."""
    try:
        code, _, length = _CLOSE.unpack_from(packet, HEADER_SIZE)
        reason = _reason(packet, HEADER_SIZE + _CLOSE.size, length)
        return _CODES[code], reason
    except (struct.error, KeyError):
        raise _malformed("CLOSE") from None


def _read_ack(packet: bytes, start: int) -> tuple[AckFrame, int]:
    _, count, _, delay, largest, first = _ACK.unpack_from(packet, start)
    start += ACK_FRAME_SIZE
    low = largest - first
    if count > MAX_ACK_RANGES or low < 0 or largest >= MAX_NUMBER:
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
        *_, stream, limit = _CREDIT.unpack_from(packet, start)
        if limit > MAX_OFFSET:
            raise _malformed("CREDIT")
        return CreditFrame(stream, limit), start + _CREDIT.size
    if kind == FrameType.STREAMS:
        *_, limit = _STREAMS.unpack_from(packet, start)
        return StreamsFrame(limit), start + _STREAMS.size
    if kind == FrameType.ACCEPT:
        *_, stream = _ACCEPT.unpack_from(packet, start)
        return AcceptFrame(stream), start + _ACCEPT.size
    if kind == FrameType.RESET:
        _, halves, code, _, length, stream = _RESET.unpack_from(packet, start)
        if not 0 < halves <= SENDING | RECEIVING:
            raise _malformed("RESET")
        reason = _reason(packet, start + _RESET.size, length)
        return ResetFrame(stream, halves, _CODES[code], reason), start + _RESET.size + length
    raise StreamPacketError(Fault.UNKNOWN_FRAME, f"frame type {kind} is not known")


def _reason(packet: bytes, start: int, length: int) -> str:
    if length > MAX_REASON or start + length > len(packet):
        raise _malformed("reason")
    return packet[start : start + length].decode(errors="replace")


def _malformed(what: str) -> StreamPacketError:
    return StreamPacketError(Fault.MALFORMED, f"{what} with impossible values")


# Writing.


def write_packet(
    kind: StreamPacketKind,
    sender: int,
    receiver: int,
    number: int,
    parts: Sequence[bytes | memoryview],
    *,
    checked: bool,
) -> bytes:
    """Return a packet. With ``checked`` it has a checksum."""
    head = _AFTER_CHECKSUM.pack(STREAMS_VERSION, kind, 0, sender, receiver, number)
    checksum = 0
    if checked:
        checksum = crc32(head)
        for part in parts:
            checksum = crc32(part, checksum)
        checksum = checksum or 0xFFFFFFFF
    return b"".join((checksum.to_bytes(CHECKSUM_SIZE, "big"), head, *parts))


def write_data_packet(
    sender: int, receiver: int, number: int, frame: bytes, data: memoryview, *, checked: bool
) -> bytes:
    """Return a packet with one DATA frame: the short way for what is sent most."""
    head = _AFTER_CHECKSUM.pack(STREAMS_VERSION, _FRAMES, 0, sender, receiver, number) + frame
    checksum = (crc32(data, crc32(head)) or 0xFFFFFFFF) if checked else 0
    return b"".join((checksum.to_bytes(CHECKSUM_SIZE, "big"), head, data))


def write_run(
    sender: int,
    receiver: int,
    number: int,
    stream: int,
    kind: int,
    offset: int,
    data: memoryview,
    size: int,
    *,
    checked: bool,
) -> list[bytes]:
    """Return packets numbered from ``number`` with one DATA frame of ``size`` bytes each.

    The bytes, which are not the last of the stream, have to be a multiple of that.
    """
    pack = _WHOLE_AFTER_CHECKSUM.pack
    packets: list[bytes] = []
    checksum = 0
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        head = pack(
            STREAMS_VERSION,
            _FRAMES,
            0,
            sender,
            receiver,
            number,
            _DATA_TYPE,
            kind,
            0,
            0,
            size,
            stream,
            offset + start,
        )
        number += 1
        if checked:
            checksum = crc32(piece, crc32(head)) or 0xFFFFFFFF
        packets.append(b"".join((checksum.to_bytes(CHECKSUM_SIZE, "big"), head, piece)))
    return packets


def write_data_head(stream: int, kind: int, offset: int, length: int, *, last: bool) -> bytes:
    """Return the beginning of a DATA frame; its bytes follow."""
    return _DATA.pack(_DATA_TYPE, kind, last, 0, length, stream, offset)


def write_ack(ranges: Sequence[tuple[int, int]], delay: float) -> bytes:
    """Return an ACK frame for ranges ``[start, end)`` of packet numbers, the highest first."""
    low, end = ranges[0]
    # What is further back has been told long ago, and there are 32 bits for it.
    low = max(low, end - 0x80000000)
    fields: list[int] = []
    before = low
    for start, stop in ranges[1:]:
        fields += (before - stop, stop - start)
        before = start
    microseconds = min(int(delay * 1e6), 0xFFFFFFFF)
    head = _ACK.pack(_ACK_TYPE, len(ranges) - 1, 0, microseconds, end - 1, end - 1 - low)
    return head + struct.pack(f">{len(fields)}I", *fields) if fields else head


def write_credit(stream: int, limit: int) -> bytes:
    """Return a CREDIT frame."""
    return _CREDIT.pack(FrameType.CREDIT, 0, 0, 0, stream, limit)


def write_streams(limit: int) -> bytes:
    """Return a STREAMS frame."""
    return _STREAMS.pack(FrameType.STREAMS, 0, 0, 0, limit)


def write_accept(stream: int) -> bytes:
    """Return an ACCEPT frame."""
    return _ACCEPT.pack(FrameType.ACCEPT, 0, 0, 0, stream)


def write_reset(stream: int, halves: int, code: Code, reason: str) -> bytes:
    """Return a RESET frame."""
    text = cut_reason(reason)
    return _RESET.pack(FrameType.RESET, halves, code, 0, len(text), stream) + text


def write_close(code: Code, reason: str) -> bytes:
    """Return what follows the header of a CLOSE packet."""
    text = cut_reason(reason)
    return _CLOSE.pack(code, 0, len(text)) + text


def cut_reason(reason: str) -> bytes:
    """Return a reason as it is sent: as much of it as there is room for."""
    return reason.encode(errors="replace")[:MAX_REASON]
