from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.percentile import percentile


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1.0), (25, 1.0), (26, 2.0), (50, 2.0), (99, 4.0), (100, 4.0)]
)
def test_percentiles_of_four(percent: int, expected: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], percent) == expected


def test_of_nothing() -> None:
    assert math.isnan(percentile([], 50))


@given(st.integers(1, 300), st.integers(0, 100))
def test_it_is_the_smallest_that_as_many_do_not_exceed(count: int, percent: int) -> None:
    found = percentile(range(1, count + 1), percent)
    assert 100 * found >= count * percent
    assert found == 1 or 100 * (found - 1) < count * percent
