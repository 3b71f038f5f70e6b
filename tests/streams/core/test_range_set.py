"""Ranges are the set of the integers in them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from knet_trio.streams._core.range_set import RangeSet

BOUND = 40
PAIRS = st.tuples(st.integers(0, BOUND), st.integers(0, BOUND))
CHANGES = st.lists(st.tuples(st.booleans(), PAIRS), max_size=30)


def members(ranges: RangeSet) -> set[int]:
    return {number for start, end in ranges for number in range(start, end)}


@given(CHANGES)
def test_adding_and_removing(changes: list[tuple[bool, tuple[int, int]]]) -> None:
    ranges, model = RangeSet(), set[int]()
    for adds, (start, end) in changes:
        numbers = set(range(start, end))
        if adds:
            assert ranges.add(start, end) == (not numbers <= model)
            model |= numbers
        else:
            ranges.remove(start, end)
            model -= numbers
        assert members(ranges) == model
        pairs = list(ranges)
        # They neither touch nor overlap, and none is empty.
        assert all(low < high for low, high in pairs)
        assert all(high < low for (_, high), (low, _) in pairwise(pairs))
        assert all((number in ranges) == (number in model) for number in range(BOUND))
        assert ranges.end == max(model, default=-1) + 1
        assert ranges.newest(2) == pairs[::-1][:2]


@given(CHANGES, PAIRS)
def test_overlaps(changes: list[tuple[bool, tuple[int, int]]], window: tuple[int, int]) -> None:
    ranges = RangeSet()
    for _, (start, end) in changes:
        ranges.add(start, end)
    low, high = min(window), max(window)
    found = {number for start, end in ranges.overlaps(low, high) for number in range(start, end)}
    assert found == members(ranges) & set(range(low, high))
