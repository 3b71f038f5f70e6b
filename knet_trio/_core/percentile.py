"""Percentiles of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(ascending: Sequence[float], percent: int) -> float:
    """Return the smallest sample that ``percent`` per cent of all do not exceed.

    Args:
        ascending: The samples, sorted.
        percent: From 0, for the least one, to 100, for the greatest.

    Returns:
        One of the samples; NaN if there are none.
    """
    if not ascending:
        return math.nan
    # Rounded up, in whole numbers: a share such as 0.07 would not be exact.
    return ascending[max(0, -(-len(ascending) * percent // 100) - 1)]
