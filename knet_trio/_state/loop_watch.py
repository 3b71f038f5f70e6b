"""Watching the event loop and the clock: late rounds, and steps of the time of day."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from knet_trio._core.liveness import STALL

CLOCK_STEP: Final = 0.1
"""The difference between the time of day and the time that passed that counts as a step, in
seconds. Programs that keep a clock right change it far less from one heartbeat to the next."""

_SCHEDSTAT: Final = Path("/proc/thread-self/schedstat")


class LoopWatch:
    """Counts how often the heartbeat was late, and how often the time of day was set.

    Attributes:
        stalls: How often the heartbeat ran more than ``STALL`` seconds late.
        stalled: The total of these delays, in seconds.
        longest: The longest of these delays, in seconds.
        steps: How often the time of day was set.
        step: The size of the last step, in seconds.
        stepped_at: When the last step was noticed, in seconds on Trio's clock; None before the
            first.
    """

    __slots__ = ("_offset", "longest", "stalled", "stalls", "step", "stepped_at", "steps")

    def __init__(self) -> None:
        self.stalls: int = 0
        self.stalled: float = 0.0
        self.longest: float = 0.0
        self.steps: int = 0
        self.step: float = 0.0
        self.stepped_at: float | None = None
        self._offset = time.time() - time.monotonic()

    def awake(self, deadline: float, now: float) -> None:
        """Check a round of the loop at time ``now`` that was due at ``deadline``, in seconds."""
        late = now - deadline
        if late > STALL:
            self.stalls += 1
            self.stalled += late
            self.longest = max(self.longest, late)
        self.look_at_clock(now)

    def look_at_clock(self, now: float) -> None:
        """Check whether the time of day was set since the last call."""
        # Not Trio's clock, since a test may control that.
        offset = time.time() - time.monotonic()
        step = offset - self._offset
        if not -CLOCK_STEP < step < CLOCK_STEP:
            self.steps += 1
            self.step = step
            self.stepped_at = now
        self._offset = offset


def read_cpu_times() -> tuple[float, float] | None:
    """Return how long this thread has used a processor, and waited for one, in seconds.

    Returns:
        None if the system does not report it. See man 5 proc, Documentation/scheduler.
    """
    try:
        used, awaited, _ = _SCHEDSTAT.read_text().split()
    except (OSError, ValueError):
        return None
    return int(used) / 1e9, int(awaited) / 1e9
