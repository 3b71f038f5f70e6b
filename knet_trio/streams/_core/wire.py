r"""The layouts of packets and frames.

Each packet is one message of the channel and begins with a header::

     0        4        5        6        8                16               24               32
    +--------+--------+--------+--------+----------------+----------------+----------------+----
    |checksum|version | kind   | 0      | sender's id    | receiver's id  | packet number  | frames
    +--------+--------+--------+--------+----------------+----------------+----------------+----

    HELLO     no frames; the receiver's id is 0 while it is not known, the number is 0
    FRAMES    frames, one after the other to the end of the packet
    UNKNOWN   no frames: there is no connection with the id ``sender``; the number is 0
    CLOSE     code u8, 0 u8, length u16, then the reason: the connection ends; the number is 0

The ids are connection ids, see ``conversation``. The checksum is the CRC-32 of all bytes after it;
0 means that there is none. Frames begin with their type::

    PING      type u8
    ACK       type u8, count u8, 0 u16, delay u32, largest u64, first u32, then ``count`` times
              gap u32, length u32
    DATA      type u8, kind u8, last u8, asks u8, length u32, stream u64, offset u64, then the bytes
    CREDIT    type u8, 0 u8 u16 u32, stream u64, limit u64
    STREAMS   type u8, 0 u8 u16 u32, limit u64
    ACCEPT    type u8, 0 u8 u16 u32, stream u64
    RESET     type u8, halves u8, code u8, 0 u8, length u32, stream u64, then the reason

Integers are big-endian. A stream is given as twice its number, plus one if the receiver of the
frame opened the stream; so sender and receiver see the lowest bit inverted.
"""

from __future__ import annotations

import enum
import struct
from typing import Final, NamedTuple, TypeAlias

from knet_trio.streams._core.limits import MAX_REASON

STREAMS_VERSION: Final = 1
HEADER_SIZE: Final = 32
CHECKSUM_SIZE: Final = 4


class StreamPacketKind(enum.IntEnum):
    """The kind of a packet."""

    HELLO = 1
    FRAMES = 2
    UNKNOWN = 3
    CLOSE = 4


class FrameType(enum.IntEnum):
    """The type of a frame."""

    PING = 1
    ACK = 2
    DATA = 3
    CREDIT = 4
    STREAMS = 5
    ACCEPT = 6
    RESET = 7


class StreamKind(enum.IntEnum):
    """The use of a stream."""

    STREAM = 1
    REQUEST = 2
    MESSAGE = 3


class Code(enum.IntEnum):
    """Why a stream or a connection ends."""

    CANCELLED = 1
    """The side that opened the stream, or that was to send, gave it up."""
    REFUSED = 2
    """The program does not take the stream, or it is too large."""
    FAILED = 3
    """The handler of a request failed."""
    CLOSED = 4
    """The receiver stopped reading; for a connection: the streams were closed."""
    VIOLATION = 5
    """The receiver of this code violated the protocol."""
    SILENCE = 6
    """The receiver of this code was silent for too long."""


SENDING: Final = 1
RECEIVING: Final = 2
"""The halves of a stream that a RESET ends, as its sender sees them; 3 for both."""

HEADER_LAYOUT = struct.Struct(">IBBHQQQ")
AFTER_CHECKSUM_LAYOUT = struct.Struct(">BBHQQQ")
ACK_LAYOUT = struct.Struct(">BBHIQI")
DATA_LAYOUT = struct.Struct(">BBBBIQQ")
CREDIT_LAYOUT = struct.Struct(">BBHIQQ")
STREAMS_LAYOUT = struct.Struct(">BBHIQ")
ACCEPT_LAYOUT = struct.Struct(">BBHIQ")
RESET_LAYOUT = struct.Struct(">BBBBIQ")
CLOSE_LAYOUT = struct.Struct(">BBH")
# A header and a DATA frame; and a header, an ACK of one range and a DATA frame.
WHOLE_LAYOUT = struct.Struct(">IBBHQQQBBBBIQQ")
WHOLE_AFTER_CHECKSUM_LAYOUT = struct.Struct(">BBHQQQBBBBIQQ")
ANSWER_LAYOUT = struct.Struct(">IBBHQQQBBHIQIBBBBIQQ")
ANSWER_AFTER_CHECKSUM_LAYOUT = struct.Struct(">BBHQQQBBHIQIBBBBIQQ")

PING_FRAME: Final = bytes([FrameType.PING])
ACK_FRAME_SIZE: Final = ACK_LAYOUT.size
ACK_RANGE_SIZE: Final = 8
DATA_FRAME_SIZE: Final = DATA_LAYOUT.size
MAX_CONTROL_SIZE: Final = RESET_LAYOUT.size + MAX_REASON
"""The largest frame that is neither DATA nor ACK."""

FRAMES_KIND: Final = int(StreamPacketKind.FRAMES)
PING_TYPE: Final = int(FrameType.PING)
ACK_TYPE: Final = int(FrameType.ACK)
DATA_TYPE: Final = int(FrameType.DATA)


class PacketHeader(NamedTuple):
    """The header of a packet.

    Attributes:
        kind: The kind of the packet.
        sender: The sender's connection id.
        receiver: The receiver's connection id; 0 if it is not known yet.
        number: The packet number.
    """

    kind: StreamPacketKind
    sender: int
    receiver: int
    number: int


class PingFrame(NamedTuple):
    """A request for an acknowledgement."""


class AckFrame(NamedTuple):
    """An acknowledgement of packets.

    Attributes:
        ranges: Ranges ``[start, end)`` of packet numbers, the highest first.
        delay: Seconds since the packet with the highest number arrived.
    """

    ranges: tuple[tuple[int, int], ...]
    delay: float


class DataFrame(NamedTuple):
    """Bytes of a stream; the first frame of a stream opens it.

    Attributes:
        stream: The key of the stream.
        kind: The use of the stream.
        offset: The position of the first byte in the stream.
        data: The bytes, maybe none.
        last: True if the stream ends after them.
        asks: True if the packet is to be acknowledged at once.
    """

    stream: int
    kind: StreamKind
    offset: int
    data: memoryview
    last: bool
    asks: bool


class CreditFrame(NamedTuple):
    """The number of bytes that may be sent on a stream, counted from its beginning."""

    stream: int
    limit: int


class StreamsFrame(NamedTuple):
    """The number of streams that the peer may open, counted from the start of the connection."""

    limit: int


class AcceptFrame(NamedTuple):
    """The program has accepted a stream."""

    stream: int


class ResetFrame(NamedTuple):
    """Halves of a stream are aborted."""

    stream: int
    halves: int
    code: Code
    reason: str


StreamFrame: TypeAlias = (
    PingFrame | AckFrame | DataFrame | CreditFrame | StreamsFrame | AcceptFrame | ResetFrame
)
