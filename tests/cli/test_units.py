from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio.cli.units import (
    format_age,
    format_latency,
    format_rate,
    format_share,
    format_time,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (3599, "59m59s"),
        (3600, "1h00m"),
        (86399, "23h59m"),
        (86400, "1d00h"),
        (99 * 86400 + 86399, "99d23h"),
        (100 * 86400, "100d"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    assert format_age(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0000123, "0.01 ms"),
        (0.00123, "1.23 ms"),
        (0.0123, "12.3 ms"),
        (0.123, "123 ms"),
        (1.234, "1.23 s"),
    ],
)
def test_latencies(seconds: float | None, text: str) -> None:
    assert format_latency(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"), [(None, "-"), (0, "0%"), (0.001, "<1%"), (0.05, "5%"), (1, "100%")]
)
def test_shares(share: float | None, text: str) -> None:
    assert format_share(share) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (0.9, "0"),
        (1.0, "1 B/s"),
        (999.4, "999 B/s"),
        (999.6, "1.0 kB/s"),
        (99_949, "99.9 kB/s"),
        (99_951, "100 kB/s"),
        (999_499, "999 kB/s"),
        (999_600, "1.0 MB/s"),
        (1.5e9, "1.5 GB/s"),
    ],
)
def test_rates(rate: float | None, text: str) -> None:
    assert format_rate(rate) == text


@given(st.floats(0, 1e10))
def test_nothing_is_wider_than_its_column(value: float) -> None:
    assert len(format_age(value / 10)) <= 6
    assert len(format_rate(min(value, 9.9e11))) <= 10
    assert len(format_latency(value / 1e8)) <= 8
    assert len(format_share(value / 1e10)) <= 4


def test_a_time_of_day_has_milliseconds() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.250", format_time(1795820503.25))
