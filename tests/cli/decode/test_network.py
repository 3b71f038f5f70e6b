"""From the frame to the datagram: link layers, VLANs, both versions of IP, what is no datagram."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial

import pytest

from knet_trio.cli.decode.frame import ETHERNET, LINUX_SLL, LINUX_SLL2, Frame
from knet_trio.cli.decode.network import Datagram, Other, UdpEnd, find_datagram
from tests.cli.decode.building import ALPHA, BETA, protocol_of, udp

V4 = udp(b"payload")
V6 = udp(b"payload", ("fd00::1", 5405), ("fd00::2", 5406))


def found(link_type: int, data: bytes, interface: str = "") -> Datagram | Other:
    return find_datagram(Frame(0, interface, link_type, data, len(data)))


def tagged(packet: bytes, *tags: int) -> bytes:
    """Behind addresses: a tag of each kind, then the packet."""
    stack = b"".join(struct.pack(">HH", kind, 100) for kind in tags)
    return stack + protocol_of(packet) + packet


def framed(link_type: int, before: int, *tags_and_packet: int | bytes) -> tuple[int, bytes]:
    """The packet behind so many bytes and these tags."""
    packet = tags_and_packet[-1]
    assert isinstance(packet, bytes)
    tags = [tag for tag in tags_and_packet[:-1] if isinstance(tag, int)]
    return link_type, bytes(before) + tagged(packet, *tags)


def bare(link_type: int, before: bytes, packet: bytes) -> tuple[int, bytes]:
    """The packet behind nothing that says what it is."""
    return link_type, before + packet


@pytest.mark.parametrize("packet", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(partial(framed, ETHERNET, 12), id="Ethernet"),
        pytest.param(partial(framed, ETHERNET, 12, 0x8100), id="VLAN"),
        pytest.param(partial(framed, ETHERNET, 12, 0x88A8, 0x8100), id="two VLANs"),
        pytest.param(partial(framed, ETHERNET, 12, 0x9100, 0x8100, 0x8100), id="three VLANs"),
        pytest.param(partial(framed, LINUX_SLL, 14), id="SLL"),
        pytest.param(partial(framed, LINUX_SLL, 14, 0x8100), id="SLL and VLAN"),
        pytest.param(partial(bare, 12, b""), id="older raw"),
        pytest.param(partial(bare, 101, b""), id="raw"),
        pytest.param(partial(bare, 0, b"\x02\0\0\0"), id="loopback"),
    ],
)
@pytest.mark.parametrize("padding", [b"", bytes(20)], ids=["", "padded"])
def test_link_layers(
    wrap: Callable[[bytes], tuple[int, bytes]], packet: bytes, padding: bytes
) -> None:
    link_type, data = wrap(packet)
    ends = (UdpEnd(*ALPHA), UdpEnd(*BETA))
    if packet is V6:
        ends = (UdpEnd("fd00::1", 5405), UdpEnd("fd00::2", 5406))
    assert found(link_type, data + padding, "eth0") == Datagram("eth0", *ends, b"payload", 7)


def test_a_cooked_frame_names_its_interface() -> None:
    data = struct.pack(">HHIHBB8x", 0x0800, 0, 17, 1, 0, 6) + V4
    for given, named in (("", "#17"), ("any", "#17"), ("eth0", "eth0")):
        datagram = found(LINUX_SLL2, data, given)
        assert isinstance(datagram, Datagram)
        assert (datagram.interface, datagram.payload) == (named, b"payload")
    # Its tag stands behind the header.
    data = struct.pack(">HHIHBB8xHH", 0x8100, 0, 17, 1, 0, 6, 5, 0x0800) + V4
    assert isinstance(found(LINUX_SLL2, data), Datagram)


def test_how_an_end_is_written() -> None:
    assert str(UdpEnd(*ALPHA)) == "10.0.0.1:5405"
    assert str(UdpEnd("fd00::1", 5405)) == "[fd00::1]:5405"


def ipv6_with(*headers: tuple[int, bytes]) -> bytes:
    """The packet with these before UDP: the number of each, and its bytes but the first."""
    chain, following = V6[40:], 17
    for kind, rest in reversed(headers):
        chain, following = bytes([following]) + rest + chain, kind
    size = struct.pack(">H", len(chain))
    return V6[:4] + size + bytes([following]) + V6[7:40] + chain


def test_ipv6_extension_headers() -> None:
    options, authentication = bytes(7), b"\x01" + bytes(10)
    packet = ipv6_with((0, options), (51, authentication), (60, b"\x01" + bytes(14)))
    datagram = found(101, packet)
    assert isinstance(datagram, Datagram)
    assert datagram.payload == b"payload"
    assert found(101, ipv6_with((44, bytes(7)))) is Other.FRAGMENT
    # More of them than anybody sends.
    assert found(101, ipv6_with(*[(60, options)] * 9)) is Other.NOT_UDP


def altered(packet: bytes, at: int, value: bytes) -> bytes:
    return packet[:at] + value + packet[at + len(value) :]


@pytest.mark.parametrize(
    ("packet", "other"),
    [
        (altered(V4, 6, b"\x20\x00"), Other.FRAGMENT),
        (altered(V4, 6, b"\x00\x05"), Other.FRAGMENT),
        (altered(V4, 9, b"\x06"), Other.NOT_UDP),
        (altered(V4, 9, b"\x84"), Other.SCTP),
        (altered(V6, 6, b"\x84"), Other.SCTP),
        (altered(V6, 6, b"\x06"), Other.NOT_UDP),
        (altered(V4, 0, b"\x44"), Other.MALFORMED),
        (altered(V4, 24, b"\xff\xff"), Other.MALFORMED),
        (altered(V4, 24, b"\x00\x07"), Other.MALFORMED),
        (altered(V4, 0, b"\x15"), Other.NOT_IP),
        (V4[:27], Other.MALFORMED),
        (V6[:30], Other.MALFORMED),
        (b"", Other.MALFORMED),
    ],
)
def test_what_is_no_datagram(packet: bytes, other: Other) -> None:
    assert found(101, packet) is other


def test_what_is_no_ip() -> None:
    assert found(ETHERNET, bytes(12) + b"\x08\x06" + bytes(28)) is Other.NOT_IP
    assert found(ETHERNET, bytes(12) + tagged(V4, *[0x8100] * 9)) is Other.NOT_IP
    assert found(105, V4) is Other.LINK_TYPE


def test_a_frame_that_is_not_captured_whole() -> None:
    datagram = found(101, V4[:31])
    assert datagram == Datagram("", UdpEnd(*ALPHA), UdpEnd(*BETA), b"pay", 7)


@pytest.mark.parametrize("packet", [V4, V6], ids=["IPv4", "IPv6"])
def test_lengths_that_do_not_fit_their_field(packet: bytes) -> None:
    """As of a train that is larger than IP can say: 0, and the frame tells."""
    packet = altered(packet, 2 if packet is V4 else 4, bytes(2))
    packet = altered(packet, (20 if packet[0] >> 4 == 4 else 40) + 4, bytes(2))
    datagram = found(101, packet)
    assert isinstance(datagram, Datagram)
    assert (datagram.payload, datagram.size) == (b"payload", 7)
