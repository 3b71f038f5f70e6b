"""Packets and frames in and out of bytes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from knet_trio.streams._core.faults import Fault, StreamPacketError
from knet_trio.streams._core.limits import MAX_CHECKED, MAX_NUMBER, MAX_OFFSET, MAX_REASON
from knet_trio.streams._core.wire import (
    HEADER_SIZE,
    PING_FRAME,
    AcceptFrame,
    AckFrame,
    Code,
    CreditFrame,
    DataFrame,
    PacketHeader,
    PingFrame,
    ResetFrame,
    StreamKind,
    StreamPacketKind,
    StreamsFrame,
)
from knet_trio.streams._core.wire_reading import (
    read_answer_untrusted,
    read_close_untrusted,
    read_frames_untrusted,
    read_header_untrusted,
    read_run_untrusted,
    read_whole_untrusted,
)
from knet_trio.streams._core.wire_writing import (
    write_accept,
    write_ack,
    write_close,
    write_credit,
    write_data_head,
    write_data_packet,
    write_last_packet,
    write_packet,
    write_reset,
    write_run,
    write_streams,
)

KEYS = st.integers(0, 2**64 - 1)
IDS = st.integers(1, 2**64 - 1)


def packet(*frames: bytes, checked: bool = True) -> bytes:
    return write_packet(StreamPacketKind.FRAMES, 5, 6, 7, frames, checked=checked)


@given(st.sampled_from(StreamPacketKind), IDS, KEYS, st.integers(0, MAX_NUMBER), st.booleans())
@example(StreamPacketKind.FRAMES, 1, 1, MAX_NUMBER, True)
@example(StreamPacketKind.FRAMES, 1, 0, 0, True)
def test_headers(
    kind: StreamPacketKind, sender: int, receiver: int, number: int, checked: bool
) -> None:
    written = write_packet(kind, sender, receiver, number, (), checked=checked)
    assert len(written) == HEADER_SIZE
    if not receiver and kind is not StreamPacketKind.HELLO:
        # Only a greeting is for whoever is there.
        with pytest.raises(StreamPacketError) as caught:
            read_header_untrusted(written)
        assert caught.value.fault is Fault.MALFORMED
        return
    assert read_header_untrusted(written) == PacketHeader(kind, sender, receiver, number)


def test_each_frame() -> None:
    frames = {
        PING_FRAME: PingFrame(),
        write_credit(3, 4): CreditFrame(3, 4),
        write_streams(9): StreamsFrame(9),
        write_accept(2**64 - 1): AcceptFrame(2**64 - 1),
        write_reset(4, 3, Code.REFUSED, "no"): ResetFrame(4, 3, Code.REFUSED, "no"),
        write_ack([(7, 9), (3, 5), (1, 2)], 0.5): AckFrame(((7, 9), (3, 5), (1, 2)), 0.5),
        write_data_head(8, 2, 10, 3, last=True, asks=True) + b"abc": DataFrame(
            8, StreamKind.REQUEST, 10, memoryview(b"abc"), last=True, asks=True
        ),
    }
    for written, read in frames.items():
        assert read_frames_untrusted(packet(written)) == [read]
        # Cut off anywhere, it is none of them.
        for size in range(1, len(written)):
            with pytest.raises(StreamPacketError):
                read_frames_untrusted(packet(written[:size]))
    assert read_frames_untrusted(packet(*frames)) == list(frames.values())


@given(st.sets(st.integers(0, 200), min_size=1))
def test_acknowledgements(numbers: set[int]) -> None:
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers, reverse=True):
        if ranges and ranges[-1][0] == number + 1:
            ranges[-1] = number, ranges[-1][1]
        else:
            ranges.append((number, number + 1))
    ranges = ranges[:60]
    (read,) = read_frames_untrusted(packet(write_ack(ranges, 0.001)))
    assert read == AckFrame(tuple(ranges), 0.001)


def test_reasons_are_cut_and_may_be_any_text() -> None:
    (read,) = read_frames_untrusted(packet(write_reset(1, 1, Code.FAILED, "ä" * 1000)))
    assert isinstance(read, ResetFrame)
    assert read.reason == "ä" * (MAX_REASON // 2)
    written = packet(write_close(Code.CLOSED, "good bye"))
    assert read_close_untrusted(written) == (Code.CLOSED, "good bye")


@pytest.mark.parametrize(
    "frame",
    [
        write_data_head(1, 9, 0, 0, last=False),
        write_data_head(1, 1, MAX_OFFSET, 1, last=False) + b"x",
        write_credit(1, MAX_OFFSET + 1),
        bytes([2, 1, 0, 0, 0, 0, 0, 0, *bytes(8), *bytes(4), *bytes(8)]),
        bytes([2, 255, 0, 0, 0, 0, 0, 0, *bytes(8), *bytes(4), *bytes(8 * 255)]),
        bytes([2, 0, 0, 0, 0, 0, 0, 0, *bytes(8), 0, 0, 0, 1]),
        bytes([7, 0, 1, 0, 0, 0, 0, 0, *bytes(8)]),
        bytes([7, 4, 1, 0, 0, 0, 0, 0, *bytes(8)]),
        bytes([7, 1, 99, 0, 0, 0, 0, 0, *bytes(8)]),
        b"",
    ],
)
def test_impossible_values(frame: bytes) -> None:
    with pytest.raises(StreamPacketError) as caught:
        read_frames_untrusted(packet(frame))
    assert caught.value.fault is Fault.MALFORMED


def test_other_faults() -> None:
    good = packet(PING_FRAME)

    def fault(data: bytes) -> Fault:
        with pytest.raises(StreamPacketError) as caught:
            read_header_untrusted(data)
            read_frames_untrusted(data)
        return caught.value.fault

    assert fault(good[:31]) is Fault.MALFORMED
    assert fault(good[:4] + b"\2" + good[5:]) is Fault.WRONG_VERSION
    assert fault(good[:-1] + b"\2") is Fault.WRONG_CHECKSUM
    assert fault(bytes(4) + good[4:5] + b"\7" + good[6:]) is Fault.UNKNOWN_KIND
    assert fault(packet(b"\x63")) is Fault.UNKNOWN_FRAME
    assert (
        fault(write_packet(StreamPacketKind.FRAMES, 0, 1, 1, (), checked=True)) is Fault.MALFORMED
    )
    assert fault(write_packet(StreamPacketKind.FRAMES, 1, 1, MAX_NUMBER + 1, (), checked=True)) is (
        Fault.MALFORMED
    )


def test_packets_that_are_small_enough_have_a_checksum() -> None:
    for size, checked in ((0, True), (MAX_CHECKED, True), (MAX_CHECKED + 1, False)):
        data = bytes(max(0, size - HEADER_SIZE - 24))
        head = write_data_head(1, 1, 0, len(data), last=False)
        pieces = [[memoryview(data)]]
        written = [
            write_packet(StreamPacketKind.FRAMES, 1, 2, 3, (head, data), checked=True),
            write_data_packet(1, 2, 3, head, memoryview(data), checked=True),
            write_last_packet(1, 2, 3, 1, 1, data, None, checked=True),
            *write_run(1, 2, 3, 1, 1, 0, pieces, len(data), asks=False, checked=True),
        ]
        assert {len(one) for one in written} == {max(size, HEADER_SIZE + 24)}
        assert {any(one[:4]) for one in written} == {checked}


@given(st.integers(0, 8 * 60 - 1))
def test_every_damaged_bit_is_noticed(bit: int) -> None:
    good = packet(write_data_head(8, 1, 0, 4, last=False) + b"data")
    damaged = bytearray(good)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(StreamPacketError):
        read_header_untrusted(bytes(damaged))
    assert read_whole_untrusted(good) is not None
    assert read_whole_untrusted(bytes(damaged)) is None


@given(st.binary(max_size=200))
@example(bytes(100))
def test_random_bytes_cause_one_error_only(data: bytes) -> None:
    readers = (read_header_untrusted, read_frames_untrusted, read_close_untrusted)
    for prefix in (b"", packet()[:HEADER_SIZE], packet(checked=False)):
        for reader in readers:
            try:
                reader(prefix + data)
            except StreamPacketError as error:
                assert error.fault in Fault  # noqa: PT017  # or no error
        read_whole_untrusted(prefix + data)
        read_answer_untrusted(prefix + data)


def test_whole_packets_are_read_the_same_in_short() -> None:
    for last in (False, True):
        for asks in (False, True):
            head = write_data_head(8, 3, 100, 4, last=last, asks=asks)
            for checked in (False, True):
                written = write_data_packet(5, 6, 7, head, memoryview(b"data"), checked=checked)
                assert written == packet(head, b"data", checked=checked)
                assert read_whole_untrusted(written) == (
                    *(5, 6, 7, StreamKind.MESSAGE, 8, 100, memoryview(b"data")),
                    *(last, asks),
                )
    for other in (PING_FRAME, head + b"data" + PING_FRAME, head + b"dat"):
        assert read_whole_untrusted(packet(other)) is None


@pytest.mark.parametrize("checked", [False, True])
def test_all_of_a_stream_in_one_packet(checked: bool) -> None:
    frame = write_data_head(8, StreamKind.REQUEST, 0, 4, last=True) + b"data"
    alone = write_last_packet(5, 6, 7, 8, StreamKind.REQUEST, b"data", None, checked=checked)
    assert alone == packet(frame, checked=checked)
    assert read_answer_untrusted(alone) is None
    ack = write_ack([(3, 10)], 0.5)
    along = write_last_packet(5, 6, 7, 8, StreamKind.REQUEST, b"data", (3, 9, 0.5), checked=checked)
    assert along == packet(ack, frame, checked=checked)
    read = read_answer_untrusted(along)
    assert read is not None
    assert read[:5] == (5, 6, 7, (3, 10), 0.5)
    assert read[5:] == (StreamKind.REQUEST, 8, 0, memoryview(b"data"), 1, 0)
    assert read_frames_untrusted(along)[1] == DataFrame(
        8, StreamKind.REQUEST, 0, memoryview(b"data"), last=True, asks=False
    )


def test_what_is_no_answer() -> None:
    frame = write_data_head(8, 2, 0, 4, last=True) + b"data"
    ack = write_ack([(3, 10)], 0.5)
    assert read_answer_untrusted(packet(ack, frame)) is not None
    for parts in (
        (ack,),
        (ack, PING_FRAME, frame),
        (ack, frame, PING_FRAME),
        (write_ack([(3, 10), (0, 1)], 0.5), frame),
        (write_ack([(3, MAX_NUMBER + 2)], 0.5), frame),
        (bytes([2, 0, 0, 0, 0, 0, 0, 0, *bytes(8), 0, 0, 0, 1]), frame),
        (ack, write_data_head(8, 9, 0, 4, last=True) + b"data"),
        (ack, write_data_head(8, 2, MAX_OFFSET, 4, last=True) + b"data"),
    ):
        assert read_answer_untrusted(packet(*parts)) is None


@given(st.integers(0, 8 * 80 - 1))
def test_every_damaged_bit_of_an_answer_is_noticed(bit: int) -> None:
    good = write_last_packet(5, 6, 7, 8, StreamKind.REQUEST, b"data", (3, 9, 0.5), checked=True)
    assert len(good) == 80
    damaged = bytearray(good)
    damaged[bit // 8] ^= 1 << bit % 8
    assert read_answer_untrusted(bytes(damaged)) is None


@pytest.mark.parametrize("checked", [False, True])
def test_runs(checked: bool) -> None:
    data = memoryview(bytes(range(200)) * 3)
    pieces = [
        [data[start : start + 60], data[start + 60 : start + 100]] for start in range(0, 600, 100)
    ]
    run = write_run(5, 6, 7, 8, 1, 1000, pieces, 100, asks=True, checked=checked)
    assert run == [
        packet_at(7 + place, 1000 + 100 * place, data[100 * place :][:100], place == 5, checked)
        for place in range(6)
    ]
    # The last one asks, so that it is no continuation.
    assert read_run_untrusted(run, 0) == [data[100 * place :][:100] for place in range(1, 5)]
    assert read_run_untrusted(run, 3) == [data[400:500]]
    assert read_run_untrusted([run[0], run[2]], 0) == []
    assert read_run_untrusted([run[0], run[1][:-1]], 0) == []
    if checked:
        assert read_run_untrusted([run[0], run[1][:-1] + b"!"], 0) == []


def packet_at(number: int, offset: int, data: memoryview, asks: bool, checked: bool) -> bytes:
    head = write_data_head(8, 1, offset, len(data), last=False, asks=asks)
    return write_packet(StreamPacketKind.FRAMES, 5, 6, number, (head, data), checked=checked)
