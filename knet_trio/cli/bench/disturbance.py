"""How much CPU time other processes took while something was measured."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

# A turn during which others had more than this, in cores, is worth a remark.
MUCH: Final = 0.1

_PROC: Final = Path("/proc")
_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
_IDLE: Final = slice(3, 5)
_ALL: Final = 8
_KERNEL: Final = 2


@attrs.frozen
class Look:
    """CPU seconds spent by others at a moment, with those that a hypervisor withheld."""

    at: float
    by_others: float

    def cores_since(self, earlier: Look) -> float:
        """Return what others took since then, in cores; by rounding it may be below zero."""
        return (self.by_others - earlier.by_others) / (self.at - earlier.at)


def look() -> Look:
    """Return the current values. No peers may be running, as their time counts when they end.

    What the kernel does in threads of its own counts for nobody: it may be for what is measured.
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
        # It may have ended meanwhile.
        with suppress(FileNotFoundError, ProcessLookupError):
            # What comes before the last bracket is its name, with whatever in it.
            _, _, fields = (entry / "stat").read_text(errors="replace").rpartition(")")
            words = fields.split()
            if int(words[1]) == _KERNEL:
                ticks += int(words[11]) + int(words[12])
    return ticks * _TICK
