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
from knet_trio._core.runs import (
    MAX_RUN,
    DataRun,
    decode_packets_untrusted,
    decode_spread_untrusted,
    decode_train_untrusted,
)
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
    packets = Train(data, size, HOME).datagrams()
    if run is not None:
        count = len(run.payloads)
        assert run.packets() == decode_each(packets[:count])
        if count < len(packets):
            # All but the last one, which is shorter and none of them.
            assert count == len(packets) - 1
            assert len(packets[-1]) < size
            assert decode_packets_untrusted(packets) is None
            packets = packets[:count]
    # With each of them in its own place it is the same.
    assert decode_packets_untrusted(packets) == run
    # And with other bytes around each.
    assert decode_spread_untrusted(*spread(packets)) == run
    return run


def spread(packets: list[bytes]) -> tuple[bytes, int, int, list[int]]:
    """Put ``packets`` at equal distances, as what ``decode_spread_untrusted`` takes."""
    before, after = b"\xee" * 3, b"\xdd" * 5
    longest = max(map(len, packets), default=0)
    data = b"".join(before + packet.ljust(longest, b"\xcc") + after for packet in packets)
    stride = len(before) + longest + len(after)
    starts = [len(before) + i * stride for i in range(len(packets))]
    ends = [start + len(packet) for start, packet in zip(starts, packets, strict=True)]
    return data, len(before), stride, ends


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
    """Fragments that follow each other, of one message or several."""
    total = draw(st.one_of(st.integers(2, 12), st.integers(2, MAX_FRAGMENTS)))
    skipped = draw(st.integers(0, total - 1))
    count = draw(st.integers(2, 40))
    whole = draw(whole_messages())
    size = len(whole[0].payload)
    parts = [bytes([i]) * size for i in range(count)]
    parts[-1] = parts[-1][: draw(st.integers(1, size))]
    # Those of several messages may go in turns: all of each but the last one, or one of each.
    cycle = draw(st.sampled_from([total, max(total - 1, skipped + 1), 1]))
    if cycle == 1:
        places = [(i, skipped) for i in range(count)]
    else:
        places = [divmod(skipped + i, cycle) for i in range(count)]
    seq = rewind(whole[0].seq, places[-1][0] + 1)
    return [
        whole[0]._replace(seq=seq + message, frag_num=total, frag_seq=index + 1, payload=part)
        for (message, index), part in zip(places, parts, strict=True)
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
    if run is not None:
        packets = Train(data, size, HOME).datagrams()
        assert run.packets() == decode_each(packets[: len(run.payloads)])


@given(
    st.one_of(st.lists(st.binary(max_size=30)), RUNS.map(lambda run: list(map(encode_data, run))))
)
def test_any_packets(packets: list[bytes]) -> None:
    run = decode_packets_untrusted(packets)
    assert run is None or run.packets() == decode_each(packets)


@given(RUNS, st.randoms(use_true_random=False), st.sampled_from([40, 400]))
def test_packets_of_different_sizes_that_follow_each_other(
    run: list[Data], dice: random.Random, most: int
) -> None:
    run = [data._replace(payload=dice.randbytes(dice.randint(1, most))) for data in run]
    found = decode_packets_untrusted([encode_data(data) for data in run])
    assert found is not None
    assert found.packets() == run


@given(RUNS, st.sampled_from([40, 400]), st.data())
def test_one_of_different_sizes_that_is_none(
    run: list[Data], most: int, data: st.DataObject
) -> None:
    packets = [encode_data(each._replace(payload=bytes(most + i))) for i, each in enumerate(run)]
    place = data.draw(st.integers(0, len(packets) - 1))
    left = data.draw(st.integers(0, DATA_HEADER_SIZE))
    for size in (left, DATA_HEADER_SIZE + MAX_MESSAGE + 1):
        packets[place] = packets[place][:size].ljust(size, b"x")
        assert decode_packets_untrusted(packets) is None


@given(RUNS, st.data())
def test_a_part_of_a_run_is_a_run(run: list[Data], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(run) - 1))
    end = data.draw(st.integers(start + 1, len(run)))
    found = decode_train_untrusted(*encode(run))
    assert found is not None
    assert found.part(start, end).packets() == run[start:end]
    assert found.message_count == len({each.seq for each in run})


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
        return self.places(frag_num, *((7, number) for number in frag_seqs))

    def places(self, frag_num: int, *places: tuple[int, int]) -> DataRun | None:
        each = [Data(2, seq, 0, False, frag_num, number, 0, b"x") for seq, number in places]
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
        assert self.places(3, (7, 1), (7, 2), (7, 3), (7, 4), (8, 1)) is None

    def test_fragments_in_turns(self) -> None:
        all_but_the_last = [(7, 2), (7, 3), (8, 1), (8, 2), (8, 3), (9, 1)]
        assert self.places(4, *all_but_the_last) is not None
        assert self.places(4, (7, 4), (8, 4), (9, 4)) is not None
        assert self.places(4, (255, 1), (256, 1)) is not None
        for after in ((9, 1), (9, 3), (10, 1), (10, 2), (9, 0)):
            assert self.places(4, *all_but_the_last, after) is None
        assert self.places(4, (7, 4), (9, 4)) is None

    def test_fragments_go_on_with_the_next_message_and_with_no_other(self) -> None:
        assert self.places(2, (7, 1), (7, 2), (8, 1), (8, 2)) is not None
        assert self.places(3, (255, 3), (256, 1), (256, 2), (256, 3), (257, 1)) is not None
        for after in ((7, 1), (8, 2), (8, 0), (9, 1), (6, 1), (263, 1)):
            assert self.places(2, (7, 1), (7, 2), after) is None
        assert self.places(2, (7, 2), (7, 1)) is None
        assert self.places(2, (255, 2), (0, 1)) is None

    def test_they_end_where_numbers_wrap_too(self) -> None:
        assert self.places(2, (65534, 2), (65535, 1), (65535, 2)) is not None
        for after in (0, 1):
            assert self.places(2, (65535, 1), (65535, 2), (after, 1)) is None

    def test_a_single_packet_and_too_many(self) -> None:
        assert self.numbered(5) is None
        assert decode_train_untrusted(b"", 15) is None
        seqs = range(1000, 1000 + MAX_RUN)
        assert self.numbered(*seqs) is not None
        assert self.numbered(*seqs, seqs[-1] + 1) is None
        places = [(1000 + i // 2, 1 + i % 2) for i in range(MAX_RUN + 1)]
        assert self.places(2, *places[:-1]) is not None
        assert self.places(2, *places) is None

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
    st.lists(st.sampled_from([1, 2, 20, 90, 100, 101, 200, 220, 250, 6000]), min_size=1),
    st.integers(1, 30),
    SEQS,
)
def test_every_train_of_a_sender_is_a_run(sizes: list[int], times: int, seq: int) -> None:
    """As long as messages that are sent together have as many fragments, and no number wraps."""
    for size in sizes:
        fragments = -(-size // 100)
        least = (fragments - 1) * 100 + 1
        payloads = [bytes(max(size - i % fragments, least)) for i in range(times)]
        packets = encode_messages(
            payloads,
            node=7,
            seqs=range(rewind(seq, times), rewind(seq, times) + times),
            compress=0,
            broadcast=True,
            channel=3,
            fragment_size=100,
        )
        start = 0
        while start < len(packets):
            length = train_length(packets, start)
            train = packets[start : start + length]
            start += length
            found = decode_train_untrusted(b"".join(train), len(train[0]))
            assert (found is not None) is (length > 1)
            assert found is None or found.packets() == decode_each(train)
            assert decode_packets_untrusted(train) == found


@pytest.mark.parametrize(
    ("size", "trains"),
    [(1400, [64]), (1401, [2] * 32), (1399, [2] * 32), (4002, [48, 48]), (4000, [3] * 32)],
)
def test_a_train_goes_on_with_the_next_message_where_all_fragments_are_equal(
    size: int, trains: list[int]
) -> None:
    packets = encode_messages(
        [bytes(size)] * 32,
        node=7,
        seqs=range(1, 33),
        compress=0,
        broadcast=False,
        channel=0,
        fragment_size=1397,
    )
    found: list[int] = []
    while sum(found) < len(packets):
        found.append(train_length(packets, sum(found)))
    assert found == trains
