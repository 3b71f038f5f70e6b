"""The window of counters, beside a set of those that were taken."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.counter_window import WIDTH, CounterWindow

NEAR = st.integers(-70, 70)
EDGES = (1, 1 << 10, 1 << 13, WIDTH - 1, WIDTH, WIDTH + 1, 2 * WIDTH, 1 << 47)


@given(
    floor=st.integers(0, 20),
    steps=st.lists(st.tuples(st.sampled_from(EDGES), NEAR), max_size=60),
)
def test_each_is_taken_once_and_none_from_before(floor: int, steps: list[tuple[int, int]]) -> None:
    window, newest = CounterWindow(floor), floor
    taken: set[int] = set()
    for edge, near in steps:
        for base in (0, newest):
            for counter in (base + edge + near, base - edge + near):
                if not 0 < counter < 1 << 48:
                    continue
                is_new = counter > max(floor, newest - WIDTH) and counter not in taken
                assert window.is_new(counter) is is_new
                assert window.take(counter) is is_new
                taken.add(counter)
                newest = max(newest, counter)
                assert window.newest == newest
                assert not window.is_new(counter)


def test_the_window_is_as_wide_as_it_says() -> None:
    window = CounterWindow(0)
    window.mark(WIDTH + 5)
    assert not window.is_new(5)
    assert window.is_new(6)


@pytest.mark.parametrize(("step", "most"), [(1, 4_000), (3, 40_000), (100, 40_000), (5000, 40_000)])
def test_it_does_not_grow(step: int, most: int) -> None:
    """Where all are taken chunks are one object, else each has its bits and little more."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        window = CounterWindow(0)
        for counter in range(1, 2 * WIDTH, step):
            assert window.take(counter)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < most


@given(
    floor=st.integers(0, 20),
    runs=st.lists(
        st.tuples(st.sampled_from(EDGES), NEAR, st.lists(st.integers(1, 3), max_size=40)),
        max_size=20,
    ),
)
def test_many_at_once_are_as_one_after_the_other(
    floor: int, runs: list[tuple[int, int, list[int]]]
) -> None:
    window, other = CounterWindow(floor), CounterWindow(floor)
    for edge, near, steps in runs:
        first = max(1, edge + near)
        counters = [first]
        for step in steps:
            counters.append(counters[-1] + (step if len(steps) % 2 else 1))
        if counters[-1] >= 1 << 48:
            continue
        are_new = all(map(other.is_new, counters))
        assert window.are_new(counters) is are_new
        if are_new:
            window.mark_all(counters)
            for counter in counters:
                other.mark(counter)
        assert window.newest == other.newest
        assert not any(map(window.is_new, counters)) or not are_new
        around = range(max(1, first - 50), counters[-1] + 50)
        assert [window.is_new(one) for one in around] == [other.is_new(one) for one in around]
