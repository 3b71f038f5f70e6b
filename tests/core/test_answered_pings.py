from __future__ import annotations

import math

from knet_trio._core.answered_pings import INTERVAL, MOST, AnsweredPings

LIFE, OTHER = b"a" * 9, b"b" * 9


def test_each_newer_ping_is_answered_and_an_older_one_after_a_while() -> None:
    pings = AnsweredPings()
    assert pings.take(LIFE, 0, 10, 1.0)
    assert pings.take(LIFE, 0, 11, 1.0)
    for counter in (11, 10, 1):
        assert not pings.take(LIFE, 0, counter, 1.0 + INTERVAL / 2)
    assert pings.take(LIFE, 0, 3, 1.0 + 2 * INTERVAL)
    # The highest one counts, and a refusal is no reason to wait longer.
    assert not pings.take(LIFE, 0, 11, 1.0 + 2 * INTERVAL)
    assert pings.take(LIFE, 0, 12, 1.0 + 2 * INTERVAL)
    assert pings.take(LIFE, 0, 12, 1.0 + 3.5 * INTERVAL)


def test_each_life_and_link_is_on_its_own() -> None:
    pings = AnsweredPings()
    assert pings.take(LIFE, 0, 10, 1.0)
    assert pings.take(LIFE, 1, 9, 1.0)
    assert pings.take(OTHER, 0, 8, 1.0)
    assert not pings.take(LIFE, 1, 9, 1.0)


def test_a_host_that_is_there_is_answered_whatever_else_comes() -> None:
    pings = AnsweredPings()
    for counter in range(1, 1000):
        now = counter / 1000
        # Recordings of this life and of many others.
        for old in range(MOST + 3):
            pings.take(bytes([old]) * 8 + b"-", 0, 500, now)
        pings.take(LIFE, 0, counter // 2, now)
        assert pings.take(LIFE, 0, counter, now)


def test_memory_is_bounded() -> None:
    pings = AnsweredPings()
    for number in range(1000):
        assert pings.take(number.to_bytes(9, "big"), number % 8, 1, 1.0)
    assert len(pings) == MOST


def test_a_clock_that_is_set_back_keeps_nobody_waiting() -> None:
    pings = AnsweredPings()
    assert pings.take(LIFE, 0, 10, 1000.0)
    assert pings.take(LIFE, 0, 10, 1.0)


def test_without_an_interval_only_the_highest_counters_are_taken() -> None:
    pings = AnsweredPings(math.inf)
    assert pings.take(LIFE, 0, 10, 1.0)
    assert pings.take(LIFE, 1, 9, 1.0)
    assert pings.take(OTHER, 0, 8, 1.0)
    for counter in (10, 9):
        assert not pings.take(LIFE, 0, counter, 1e9)
    assert pings.take(LIFE, 0, 11, 1e9)
    for number in range(1000):
        assert pings.take(number.to_bytes(9, "big"), 0, 1, 1e9)
        assert len(pings) <= MOST
