"""Pings and their pongs."""

from __future__ import annotations

import pytest

from knet_trio.cli.decode.round_trips import LatencyHistogram, PingPairs
from tests.cli.decode.building import SECOND

MS = SECOND // 1000


def test_quantiles() -> None:
    histogram = LatencyHistogram()
    for i in range(1, 1001):
        histogram.add(i / 1000)
    assert (histogram.count, histogram.least, histogram.most) == (1000, 0.001, 1.0)
    assert histogram.mean == pytest.approx(0.5005)
    assert histogram.quantile(0.5) == pytest.approx(0.5, rel=0.05)
    assert histogram.quantile(0.99) == pytest.approx(0.99, rel=0.05)
    assert histogram.quantile(0) == pytest.approx(0.001, rel=0.05)
    histogram.add(0)
    assert histogram.quantile(0) == pytest.approx(0, abs=1e-6)


def test_pings_and_pongs() -> None:
    pairs = PingPairs()
    pairs.ping(0, b"a", 0)
    pairs.ping(1, b"a", 5 * MS)
    pairs.ping(0, b"b", 100 * MS)
    # Those of another link, and one that nobody asked for.
    assert pairs.pong(1, b"a", 8 * MS) == pytest.approx(0.003)
    assert pairs.pong(0, b"a", 10 * MS) == pytest.approx(0.010)
    assert pairs.pong(0, b"a", 11 * MS) is None
    assert pairs.pong(0, b"c", 12 * MS) is None
    # Twice, before it is answered and after.
    pairs.ping(0, b"b", 101 * MS)
    pairs.ping(0, b"a", 101 * MS)
    assert (pairs.repeated, pairs.latencies.count) == (2, 2)
    # Time went back.
    assert pairs.pong(0, b"b", 99 * MS) is None


def test_what_was_not_answered() -> None:
    pairs = PingPairs()
    for i in range(10):
        pairs.ping(0, bytes([i]), i * SECOND)
    pairs.pong(0, b"\x00", MS)
    # Those of the last two seconds may still be.
    pairs.finish(9 * SECOND + MS)
    assert pairs.unanswered == 7


def test_what_is_remembered_has_a_limit() -> None:
    pairs = PingPairs()
    for i in range(5000):
        pairs.ping(0, i.to_bytes(2, "big"), 0)
    assert pairs.unanswered == 5000 - 1024
    for i in range(5000):
        pairs.pong(0, i.to_bytes(2, "big"), 1)
    assert pairs.latencies.count == 1024
