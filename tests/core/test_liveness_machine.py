"""The heartbeat of a link, through whatever can happen to it, against the protocol's sentences.

Time goes by in 64ths of a second, so that sums of times are exact. Averages are not: where a limit
made of one is met to within a billionth, either answer is right.
"""

from __future__ import annotations

import copy
import math
from fractions import Fraction
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from knet_trio._core.inquiry import (
    LOOK_AGAIN,
    PATIENCE,
    PATIENCE_ROUND_TRIPS,
    PAUSE,
    PINGS,
    RETRY,
    SPACING,
)
from knet_trio._core.liveness import STALL, SUSPECT_SLACK, Liveness, PongOutcome

TICK = Fraction(1, 64)
NEARLY = Fraction(1, 10**9)
# In ticks: some of a round trip, some of an interval, some past every timeout.
WAITS = st.one_of(st.integers(0, 4), st.integers(0, 64), st.integers(0, 2000))
INTERVALS = st.sampled_from([4, 16, 64, 96]).map(lambda ticks: ticks * TICK)
TIMEOUTS = st.sampled_from([4, 32, 128, 640]).map(lambda ticks: ticks * TICK)
SAMPLES = st.sampled_from([1, 2, 3, 2048])


class Sent(NamedTuple):
    """A ping that went out, and what it carries: the next number where two go at once."""

    at: Fraction
    time: float


class Question(NamedTuple):
    """What the peer is asked since the network says that it cannot be reached.

    Of the pings, those from number ``after`` on prove something; ``sent`` is how many have left.
    Without any the time has not begun.
    """

    after: int
    patience: Fraction
    due: Fraction | None
    asking: bool = False
    sent: int = 0
    ends: Fraction | None = None


def state(link: Liveness) -> dict[str, object]:
    """All that it remembers."""
    remembered: dict[str, object] = dict(vars(link))
    for name in ("inquiry", "_last_pings", "round_trips"):
        remembered[name] = dict(vars(remembered[name]))
    return remembered


class LivenessMachine(RuleBasedStateMachine):
    """One link, and all that the protocol says of it, kept in exact numbers."""

    @initialize(interval=INTERVALS, timeout=TIMEOUTS, samples=SAMPLES, pong_count=st.integers(1, 3))
    def is_configured(
        self, interval: Fraction, timeout: Fraction, samples: int, pong_count: int
    ) -> None:
        self.now = Fraction(1000)
        self.interval, self.timeout, self.samples = interval, timeout, samples
        self.pong_count = pong_count
        self.link = Liveness(
            float(self.now),
            interval=float(interval),
            timeout=float(timeout),
            samples=samples,
            pong_count=pong_count,
        )
        self.began = self.slowed = self.excused = self.next_ping = self.now
        self.up = False
        self.counted = 0
        self.last_pong: Fraction | None = None
        self.latency = Fraction(0)
        self.weight = 0
        self.sampled: list[Fraction] = []
        self.slowest = Fraction(0)
        self.pings: list[Sent] = []
        # How many of them, from the first, are answered or will not be believed any more.
        self.settled = 0
        # When the first ping without an answer went out, None where there is none or it is not
        # known: of several under way some were answered.
        self.waiting: Fraction | None = None
        # How many pings were sent before a send failed.
        self.doubted: int | None = None
        self.smooth = Fraction(0)
        self.question: Question | None = None
        # When the next may be asked, and whether the socket takes pings.
        self.pause_ends = Fraction(0)
        self.has_room = True

    # What the protocol says.

    @property
    def silence(self) -> Fraction:
        return self.now - (self.began if self.last_pong is None else self.last_pong)

    @property
    def patience(self) -> Fraction:
        """The adjusted timeout."""
        backoff = max(1, 10 - math.floor(self.now - self.slowed))
        return self.timeout * backoff + 2 * self.latency

    def is_undecided(self) -> bool:
        """Whether it hangs on the last bits of an average what happens now."""
        return abs(self.silence - self.patience) < NEARLY or abs(self.now - self.excused) < NEARLY

    def must_ping(self) -> bool:
        return self.now >= self.next_ping

    def must_go_down(self) -> bool:
        return self.up and self.silence >= self.patience and self.now >= self.excused

    def must_be_gone(self) -> bool:
        ends = self.question and self.question.ends
        return ends is not None and self.now >= ends

    def must_ask(self) -> bool:
        due = self.question and self.question.due
        return due is not None and self.now >= due and not self.must_be_gone()

    def is_close(self) -> bool:
        """Whether a time of the question is met to within the last bits."""
        times = (self.question.due, self.question.ends) if self.question else ()
        return any(time is not None and 0 < abs(self.now - time) < NEARLY for time in times)

    def goes_down(self) -> None:
        self.question = None
        self.up = False
        self.counted = 0
        self.slowed = self.now

    # Time.

    def poll(self) -> bool:
        """Do what is due; whether anything was."""
        while self.is_close():
            self.now += TICK
        down = self.must_go_down() or self.must_be_gone()
        asks = self.must_ask()
        ping = self.must_ping() or asks
        undecided = self.up and self.is_undecided()
        self.poll_calmly()
        ping_due, went_down = self.link.poll(float(self.now))
        assert ping_due == ping
        assert went_down == down or undecided
        if asks and self.question is not None:
            if not self.question.asking:
                self.pause_ends = self.now + Fraction(PAUSE)
            self.question = self.question._replace(asking=True, due=self.now + Fraction(RETRY))
        if went_down:
            self.goes_down()
        elif self.counted and self.is_undecided():
            self.counted = self.link.counted
        elif self.silence > self.patience:
            self.counted = 0
        if self.must_ping():
            # The first multiple of the interval that is at least half of one away.
            intervals = math.ceil(self.now / self.interval + Fraction(1, 2))
            self.next_ping = intervals * self.interval
        if ping_due:
            sent = self.link.ping_time(float(self.now))
            self.pings.append(Sent(self.now, sent))
            if self.has_room:
                self.link.left(sent, float(self.now))
            else:
                self.link.found_no_room(float(self.now))
            self._asked()
            if self.waiting is None and self.settled == len(self.pings) - 1:
                self.waiting = self.now
        return ping_due or went_down

    def poll_calmly(self) -> None:
        """What the short way does with a copy of the link is what ``poll`` would do."""
        short, long = copy.deepcopy(self.link), copy.deepcopy(self.link)
        now = float(self.now)
        if not short.poll_calm(now):
            assert state(short) == state(long)
            return
        # Nothing else is due than a ping, and it is not late enough to excuse the peer.
        assert now - long.deadline <= STALL
        assert long.poll(now) == (True, False)
        assert state(short) == state(long)
        assert long.deadline == short.next_ping

    def _asked(self) -> None:
        question = self.question
        if question is None or not question.asking or not self.has_room:
            return
        sent = question.sent + 1
        due = self.now + Fraction(SPACING) * question.patience if sent < PINGS else None
        ends = question.ends if question.sent else self.now + question.patience
        self.question = question._replace(sent=sent, due=due, ends=ends)

    @rule(ticks=WAITS)
    def time_passes(self, ticks: int) -> None:
        self.now += ticks * TICK
        self.poll()

    @rule()
    def it_is_polled_when_it_asks_for_it(self) -> None:
        deadline = Fraction(self.link.deadline)
        now = self.now
        # The last tick before, if that is not over: nothing is to be done there.
        self.now = max(now, math.ceil(deadline / TICK) * TICK - TICK)
        if self.now < deadline - NEARLY:
            assert not self.must_ping()
            assert not self.must_go_down()
            assert self.is_close() or not (self.must_ask() or self.must_be_gone())
        self.now = max(now, math.ceil(deadline / TICK) * TICK)
        assert self.poll()

    @rule(ticks=WAITS)
    def the_process_was_stopped(self, ticks: int) -> None:
        self.now += ticks * TICK
        away = self.now - Fraction(self.link.deadline)
        self.link.excuse(float(self.now))
        patience = max(Fraction(STALL), min(away, self.timeout))
        self.excused = self.now + patience + 2 * self.latency
        if self.question is not None and self.question.ends is not None:
            self.question = self.question._replace(
                ends=max(self.question.ends, self.excused),
                sent=min(self.question.sent, PINGS - 1),
                due=min(self.question.due or self.now, self.now),
            )
        self.poll()

    @precondition(lambda self: self.question is not None and self.question.ends is not None)
    @rule()
    def the_time_is_over_and_something_is_unread(self) -> None:
        assert self.question is not None
        assert self.question.ends is not None
        self.now = max(self.now, math.ceil(self.question.ends / TICK) * TICK + TICK)
        assert self.link.inquiry.is_over(float(self.now))
        self.link.inquiry.postpone(float(self.now))
        self.question = self.question._replace(ends=self.now + Fraction(LOOK_AGAIN))
        self.poll()

    @rule(has_room=st.booleans())
    def the_socket_has_room_or_not(self, has_room: bool) -> None:
        self.has_room = has_room

    # What comes back.

    @precondition(lambda self: self.pings)
    @rule(data=st.data(), ticks=WAITS)
    def a_pong_arrives(self, data: st.DataObject, ticks: int) -> None:
        self.now += ticks * TICK
        # Mostly the last, now and then one of long ago or one that came already.
        back = data.draw(st.one_of(st.just(0), st.integers(0, len(self.pings) - 1)))
        index = len(self.pings) - 1 - back
        self._pong(index)

    @precondition(lambda self: self.settled < len(self.pings))
    @rule(ticks=st.integers(-1, 1))
    def a_pong_arrives_about_when_it_is_too_late(self, ticks: int) -> None:
        index = len(self.pings) - 1
        self.now = max(self.now, self.pings[index].at + self.timeout + ticks * TICK)
        self._pong(index)

    @precondition(lambda self: self.settled < len(self.pings))
    @rule(times=st.integers(1, 5))
    def pongs_arrive_in_time(self, times: int) -> None:
        for _ in range(times):
            self.now = max(self.now, self.next_ping)
            self.poll()
            self.now += TICK
            self._pong(len(self.pings) - 1)

    def _pong(self, index: int) -> None:
        ping = self.pings[index]
        if not self.up and self.is_undecided():
            return
        if ping.time > ping.at and abs(self.now - ping.at - self.timeout) < NEARLY:
            return
        outcome = self.link.pong_received(float(self.now), ping.time)
        assert outcome is self._outcome(index)

    def _outcome(self, index: int) -> PongOutcome:
        ping = self.pings[index]
        if index < self.settled or ping.at < self.began:
            return PongOutcome.UNEXPECTED
        self.settled = index + 1
        self.waiting = None
        if self.doubted is not None and index >= self.doubted:
            self.doubted = None
        if self.question is not None and index >= self.question.after:
            self.question = None
        latency = self.now - ping.at
        if latency > self.timeout:
            return PongOutcome.LATE
        if not self.up and self.silence > self.patience:
            self.counted = 0
        self.sampled.append(latency)
        self.slowest = max(self.slowest, latency)
        # With more samples allowed than before, the mean still stands for no more than it did.
        self.weight = min(self.weight + 1, self.samples)
        self.latency += (latency - self.latency) / self.weight
        self.smooth += (latency - self.smooth) / (8 if self.smooth else 1)
        self.last_pong = self.now
        if self.up:
            return PongOutcome.COUNTED
        if self.counted < self.pong_count:
            self.counted += 1
            return PongOutcome.COUNTED
        self.up = True
        return PongOutcome.WENT_UP

    @rule(sent=st.one_of(st.floats(), st.integers(-200, 200).map(float)))
    def a_pong_to_no_ping_arrives(self, sent: float) -> None:
        newest = self.pings[-1].time if self.pings else -math.inf
        settled = self.pings[self.settled - 1].time if self.settled else -math.inf
        sent += float(self.now)
        # Others are known by their stamps.
        if not settled < sent <= newest:
            assert not self.link.expects(float(self.now), sent)
            assert self.link.pong_received(float(self.now), sent) is PongOutcome.UNEXPECTED

    @rule()
    def a_ping_goes_to_another_place(self) -> None:
        self.pings.append(Sent(self.now, self.link.challenge_time(float(self.now))))

    # What others do to it.

    @rule(times=st.integers(1, 3), grace=st.sampled_from([Fraction(0), TICK, Fraction(1)]))
    def the_network_says_that_nobody_is_there(self, times: int, grace: Fraction) -> None:
        for _ in range(times):
            is_news = self.up and self.question is None
            assert self.link.question(float(self.now), float(grace)) is is_news
            if is_news:
                after = self.doubted = len(self.pings)
                patience = max(Fraction(PATIENCE), PATIENCE_ROUND_TRIPS * self.smooth) + grace
                self.question = Question(after, patience, max(self.now, self.pause_ends))
            self.poll()

    @rule()
    def it_leads_elsewhere(self) -> None:
        self.link.moved()
        self.question = self.doubted = None

    @rule()
    def this_machine_says_that_nobody_is_there(self) -> None:
        self.link.fail(float(self.now))
        self.goes_down()

    @rule()
    def it_is_restarted(self) -> None:
        self.link.restart(float(self.now))
        self.goes_down()
        self.last_pong = self.waiting = self.doubted = None
        self.began = self.next_ping = self.now
        # Nobody waits for what was sent before.
        self.settled = len(self.pings)

    @rule(interval=INTERVALS, timeout=TIMEOUTS, samples=SAMPLES)
    def timers_are_set(self, interval: Fraction, timeout: Fraction, samples: int) -> None:
        self.link.set_timers(float(self.now), float(interval), float(timeout), samples)
        self.next_ping = min(self.next_ping, self.now + interval)
        self.interval, self.timeout, self.samples = interval, timeout, samples

    @rule()
    def statistics_are_cleared(self) -> None:
        self.link.clear_latency()
        self.sampled.clear()
        self.weight = 0

    @rule()
    def a_send_fails(self) -> None:
        self.link.doubt()
        self.doubted = len(self.pings)

    # What holds at all times.

    @invariant()
    def it_is_up_or_down_and_has_counted_as_it_must(self) -> None:
        assert self.link.connected is self.up
        assert self.link.counted == self.counted
        assert self.link.overdue(float(self.now)) == self.silence
        assert abs(self.link.adjusted_timeout(float(self.now)) - self.patience) < NEARLY

    @invariant()
    def latency_is_the_mean_of_the_last_samples(self) -> None:
        assert abs(self.link.latency - self.latency) < NEARLY
        assert self.link.latency_samples == self.weight
        extremes = (self.link.latency_min, self.link.latency_max)
        expected = (min(self.sampled), max(self.sampled)) if self.sampled else (None, None)
        for value, right in zip(extremes, expected, strict=True):
            if right is None:
                assert value is None
            else:
                assert value is not None
                assert abs(Fraction(value) - right) < NEARLY

    @invariant()
    def it_wants_to_be_called_no_later_than_for_the_next_ping(self) -> None:
        assert self.link.deadline <= self.next_ping
        assert self.up or self.link.deadline == self.next_ping

    @invariant()
    def it_is_asked_about_what_the_network_says_and_no_more(self) -> None:
        question = self.question
        assert self.link.inquiry.active is (question is not None)
        if question is not None:
            assert self.up
            # In doubt until the question is answered.
            assert self.link.suspect(float(self.now))
            if question.ends is not None:
                assert self.link.deadline <= question.ends + NEARLY

    @invariant()
    def it_is_suspect_where_there_is_reason_and_only_there(self) -> None:
        suspect = self.link.suspect(float(self.now))
        if self.doubted is not None:
            assert suspect
        elif self.settled == len(self.pings):
            assert not suspect
        elif self.waiting is not None:
            waited = self.now - self.waiting
            if waited <= Fraction(SUSPECT_SLACK):
                assert not suspect
            # No average is above the largest sample, nor a variation.
            if waited > 5 * self.slowest + Fraction(SUSPECT_SLACK):
                assert suspect


TestLivenessMachine = LivenessMachine.TestCase
