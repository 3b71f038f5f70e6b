from __future__ import annotations

import pytest

from knet_trio._core.last_pings import LAST_PINGS, MOST_AWAITED, LastPings, PingFigures

TIMEOUT = 2.0


def answer(pings: LastPings, *trips: float, start: float = 0.0) -> float:
    """Send a ping a second, each answered after so long; return when the next is due."""
    for number, seconds in enumerate(trips):
        pings.sent(start + number, TIMEOUT)
        pings.answered(start + number, seconds)
    return start + len(trips)


def test_without_a_sample_there_are_no_figures() -> None:
    assert LastPings().figures() == PingFigures(None, None, None, None)


def test_one_ping_has_no_jitter() -> None:
    pings = LastPings()
    answer(pings, 0.25)
    assert pings.figures() == PingFigures(0.0, None, 0.25, 0.25)


def test_figures() -> None:
    pings = LastPings()
    answer(pings, 1.0, 2.0, 1.0, 1.0)
    assert pings.figures() == PingFigures(loss=0.0, jitter=2 / 3, p50=1.0, p99=2.0)


@pytest.mark.parametrize(("count", "p50", "p99"), [(100, 50, 99), (3, 2, 3), (2, 1, 2)])
def test_percentiles(count: int, p50: int, p99: int) -> None:
    pings = LastPings()
    answer(pings, *(number / 1000 for number in range(count, 0, -1)))
    figures = pings.figures()
    assert (figures.p50, figures.p99) == (p50 / 1000, p99 / 1000)


def test_a_ping_without_an_answer_is_lost_when_it_is_older_than_the_timeout() -> None:
    pings = LastPings()
    answer(pings, 0.1, 0.1, 0.1)
    for at in (3.0, 4.0, 5.0):
        pings.sent(at, TIMEOUT)
        assert pings.figures().loss == 0.0
    pings.sent(5.5, TIMEOUT)
    assert pings.figures() == PingFigures(loss=0.25, jitter=0.0, p50=0.1, p99=0.1)
    # It comes after all, and was given up.
    assert not pings.answered(3.0, 2.5)
    assert pings.figures().loss == 0.25


def test_a_copy_of_an_answer_is_none() -> None:
    pings = LastPings()
    pings.sent(0.0, TIMEOUT)
    assert pings.answered(0.0, 0.5)
    assert not pings.answered(0.0, 0.75)
    assert pings.figures().p99 == 0.5


def test_answers_in_another_order() -> None:
    pings = LastPings()
    for at in (0.0, 0.1, 0.2):
        pings.sent(at, TIMEOUT)
    pings.answered(0.2, 0.5)
    pings.answered(0.0, 1.0)
    pings.sent(2.15, TIMEOUT)
    figures = pings.figures()
    assert figures.loss == pytest.approx(1 / 3)
    assert (figures.p50, figures.p99) == (0.5, 1.0)


def test_a_second_answer_and_one_to_no_ping_count_nothing() -> None:
    pings = LastPings()
    answer(pings, 0.1)
    pings.answered(0.0, 0.2)
    pings.answered(7.0, 0.2)
    assert pings.figures() == PingFigures(0.0, None, 0.1, 0.1)


def test_only_the_last_ones_count() -> None:
    pings = LastPings()
    now = answer(pings, *[1.0] * LAST_PINGS)
    answer(pings, *[0.5] * LAST_PINGS, start=now)
    assert pings.figures() == PingFigures(0.0, 0.0, 0.5, 0.5)


def test_how_many_are_awaited_is_bounded() -> None:
    pings = LastPings()
    for number in range(MOST_AWAITED):
        pings.sent(number / 1000, 3600.0)
    assert pings.figures().loss is None
    pings.sent(2.0, 3600.0)
    assert pings.figures().loss == 1.0
    # The oldest one was given up, the next one is awaited.
    pings.answered(0.0, 2.0)
    pings.answered(0.001, 2.0)
    assert pings.figures().loss == 0.5


def test_clear() -> None:
    pings = LastPings()
    answer(pings, 0.1)
    pings.sent(1.0, TIMEOUT)
    pings.clear()
    pings.answered(1.0, 0.1)
    assert pings.figures() == PingFigures(None, None, None, None)
