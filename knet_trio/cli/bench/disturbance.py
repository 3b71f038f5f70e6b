"""The CPU time of other processes during a measurement."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

# In cores: a turn in which other processes took more is worth a remark.
MUCH: Final = 0.1

_PROC: Final = Path("/proc")
_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
_IDLE: Final = slice(3, 5)
_ALL: Final = 8
_KERNEL: Final = 2


@attrs.frozen
class Look:
    """The CPU time of other processes at a moment, with that withheld by a hypervisor.

    Attributes:
        at: The time, in seconds on the monotonic clock.
        by_others: The CPU time since the machine started, in seconds.
    """

    at: float
    by_others: float

    def cores_since(self, earlier: Look) -> float:
        """Return the CPU use of others since then, in cores; rounding may make it negative."""
        return (self.by_others - earlier.by_others) / (self.at - earlier.at)


def look() -> Look:
    """Return the current values. No peers may be running, as their time counts when they end.

    The time of kernel threads does not count, since they may work for the measurement.
    """
    ticks = list(map(int, (_PROC / "stat").read_text(encoding="ascii").split()[1 : 1 + _ALL]))
    busy = (sum(ticks) - sum(ticks[_IDLE])) * _TICK
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    return Look(time.monotonic(), busy - own - _kernel_seconds())


def _kernel_seconds() -> float:
    ticks = 0
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        # The process may have ended.
        with suppress(FileNotFoundError, ProcessLookupError):
            # The name, before the last bracket, may have any characters in it.
            _, _, fields = (entry / "stat").read_text(errors="replace").rpartition(")")
            words = fields.split()
            if int(words[1]) == _KERNEL:
                ticks += int(words[11]) + int(words[12])
    return ticks * _TICK
