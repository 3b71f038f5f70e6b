"""Pings and pongs to up and down. Times here are binary fractions, so that sums are exact."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.liveness import (
    DEFAULT_PING_INTERVAL,
    DEFAULT_PONG_TIMEOUT,
    INITIAL_BACKOFF,
    STALL,
    Liveness,
    PongOutcome,
)

START = 1000.0
# Far below every time that matters here, far above what a float loses in a sum.
JUST = 2.0**-20

EIGHTHS = st.integers(1, 80).map(lambda n: n / 8)


def answer(link: Liveness, now: float, latency: float = 0.0) -> PongOutcome:
    """A ping sent ``latency`` ago comes back."""
    return link.pong_received(now, link.ping_time(now - latency))


def link_up(
    *, timeout: float = 2.0, interval: float = 1.0, latency: float = 0.0, at: float = START
) -> Liveness:
    """A link that came up at ``at``, where it was also configured."""
    link = Liveness(at - latency, interval=interval, timeout=timeout, pong_count=1)
    link.next_ping = at
    assert answer(link, at, latency) is PongOutcome.COUNTED
    assert answer(link, at, latency) is PongOutcome.WENT_UP
    return link


def is_up(link: Liveness) -> bool:
    return link.connected


def extremes(link: Liveness) -> tuple[float | None, float | None]:
    return link.latency_min, link.latency_max


class TestUp:
    @given(st.integers(1, 10))
    def test_a_link_comes_up_with_one_pong_more_than_the_count(self, pong_count: int) -> None:
        link = Liveness(START, pong_count=pong_count)
        for i in range(pong_count):
            assert answer(link, START + i) is PongOutcome.COUNTED
            assert not link.connected
        assert answer(link, START + pong_count) is PongOutcome.WENT_UP
        assert link.connected
        assert answer(link, START + pong_count) is PongOutcome.COUNTED

    def test_a_new_link_is_down_and_pings_at_once(self) -> None:
        link = Liveness(START)
        assert not link.connected
        assert link.last_pong is None
        assert link.deadline == START
        assert link.poll(START) == (True, False)

    def test_a_pong_later_than_the_timeout_changes_nothing(self) -> None:
        link = Liveness(START, timeout=2.0, pong_count=1)
        assert answer(link, START + 5, latency=2.0) is PongOutcome.COUNTED
        before = (link.counted, link.last_pong, link.latency)
        assert answer(link, START + 6, latency=2.0 + JUST) is PongOutcome.LATE
        assert (link.counted, link.last_pong, link.latency) == before

    def test_counting_begins_anew_after_a_silence_longer_than_the_adjusted_timeout(self) -> None:
        link = Liveness(START, timeout=2.0, pong_count=2)
        answer(link, START)
        answer(link, START)
        # 20 s later the backoff is 1, so the two pongs before are of no use any more.
        assert answer(link, START + 20) is PongOutcome.COUNTED
        assert link.counted == 1
        assert answer(link, START + 20) is PongOutcome.COUNTED
        assert answer(link, START + 20) is PongOutcome.WENT_UP


class TestTimes:
    """What a ping carries."""

    @given(st.lists(st.tuples(st.booleans(), st.floats(0, 10)), min_size=1, max_size=30))
    def test_no_two_are_the_same_and_none_is_far_from_the_time(
        self, pings: list[tuple[bool, float]]
    ) -> None:
        link = Liveness(START)
        now = START
        times: list[float] = []
        for asks, wait in pings:
            now += wait
            times.append(link.challenge_time(now) if asks else link.ping_time(now))
            assert now <= times[-1] < now + JUST
        assert times == sorted(set(times))

    @given(st.floats())
    def test_one_that_was_never_sent_does_nothing(self, sent: float) -> None:
        link = Liveness(START)
        assert not link.expects(START + 1, sent)
        assert link.pong_received(START + 1, sent) is PongOutcome.UNEXPECTED
        assert link.last_pong is None
        assert link.counted == 0

    @pytest.mark.parametrize(
        "sent",
        [math.nan, math.inf, -math.inf, START - 1, START + 2],
        ids=["nan", "inf", "-inf", "before the start", "in the future"],
    )
    def test_one_that_cannot_be_does_nothing(self, sent: float) -> None:
        link = Liveness(START)
        link.ping_time(START)
        assert not link.expects(START + 1, sent)
        assert link.pong_received(START + 1, sent) is PongOutcome.UNEXPECTED
        assert link.last_pong is None

    def test_is_good_for_one_pong_and_so_are_those_before(self) -> None:
        link = Liveness(START)
        first, second = link.ping_time(START), link.ping_time(START)
        assert link.pong_received(START, second) is PongOutcome.COUNTED
        for sent in (first, second):
            assert not link.expects(START, sent)
            assert link.pong_received(START, sent) is PongOutcome.UNEXPECTED

    @pytest.mark.parametrize("later", [0.0, 1.0])
    def test_pongs_of_before_a_restart_are_not_counted(self, later: float) -> None:
        link = Liveness(START)
        old = link.ping_time(START)
        link.restart(START + later)
        assert not link.expects(START + later, old)
        assert link.pong_received(START + later, old) is PongOutcome.UNEXPECTED
        assert answer(link, START + later) is PongOutcome.COUNTED

    def test_a_pong_is_expected_as_long_as_it_would_count(self) -> None:
        link = Liveness(START, timeout=2.0)
        sent = link.challenge_time(START)
        assert link.expects(START + 2, sent)
        assert not link.expects(START + 2 + JUST, sent)
        assert link.pong_received(START + 2, sent) is PongOutcome.COUNTED

    def test_nobody_waits_for_a_ping_to_another_place(self) -> None:
        link = Liveness(START, pong_count=1)
        answer(link, START)
        answer(link, START)
        link.challenge_time(START)
        assert not link.suspect(START + 100)


class TestLatency:
    @given(st.lists(st.integers(0, 16).map(lambda n: n / 8), min_size=1, max_size=30))
    def test_latency_is_the_mean_and_its_extremes_are_kept(self, latencies: list[float]) -> None:
        link = Liveness(START)
        for i, latency in enumerate(latencies, start=1):
            answer(link, START + 2 * i, latency)
        assert math.isclose(link.latency, sum(latencies) / len(latencies), abs_tol=JUST)
        assert link.latency_min == min(latencies)
        assert link.latency_max == max(latencies)
        assert link.latency_samples == len(latencies)

    def test_the_mean_is_limited_to_so_many_samples(self) -> None:
        link = Liveness(START, samples=4)
        for i in range(10):
            answer(link, START + 10 + i, 1.0)
        answer(link, START + 25, 2.0)
        assert link.latency == 1.25
        assert link.latency_samples == 4

    def test_cleared_statistics_begin_with_the_next_pong(self) -> None:
        link = Liveness(START)
        answer(link, START + 10, 2.0)
        link.clear_latency()
        assert extremes(link) == (None, None)
        answer(link, START + 20, 0.5)
        assert extremes(link) == (0.5, 0.5)
        assert link.latency == 0.5
        assert link.latency_samples == 1


class TestRoundTrips:
    """All pings that were answered in time are counted, whatever becomes of the link."""

    def ping(self, link: Liveness, now: float) -> float:
        sent = link.ping_time(now)
        link.left(sent, now)
        return sent

    def test_each_ping_counts_once(self) -> None:
        link = Liveness(START)
        sent = self.ping(link, START)
        link.pong_received(START + 0.25, sent)
        link.pong_received(START + 0.5, sent)
        assert sum(link.round_trips.counts) == 1
        assert link.round_trips.total == 0.25

    def test_late_answers_and_forged_ones_do_not_count(self) -> None:
        link = Liveness(START, timeout=2.0)
        sent = self.ping(link, START)
        link.pong_received(START + 0.25, START + 0.125)
        link.pong_received(START + 2.5, sent)
        assert sum(link.round_trips.counts) == 0

    def test_an_answer_after_that_to_a_later_ping_counts_too(self) -> None:
        link = Liveness(START)
        first, second = self.ping(link, START), self.ping(link, START + 0.25)
        link.pong_received(START + 0.5, second)
        assert link.pong_received(START + 0.75, first) is PongOutcome.UNEXPECTED
        assert sum(link.round_trips.counts) == 2
        assert link.round_trips.total == 1.0

    def test_they_outlast_the_link_but_not_clearing(self) -> None:
        link = Liveness(START)
        link.pong_received(START + 0.25, self.ping(link, START))
        link.restart(START + 1)
        assert sum(link.round_trips.counts) == 1
        link.clear_latency()
        assert sum(link.round_trips.counts) == 0
        assert link.round_trips.total == 0.0


class TestBackoff:
    def test_it_is_ten_when_configured_and_falls_by_one_a_second_to_one(self) -> None:
        link = Liveness(START)
        assert [link.backoff(START + i) for i in range(12)] == [
            *range(INITIAL_BACKOFF, 0, -1),
            1,
            1,
        ]
        assert link.backoff(START + 1 - JUST) == 10

    def test_it_is_ten_again_when_the_link_goes_down(self) -> None:
        link = link_up()
        link.fail(START + 50)
        assert link.backoff(START + 50) == 10
        assert link.backoff(START + 53) == 7

    def test_it_does_not_change_when_the_link_comes_up(self) -> None:
        link = Liveness(START, pong_count=1)
        answer(link, START + 4)
        answer(link, START + 4)
        assert link.connected
        assert link.backoff(START + 4) == 6

    def test_the_adjusted_timeout_is_stretched_by_it_and_by_twice_the_latency(self) -> None:
        link = link_up(timeout=0.5, latency=0.25)
        assert link.adjusted_timeout(START - 0.25) == pytest.approx(0.5 * 10 + 0.5)
        assert link.adjusted_timeout(START + 100) == pytest.approx(0.5 * 1 + 0.5)


class TestDown:
    @pytest.mark.parametrize(
        ("timeout", "latency", "silence"),
        [
            # The timeout of a settled link, without and with latency.
            (2.0, 0.0, 2.0),
            (2.0, 0.5, 3.0),
            (0.5, 0.125, 0.75),
        ],
    )
    def test_a_settled_link_goes_down_after_the_timeout_and_twice_the_latency(
        self, timeout: float, latency: float, silence: float
    ) -> None:
        link = link_up(timeout=timeout, latency=latency)
        answer(link, START + 100, latency)
        down_at = START + 100 + silence
        assert link.poll(down_at - JUST)[1] is False
        assert is_up(link)
        assert link.poll(down_at)[1] is True
        assert not is_up(link)
        assert link.counted == 0
        assert link.poll(down_at)[1] is False

    @pytest.mark.parametrize(
        ("timeout", "silence"),
        [
            # 10 × 0.0625 < 1 s: over before the backoff falls at all.
            (0.0625, 0.625),
            # At 5 s the backoff is 5: 5 × 1.0 = 5.
            (1.0, 5.0),
            # At 6 s it falls from 5 to 4: silence was less than 10 and is more than 6.
            (1.5, 6.0),
            # At 7 s it falls from 4 to 3: silence was less than 8 and is more than 6.
            (2.0, 7.0),
            # From 9 s on it is 1.
            (8.0, 9.0),
            (9.5, 9.5),
            (20.0, 20.0),
        ],
    )
    def test_a_link_that_has_just_come_up_is_given_more_time(
        self, timeout: float, silence: float
    ) -> None:
        link = link_up(timeout=timeout)
        assert link.poll(START + silence - JUST)[1] is False
        assert link.poll(START + silence)[1] is True

    @given(EIGHTHS, st.integers(0, 16).map(lambda n: n / 8), st.integers(0, 100))
    def test_it_goes_down_exactly_when_the_silence_reaches_the_adjusted_timeout(
        self, timeout: float, latency: float, age: int
    ) -> None:
        """The time found by steps of the backoff, against a search with a ruler."""
        latency = min(latency, timeout)
        link = link_up(timeout=timeout, latency=latency)
        last = START + age / 8
        if age:
            answer(link, last, latency)
        now = last
        while link.overdue(now) < link.adjusted_timeout(now):
            assert link.poll(now)[1] is False
            now += 1 / 8
        assert link.poll(now)[1] is True

    def test_a_failure_the_network_reports_takes_it_down_at_once(self) -> None:
        link = link_up()
        link.fail(START + 1)
        assert not link.connected
        assert answer(link, START + 2) is PongOutcome.COUNTED
        assert answer(link, START + 2) is PongOutcome.WENT_UP

    def test_silence_is_counted_from_the_last_pong_or_from_the_start(self) -> None:
        link = Liveness(START)
        assert link.overdue(START + 3) == 3
        answer(link, START + 5)
        assert link.overdue(START + 7) == 2

    def test_a_connected_link_without_a_pong_since_its_restart_is_silent_from_there(self) -> None:
        link = Liveness(START, timeout=0.0625)
        link.connected = True
        assert link.deadline == START
        assert link.poll(START) == (True, False)
        assert link.deadline == START + 0.625
        assert link.poll(START + 0.625) == (False, True)


class TestSchedule:
    @given(
        st.integers(1, 64).map(lambda n: n / 16),
        st.lists(st.integers(1, 200).map(lambda n: n / 32), max_size=40),
    )
    def test_pings_stay_on_the_grid_however_late_the_poll(
        self, interval: float, delays: list[float]
    ) -> None:
        link = Liveness(START, interval=interval)
        now = START
        for delay in [0.0, *delays]:
            now += delay
            due = now >= link.next_ping
            assert link.poll(now)[0] is due
            # Whenever it was started: so all links of one interval have one grid.
            assert (link.next_ping / interval).is_integer()
            assert now < link.next_ping <= now + 1.5 * interval
            if due:
                assert link.next_ping >= now + interval / 2

    def test_pings_missed_are_not_made_up_for(self) -> None:
        link = Liveness(START)
        link.poll(START)
        assert link.poll(START + 10.5) == (True, False)
        assert link.poll(START + 10.5) == (False, False)
        assert link.next_ping == START + 11

    @given(
        st.floats(0.001, 10),
        st.floats(0.001, 10),
        st.integers(1, 5),
        st.lists(st.booleans(), min_size=60, max_size=60),
        st.floats(0, 1e9),
    )
    def test_polling_at_the_deadline_always_makes_progress(
        self,
        interval: float,
        timeout: float,
        pong_count: int,
        answered: list[bool],
        start: float,
    ) -> None:
        """A clock that only jumps to the deadline, whatever the timers and lost pongs."""
        link = Liveness(start, interval=interval, timeout=timeout, pong_count=pong_count)
        now = start
        for comes in answered:
            now = max(now, link.deadline)
            was_up = link.connected
            ping_due, went_down = link.poll(now)
            assert ping_due or went_down
            assert link.connected is (was_up and not went_down)
            assert link.deadline > now
            if ping_due and comes:
                answer(link, now)
        assert now > start

    def test_a_restarted_link_is_down_and_pings_at_once(self) -> None:
        link = link_up()
        link.poll(START)
        link.restart(START + 3.25)
        assert not link.connected
        assert link.last_pong is None
        assert link.deadline == START + 3.25
        assert link.backoff(START + 3.25) == 10

    def test_a_shorter_interval_holds_from_now_and_a_longer_one_from_the_next_ping(self) -> None:
        link = Liveness(START, interval=4.0)
        link.poll(START)
        link.set_timers(START + 1, 0.5, 3.0, 10)
        assert link.next_ping == START + 1.5
        link.set_timers(START + 1, 8.0, 3.0, 10)
        assert link.next_ping == START + 1.5
        link.poll(START + 1.5)
        assert link.next_ping == START + 8
        assert (link.interval, link.timeout, link.samples) == (8.0, 3.0, 10)

    def test_a_shorter_timeout_may_take_a_running_link_down_at_the_next_poll(self) -> None:
        link = link_up(timeout=2.0)
        answer(link, START + 100)
        link.poll(START + 101)
        link.set_timers(START + 101, 1.0, 0.25, 10)
        assert link.deadline < START + 101
        assert link.poll(START + 101)[1] is True
        assert link.deadline > START + 101

    def test_the_defaults_are_those_of_the_protocol(self) -> None:
        assert (DEFAULT_PING_INTERVAL, DEFAULT_PONG_TIMEOUT) == (1.0, 2.0)
        link = Liveness(START)
        assert (link.samples, link.pong_count) == (2048, 5)


class TestStall:
    """The process was stopped, or kept busy, for longer than the pong timeout."""

    def test_what_came_meanwhile_is_looked_at_first(self) -> None:
        link = Liveness(0.0, interval=1.0, timeout=0.5, pong_count=1)
        for now in (0.0, 1.0, *(float(second) for second in range(2, 21))):
            link.poll(now)
            link.pong_received(now, link.ping_time(now))
        assert link.connected
        pending = link.ping_time(20.0)
        link.excuse(30.0)
        assert link.poll(30.0) == (True, False)
        # Silence still counts, once the peer has had its time again.
        assert link.deadline == 30.5
        link.pong_received(30.4, link.ping_time(30.0))
        assert link.poll(30.5) == (False, False)
        assert link.pong_received(30.6, pending) is PongOutcome.UNEXPECTED

    def test_a_link_that_stays_silent_goes_down_all_the_same(self) -> None:
        link = Liveness(0.0, interval=1.0, timeout=0.5, pong_count=1)
        for now in range(21):
            link.poll(float(now))
            link.pong_received(float(now), link.ping_time(float(now)))
        link.excuse(30.0)
        assert link.poll(30.0) == (True, False)
        assert link.poll(30.4) == (False, False)
        assert link.poll(30.5) == (False, True)

    @pytest.mark.parametrize("away", [0.01, 0.3])
    def test_who_was_away_for_a_moment_gives_no_more_than_that(self, away: float) -> None:
        link = Liveness(0.0, interval=0.5, timeout=1.0, pong_count=1)
        for tick in range(41):
            link.poll(tick / 2)
            link.pong_received(tick / 2, link.ping_time(tick / 2))
        assert link.poll(20.5) == (True, False)
        assert link.deadline == 21.0
        link.excuse(21.0 + away)
        assert link.poll(21.0 + away) == (True, False)
        assert link.deadline == pytest.approx(21.0 + away + max(STALL, away))
        assert link.poll(link.deadline)[1] is True


class TestSuspicion:
    def test_a_pong_later_than_usual_makes_it_suspect_until_it_comes(self) -> None:
        link = Liveness(0.0, interval=1.0, timeout=10.0, pong_count=1)
        for now in range(5):
            sent = link.ping_time(float(now))
            assert link.pong_received(now + 0.01, sent) is not PongOutcome.UNEXPECTED
        assert not link.suspect(4.9)
        late = link.ping_time(5.0)
        assert not link.suspect(5.02)
        assert link.suspect(5.05)
        link.pong_received(5.5, late)
        assert not link.suspect(5.6)

    def test_jitter_is_allowed_for(self) -> None:
        link = Liveness(0.0, interval=1.0, timeout=10.0, pong_count=1)
        for now in range(20):
            link.pong_received(now + (0.1 if now % 2 else 0.4), link.ping_time(float(now)))
        link.ping_time(20.0)
        assert not link.suspect(20.45)
        assert link.suspect(22.0)

    def test_with_several_pings_under_way_the_oldest_counts(self) -> None:
        link = Liveness(0.0, interval=0.1, timeout=10.0, pong_count=1)
        first = link.ping_time(0.0)
        link.ping_time(0.1)
        link.pong_received(0.11, first)
        assert not link.suspect(0.12)
        assert link.suspect(1.0)

    def test_a_failed_send_makes_it_suspect_until_a_later_ping_is_answered(self) -> None:
        link = Liveness(0.0, interval=1.0, timeout=10.0, pong_count=1)
        before = link.ping_time(0.0)
        link.doubt()
        link.pong_received(0.6, before)
        assert link.suspect(0.6)
        link.pong_received(1.01, link.ping_time(1.0))
        assert not link.suspect(1.02)

    def test_a_restart_begins_without_suspicion(self) -> None:
        link = Liveness(0.0)
        link.ping_time(0.0)
        link.doubt()
        link.restart(100.0)
        assert not link.suspect(200.0)
