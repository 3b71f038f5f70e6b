from __future__ import annotations

import time

import pytest

from knet_trio._core.liveness import STALL
from knet_trio._state.loop_watch import CLOCK_STEP, LoopWatch, read_cpu_times


def test_it_counts_how_often_the_loop_was_late() -> None:
    watch = LoopWatch()
    watch.awake(10.0, 10.0 + STALL / 2)
    watch.awake(11.0, 10.5)
    assert (watch.stalls, watch.stalled, watch.longest) == (0, 0.0, 0.0)
    watch.awake(12.0, 12.5)
    watch.awake(13.0, 13.25)
    assert (watch.stalls, watch.stalled, watch.longest) == (2, 0.75, 0.5)


@pytest.mark.parametrize("by", [-3600.0, 2 * CLOCK_STEP])
def test_it_notices_that_the_clock_was_set(monkeypatch: pytest.MonkeyPatch, by: float) -> None:
    real = time.time
    watch = LoopWatch()
    watch.look_at_clock(1.0)
    assert (watch.steps, watch.stepped_at) == (0, None)
    monkeypatch.setattr(time, "time", lambda: real() + by)
    for now in (2.0, 3.0):
        watch.look_at_clock(now)
        assert (watch.steps, watch.stepped_at) == (1, 2.0)
        assert abs(watch.step - by) < CLOCK_STEP


def test_the_system_tells_how_long_a_thread_ran_and_waited() -> None:
    before = read_cpu_times()
    if before is None:
        pytest.skip("the kernel has no scheduler statistics (CONFIG_SCHED_INFO)")
    until = time.thread_time() + 0.05
    while time.thread_time() < until:
        sum(range(1000))
    after = read_cpu_times()
    assert after is not None
    assert after[0] - before[0] > 0.03
    assert after[1] >= before[1]
