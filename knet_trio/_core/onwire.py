"""Packets to bytes and back (protocol version 1).

Every packet starts with the same six bytes; its type decides what follows::

     0        1        2                4        5        6
    +--------+--------+----------------+--------+--------+-----------------------
    |version | type   | node           |max ver | pad    | payload by type ...
    +--------+--------+----------------+--------+--------+-----------------------

    DATA           seq u16, compress u8, pad u8, broadcast u8, frag_num u8, frag_seq u8,
                   channel i8, then the user's bytes
    PING, PONG     link u8, time 16 opaque bytes, seq u16, timed u8
    PMTUD          link u8, size 2 opaque bytes, filler up to the probed size
    PMTUD_REPLY    link u8, size 2 opaque bytes

Integers are big-endian. The peer sends ``time`` and ``size`` back unchanged, and only the node that
wrote them reads them, so each node may use them as it likes.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from itertools import repeat
from typing import Final, NamedTuple

from knet_trio._core.coupled import Coupled
from knet_trio._core.parted import Parted
from knet_trio.errors import DropCause, PacketError

VERSION: Final = 1

TYPE_DATA: Final = 0x00
TYPE_HOST_INFO: Final = 0x01
TYPE_PING: Final = 0x81
TYPE_PONG: Final = 0x82
TYPE_PMTUD: Final = 0x83
TYPE_PMTUD_REPLY: Final = 0x84

# Versions that a later protocol may have.
_LIKELY_VERSIONS: Final = 15

MAX_HOST_ID: Final = 0xFFFF
MAX_SEQ: Final = 0xFFFF
MAX_LINKS: Final = 8
MAX_CHANNELS: Final = 32
MAX_MESSAGE: Final = 65536
MAX_FRAGMENTS: Final = 255
# One less than the format allows: libknet since 1.34 refuses messages of 255 fragments.
MAX_SENT_FRAGMENTS: Final = 254

COMMON_HEADER_SIZE: Final = 6
DATA_HEADER_SIZE: Final = 14
PING_SIZE: Final = 26
PMTUD_HEADER_SIZE: Final = 9
# The size of the largest header, which the size arithmetic uses for all packets.
FULL_HEADER_SIZE: Final = 26
# The shortest bytes that can be a packet: a common header and one byte more.
MIN_PACKET_SIZE: Final = 7

TIME_SIZE: Final = 16

_COMMON = struct.Struct(">BBHBB")
_DATA = struct.Struct(">BBHBBHBBBBBb")
_PING = struct.Struct(">BBHBBB16sHB")
_PMTUD = struct.Struct(">BBHBBBH")

# The second byte of data packets, and their smallest and largest size.
_TYPE_DATA: Final = bytes((TYPE_DATA,))
_SHORTEST: Final = DATA_HEADER_SIZE + 1
_LONGEST: Final = DATA_HEADER_SIZE + MAX_MESSAGE

# From this number of fragments on, ``struct`` cuts a message up faster than slices.
_MANY_FRAGMENTS: Final = 12

_DataFields = tuple[int, int, int, int, int, int, int, int, int, int, int, int]
_PingFields = tuple[int, int, int, int, int, int, bytes, int, int]


class Data(NamedTuple):
    """A fragment of a message, or a whole message (``frag_num`` 1)."""

    node: int
    seq: int
    compress: int
    broadcast: bool
    frag_num: int
    frag_seq: int
    channel: int
    payload: bytes


class Ping(NamedTuple):
    """A heartbeat. ``timed`` is False if it was forced between the scheduled ones."""

    node: int
    link: int
    time: bytes
    seq: int
    timed: bool


class Pong(NamedTuple):
    """The answer to a ping: the same fields, from the other node."""

    node: int
    link: int
    time: bytes
    seq: int
    timed: bool


class PmtudProbe(NamedTuple):
    """A packet filled up to the size that is tried. ``length`` is the size of the whole packet."""

    node: int
    link: int
    size: int
    length: int


class PmtudReply(NamedTuple):
    """The answer to a probe that arrived whole."""

    node: int
    link: int
    size: int


type_name: Final = {
    TYPE_DATA: "DATA",
    TYPE_HOST_INFO: "HOST_INFO",
    TYPE_PING: "PING",
    TYPE_PONG: "PONG",
    TYPE_PMTUD: "PMTUD",
    TYPE_PMTUD_REPLY: "PMTUD_REPLY",
}

Packet = Data | Ping | Pong | PmtudProbe | PmtudReply


def decode_untrusted(packet: bytes) -> Packet:
    """Decode one packet from the network.

    Raises:
        PacketError: The bytes are not a valid packet of this protocol. Nothing else is raised.
    """
    length = len(packet)
    if length < MIN_PACKET_SIZE:
        raise PacketError(
            DropCause.MALFORMED, f"{length} bytes are fewer than the {MIN_PACKET_SIZE} of a packet"
        )
    if packet[0] != VERSION:
        raise PacketError(
            DropCause.WRONG_VERSION, f"it is of protocol version {packet[0]}, not {VERSION}"
        )
    kind = packet[1]
    if kind == TYPE_DATA:
        return _decode_data(packet)
    if kind in (TYPE_PING, TYPE_PONG):
        if length < PING_SIZE:
            raise _truncated(kind, length)
        _, _, node, _, _, link, time, seq, timed = _PING.unpack_from(packet)
        _check_link(link)
        if kind == TYPE_PING:
            return Ping(node, link, time, seq, timed != 0)
        return Pong(node, link, time, seq, timed != 0)
    if kind in (TYPE_PMTUD, TYPE_PMTUD_REPLY):
        if length < PMTUD_HEADER_SIZE:
            raise _truncated(kind, length)
        _, _, node, _, _, link, size = _PMTUD.unpack_from(packet)
        _check_link(link)
        if kind == TYPE_PMTUD:
            return PmtudProbe(node, link, size, length)
        return PmtudReply(node, link, size)
    if kind == TYPE_HOST_INFO:
        raise PacketError(DropCause.HOST_INFO, "HOST_INFO is of releases before this protocol")
    raise PacketError(DropCause.UNKNOWN_TYPE, f"packet type 0x{kind:02x} is not known")


def read_data_untrusted(packet: bytes) -> _DataFields | None:
    """Decode the header of a data packet: a short path for the most frequent packets.

    Returns:
        The fields in their order. None if the packet is of another type or not valid;
        ``decode_untrusted`` finds out which.
    """
    if packet[1:2] != _TYPE_DATA or not _SHORTEST <= len(packet) <= _LONGEST:
        return None
    fields: _DataFields = _DATA.unpack_from(packet)
    version, _, _, _, _, _, _, _, _, frag_num, frag_seq, channel = fields
    if version != VERSION or frag_seq > frag_num or not 0 <= channel < MAX_CHANNELS:
        return None
    # A whole message has frag_seq 0 or 1, a fragment of several at least 1.
    return fields if frag_num == 1 or frag_seq else None


def read_scheduled_untrusted(packet: bytes) -> _PingFields | None:
    """Decode a scheduled ping, or the pong to one: a short path for the packets of idle links.

    Returns:
        The fields in their order. None if the packet is of another type or not valid;
        ``decode_untrusted`` finds out which.
    """
    if len(packet) != PING_SIZE:
        return None
    fields: _PingFields = _PING.unpack(packet)
    version, kind, _, _, _, _, _, _, timed = fields
    if version != VERSION or (kind != TYPE_PING and kind != TYPE_PONG) or timed != 1:
        return None
    return fields


def read_link_untrusted(packet: bytes) -> tuple[int, int]:
    """Return the ids of the host and of the link in a control packet."""
    _, _, node, _, _, link, _ = _PMTUD.unpack_from(packet)
    return node, link


def is_clear_untrusted(datagram: bytes) -> bool:
    """Return whether ``datagram`` is a packet in clear."""
    try:
        decode_untrusted(datagram)
    except PacketError:
        return False
    return True


def is_surely_clear_untrusted(datagram: bytes, *, any_hash: bool) -> bool:
    """Return whether ``datagram`` is a packet in clear, and hardly a sealed one by chance.

    The unused bytes of the header are checked too, so that an encrypted packet does not pass for
    clear by chance.

    Args:
        datagram: The bytes from the network.
        any_hash: True if packets with only a hash may come, which begin with the packet in clear.
            Then only packets of a fixed size count: their size shows that there is no hash.
    """
    if len(datagram) < MIN_PACKET_SIZE or datagram[4] > 1 or datagram[5]:
        return False
    try:
        packet = decode_untrusted(datagram)
    except PacketError:
        return False
    if isinstance(packet, Ping | Pong):
        return len(datagram) == PING_SIZE
    if isinstance(packet, PmtudReply):
        return len(datagram) == PMTUD_HEADER_SIZE
    return not any_hash


def is_likely_sealed_untrusted(datagram: bytes) -> bool:
    """Return whether the first bytes of a refused datagram are those of no clear packet.

    A packet of another version of the protocol has a small version and a known type.
    """
    if len(datagram) < MIN_PACKET_SIZE:
        return False
    return datagram[0] > _LIKELY_VERSIONS or datagram[1] not in type_name


def _decode_data(packet: bytes) -> Data:
    if len(packet) <= DATA_HEADER_SIZE:
        raise _truncated(TYPE_DATA, len(packet))
    (_, _, node, _, _, seq, compress, _, broadcast, frag_num, frag_seq, channel) = (
        _DATA.unpack_from(packet)
    )
    if not 0 <= channel < MAX_CHANNELS:
        raise PacketError(DropCause.MALFORMED, f"channel {channel} is not 0 to {MAX_CHANNELS - 1}")
    if len(packet) - DATA_HEADER_SIZE > MAX_MESSAGE:
        raise PacketError(DropCause.MALFORMED, "more bytes than a message may have")
    # A whole message has frag_seq 0. With several fragments, 0 and numbers past the end are outside
    # of the message (CVE-2026-15813: such a number must never become an index).
    if frag_num == 0 or frag_seq > frag_num or (frag_num > 1 and frag_seq == 0):
        raise PacketError(DropCause.BAD_FRAGMENT, f"fragment {frag_seq} of {frag_num}")
    return Data(
        node, seq, compress, broadcast != 0, frag_num, frag_seq, channel, packet[DATA_HEADER_SIZE:]
    )


def _truncated(kind: int, length: int) -> PacketError:
    return PacketError(DropCause.MALFORMED, f"{type_name[kind]} packet of only {length} bytes")


def _check_link(link: int) -> None:
    if link >= MAX_LINKS:
        raise PacketError(DropCause.UNKNOWN_LINK, f"link id {link} is not 0 to {MAX_LINKS - 1}")


def encode_data(packet: Data) -> bytes:
    """Return the bytes of one data packet."""
    node, seq, compress, broadcast, frag_num, frag_seq, channel, payload = packet
    header = _DATA.pack(
        VERSION, TYPE_DATA, node, 0, 0, seq, compress, 0, broadcast, frag_num, frag_seq, channel
    )
    return header + payload


def encode_message(
    payload: bytes,
    *,
    node: int,
    seq: int,
    compress: int,
    broadcast: bool,
    channel: int,
    fragment_size: int,
) -> list[bytes]:
    """Return the data packets of one message. See ``encode_messages``."""
    return encode_messages(
        (payload,),
        node=node,
        seqs=(seq,),
        compress=compress,
        broadcast=broadcast,
        channel=channel,
        fragment_size=fragment_size,
    )


def encode_messages(
    payloads: Sequence[bytes],
    *,
    node: int,
    seqs: Sequence[int],
    compress: int,
    broadcast: bool,
    channel: int,
    fragment_size: int,
) -> list[bytes]:
    """Return the data packets of several messages.

    Each message is cut into as few fragments as possible. The fragments are of equal size, the last
    maybe shorter by fewer bytes than there are fragments: packets of equal size can go out in one
    system call, also those of several messages.

    Args:
        payloads: The messages.
        node: The id of this host.
        seqs: The number of each message.
        compress: The id of the compression model, 0 for none.
        broadcast: True if the messages are for all hosts.
        channel: The channel.
        fragment_size: The most bytes of a message in one packet.

    Raises:
        PacketError: A message would take more than 254 fragments.
    """
    if len(payloads) == 1 and len(payloads[0]) <= fragment_size:
        header = _DATA.pack(
            VERSION, TYPE_DATA, node, 0, 0, seqs[0], compress, 0, broadcast, 1, 0, channel
        )
        return [header + payloads[0]]
    before = _COMMON.pack(VERSION, TYPE_DATA, node, 0, 0)
    after = bytes((compress, 0, broadcast))
    # The fields are joined by hand, since most of them stay the same from packet to packet.
    whole = after + bytes((1, 0, channel))
    packets: list[bytes] = []
    for seq, payload in zip(seqs, payloads, strict=True):
        if len(payload) <= fragment_size:
            packets.append(b"".join((before, seq.to_bytes(2, "big"), whole, payload)))
            continue
        total = len(payload)
        count = -(-total // fragment_size)
        if count > MAX_SENT_FRAGMENTS:
            raise PacketError(
                DropCause.BAD_FRAGMENT,
                f"{total} bytes at {fragment_size} a fragment are {count} fragments,"
                f" more than {MAX_SENT_FRAGMENTS}",
            )
        size = -(-total // count)
        head = before + seq.to_bytes(2, "big") + after
        parts = _cut(payload, size)
        packets += map(b"".join, zip(repeat(head), _tails(count, channel), parts, strict=False))
    return packets


def encode_parted(
    payloads: Parted,
    *,
    node: int,
    seqs: Sequence[int],
    compress: int,
    broadcast: bool,
    channel: int,
) -> Parted:
    """Return the data packets of messages that each fit into one packet, numbered ``seqs``."""
    before = _COMMON.pack(VERSION, TYPE_DATA, node, 0, 0)
    after = bytes((compress, 0, broadcast, 1, 0, channel))
    return payloads.with_heads([b"".join((before, seq.to_bytes(2, "big"), after)) for seq in seqs])


def couple_fragments(
    payload: bytes,
    *,
    node: int,
    seq: int,
    compress: int,
    broadcast: bool,
    channel: int,
    fragment_size: int,
) -> Coupled | None:
    """Return the data packets of one message in one piece, if there are many.

    Returns:
        The packets of ``encode_message``. None if there are so few that they cost less one by one,
        or more than are allowed.
    """
    total = len(payload)
    count = -(-total // fragment_size)
    if not _MANY_FRAGMENTS <= count <= MAX_SENT_FRAGMENTS:
        return None
    size = -(-total // count)
    before = _COMMON.pack(VERSION, TYPE_DATA, node, 0, 0)
    head = b"".join((before, seq.to_bytes(2, "big"), bytes((compress, 0, broadcast))))
    pieces = [b""] * (2 * count)
    pieces[::2] = [head + tail for tail in _tails(count, channel)]
    pieces[1::2] = _cut(payload, size)
    return Coupled(b"".join(pieces), DATA_HEADER_SIZE + size)


def _cut(payload: bytes, size: int) -> list[bytes]:
    """Cut ``payload`` into parts of ``size`` bytes, the last maybe shorter."""
    total = len(payload)
    if total < _MANY_FRAGMENTS * size:
        return [payload[start : start + size] for start in range(0, total, size)]
    last = total - total % size
    parts: list[bytes] = [
        part for (part,) in struct.iter_unpack(f"{size}s", memoryview(payload)[:last])
    ]
    if last < total:
        parts.append(payload[last:])
    return parts


@functools.lru_cache(maxsize=64)
def _tails(count: int, channel: int) -> tuple[bytes, ...]:
    """Return the last bytes of the header of each of a message's ``count`` fragments, in order."""
    return tuple(bytes((count, number, channel)) for number in range(1, count + 1))


def encode_ping(packet: Ping) -> bytes:
    """Return the bytes of a ping."""
    return encode_ping_fields(*packet)


def encode_ping_fields(node: int, link: int, time: bytes, seq: int, timed: bool) -> bytes:
    """Return the bytes of a ping, given the fields of ``Ping``."""
    return _PING.pack(VERSION, TYPE_PING, node, 0, 0, link, time, seq, timed)


def encode_pong(packet: Pong) -> bytes:
    """Return the bytes of a pong."""
    return _PING.pack(VERSION, TYPE_PONG, packet.node, 0, 0, *packet[1:])


def pong_header(node: int) -> bytes:
    """Return the common header of the pongs of the host ``node``."""
    return _COMMON.pack(VERSION, TYPE_PONG, node, 0, 0)


def answer_ping(ping: bytes, header: bytes) -> bytes:
    """Return the pong to ``ping``, a valid ping: the same bytes but for the ``header``."""
    return header + ping[COMMON_HEADER_SIZE:]


def encode_pmtud(packet: PmtudProbe) -> bytes:
    """Return the bytes of a probe, filled up with zeros to ``length`` bytes."""
    header = _PMTUD.pack(VERSION, TYPE_PMTUD, packet.node, 0, 0, packet.link, packet.size)
    return header.ljust(packet.length, b"\0")


def encode_pmtud_reply(packet: PmtudReply) -> bytes:
    """Return the bytes of the reply to a probe."""
    return _PMTUD.pack(VERSION, TYPE_PMTUD_REPLY, packet.node, 0, 0, packet.link, packet.size)


def next_seq(seq: int) -> int:
    """Return the sequence number after ``seq``: numbers have 16 bits and leave out 0."""
    return seq + 1 if seq < MAX_SEQ else 1


def seq_after(seq: int, messages: int) -> int:
    """Return the sequence number ``messages`` numbers after ``seq``."""
    later = seq + messages
    return later if later <= MAX_SEQ else later - MAX_SEQ
