"""Losses that are congestion are answered as CUBIC does; others are ignored after a trial.

What decides on the congestion control that is used: beside a plain CUBIC flow, and beside another
one of its kind, a stream neither starves nor starves the other where a queue overflows; and where
packets are lost at random it is much faster than CUBIC.
"""

from __future__ import annotations

from typing import Final

import pytest

from knet_trio.streams._core.congestion import CongestionControl
from knet_trio.streams._core.cubic import Cubic
from knet_trio.streams._core.tolerant_cubic import (
    COUNTED,
    COUNTED_IN_TRIAL,
    FIRST_PAUSE,
    GROWTH,
    MARGIN,
    TOLERATED_QUEUE,
    TolerantCubic,
)
from tests.streams.core.bottleneck import Bottleneck, Line

SIZE: Final = 1000
RTT: Final = 0.01


@pytest.mark.parametrize(
    "kinds", [(TolerantCubic, TolerantCubic), (TolerantCubic, Cubic), (Cubic, TolerantCubic)]
)
@pytest.mark.parametrize("latency", [0.0002, 0.005])
def test_two_streams_share_a_queue_that_overflows(
    kinds: tuple[type[CongestionControl], ...], latency: float
) -> None:
    # 40 Mbit/s and 6.5 ms of queue: much less than what delays alone would show.
    two = Bottleneck(Line(rate=5e6, queue=32 * 1024, latency=latency), kinds)
    two.count_for(8.0, after=2.0)
    assert min(two.shares()) >= 0.4
    assert two.dropped() < 0.02


def test_random_losses_cost_little() -> None:
    received: dict[type[CongestionControl], int] = {}
    for kind in (TolerantCubic, Cubic):
        one = Bottleneck(Line(rate=5e6, queue=256 * 1024, latency=0.005, loss=0.02), [kind])
        one.count_for(4.0, after=2.0)
        received[kind] = one.flows[0].received
    assert received[TolerantCubic] > 0.6 * 4.0 * 5e6
    assert received[TolerantCubic] > 3 * received[Cubic]


def lose(
    control: TolerantCubic, now: float, share: float, packets: int, queueing: float = 0.0
) -> int:
    """Let so many packets arrive or be lost; return how many losses were answered."""
    answered = 0
    owed = 0.0
    for _ in range(packets):
        owed += share
        if owed >= 1:
            owed -= 1
            # Each is a round trip of its own.
            now += RTT
            answered += control.lost(SIZE, now, now, queueing)
        else:
            control.acknowledged(SIZE, now, now, RTT, full=True)
    return answered


def trying() -> TolerantCubic:
    control = TolerantCubic(SIZE)
    assert lose(control, 1.0, 0.02, 2 * COUNTED) > 0
    assert control.is_trying
    return control


def test_losses_that_stay_as_they_are_are_ignored() -> None:
    control = trying()
    before = control.window
    assert lose(control, 100.0, 0.02, 10 * COUNTED_IN_TRIAL) == 0
    assert control.is_trying
    assert control.window > before


def test_losses_that_grow_end_a_trial_and_the_next_one_waits() -> None:
    control = trying()
    share = 1.5 * (GROWTH * 0.02 + MARGIN)
    assert lose(control, 100.0, share, COUNTED_IN_TRIAL) > 0
    assert not control.is_trying
    # The time is that of the first packets: the pause has not passed.
    lose(control, 100.0 + FIRST_PAUSE / 2, 0.02, COUNTED // 5)
    assert not control.is_trying
    lose(control, 1000.0, 0.02, 2 * COUNTED)
    assert control.is_trying


def test_losses_with_a_queue_are_answered_in_a_trial() -> None:
    control = trying()
    before = control.window
    assert control.lost(SIZE, 100.0, 100.0, 2 * TOLERATED_QUEUE)
    assert control.window < before
    assert control.is_trying


def test_many_losses_are_never_ignored() -> None:
    control = TolerantCubic(SIZE)
    lose(control, 1.0, 0.1, 10 * COUNTED)
    assert not control.is_trying


def test_a_collapse_ends_a_trial() -> None:
    control = trying()
    control.collapse()
    assert not control.is_trying
