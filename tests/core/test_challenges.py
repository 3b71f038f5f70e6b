from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.challenges import EVERY, MOST_PLACES, RATE, ChallengeLimit
from knet_trio.address import Address

START = 1000.0


def place(number: int) -> Address:
    return Address(f"198.51.100.{number % 256}", 1024 + number // 256)


def admitted(limit: ChallengeLimit, now: float, places: range) -> int:
    return sum(limit.admits(place(number), now) for number in places)


class TestOnePlace:
    def test_is_asked_ten_times_a_second_at_most(self) -> None:
        limit = ChallengeLimit()
        asked = [i for i in range(1000) if limit.admits(place(1), START + i / 100)]
        assert len(asked) == pytest.approx(10 / EVERY, abs=10)
        gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
        assert min(gaps) >= EVERY * 100

    def test_cannot_use_up_what_is_for_all(self) -> None:
        limit = ChallengeLimit()
        for i in range(10_000):
            limit.admits(place(1), START + i / 10_000)
        assert admitted(limit, START + 1, range(2, 2 + RATE)) >= RATE - 1

    def test_refused_it_is_not_held_up_for_longer(self) -> None:
        limit = ChallengeLimit()
        assert limit.admits(place(1), START)
        assert not limit.admits(place(1), START + EVERY * 0.9)
        assert limit.admits(place(1), START + EVERY)


class TestAllPlaces:
    def test_are_bounded_together(self) -> None:
        limit = ChallengeLimit()
        assert admitted(limit, START, range(1000)) == RATE
        # And from then on as many a second.
        steps = 100
        total = sum(
            admitted(limit, START + 10 * step / steps, range(1000 * step, 1000 * step + 1000))
            for step in range(1, steps + 1)
        )
        assert total == pytest.approx(10 * RATE, abs=2)

    def test_have_no_more_at_once_after_a_long_time(self) -> None:
        limit = ChallengeLimit()
        assert admitted(limit, START, range(1000)) == RATE
        assert admitted(limit, START + 1e6, range(1000, 2000)) == RATE

    def test_where_the_peer_has_answered_from_before_is_asked_whatever_the_others_do(self) -> None:
        limit = ChallengeLimit()
        home = place(100_000)
        for i in range(100):
            now = START + i
            # Some are refused, so nothing is left.
            assert admitted(limit, now, range(100 * i, 100 * i + 100)) < 100
            assert limit.admits(home, now, proven=True)
            assert not limit.admits(home, now + EVERY / 2, proven=True)

    @given(
        st.lists(
            st.tuples(st.floats(0, 0.1), st.integers(0, 300), st.booleans()),
            min_size=1,
            max_size=300,
        )
    )
    def test_hold_to_both_bounds_whatever_comes(self, pings: list[tuple[float, int, bool]]) -> None:
        limit = ChallengeLimit()
        now = START
        last: dict[Address, float] = {}
        unproven = 0
        for wait, number, proven in pings:
            now += wait
            at = place(number)
            if limit.admits(at, now, proven=proven):
                unproven += not proven
                assert proven or now >= last.get(at, 0.0) + EVERY
                last[at] = now
            assert len(limit) <= MOST_PLACES
        assert unproven <= RATE * (1 + now - START) + 1


def test_pings_that_are_no_copies_have_a_rate_of_their_own() -> None:
    limit = ChallengeLimit()
    for i in range(2 * RATE):
        assert limit.admits(place(i), START) is (i < RATE)
    for i in range(2 * RATE, 4 * RATE):
        assert limit.admits(place(i), START, highest=True) is (i < 3 * RATE)
    assert not limit.admits(place(4 * RATE), START)


def test_what_is_remembered_is_bounded() -> None:
    limit = ChallengeLimit()
    for i in range(10 * MOST_PLACES):
        assert limit.admits(place(i), START + i)
    assert len(limit) == MOST_PLACES
    # More than are asked in the time for which it matters.
    assert 2 * (RATE + RATE * EVERY + 1) < MOST_PLACES
