"""What is lost, and when: RFC 9002 with room for packets that overtake each other."""

from __future__ import annotations

import math
import random
from typing import Final

import pytest

from knet_trio.streams._core.congestion import (
    INITIAL_PIECES,
    MIN_PIECES,
    CongestionControl,
    NewReno,
)
from knet_trio.streams._core.cubic import CUBIC_LOSS, Cubic
from knet_trio.streams._core.limits import (
    INITIAL_RTT,
    MAX_ACK_DELAY,
    MAX_PROBE_TIMEOUT,
    PACKET_THRESHOLD,
    TIME_THRESHOLD,
)
from knet_trio.streams._core.recovery import Recovery, SentRun
from knet_trio.streams._core.round_trip import RoundTripEstimate
from knet_trio.streams._core.stream_state import StreamState
from knet_trio.streams._core.wire import StreamKind

SIZE: Final = 1000
RTT: Final = 0.125
STREAM: Final = StreamState(0, StreamKind.STREAM)


def make(congestion: type[CongestionControl] = NewReno) -> Recovery:
    return Recovery(congestion(SIZE))


def send(recovery: Recovery, number: int, now: float, count: int = 1) -> None:
    piece = STREAM, 10 * number, 10 * (number + count)
    recovery.sent(SentRun(number, count, now, SIZE, (piece,)))
    recovery.arm(now)


def numbers(runs: list[SentRun]) -> list[int]:
    for run in runs:
        # Each part has its own part of the piece.
        assert run.pieces == ((STREAM, 10 * run.number, 10 * (run.number + run.count)),)
    return [run.number + place for run in runs for place in range(run.count)]


@pytest.mark.parametrize("in_runs", [False, True])
def test_a_packet_is_lost_when_the_third_after_it_arrives(in_runs: bool) -> None:
    recovery = make()
    if in_runs:
        send(recovery, 0, 0.0, 10)
    else:
        for number in range(10):
            send(recovery, number, 0.0)
    arrived, lost = recovery.acknowledged([(1, PACKET_THRESHOLD)], 0, RTT)
    assert (numbers(arrived), numbers(lost)) == ([1, 2], [])
    assert recovery.in_flight == 8 * SIZE
    arrived, lost = recovery.acknowledged([(1, PACKET_THRESHOLD + 1)], 0, RTT)
    assert (numbers(arrived), numbers(lost)) == ([3], [0])
    assert recovery.in_flight == 6 * SIZE
    assert recovery.lost_packets == 1
    arrived, lost = recovery.acknowledged([(8, 10), (5, 6), (1, 4)], 0, RTT)
    assert (numbers(arrived), numbers(lost)) == ([5, 8, 9], [4, 6])
    assert recovery.loss_deadline == pytest.approx(RTT * TIME_THRESHOLD)
    assert numbers(recovery.find_lost(recovery.loss_deadline)) == [7]
    assert recovery.in_flight == len(recovery) == 0


def test_nothing_is_lost_before_something_later_has_arrived() -> None:
    recovery = make()
    send(recovery, 0, 0.0, 3)
    assert recovery.loss_deadline == math.inf
    assert recovery.find_lost(1000.0) == []


def test_probes_have_what_is_oldest_and_come_ever_later() -> None:
    recovery = make()
    send(recovery, 0, 0.0, 10)
    timeout = 3 * INITIAL_RTT + MAX_ACK_DELAY
    assert recovery.probe_deadline == pytest.approx(timeout)
    now = 0.0
    for doubled in (2, 4, 8, 16):
        now = recovery.probe_deadline
        assert numbers(recovery.probe(now, 2)) == [0, 1]
        assert recovery.probe_deadline - now == pytest.approx(
            min(doubled * timeout, MAX_PROBE_TIMEOUT)
        )
    # They are still on their way.
    assert recovery.in_flight == 10 * SIZE
    recovery.acknowledged([(0, 10)], 0, now + RTT)
    assert recovery.probe_deadline == math.inf
    send(recovery, 10, now)
    assert recovery.probe_deadline < now + 10


def test_news_of_the_links_make_probes_soon() -> None:
    recovery = make()
    recovery.hint(5.0)
    assert recovery.probe_deadline == math.inf
    send(recovery, 0, 0.0)
    for _ in range(5):
        recovery.probe(recovery.probe_deadline, 2)
    recovery.hint(20.0)
    assert recovery.probe_deadline <= 20.001


def test_packets_that_overtake_others_are_learned_from() -> None:
    recovery = make()
    send(recovery, 0, 0.0, 20)
    window = recovery.congestion.window
    _, lost = recovery.acknowledged([(10, 20)], 0, RTT)
    assert numbers(lost) == list(range(10))
    assert recovery.congestion.window < window
    arrived, lost = recovery.acknowledged([(0, 20)], 0, RTT + 0.01)
    assert (numbers(arrived), numbers(lost)) == (list(range(10)), [])
    assert recovery.spurious == 10
    # None was lost, so the window is what it was, and the same does not happen again.
    assert recovery.congestion.window >= window
    send(recovery, 20, 1.0, 20)
    _, lost = recovery.acknowledged([(30, 40)], 0, 1.0 + RTT)
    assert lost == []


@pytest.mark.parametrize("congestion", [NewReno, Cubic])
def test_persistent_congestion(congestion: type[CongestionControl]) -> None:
    recovery = make(congestion)
    send(recovery, 0, 0.0)
    recovery.acknowledged([(0, 1)], 0, RTT)
    for number in range(1, 40):
        send(recovery, number, number * 0.1)
    _, lost = recovery.acknowledged([(39, 40)], 0, 4.0)
    assert len(lost) > 30
    # One has arrived since.
    assert recovery.congestion.window == (MIN_PIECES + 1) * SIZE


def test_losses_with_arrivals_between_are_not_persistent() -> None:
    recovery = make()
    send(recovery, 0, 0.0)
    recovery.acknowledged([(0, 1)], 0, RTT)
    for number in range(1, 40):
        send(recovery, number, number * 0.1)
    every_third = [(number, number + 1) for number in range(39, 0, -3)]
    recovery.acknowledged(every_third, 0, 4.0)
    assert recovery.congestion.window > MIN_PIECES * SIZE


@pytest.mark.parametrize("seed", range(100))
def test_runs_are_as_good_as_single_packets(seed: int) -> None:
    draw = random.Random(seed)
    runs, singles = make(Cubic), make(Cubic)
    sent, now = 0, 0.0
    for _ in range(60):
        now += draw.random() * 0.05
        if draw.random() < 0.5:
            count = draw.randrange(1, 20)
            send(runs, sent, now, count)
            for number in range(sent, sent + count):
                send(singles, number, now)
            sent += count
        elif sent:
            low = max(0, sent - 40)
            picked = sorted({draw.randrange(low, sent) for _ in range(draw.randrange(1, 15))})
            ranges = [(number, number + 1) for number in reversed(picked)]
            for one, other in zip(
                runs.acknowledged(ranges, 0, now), singles.acknowledged(ranges, 0, now), strict=True
            ):
                assert sorted(numbers(one)) == sorted(numbers(other))
        else:
            continue
        for name in ("in_flight", "loss_deadline", "probe_deadline", "lost_packets", "spurious"):
            assert getattr(runs, name) == getattr(singles, name), name
        assert runs.congestion.window == singles.congestion.window


class TestRoundTrip:
    def test_the_first_one_is_taken_as_it_is(self) -> None:
        estimate = RoundTripEstimate()
        assert (estimate.smooth, estimate.is_measured) == (INITIAL_RTT, False)
        estimate.measure(RTT, 1.0)
        assert (estimate.smooth, estimate.variation, estimate.least) == (RTT, RTT / 2, RTT)

    def test_delays_of_acknowledgements_are_taken_off(self) -> None:
        estimate = RoundTripEstimate()
        estimate.measure(RTT, 0)
        for _ in range(200):
            estimate.measure(RTT + MAX_ACK_DELAY, MAX_ACK_DELAY)
        assert estimate.smooth == pytest.approx(RTT)
        # But no more than may be, and none that would make it shorter than it can be.
        estimate.measure(RTT + 1, 1.0)
        assert estimate.smooth > RTT
        estimate.measure(RTT, 1.0)
        assert estimate.least == RTT


class TestCongestion:
    def grow(self, control: CongestionControl, round_trips: int, now: float) -> float:
        for _ in range(round_trips):
            sent = now
            now += RTT
            for _ in range(control.window // SIZE):
                control.acknowledged(SIZE, sent, now, RTT, full=True)
        return now

    @pytest.mark.parametrize("make_control", [NewReno, Cubic])
    def test_it_doubles_before_the_first_loss(self, make_control: type[CongestionControl]) -> None:
        control = make_control(SIZE)
        self.grow(control, 3, 1.0)
        assert control.window == 8 * INITIAL_PIECES * SIZE
        control.acknowledged(SIZE, 2.0, 2.0, RTT, full=False)
        assert control.window == 8 * INITIAL_PIECES * SIZE

    @pytest.mark.parametrize(("make_control", "share"), [(NewReno, 0.5), (Cubic, CUBIC_LOSS)])
    def test_a_loss_counts_once_a_round_trip(
        self, make_control: type[CongestionControl], share: float
    ) -> None:
        control = make_control(SIZE)
        now = self.grow(control, 4, 1.0)
        before = control.window
        assert control.lost(SIZE, now, now, 0.0)
        assert control.window == int(before * share)
        assert not control.lost(SIZE, now, now, 0.0)
        assert control.lost(SIZE, now + 1, now + 1, 0.0)
        for _ in range(20):
            now += 2
            control.lost(SIZE, now, now, 0.0)
        assert control.window == MIN_PIECES * SIZE

    def test_new_reno_grows_by_a_packet_a_round_trip(self) -> None:
        control = NewReno(SIZE)
        now = self.grow(control, 4, 1.0)
        control.lost(SIZE, now, now, 0.0)
        before = control.window
        self.grow(control, 10, now + 1)
        assert 9 * SIZE <= control.window - before <= 10 * SIZE

    def test_cubic_comes_back_to_where_it_was_and_stays_there_for_a_while(self) -> None:
        control = Cubic(SIZE)
        now = self.grow(control, 6, 1.0)
        peak = control.window
        control.lost(SIZE, now, now, 0.0)
        # The time to the peak, after the RFC: the cube root of what is missing, in packets.
        climb = (peak * (1 - CUBIC_LOSS) / SIZE / 0.4) ** (1 / 3)
        now = self.grow(control, int(climb / RTT), now + 0.01)
        assert control.window == pytest.approx(peak, rel=0.05)
        now = self.grow(control, int(climb / RTT / 4), now)
        assert control.window == pytest.approx(peak, rel=0.1)
        self.grow(control, int(climb / RTT), now)
        assert control.window > 1.15 * peak

    def test_larger_packets_have_a_larger_least_window(self) -> None:
        control = Cubic(SIZE)
        control.set_piece(100 * SIZE)
        assert control.window == MIN_PIECES * 100 * SIZE
