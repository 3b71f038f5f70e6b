"""Packets that are read in one go: the same as reading them one by one."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from knet_trio._core.onwire import (
    DATA_HEADER_SIZE,
    MAX_FRAGMENTS,
    MAX_MESSAGE,
    MAX_SEQ,
    Data,
    Packet,
    Ping,
    decode_untrusted,
    encode_data,
    encode_message,
    encode_messages,
    encode_ping,
)
from knet_trio._core.runs import MAX_RUN, DataRun, decode_train_untrusted
from knet_trio._transport.offload import train_length
from knet_trio.abc import Train
from knet_trio.address import Address
from knet_trio.errors import PacketError

U8 = st.integers(0, 0xFF)
U16 = st.integers(0, 0xFFFF)
# Where the low byte wraps, where both do, and anywhere.
SEQS = st.one_of(st.integers(240, 270), st.integers(65270, MAX_SEQ), st.integers(0, 3), U16)
HOME = Address("192.0.2.2", 5405)


def decode_each(packets: list[bytes]) -> list[Packet] | None:
    """The packets one by one, None if one of them is none."""
    try:
        return [decode_untrusted(packet) for packet in packets]
    except PacketError:
        return None


def assert_the_same_as_one_by_one(data: bytes, size: int) -> DataRun | None:
    run = decode_train_untrusted(data, size)
    if run is not None:
        assert run.packets() == decode_each(Train(data, size, HOME).datagrams())
    return run


def rewind(number: int, count: int) -> int:
    """``number``, or the last from which ``count`` can be counted up."""
    return min(number, MAX_SEQ + 1 - count)


@st.composite
def whole_messages(draw: st.DrawFn) -> list[Data]:
    """Messages of one size that follow each other, and a shorter one."""
    count, size = draw(st.integers(2, 40)), draw(st.integers(1, 30))
    last = draw(st.integers(1, size))
    first = Data(
        node=draw(U16),
        seq=rewind(draw(SEQS), count),
        compress=draw(U8),
        broadcast=draw(st.booleans()),
        frag_num=1,
        frag_seq=draw(st.integers(0, 1)),
        channel=draw(st.integers(0, 31)),
        payload=b"",
    )
    return [
        first._replace(seq=first.seq + i, payload=bytes([i]) * (size if i < count - 1 else last))
        for i in range(count)
    ]


@st.composite
def fragments(draw: st.DrawFn) -> list[Data]:
    """Fragments that follow each other, of one message."""
    total = draw(st.one_of(st.integers(2, 12), st.integers(2, MAX_FRAGMENTS)))
    first = draw(st.integers(1, total - 1))
    count = draw(st.integers(2, min(40, total - first + 1)))
    whole = draw(whole_messages())
    size = len(whole[0].payload)
    parts = [bytes([i]) * size for i in range(count)]
    parts[-1] = parts[-1][: draw(st.integers(1, size))]
    return [
        whole[0]._replace(frag_num=total, frag_seq=first + i, payload=part)
        for i, part in enumerate(parts)
    ]


RUNS = st.one_of(whole_messages(), fragments())


def encode(run: list[Data]) -> tuple[bytes, int]:
    """What arrives of them, and the size of each."""
    packets = [encode_data(data) for data in run]
    return b"".join(packets), len(packets[0])


@given(RUNS)
def test_packets_that_follow_each_other_are_a_run(run: list[Data]) -> None:
    data, size = encode(run)
    found = decode_train_untrusted(data, size)
    assert found is not None
    assert found.packets() == run


@given(RUNS, st.data(), st.integers(1, 0xFF))
def test_one_header_byte_that_is_another(run: list[Data], data: st.DataObject, bits: int) -> None:
    packets, size = encode(run)
    start = data.draw(st.integers(0, len(run) - 1)) * size
    for column in range(DATA_HEADER_SIZE):
        changed = bytearray(packets)
        changed[start + column] ^= bits
        assert_the_same_as_one_by_one(bytes(changed), size)


@given(RUNS, U8)
def test_one_header_byte_that_is_another_in_all(run: list[Data], byte: int) -> None:
    packets, size = encode(run)
    for column in range(DATA_HEADER_SIZE):
        changed = bytearray(packets)
        changed[column::size] = bytes((byte,)) * len(run)
        assert_the_same_as_one_by_one(bytes(changed), size)


@given(RUNS, U8, U8)
def test_what_nobody_reads_may_differ(run: list[Data], first: int, last: int) -> None:
    packets, size = encode(run)
    changed = bytearray(packets)
    # The largest version the peer can speak, and the padding.
    for column in (4, 5, 9):
        changed[column], changed[(len(run) - 1) * size + column] = first, last
    found = decode_train_untrusted(bytes(changed), size)
    assert found is not None
    assert found.packets() == run


@given(st.binary(max_size=300), st.integers(-3, 310))
def test_any_bytes(data: bytes, size: int) -> None:
    run = decode_train_untrusted(data, size)
    assert run is None or run.packets() == decode_each(Train(data, size, HOME).datagrams())


@given(st.binary(min_size=1, max_size=40), st.integers(2, 300), st.binary(max_size=40))
def test_any_bytes_that_are_repeated(packet: bytes, count: int, rest: bytes) -> None:
    assert_the_same_as_one_by_one(packet * count + rest[: len(packet)], len(packet))


@given(st.lists(RUNS, min_size=1, max_size=3), st.randoms(use_true_random=False), st.booleans())
def test_runs_of_all_kinds_that_come_together(
    runs: list[list[Data]], dice: random.Random, shuffled: bool
) -> None:
    """Such as come in where a host sends over several links, or several messages in fragments."""
    size = max(len(data.payload) for run in runs for data in run)
    packets = [encode_data(d._replace(payload=bytes(size))) for run in runs for d in run]
    if shuffled:
        dice.shuffle(packets)
    assert_the_same_as_one_by_one(b"".join(packets), len(packets[0]))


@given(RUNS)
def test_one_whose_last_is_cut_off(run: list[Data]) -> None:
    packets, size = encode(run)
    start = (len(run) - 1) * size
    for left in range(DATA_HEADER_SIZE + 2):
        found = assert_the_same_as_one_by_one(packets[: start + left], size)
        # No data packet has nothing but a header.
        if 0 < left <= DATA_HEADER_SIZE:
            assert found is None


@given(RUNS)
def test_one_size_that_is_another(run: list[Data]) -> None:
    data, size = encode(run)
    for wrong in (size - 1, size + 1, 2 * size, size // 2):
        assert_the_same_as_one_by_one(data, wrong)


class TestNoRun:
    def numbered(
        self, *seqs: int, frag_num: int = 1, frag_seq: int = 0, channel: int = 0
    ) -> DataRun | None:
        each = [Data(2, seq, 0, False, frag_num, frag_seq, channel, b"x") for seq in seqs]
        return assert_the_same_as_one_by_one(*encode(each))

    def parts(self, frag_num: int, *frag_seqs: int) -> DataRun | None:
        each = [Data(2, 7, 0, False, frag_num, number, 0, b"x") for number in frag_seqs]
        return assert_the_same_as_one_by_one(*encode(each))

    def test_numbers_that_do_not_count_up(self) -> None:
        assert self.numbered(5, 6, 7) is not None
        for seqs in ((5, 5), (6, 5), (5, 7), (5, 6, 6), (5, 261), (255, 0), (256, 511), (511, 256)):
            assert self.numbered(*seqs) is None

    def test_numbers_count_on_into_the_next_high_byte(self) -> None:
        assert self.numbered(254, 255, 256, 257) is not None
        assert self.numbered(0xFEFF, 0xFF00) is not None
        assert self.numbered(254, 255, 0, 1) is None
        assert self.numbered(254, 255, 512, 513) is None

    def test_they_end_where_numbers_wrap(self) -> None:
        assert self.numbered(65533, 65534, 65535) is not None
        for after in (0, 1):
            assert self.numbered(65534, 65535, after) is None

    def test_fragments_that_do_not_count_up_or_are_too_many(self) -> None:
        assert self.parts(3, 1, 2, 3) is not None
        assert self.parts(255, 254, 255) is not None
        for frag_seqs in ((1, 3), (2, 1), (1, 1), (3, 4), (0, 1)):
            assert self.parts(3, *frag_seqs) is None
        assert self.parts(255, 254, 255, 0) is None

    def test_a_single_packet_and_too_many(self) -> None:
        assert self.numbered(5) is None
        assert decode_train_untrusted(b"", 15) is None
        seqs = range(1000, 1000 + MAX_RUN)
        assert self.numbered(*seqs) is not None
        assert self.numbered(*seqs, seqs[-1] + 1) is None

    def test_what_is_no_data(self) -> None:
        pings = [encode_ping(Ping(2, 0, bytes(16), 0, True))] * 3
        assert decode_train_untrusted(b"".join(pings), len(pings[0])) is None

    def test_a_message_that_is_too_long(self) -> None:
        for length in (MAX_MESSAGE, MAX_MESSAGE + 1):
            packets = [encode_data(Data(2, i, 0, False, 1, 0, 0, bytes(length))) for i in (1, 2)]
            run = assert_the_same_as_one_by_one(b"".join(packets), len(packets[0]))
            assert (run is not None) is (length == MAX_MESSAGE)

    @pytest.mark.parametrize("channel", [-128, -1, 32, 127])
    def test_a_channel_that_cannot_be(self, channel: int) -> None:
        assert self.numbered(1, 2, channel=channel) is None

    @pytest.mark.parametrize(("frag_num", "frag_seq"), [(0, 0), (0, 1), (1, 2)])
    def test_a_fragment_outside_of_its_message(self, frag_num: int, frag_seq: int) -> None:
        assert self.numbered(1, 2, frag_num=frag_num, frag_seq=frag_seq) is None


# What goes out.


@given(
    st.lists(st.binary(min_size=1, max_size=100), min_size=1, max_size=20),
    st.one_of(SEQS, st.just(MAX_SEQ)),
    U8,
    st.booleans(),
    st.integers(0, 31),
    st.integers(1, 120),
)
@example([b"x"], 1, 0, False, 0, 1)
@example([b"xx"], 1, 0, False, 0, 1)
def test_messages_together_are_those_messages_one_by_one(
    payloads: list[bytes], first: int, compress: int, broadcast: bool, channel: int, size: int
) -> None:
    seqs = [(first + i - 1) % MAX_SEQ + 1 for i in range(len(payloads))]
    assert encode_messages(
        payloads,
        node=7,
        seqs=seqs,
        compress=compress,
        broadcast=broadcast,
        channel=channel,
        fragment_size=size,
    ) == [
        packet
        for seq, payload in zip(seqs, payloads, strict=True)
        for packet in encode_message(
            payload,
            node=7,
            seq=seq,
            compress=compress,
            broadcast=broadcast,
            channel=channel,
            fragment_size=size,
        )
    ]


@given(st.binary(min_size=1, max_size=100), U16, U16, U8, st.booleans(), st.integers(0, 31))
def test_a_message_alone_is_its_fields_joined(
    payload: bytes, node: int, seq: int, compress: int, broadcast: bool, channel: int
) -> None:
    alone, first, _ = (
        encode_messages(
            payloads,
            node=node,
            seqs=[seq] * len(payloads),
            compress=compress,
            broadcast=broadcast,
            channel=channel,
            fragment_size=100,
        )
        for payloads in ([payload], [payload, payload], [])
    )
    data = Data(node, seq, compress, broadcast, 1, 0, channel, payload)
    assert alone == first[:1] == [encode_data(data)]


def test_one_message_of_too_many_fragments_refuses_all() -> None:
    with pytest.raises(PacketError, match="256 fragments"):
        encode_messages(
            [b"fine", bytes(2551)],
            node=1,
            seqs=[1, 2],
            compress=0,
            broadcast=False,
            channel=0,
            fragment_size=10,
        )


@given(
    st.lists(st.sampled_from([1, 2, 20, 90, 100, 101, 250, 6000]), min_size=1, max_size=80),
    SEQS,
)
def test_every_train_of_a_sender_is_a_run(sizes: list[int], seq: int) -> None:
    """As long as there is no other message between fragments, and numbers do not wrap."""
    seq = rewind(seq, len(sizes))
    # Whole messages go together, and each that needs fragments alone.
    groups: list[list[int]] = [[]]
    for size in sizes:
        if size > 100:
            groups += [[size], []]
        else:
            groups[-1].append(size)
    for group in groups:
        packets = encode_messages(
            [bytes(size) for size in group],
            node=7,
            seqs=range(seq, seq + len(group)),
            compress=0,
            broadcast=True,
            channel=3,
            fragment_size=100,
        )
        seq += len(group)
        start = 0
        while start < len(packets):
            length = train_length(packets, start)
            train = packets[start : start + length]
            start += length
            found = decode_train_untrusted(b"".join(train), len(train[0]))
            assert (found is not None) is (length > 1)
            assert found is None or found.packets() == decode_each(train)
