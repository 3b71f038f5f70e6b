"""What is told once, and how often it was."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.rate_limit import FIRST, LIMIT, LONGEST, RateLimiter, Repeated


def test_the_first_is_told_and_the_next_ones_are_counted() -> None:
    repeats: RateLimiter[str] = RateLimiter()
    assert repeats.deadline == math.inf
    assert repeats.first("kind", "a", 100.0)
    assert not repeats.first("kind", "b", 101.0)
    assert not repeats.first("kind", "c", 102.0)
    assert repeats.deadline == 100.0 + FIRST
    assert repeats.due(100.0 + FIRST - 0.001) == []
    assert repeats.due(100.0 + FIRST) == [Repeated("c", 2, 2.0)]


def test_how_often_it_was_is_said_in_words() -> None:
    assert Repeated("a", 1, 0.31).text == "(repeated once in 0.3 s)"
    assert Repeated("a", 2, 5.0).text == "(repeated 2 times in 5.0 s)"


def test_what_came_several_times_at_once_is_counted_that_often() -> None:
    repeats: RateLimiter[str] = RateLimiter()
    assert repeats.first("kind", "a", 0.0, times=10)
    assert not repeats.first("kind", "b", 1.0, times=5)
    assert repeats.due(FIRST) == [Repeated("b", 14, 1.0)]


def test_kinds_do_not_touch_each_other() -> None:
    repeats: RateLimiter[str] = RateLimiter()
    assert repeats.first("one", "a", 0.0)
    assert repeats.first("other", "b", 1.0)
    assert not repeats.first("one", "a", 2.0)
    assert repeats.due(FIRST) == [Repeated("a", 1, 2.0)]
    assert repeats.due(1.0 + FIRST) == []
    # Nothing came of the other kind, so that one is over.
    assert repeats.first("other", "b", 1.0 + FIRST)


def test_an_interval_that_brought_nothing_ends_it() -> None:
    repeats: RateLimiter[str] = RateLimiter()
    assert repeats.first("kind", "a", 0.0)
    assert repeats.due(FIRST) == []
    assert len(repeats) == 0
    assert repeats.deadline == math.inf
    assert repeats.first("kind", "a", FIRST)


def test_while_it_goes_on_it_is_told_less_and_less_often() -> None:
    repeats: RateLimiter[int] = RateLimiter()
    logged: list[tuple[float, int, float]] = []
    firsts = 0
    for second in range(400):
        logged += [(second, count, took) for _, count, took in repeats.due(second)]
        firsts += repeats.first("kind", second, second)
    assert firsts == 1
    # The one at the very end of an interval comes after its count.
    assert logged == [
        (5, 4, 4.0),
        (15, 10, 9.0),
        (35, 20, 19.0),
        (75, 40, 39.0),
        (135, 60, 59.0),
        (195, 60, 59.0),
        (255, 60, 59.0),
        (315, 60, 59.0),
        (375, 60, 59.0),
    ]
    assert LONGEST == 60.0


def test_the_number_of_kinds_is_bounded_and_no_count_is_forgotten() -> None:
    repeats: RateLimiter[int] = RateLimiter()
    for kind in range(LIMIT):
        assert repeats.first(kind, kind, kind / LIMIT)
    assert not repeats.first(0, -1, 1.0)
    for kind in range(LIMIT, LIMIT + 10):
        assert repeats.first(kind, kind, 1.0)
        assert len(repeats) == LIMIT
    # Number 0 had to go first, being due next, and had been counted.
    assert repeats.due(1.0) == [Repeated(-1, 1, 1.0)]
    assert repeats.first(0, 0, 2.0)


def test_at_the_end_all_counts_are_told() -> None:
    repeats: RateLimiter[str] = RateLimiter()
    for kind in "abc":
        repeats.first(kind, kind, 0.0)
    for _ in range(3):
        repeats.first("b", "b", 0.5)
    assert repeats.end() == [Repeated("b", 3, 0.5)]
    assert repeats.end() == []
    assert repeats.deadline == math.inf
    assert repeats.first("b", "b", 0.5)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 20)), max_size=200))
def test_everything_is_told_or_counted(steps: list[tuple[int, float]]) -> None:
    repeats: RateLimiter[int] = RateLimiter()
    now = 0.0
    logged = counted = 0
    for kind, pause in steps:
        now += pause
        counted += sum(repeated.times for repeated in repeats.due(now))
        logged += repeats.first(kind, kind, now)
    counted += sum(repeated.times for repeated in repeats.end())
    assert logged + counted == len(steps)
