"""Packets in and out of bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.onwire import (
    DATA_HEADER_SIZE,
    MAX_FRAGMENTS,
    MAX_MESSAGE,
    MAX_SENT_FRAGMENTS,
    PING_SIZE,
    PMTUD_HEADER_SIZE,
    Data,
    Packet,
    Ping,
    PmtudProbe,
    PmtudReply,
    Pong,
    answer_ping,
    decode_untrusted,
    encode_data,
    encode_message,
    encode_ping,
    encode_pong,
    next_seq,
    pong_header,
    read_scheduled_untrusted,
)
from knet_trio._core.sizes import EnvelopeSizes, PathSizes, minimum_data_mtu
from knet_trio.errors import DropCause, PacketError
from tests.packets import encode

U8 = st.integers(0, 0xFF)
U16 = st.integers(0, 0xFFFF)
LINKS = st.integers(0, 7)
TIMES = st.binary(min_size=16, max_size=16)
WHOLE = st.builds(
    Data,
    node=U16,
    seq=U16,
    compress=U8,
    broadcast=st.booleans(),
    frag_num=st.just(1),
    frag_seq=st.integers(0, 1),
    channel=st.integers(0, 31),
    payload=st.binary(min_size=1, max_size=200),
)


@st.composite
def fragments_of_several(draw: st.DrawFn) -> Data:
    count = draw(st.integers(2, 255))
    return draw(WHOLE)._replace(frag_num=count, frag_seq=draw(st.integers(1, count)))


DATA = st.one_of(WHOLE, fragments_of_several())
PINGS = st.builds(Ping, U16, LINKS, TIMES, U16, st.booleans())
PONGS = st.builds(Pong, U16, LINKS, TIMES, U16, st.booleans())
PROBES = st.builds(PmtudProbe, U16, LINKS, U16, st.integers(PMTUD_HEADER_SIZE, 2000))
REPLIES = st.builds(PmtudReply, U16, LINKS, U16)
PACKETS: st.SearchStrategy[Packet] = st.one_of(DATA, PINGS, PONGS, PROBES, REPLIES)


def cause_of_refusing(packet: bytes) -> DropCause:
    with pytest.raises(PacketError) as caught:
        decode_untrusted(packet)
    return caught.value.cause


def assert_decodes_or_is_refused(packet: bytes) -> None:
    """Whatever it is: a packet within the limits of the protocol, or a PacketError."""
    try:
        decoded = decode_untrusted(packet)
    except PacketError:
        return
    assert 0 <= decoded.node <= 0xFFFF
    if isinstance(decoded, Data):
        assert 0 <= decoded.channel < 32
        assert 1 <= len(decoded.payload) <= MAX_MESSAGE
        assert 1 <= decoded.frag_num <= MAX_FRAGMENTS
        assert 0 <= decoded.frag_seq <= decoded.frag_num
        assert decoded.frag_seq > 0 or decoded.frag_num == 1
    else:
        assert 0 <= decoded.link < 8


@given(PACKETS)
def test_what_is_encoded_decodes_to_the_same(packet: Packet) -> None:
    assert decode_untrusted(encode(packet)) == packet


@given(PACKETS)
def test_every_packet_says_version_1_and_leaves_the_reserved_bytes_zero(packet: Packet) -> None:
    encoded = encode(packet)
    assert encoded[0] == 1
    assert int.from_bytes(encoded[2:4], "big") == packet.node
    assert encoded[4:6] == b"\0\0"


@given(st.binary(max_size=100))
def test_any_bytes_are_a_packet_or_a_packet_error(packet: bytes) -> None:
    assert_decodes_or_is_refused(packet)


@given(st.sampled_from([0x00, 0x01, 0x81, 0x82, 0x83, 0x84]), st.binary(max_size=100))
def test_any_bytes_after_a_good_start_are_a_packet_or_a_packet_error(
    kind: int, rest: bytes
) -> None:
    assert_decodes_or_is_refused(bytes((1, kind)) + rest)


@given(PACKETS, st.data())
def test_a_truncated_packet_is_a_packet_or_a_packet_error(
    packet: Packet, data: st.DataObject
) -> None:
    encoded = encode(packet)
    assert_decodes_or_is_refused(encoded[: data.draw(st.integers(0, len(encoded)))])


@given(PACKETS, st.data())
def test_a_packet_with_flipped_bits_is_a_packet_or_a_packet_error(
    packet: Packet, data: st.DataObject
) -> None:
    mangled = bytearray(encode(packet))
    for bit in data.draw(st.lists(st.integers(0, len(mangled) * 8 - 1), min_size=1, max_size=8)):
        mangled[bit // 8] ^= 1 << bit % 8
    assert_decodes_or_is_refused(bytes(mangled))


@pytest.mark.parametrize(
    ("packet", "hexadecimal"),
    [
        (
            Data(0x0102, 0x0304, 7, True, 9, 3, 31, b"knet"),
            "01 00 0102 00 00  0304 07 00 01 09 03 1f  6b6e6574",
        ),
        (
            Ping(1, 7, bytes(range(16)), 0x1234, True),
            "01 81 0001 00 00  07 000102030405060708090a0b0c0d0e0f 1234 01",
        ),
        (
            Pong(0xFFFF, 0, bytes(16), 1, False),
            "01 82 ffff 00 00  00 00000000000000000000000000000000 0001 00",
        ),
        (PmtudProbe(2, 1, 0x05DC, 12), "01 83 0002 00 00  01 05dc 000000"),
        (PmtudReply(3, 2, 0xFFFF), "01 84 0003 00 00  02 ffff"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_field_stands_where_the_protocol_has_it(packet: Packet, hexadecimal: str) -> None:
    assert encode(packet) == bytes.fromhex(hexadecimal)


@given(PACKETS, U8)
def test_the_version_a_newer_peer_offers_is_ignored(packet: Packet, max_version: int) -> None:
    encoded = bytearray(encode(packet))
    encoded[4] = max_version
    assert decode_untrusted(bytes(encoded)) == packet


@given(st.integers(0, 6))
def test_fewer_than_seven_bytes_are_malformed(length: int) -> None:
    assert cause_of_refusing(b"\x01" * length) is DropCause.MALFORMED


@given(U8.filter(lambda version: version != 1))
def test_another_version_is_refused(version: int) -> None:
    assert cause_of_refusing(bytes((version,)) + bytes(30)) is DropCause.WRONG_VERSION


def test_host_info_of_old_releases_is_told_apart_from_unknown_types() -> None:
    assert cause_of_refusing(b"\x01\x01" + bytes(30)) is DropCause.HOST_INFO
    assert cause_of_refusing(b"\x01\x02" + bytes(30)) is DropCause.UNKNOWN_TYPE


@pytest.mark.parametrize(
    ("kind", "shortest"),
    [
        (0x00, DATA_HEADER_SIZE + 1),
        (0x81, PING_SIZE),
        (0x82, PING_SIZE),
        (0x83, PMTUD_HEADER_SIZE),
        (0x84, PMTUD_HEADER_SIZE),
    ],
)
def test_a_packet_shorter_than_its_type_needs_is_malformed(kind: int, shortest: int) -> None:
    header = bytes((1, kind)) + bytes(9) + b"\x01"
    whole = header + bytes(shortest - len(header)) if shortest > len(header) else header[:shortest]
    assert decode_untrusted(whole).node == 0
    assert cause_of_refusing(whole[:-1]) is DropCause.MALFORMED


@pytest.mark.parametrize("kind", [0x81, 0x82, 0x83, 0x84])
def test_a_control_packet_of_a_link_that_cannot_be_is_refused(kind: int) -> None:
    assert cause_of_refusing(bytes((1, kind, 0, 1, 0, 0, 8)) + bytes(30)) is DropCause.UNKNOWN_LINK


@pytest.mark.parametrize("channel", [-128, -1, 32, 127])
def test_a_channel_that_cannot_be_is_malformed(channel: int) -> None:
    packet = encode_data(Data(1, 1, 0, False, 1, 0, channel, b"x"))
    assert cause_of_refusing(packet) is DropCause.MALFORMED


@pytest.mark.parametrize(("frag_num", "frag_seq"), [(0, 0), (0, 1), (1, 2), (2, 0), (3, 4)])
def test_a_fragment_outside_of_its_message_is_refused(frag_num: int, frag_seq: int) -> None:
    packet = encode_data(Data(1, 1, 0, False, frag_num, frag_seq, 0, b"x"))
    assert cause_of_refusing(packet) is DropCause.BAD_FRAGMENT


def test_the_largest_message_fits_and_one_byte_more_is_malformed() -> None:
    packet = encode_data(Data(1, 1, 0, False, 1, 0, 0, bytes(MAX_MESSAGE)))
    assert isinstance(decode_untrusted(packet), Data)
    assert cause_of_refusing(packet + b"\0") is DropCause.MALFORMED


@given(
    st.binary(min_size=1, max_size=3000),
    st.integers(12, 1500),
    st.integers(0, 31),
    st.booleans(),
)
def test_a_message_becomes_equal_fragments_and_a_shorter_last_one(
    message: bytes, size: int, channel: int, broadcast: bool
) -> None:
    packets = encode_message(
        message,
        node=7,
        seq=9,
        compress=3,
        broadcast=broadcast,
        channel=channel,
        fragment_size=size,
    )
    decoded = [decode_untrusted(packet) for packet in packets]
    fragments = [packet for packet in decoded if isinstance(packet, Data)]
    assert len(fragments) == len(packets) == -(-len(message) // size)
    assert b"".join(fragment.payload for fragment in fragments) == message
    largest = -(-len(message) // len(fragments))
    assert all(len(fragment.payload) == largest <= size for fragment in fragments[:-1])
    assert largest - len(fragments) < len(fragments[-1].payload) <= largest
    first = 0 if len(fragments) == 1 else 1
    assert [fragment.frag_seq for fragment in fragments] == list(
        range(first, first + len(fragments))
    )
    # All that is not the fragment's own is the message's, and the same in each.
    assert {fragment._replace(frag_seq=0, payload=b"") for fragment in fragments} == {
        Data(7, 9, 3, broadcast, len(fragments), 0, channel, b"")
    }


def test_a_message_of_254_fragments_goes_and_one_of_255_does_not() -> None:
    def fragments(message: bytes) -> list[bytes]:
        return encode_message(
            message, node=1, seq=1, compress=0, broadcast=False, channel=0, fragment_size=10
        )

    assert len(fragments(bytes(2540))) == MAX_SENT_FRAGMENTS
    with pytest.raises(PacketError, match="255 fragments") as caught:
        fragments(bytes(2541))
    assert caught.value.cause is DropCause.BAD_FRAGMENT


def test_no_path_is_so_narrow_that_a_message_would_need_more_fragments_than_are_sent() -> None:
    largest = EnvelopeSizes(salt=16, hash=64, block=16)
    # The narrowest interface that can be set, with the largest headers.
    narrow = PathSizes(ipv6=True, transport=28, envelope=largest).payload(576)
    for size in (narrow, minimum_data_mtu(largest)):
        assert -(-MAX_MESSAGE // size) <= MAX_SENT_FRAGMENTS


def test_a_fragment_of_255_is_read_all_the_same() -> None:
    packet = Data(1, 1, 0, False, 255, 255, 0, b"last")
    assert decode_untrusted(encode_data(packet)) == packet


def test_numbers_count_up_from_1_and_skip_0_when_they_wrap() -> None:
    assert next_seq(0) == 1
    assert next_seq(1) == 2
    assert next_seq(0xFFFE) == 0xFFFF
    assert next_seq(0xFFFF) == 1


@given(
    st.one_of(PINGS, PONGS, PROBES, REPLIES).map(encode),
    st.lists(st.tuples(st.integers(0, 40), U8), max_size=2),
    st.integers(-1, 1),
)
def test_the_short_way_reads_scheduled_pings_and_pongs_as_the_long_way_does(
    packet: bytes, changes: list[tuple[int, int]], longer: int
) -> None:
    changed = bytearray(packet)
    for place, byte in changes:
        changed[place % len(changed)] = byte
    packet = bytes(changed[:longer]) if longer < 0 else bytes(changed) + bytes(longer)
    fields = read_scheduled_untrusted(packet)
    try:
        decoded = decode_untrusted(packet)
    except PacketError:
        decoded = None
    if fields is None:
        # Also what is longer than it has to be, which the long way reads.
        is_for_it = isinstance(decoded, Ping | Pong) and packet[-1] == 1
        assert not (is_for_it and len(packet) == PING_SIZE)
        return
    _, _, node, _, _, link, stamp, seq, timed = fields
    if decoded is None:
        # A link that cannot be: no host has it.
        assert link not in range(8)
    else:
        assert isinstance(decoded, Ping | Pong)
        assert (node, link, stamp, seq, bool(timed)) == decoded


@given(PINGS, U16)
def test_the_answer_to_a_ping_has_its_fields(ping: Ping, node: int) -> None:
    answer = answer_ping(encode_ping(ping), pong_header(node))
    assert answer == encode_pong(Pong(node, *ping[1:]))
