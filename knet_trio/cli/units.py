"""Times, sizes, rates and numbers in few characters."""

from __future__ import annotations

import time
from typing import Final

NOTHING: Final = "-"
_DAY: Final = 86400


def format_age(seconds: float) -> str:
    """Return a duration as up to 6 characters: ``12s``, ``3m20s``, ``3h02m``, ``5d03h``."""
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < _DAY:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    if whole < 100 * _DAY:
        return f"{whole // _DAY}d{whole % _DAY // 3600:02}h"
    return f"{whole // _DAY}d"


def format_latency(seconds: float | None) -> str:
    """Return a round trip in seconds as up to 7 characters."""
    if seconds is None:
        return NOTHING
    if seconds >= 1:
        return f"{seconds:.2f} s"
    milliseconds = seconds * 1e3
    digits = 2 if milliseconds < 10 else 1 if milliseconds < 100 else 0
    return f"{milliseconds:.{digits}f} ms"


def format_share(share: float | None) -> str:
    """Return a share as up to 4 characters; a share above zero is never shown as zero."""
    if share is None:
        return NOTHING
    if 0 < share < 0.01:
        return "<1%"
    return f"{share:.0%}"


def format_rate(rate: float | None) -> str:
    """Return a rate in bytes a second as up to 9 characters."""
    if rate is None:
        return NOTHING
    if rate < 1:
        return "0"
    for unit in ("B/s", "kB/s", "MB/s"):
        if rate < 999.5:
            digits = 0 if unit == "B/s" or rate >= 99.95 else 1
            return f"{rate:.{digits}f} {unit}"
        rate /= 1000
    return f"{rate:.1f} GB/s"


def format_time(at: float) -> str:
    """Return a time since the epoch as date and time of day, local, to the millisecond."""
    whole = int(at)
    day = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(whole))
    return f"{day}.{int((at - whole) * 1000):03}"
