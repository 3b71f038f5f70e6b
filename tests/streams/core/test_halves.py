"""The two halves of a stream, against a simple model."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio.streams._core.faults import Fault, StreamPacketError
from knet_trio.streams._core.limits import (
    INITIAL_CREDIT,
    MAX_SEGMENTS,
    MAX_WINDOW,
    SEGMENT_CREDIT,
)
from knet_trio.streams._core.receiving_half import (
    RECEIVING_TRANSITIONS,
    ReceivingCue,
    ReceivingHalf,
    ReceivingStage,
)
from knet_trio.streams._core.sending_half import (
    SENDING_TRANSITIONS,
    SendingCue,
    SendingHalf,
    SendingStage,
)


@pytest.mark.parametrize("seed", range(200))
def test_whatever_is_lost_all_arrives(seed: int) -> None:
    """A sender whose pieces are lost, acknowledged and cut as it happens, and a receiver."""
    draw = random.Random(seed)
    sending, receiving = SendingHalf(opens=True), ReceivingHalf()
    text = draw.randbytes(draw.choice([0, 1, 100, 5000]))
    written, got = 0, bytearray()
    on_the_way: list[tuple[int, int]] = []
    while sending.stage is not SendingStage.DONE:
        if written < len(text):
            size = draw.randrange(1, 300)
            sending.write(text[written : written + size])
            written = min(len(text), written + size)
        elif draw.random() < 0.5:
            sending.advance(SendingCue.FINISH)
        while sending.has_something() and len(on_the_way) < 10:
            on_the_way.append(sending.take(draw.randrange(1, 200)))
        if on_the_way:
            start, stop = on_the_way.pop(draw.randrange(len(on_the_way)))
            if draw.random() < 0.5:
                sending.lose(start, stop)
                continue
            view, last = sending.data(start, stop), sending.is_last(stop)
            assert view == text[start : min(stop, len(text))]
            for _ in range(draw.randrange(1, 3)):
                receiving.check(start, len(view), last=last)
                receiving.receive(start, view, last=last)
            # The acknowledgement may be lost, and the piece be sent again.
            if draw.random() < 0.9:
                sending.arrived(start, stop)
            else:
                sending.lose(start, stop)
        got += receiving.read(draw.randrange(1, 200))
    while part := receiving.read(1000):
        got += part
    assert got == text
    assert receiving.stage is ReceivingStage.WHOLE


@given(st.data())
def test_pieces_in_any_order_and_overlapping(data: st.DataObject) -> None:
    receiving = ReceivingHalf()
    text = bytes(range(256)) * 20
    seen = set[int]()
    for _ in range(60):
        start = data.draw(st.integers(0, len(text) - 1))
        stop = data.draw(st.integers(start, min(len(text), start + 2000)))
        last = stop == len(text)
        receiving.check(start, stop - start, last=last)
        receiving.receive(start, memoryview(text)[start:stop], last=last)
        seen |= set(range(start, stop))
        expected = next(place for place in range(len(text) + 1) if place not in seen)
        assert receiving.next == expected
    got = b""
    while part := receiving.read(data.draw(st.integers(1, 3000))):
        got += part
    assert got == text[: receiving.next]


def test_what_is_refused() -> None:
    def fault(*arguments: int, last: bool = False) -> Fault:
        with pytest.raises(StreamPacketError) as caught:
            receiving.check(*arguments, last=last)
        return caught.value.fault

    receiving = ReceivingHalf()
    receiving.receive(0, memoryview(bytes(10)), last=False)
    assert fault(INITIAL_CREDIT, 1) is Fault.CREDIT_EXCEEDED
    assert fault(5, 3, last=True) is Fault.WRONG_SIZE
    receiving.receive(20, memoryview(bytes(10)), last=False)
    assert fault(25, 1, last=True) is Fault.WRONG_SIZE
    receiving.receive(30, memoryview(b""), last=True)
    assert fault(30, 1) is Fault.WRONG_SIZE
    assert fault(31, 0, last=True) is Fault.WRONG_SIZE
    receiving.check(10, 10, last=False)


def test_segments_are_bounded() -> None:
    receiving = ReceivingHalf()
    receiving.limit = MAX_WINDOW
    for place in range(MAX_SEGMENTS):
        receiving.check(2 * place + 1, 1, last=False)
        receiving.receive(2 * place + 1, memoryview(b"x"), last=False)
    with pytest.raises(StreamPacketError) as caught:
        receiving.check(2 * MAX_SEGMENTS + 1, 1, last=False)
    assert caught.value.fault is Fault.TOO_MANY_SEGMENTS
    # What is next is always taken.
    receiving.check(0, 1, last=False)


def test_segments_are_few_where_there_is_little_credit() -> None:
    # Else a thousand streams of which nobody reads would hold millions of them.
    receiving = ReceivingHalf()
    kept = 0
    with pytest.raises(StreamPacketError):
        for place in range(1, INITIAL_CREDIT, 2):
            receiving.check(place, 1, last=False)
            receiving.receive(place, memoryview(b"x"), last=False)
            kept += 1
    assert kept == INITIAL_CREDIT // SEGMENT_CREDIT
    # As many as fill the window are enough, if they are as large as packets are.
    receiving = ReceivingHalf()
    for place in range(SEGMENT_CREDIT, INITIAL_CREDIT, SEGMENT_CREDIT):
        receiving.check(place, SEGMENT_CREDIT, last=False)
        receiving.receive(place, memoryview(bytes(SEGMENT_CREDIT)), last=False)


@pytest.mark.parametrize("cue", [ReceivingCue.PEER_GIVES_UP, ReceivingCue.STOP])
def test_nothing_can_be_read_of_what_was_given_up(cue: ReceivingCue) -> None:
    receiving = ReceivingHalf()
    receiving.receive(0, memoryview(b"half of it"), last=False)
    assert receiving.available == 10
    receiving.advance(cue)
    assert receiving.available == 0


def test_small_pieces_of_large_packets_do_not_keep_them() -> None:
    receiving = ReceivingHalf()
    packet = bytes(60_000)
    for start in (2000, 0):
        receiving.receive(start, memoryview(packet)[:1100], last=False)
    held = [chunk.obj for chunk in receiving._ready if isinstance(chunk, memoryview)]  # pyright: ignore[reportPrivateUsage]
    held += [chunk.obj for chunk in receiving._segments]  # pyright: ignore[reportPrivateUsage]
    assert packet not in held


@pytest.mark.parametrize("stage", SendingStage)
def test_sending_halves_follow_their_table(stage: SendingStage) -> None:
    for cue in SendingCue:
        half = SendingHalf(opens=True)
        half.stage = stage
        expected = SENDING_TRANSITIONS.get((stage, cue))
        assert half.advance(cue) == (expected is not None)
        assert half.stage is (expected or stage)


@pytest.mark.parametrize("stage", ReceivingStage)
def test_receiving_halves_follow_their_table(stage: ReceivingStage) -> None:
    for cue in ReceivingCue:
        half = ReceivingHalf()
        half.stage = stage
        expected = RECEIVING_TRANSITIONS.get((stage, cue))
        assert half.advance(cue) == (expected is not None)
        assert half.stage is (expected or stage)


def test_an_opening_that_was_lost_is_sent_again() -> None:
    half = SendingHalf(opens=True)
    assert half.has_something()
    opening = half.take(100)
    assert opening == (0, 0)
    assert not half.has_something()
    half.lose(*opening)
    assert half.has_something()
    half.write(b"data")
    half.advance(SendingCue.FINISH)
    assert half.take(100) == (0, 5)
    # That opens it too.
    half.lose(*opening)
    assert not half.has_something()


def test_credit_stops_the_bytes_and_not_the_end() -> None:
    half = SendingHalf(opens=False)
    half.write(bytes(INITIAL_CREDIT))
    half.advance(SendingCue.FINISH)
    assert half.take(10**6) == (0, INITIAL_CREDIT + 1)
    half = SendingHalf(opens=False)
    half.write(bytes(INITIAL_CREDIT + 1))
    assert half.take(10**6) == (0, INITIAL_CREDIT)
    assert not half.has_something()
    assert not half.credit(INITIAL_CREDIT)
    assert half.credit(INITIAL_CREDIT + 1)
    assert half.has_something()
