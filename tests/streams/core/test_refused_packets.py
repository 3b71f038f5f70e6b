"""Packets that break the rules, and what becomes of the conversation."""

from __future__ import annotations

from typing import cast

from knet_trio.streams._core.faults import Fault
from knet_trio.streams._core.limits import (
    INITIAL_CREDIT,
    MAX_FRAMES,
    MAX_JUMP,
    MAX_STREAMS,
)
from knet_trio.streams._core.stream_state import Failure, FailureCause
from knet_trio.streams._core.wire import (
    PING_FRAME,
    Code,
    StreamKind,
    StreamPacketKind,
)
from knet_trio.streams._core.wire_reading import (
    read_close_untrusted,
    read_frames_untrusted,
    read_header_untrusted,
)
from knet_trio.streams._core.wire_writing import (
    write_accept,
    write_ack,
    write_close,
    write_credit,
    write_data_head,
    write_packet,
    write_reset,
    write_streams,
)
from tests.streams.core.lossy import PATIENCE, TwoSides, Weather
from tests.streams.core.test_conversation import BOTH, joined, say


def test_damaged_packets_change_nothing() -> None:
    two = TwoSides()
    two.weather = Weather(damage=0.2)
    here, there = joined(two)
    for number in range(200):
        say(two, 0, here, there, b"%d" % number * 100)
    assert {error.fault for error in two.faults} <= {
        Fault.WRONG_CHECKSUM,
        Fault.WRONG_VERSION,
    }


def test_more_than_the_credit_is_refused_in_one_packet_too() -> None:
    two = TwoSides(piece=60_000)
    joined(two)
    asked = two.open(0, StreamKind.REQUEST)
    # As a peer would that does not keep to it.
    asked.sending.limit = 1 << 20
    assert two.say_whole(0, asked, bytes(INITIAL_CREDIT + 1))
    two.run_until(lambda: bool(two.ended[1]))
    assert [error.fault for error in two.faults] == [Fault.CREDIT_EXCEEDED]


def test_what_follows_a_violation_is_counted_one_by_one() -> None:
    two = TwoSides()
    here, there = joined(two)
    here.sending.limit = 1 << 20
    held: list[bytes] = []
    two.tap = lambda side, packet: held.append(packet) if side == 0 else None
    two.cut = True
    limit = there.receiving.limit
    two.connection(0).recovery.congestion.window = 1 << 20
    two.connection(0).write(here, bytes(limit + 10_000))
    two.flush()
    # All of them are taken in one go.
    two.deliver_many(1, held)
    faults = [error.fault for error in two.faults]
    assert faults[0] is Fault.CREDIT_EXCEEDED
    assert len(faults) > 5
    assert set(faults[1:]) == {Fault.NO_CONNECTION}


def test_packets_that_come_again_are_no_sign_of_life() -> None:
    two = TwoSides()
    here, there = joined(two)
    held: list[bytes] = []
    two.tap = lambda side, packet: held.append(packet) if side == 0 else None
    say(two, 0, here, there, bytes(10_000))
    two.run_for(1)
    two.cut = True
    for _ in range(int(PATIENCE) + 2):
        two.run_for(1)
        two.deliver_many(1, held)
    assert there.receiving_failure is not None
    assert there.receiving_failure.cause is FailureCause.SILENCE


def test_who_acknowledges_what_was_not_sent_is_told_and_given_up() -> None:
    two = TwoSides()
    here, there = joined(two)
    connection = two.connection(1)
    connection.builder.next_number += 100
    connection.ping()
    two.flush()
    two.run_for(0.05)
    two.connection(0).received.add(10**6, 1, two.now, eliciting=True, asks=True)
    two.run_for(0.05)
    assert there.sending_failure is not None
    assert there.sending_failure.cause is FailureCause.BROKEN_RULES
    assert here.sending_failure is not None
    assert here.sending_failure.cause is FailureCause.VIOLATION


def test_who_takes_in_nothing_cannot_have_ever_more_streams_refused() -> None:
    two = TwoSides()
    joined(two)
    two.run_for(1)
    ids = two.connection(0).local, two.connection(0).remote
    victim, first = two.connection(1), two.connection(0).builder.next_number
    number = 1
    # It is told how many streams it may open, as long as the congestion window has room.
    while two.sides[1].connection is victim and number < 30 * MAX_STREAMS:
        frame = write_data_head(2 * number, StreamKind.STREAM, 0, 0, last=False)
        kind = StreamPacketKind.FRAMES
        two.deliver(1, write_packet(kind, *ids, first + number, (frame,), checked=True))
        for stream in victim.opened:
            victim.reset(stream, BOTH, Code.REFUSED, "nobody takes it")
        victim.opened.clear()
        two.sides[1].poll(two.now, two.piece, 64)
        assert len(victim.builder.controls) <= 2 * MAX_STREAMS
        number += 1
    assert two.faults[-1].fault is Fault.STREAMS_EXCEEDED


def test_a_number_that_is_too_far_is_counted_and_changes_nothing() -> None:
    two = TwoSides()
    here, there = joined(two)
    connection = two.connection(0)
    for beyond in (2**32 + 1, MAX_JUMP + 100):
        for frames in ((PING_FRAME,), (write_data_head(2, 1, 0, 0, last=False),)):
            number = connection.builder.next_number + beyond
            kind, ids = StreamPacketKind.FRAMES, (connection.local, connection.remote)
            two.deliver(1, write_packet(kind, *ids, number, frames, checked=True))
    assert [error.fault for error in two.faults] == [Fault.NUMBER_TOO_FAR] * 4
    two.faults.clear()
    say(two, 0, here, there, b"I go on")
    assert two.faults == []


def test_packets_of_which_there_are_views_are_read_as_others_are() -> None:
    frames = (
        PING_FRAME,
        write_ack([(5, 7), (1, 3)], 0.5),
        write_data_head(2, StreamKind.STREAM, 0, 3, last=True) + b"yes",
        write_credit(2, 7),
        write_streams(7),
        write_accept(2),
        write_reset(2, BOTH, Code.REFUSED, "caf\u00e9"),
    )
    packet = write_packet(StreamPacketKind.FRAMES, 5, 6, 7, frames, checked=True)
    view = cast("bytes", memoryview(packet))
    assert read_header_untrusted(view) == read_header_untrusted(packet)
    assert len(read_frames_untrusted(view)) == len(frames)
    assert read_frames_untrusted(view) == read_frames_untrusted(packet)
    closing = write_packet(
        StreamPacketKind.CLOSE, 5, 6, 0, (write_close(Code.CLOSED, "enough"),), checked=True
    )
    assert read_close_untrusted(cast("bytes", memoryview(closing))) == (Code.CLOSED, "enough")
    two = TwoSides()
    here, there = joined(two)
    two.tap = lambda side, packet: two.deliver(1 - side, cast("bytes", memoryview(packet)))
    two.cut = True
    say(two, 0, here, there, bytes(20_000))
    say(two, 1, there, here, b"short")
    two.connection(0).reset(here, BOTH, Code.CANCELLED, "that is all")
    two.run_for(1)
    assert there.receiving_failure == Failure(FailureCause.CANCELLED, "that is all")


def test_what_a_packet_sets_going_is_bounded() -> None:
    two = TwoSides(piece=60_000)
    joined(two)
    most = 0

    def count(side: int, packet: bytes) -> None:
        nonlocal most
        if read_header_untrusted(packet).kind is StreamPacketKind.FRAMES:
            most = max(most, len(read_frames_untrusted(packet)))

    two.tap = count
    streams = [two.open(0) for _ in range(MAX_STREAMS - 1)]
    for stream in streams:
        two.connection(0).write(stream, b"x")
    two.run_until(lambda: len(two.opened[1]) == len(streams))
    for stream in streams:
        two.connection(0).reset(stream, BOTH, Code.CANCELLED)
    two.run_until(lambda: all(stream.receiving.is_over for stream in two.opened[1]))
    assert MAX_FRAMES // 2 <= most <= MAX_FRAMES
    # What a turn sets going is, too.
    connection, number = two.connection(0), two.connection(0).builder.next_number
    kind, ids = StreamPacketKind.FRAMES, (connection.local, connection.remote)
    frames = (PING_FRAME,) * MAX_FRAMES
    packets = [write_packet(kind, *ids, number + n, frames, checked=True) for n in range(5)]
    for taken in range(5):
        assert two.sides[1].receive_many(packets, taken, two.now, two.faults) == taken + 1
    assert two.faults == []
    packet = write_packet(kind, *ids, number + 5, (*frames, PING_FRAME), checked=True)
    two.deliver(1, packet)
    assert [error.fault for error in two.faults] == [Fault.MALFORMED]


def test_a_packet_for_nobody_is_not_answered() -> None:
    two = TwoSides()
    joined(two)
    two.run_for(1)
    sent = list(two.sent)
    for kind in StreamPacketKind:
        two.deliver(1, write_packet(kind, 5, 0, 0, (PING_FRAME,), checked=True))
    assert [error.fault for error in two.faults] == [Fault.MALFORMED] * 3
    two.run_for(0.5)
    # The greeting is.
    assert two.sent == [sent[0], sent[1] + 1]


def test_answers_to_strangers_are_few() -> None:
    two = TwoSides()
    joined(two)
    for number in range(1000):
        stranger = write_packet(
            StreamPacketKind.FRAMES, 77 + number, 5, 0, (PING_FRAME,), checked=True
        )
        two.deliver(0, stranger)
    packets = two.sides[0].poll(two.now, 1400, 64)
    kinds = [read_header_untrusted(packet).kind for packet in packets]
    assert kinds.count(StreamPacketKind.UNKNOWN) == 16
