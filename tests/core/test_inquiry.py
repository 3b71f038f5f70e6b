"""What follows when the network says that a peer cannot be reached. Times are binary fractions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import pytest

from knet_trio._core.inquiry import (
    LOOK_AGAIN,
    PATIENCE,
    PAUSE,
    PINGS,
    RETRY,
    TRANSITIONS,
    Inquiry,
    InquiryStage,
)
from knet_trio._core.liveness import STALL, Liveness

SECURITY: Final = Path(__file__).parents[2] / "docs" / "security.md"
START: Final = 1000.0
JUST: Final = 2.0**-10
# A multiple of what separates the pings.
LONG: Final = 1.0


def draw() -> str:
    """The table of the transitions, as it is in the docs."""
    rows = ["| a link is | and | so it is |", "| --- | --- | --- |"]
    rows += [
        f"| {old.value} | {cue.value} | {new.value} |" for (old, cue), new in TRANSITIONS.items()
    ]
    return "\n".join(rows)


def test_the_table_in_the_docs_is_this_one() -> None:
    assert draw() in SECURITY.read_text()


def asking(patience: float = LONG) -> Inquiry:
    """One whose first ping has left."""
    inquiry = Inquiry()
    assert inquiry.report(START, START - 1, patience)
    assert inquiry.poll(START) == (True, False)
    inquiry.asked(START, left=True)
    return inquiry


class TestAsking:
    def test_without_an_error_there_is_nothing_to_do(self) -> None:
        inquiry = Inquiry()
        assert inquiry.deadline == math.inf
        assert inquiry.poll(START) == (False, False)
        assert not inquiry.active

    def test_the_first_ping_goes_at_once_and_two_more_follow(self) -> None:
        inquiry = asking()
        times = [START]
        while inquiry.deadline < START + LONG:
            now = inquiry.deadline
            assert inquiry.poll(now - JUST) == (False, False)
            assert inquiry.poll(now) == (True, False)
            inquiry.asked(now, left=True)
            times.append(now)
        assert times == [START, START + 0.25, START + 0.5]
        assert len(times) == PINGS

    def test_the_peer_is_gone_when_the_time_is_over_and_not_before(self) -> None:
        inquiry = asking()
        assert inquiry.poll(START + LONG - JUST) == (True, False)
        assert not inquiry.is_over(START + LONG - JUST)
        assert inquiry.is_over(START + LONG)
        assert inquiry.poll(START + LONG) == (False, True)
        assert inquiry.stage is InquiryStage.GONE

    def test_other_errors_neither_prolong_it_nor_make_pings(self) -> None:
        inquiry = asking()
        pings = 1
        for step in range(1, 1000):
            now = START + step / 1024
            assert not inquiry.report(now, now, LONG)
            ask, gone = inquiry.poll(now)
            assert not gone
            if ask:
                inquiry.asked(now, left=True)
                pings += 1
        assert pings == PINGS
        assert inquiry.poll(START + LONG) == (False, True)

    def test_a_ping_without_room_is_tried_again_and_begins_nothing(self) -> None:
        inquiry = Inquiry()
        inquiry.report(START, START, LONG)
        now = START
        for _ in range(100):
            assert inquiry.poll(now) == (True, False)
            inquiry.asked(now, left=False)
            assert inquiry.began_at == math.inf
            assert inquiry.deadline == now + RETRY
            now = inquiry.deadline
        assert inquiry.poll(now) == (True, False)
        inquiry.asked(now, left=True)
        assert inquiry.began_at == now
        assert not inquiry.is_over(now + LONG - JUST)
        assert inquiry.is_over(now + LONG)


class TestAnswers:
    @pytest.mark.parametrize("sent", [START - 2, START - 1])
    def test_what_was_sent_before_the_error_proves_nothing(self, sent: float) -> None:
        inquiry = asking()
        assert not inquiry.answered(sent)
        assert inquiry.active

    def test_what_was_sent_since_ends_it(self) -> None:
        inquiry = asking()
        assert inquiry.answered(START)
        assert not inquiry.active
        assert inquiry.deadline == math.inf
        assert inquiry.poll(START + 10 * LONG) == (False, False)

    def test_the_next_error_waits_for_the_end_of_the_pause(self) -> None:
        inquiry = asking()
        inquiry.answered(START)
        assert inquiry.report(START + JUST, START, LONG)
        assert inquiry.stage is InquiryStage.WAITING
        assert inquiry.deadline == START + PAUSE
        assert inquiry.poll(START + PAUSE - JUST) == (False, False)
        assert inquiry.poll(START + PAUSE) == (True, False)

    def test_a_ping_of_the_heartbeat_may_be_answered_in_the_pause(self) -> None:
        inquiry = asking()
        inquiry.answered(START)
        inquiry.report(START + JUST, START, LONG)
        assert inquiry.answered(START + 2 * JUST)
        assert not inquiry.active

    def test_a_flood_of_errors_makes_a_ping_for_each_pause(self) -> None:
        inquiry = Inquiry()
        pings = 0
        for step in range(10 * 1024):
            now = START + step / 1024
            inquiry.report(now, now - JUST, LONG)
            if inquiry.poll(now)[0]:
                inquiry.asked(now, left=True)
                pings += 1
                assert inquiry.answered(now)
        assert 10 / PAUSE - 2 <= pings <= 10 / PAUSE + 1


class TestTime:
    def test_what_waits_in_the_sockets_is_read_first(self) -> None:
        inquiry = asking()
        for _ in range(3):
            inquiry.asked(START, left=True)
        now = START + LONG
        inquiry.postpone(now)
        assert inquiry.poll(now) == (False, False)
        assert inquiry.deadline == now + LOOK_AGAIN
        assert inquiry.poll(now + LOOK_AGAIN) == (False, True)

    def test_a_process_that_was_stopped_asks_once_more(self) -> None:
        inquiry = asking()
        for _ in range(PINGS):
            inquiry.asked(START, left=True)
        now = START + 100
        inquiry.excuse(now, now + 2)
        assert inquiry.poll(now) == (True, False)
        inquiry.asked(now, left=True)
        assert inquiry.deadline == now + 2
        assert inquiry.poll(now + 2) == (False, True)

    def test_a_reset_forgets_everything_but_the_pause(self) -> None:
        inquiry = asking()
        inquiry.reset()
        assert not inquiry.active
        assert inquiry.report(START + JUST, START, LONG)
        assert inquiry.deadline == START + PAUSE


def link_up(latency: float) -> Liveness:
    link = Liveness(START - 1, pong_count=1)
    for _ in range(2):
        link.pong_received(START, link.ping_time(START - latency))
    assert link.connected
    link.next_ping = START + 1
    return link


class TestLink:
    @pytest.mark.parametrize(("latency", "patience"), [(0.001, PATIENCE), (0.125, 0.375)])
    def test_has_three_round_trips_or_a_fifth_of_a_second(
        self, latency: float, patience: float
    ) -> None:
        link = link_up(latency)
        assert link.question(START)
        assert link.suspect(START)
        assert link.poll(START) == (True, False)
        link.left(link.ping_time(START), START)
        now = START
        while link.connected:
            now = link.deadline
            if link.poll(now)[0]:
                link.left(link.ping_time(now), now)
        assert now == pytest.approx(START + patience)

    def test_a_pong_ends_the_doubt(self) -> None:
        link = link_up(0.001)
        link.question(START)
        link.poll(START)
        sent = link.ping_time(START)
        link.left(sent, START)
        link.pong_received(START + 0.125, sent)
        assert not link.inquiry.active
        assert not link.suspect(START + 0.125)
        assert link.deadline == START + 1

    def test_one_that_is_down_asks_nobody(self) -> None:
        link = Liveness(START)
        assert not link.question(START)
        assert not link.inquiry.active

    def test_a_late_poll_is_no_silence(self) -> None:
        link = link_up(0.001)
        link.question(START)
        link.poll(START)
        link.left(link.ping_time(START), START)
        now = START + 100
        link.excuse(now)
        assert link.poll(now) == (True, False)
        sent = link.ping_time(now)
        link.left(sent, now)
        link.pong_received(now + STALL, sent)
        assert link.connected
        assert not link.inquiry.active
