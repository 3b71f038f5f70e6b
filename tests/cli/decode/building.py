"""Captures made by hand, from the packet outwards."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from knet_trio._core.onwire import Data, Ping, Pong, encode_data, encode_ping, encode_pong
from knet_trio._crypto.envelope import make_cipher
from knet_trio.cli.decode.capture import Capture
from knet_trio.cli.decode.frame import ETHERNET, Frame
from knet_trio.config import CryptoConfig

ALPHA: Final = ("10.0.0.1", 5405)
BETA: Final = ("10.0.0.2", 5405)
KEY: Final = CryptoConfig(bytes(range(256)))
OTHER_KEY: Final = CryptoConfig(bytes(reversed(range(256))), "aes128", "sha512")
SECOND: Final = 1_000_000_000

End = tuple[str, int]


# Packets.


def data(
    seq: int = 1,
    *,
    node: int = 1,
    payload: bytes = b"hello",
    fragment: int = 0,
    fragments: int = 1,
    channel: int = 0,
    compress: int = 0,
) -> bytes:
    """A packet with data."""
    return encode_data(Data(node, seq, compress, True, fragments, fragment, channel, payload))


def ping(number: int, *, node: int = 1, link: int = 0, seq: int = 1) -> bytes:
    """A ping, whose time field is the number."""
    return encode_ping(Ping(node, link, number.to_bytes(16, "big"), seq, True))


def pong(number: int, *, node: int = 2, link: int = 0, seq: int = 1) -> bytes:
    """The answer to it."""
    return encode_pong(Pong(node, link, number.to_bytes(16, "big"), seq, True))


def seal(packet: bytes, config: CryptoConfig = KEY) -> bytes:
    """The packet in an envelope."""
    (sealed,) = make_cipher(config).seal([packet])
    return sealed


# Frames.


def udp(payload: bytes, source: End = ALPHA, destination: End = BETA) -> bytes:
    """An IP packet of either version."""
    datagram = struct.pack(">HHHH", source[1], destination[1], 8 + len(payload), 0) + payload
    here, there = ipaddress.ip_address(source[0]), ipaddress.ip_address(destination[0])
    if here.version == 6:
        head = struct.pack(">IHBB", 6 << 28, len(datagram), 17, 64)
    else:
        size = 20 + len(datagram)
        head = struct.pack(">BBHHHBBH", 0x45, 0, size, 7, 0x4000, 64, 17, 0)
    return head + here.packed + there.packed + datagram


def protocol_of(packet: bytes) -> bytes:
    """The EtherType of an IP packet."""
    return b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"


def ethernet(packet: bytes) -> bytes:
    """An Ethernet frame."""
    return bytes(12) + protocol_of(packet) + packet


def frame(packet: bytes, *, at: float = 1.0, snaplen: int = 1 << 20) -> Frame:
    """A captured Ethernet frame with an IP packet."""
    whole = ethernet(packet)
    return Frame(round(at * SECOND), "", ETHERNET, whole[:snaplen], len(whole))


# Files.


def pcap(
    frames: Iterable[tuple[int, bytes, int]],
    *,
    order: str = "<",
    nanoseconds: bool = False,
    link_type: int = ETHERNET,
) -> bytes:
    """A file of frames, each with its time in nanoseconds and the bytes that it had."""
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    file = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link_type)
    for time, captured, length in frames:
        second, fraction = divmod(time, SECOND)
        fraction = fraction if nanoseconds else fraction // 1000
        file += struct.pack(f"{order}IIII", second, fraction, len(captured), length) + captured
    return file


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """A block of pcapng."""
    body += bytes(-len(body) % 4)
    size = struct.pack(f"{order}I", 12 + len(body))
    return struct.pack(f"{order}I", kind) + size + body + size


def section(order: str = "<") -> bytes:
    """What a section of pcapng begins with."""
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(
    link_type: int = ETHERNET,
    *,
    order: str = "<",
    snaplen: int = 0,
    options: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    """The block of an interface."""
    body = struct.pack(f"{order}HHI", link_type, 0, snaplen)
    for code, value in options:
        body += struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)
    return block(1, body + (bytes(4) if options else b""), order)


def packet_block(
    captured: bytes, time: int, *, number: int = 0, order: str = "<", length: int | None = None
) -> bytes:
    """The block of a frame, with its time in the interface's units."""
    length = len(captured) if length is None else length
    head = struct.pack(
        f"{order}IIIII", number, time >> 32, time & 0xFFFFFFFF, len(captured), length
    )
    return block(6, head + captured, order)


def read(file: bytes, *, piece: int = 1 << 20) -> list[Frame]:
    """All frames of a file, which is read in pieces of that many bytes."""
    capture = Capture()
    frames: list[Frame] = []
    for start in range(0, len(file), piece):
        frames += capture.feed(file[start : start + piece])
    capture.finish()
    return frames
