from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.round_trips import BOUNDS, RoundTrips

SECONDS = st.one_of(st.floats(0, 10), st.sampled_from(BOUNDS))


def test_there_are_none_at_first() -> None:
    assert RoundTrips().counts == (0,) * (len(BOUNDS) + 1)
    assert RoundTrips().total == 0.0


def test_the_bounds_rise() -> None:
    assert list(BOUNDS) == sorted(set(BOUNDS))


@given(st.lists(SECONDS))
def test_each_is_counted_where_it_belongs(trips: list[float]) -> None:
    kept = RoundTrips()
    for seconds in trips:
        kept.add(seconds)
    lower = [-1.0, *BOUNDS]
    upper = [*BOUNDS, float("inf")]
    assert kept.counts == tuple(
        sum(low < seconds <= high for seconds in trips)
        for low, high in zip(lower, upper, strict=True)
    )
    assert kept.total == pytest.approx(sum(trips))


def test_clearing_forgets_them() -> None:
    kept = RoundTrips()
    kept.add(0.1)
    kept.clear()
    assert (sum(kept.counts), kept.total) == (0, 0.0)
