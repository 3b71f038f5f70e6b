"""Whether the event loop comes round in time, and the clocks of this machine go as they should."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from knet_trio._core.liveness import STALL

CLOCK_STEP: Final = 0.1
"""Seconds by which the time of day moves on more or less than the time that passed, when somebody
has set it: far more than what keeps a clock right takes from one heartbeat to the next."""

_SCHEDSTAT: Final = Path("/proc/thread-self/schedstat")


class LoopWatch:
    """Counts how often the heartbeat was late, and how often the time of day was set.

    Attributes:
        stalls: How often the event loop came to it more than ``STALL`` seconds late.
        stalled: The seconds of all these times.
        longest: The longest of them.
        steps: How often the time of day was set.
        step: By how many seconds, the last time.
        stepped_at: When that was noticed, on Trio's clock; None before the first.
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
        """Note that the loop came round at ``now``; it was asked to by ``deadline``."""
        late = now - deadline
        if late > STALL:
            self.stalls += 1
            self.stalled += late
            self.longest = max(self.longest, late)
        self.look_at_clock(now)

    def look_at_clock(self, now: float) -> None:
        """Note if the time of day was set since the last look."""
        # Neither is Trio's clock, which a test may make go as it likes.
        offset = time.time() - time.monotonic()
        step = offset - self._offset
        if not -CLOCK_STEP < step < CLOCK_STEP:
            self.steps += 1
            self.step = step
            self.stepped_at = now
        self._offset = offset


def read_cpu_times() -> tuple[float, float] | None:
    """Return how long this thread has had a processor, and has waited for one, in seconds.

    Returns:
        None where the system does not tell. Source: man 5 proc, Documentation/scheduler.
    """
    try:
        used, awaited, _ = _SCHEDSTAT.read_text().split()
    except (OSError, ValueError):
        return None
    return int(used) / 1e9, int(awaited) / 1e9
