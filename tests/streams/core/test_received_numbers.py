"""Whatever numbers come, what is said of them fits into an acknowledgement, and is true."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from knet_trio.streams._core.connection import Connection
from knet_trio.streams._core.cubic import Cubic
from knet_trio.streams._core.faults import Fault, StreamPacketError
from knet_trio.streams._core.limits import MAX_JUMP, MAX_NUMBER
from knet_trio.streams._core.received_numbers import ReceivedNumbers
from knet_trio.streams._core.wire import HEADER_SIZE, PING_FRAME, AckFrame, StreamPacketKind
from knet_trio.streams._core.wire_reading import read_frames_untrusted
from knet_trio.streams._core.wire_writing import write_ack, write_packet

NUMBERS = st.one_of(
    st.integers(0, 40),
    st.integers(0, MAX_NUMBER),
    st.builds(int.__add__, st.sampled_from([MAX_JUMP, 2**32, 2**33]), st.integers(-3, 40)),
)
RANGES = st.lists(st.tuples(st.integers(1, 2**34), st.integers(1, 2**34)), min_size=1, max_size=60)


def read(ack: bytes) -> AckFrame:
    """Read an acknowledgement as the other side does."""
    (frame,) = read_frames_untrusted(bytes(HEADER_SIZE) + ack)
    assert isinstance(frame, AckFrame)
    return frame


@given(st.lists(NUMBERS, max_size=60), st.floats(0, 1e9))
@example([0, 2**32 + 2], 0.0)
@example([0, MAX_JUMP, 2 * MAX_JUMP, 2 * MAX_JUMP + 1, 1], 5000.0)
def test_any_numbers_are_acknowledged_or_refused(numbers: list[int], later: float) -> None:
    connection = Connection(1, Cubic(1400), checked=False)
    accepted: set[int] = set()
    kind = StreamPacketKind.FRAMES
    for number in numbers:
        packet = write_packet(kind, 2, 1, number, (PING_FRAME,), checked=False)
        if number in accepted:
            fault = Fault.DUPLICATE
        elif number > max(accepted, default=-1) + MAX_JUMP:
            fault = Fault.NUMBER_TOO_FAR
        else:
            connection.receive(packet, number, 1.0)
            accepted.add(number)
            continue
        with pytest.raises(StreamPacketError) as caught:
            connection.receive(packet, number, 1.0)
        assert caught.value.fault is fault
    if accepted:
        ack = read(connection.received.write(1.0 + later, 1400))
        acked = {number for number in accepted if any(a <= number < b for a, b in ack.ranges)}
        assert acked == accepted
        assert sum(end - start for start, end in ack.ranges) == len(accepted)


@given(RANGES, st.floats(0, 1e9))
def test_ranges_of_any_length_are_told_as_far_as_they_fit(
    steps: list[tuple[int, int]], delay: float
) -> None:
    ranges: list[tuple[int, int]] = []
    low = 2**62
    for gap, length in steps:
        high = low - gap
        low = high - length
        ranges.append((low, high))
    found = read(write_ack(ranges, delay)).ranges
    assert found[0][1] == ranges[0][1]
    # The first of them as they are, but for the last one, which may be the upper part of its.
    assert found[:-1] == tuple(ranges[: len(found) - 1])
    low, high = ranges[len(found) - 1]
    assert found[-1][1] == high
    assert found[-1][0] >= low
    fits = all(gap < 2**32 and length < 2**32 for gap, length in steps[1:]) and steps[0][1] < 2**32
    assert not fits or found == tuple(ranges)


@pytest.mark.parametrize("count", [2**32 - 1, 2**32, 2**33])
def test_more_numbers_in_a_row_than_fit(count: int) -> None:
    received = ReceivedNumbers()
    received.add(0, 1, 0.0, eliciting=True, asks=False)
    received.add(2, count, 0.0, eliciting=True, asks=False)
    received.add(count + 3, 1, 0.0, eliciting=True, asks=True)
    ranges = read(received.write(1.0, 1400)).ranges
    assert ranges[0] == (count + 3, count + 4)
    assert ranges[1] == (max(2, count + 2 - (2**32 - 1)), count + 2)
    assert len(ranges) == (3 if count < 2**32 else 2)


def test_a_number_that_jumps_too_far_changes_nothing() -> None:
    connection = Connection(1, Cubic(1400), checked=False)
    for number, fits in ((MAX_JUMP, False), (MAX_JUMP - 1, True), (2 * MAX_JUMP, False), (5, True)):
        packet = write_packet(StreamPacketKind.FRAMES, 2, 1, number, (PING_FRAME,), checked=False)
        if fits:
            connection.receive(packet, number, 1.0)
        else:
            with pytest.raises(StreamPacketError) as caught:
                connection.receive(packet, number, 1.0)
            assert caught.value.fault is Fault.NUMBER_TOO_FAR
            assert number not in connection.received
    assert connection.received.largest == MAX_JUMP - 1
