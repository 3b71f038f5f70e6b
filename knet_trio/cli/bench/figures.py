"""Numbers, ranges, marks and remarks, the same on a terminal and in files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from knet_trio.cli.bench.bed import OURS
from knet_trio.cli.bench.case import Metric
from knet_trio.cli.bench.disturbance import MUCH
from knet_trio.cli.bench.result import MOST_LOSS, CaseResult
from knet_trio.cli.bench.spread import Spread
from knet_trio.cli.bench.yardstick import MOST_MOVE, PARTS, Yardstick

NOTHING: Final = "–"
# Marks of a ratio: too much was lost; the yardstick moved.
LOST: Final = "!"
MOVED: Final = "~"


def number(value: float) -> str:
    """Return a number with three digits, or with all digits before the point."""
    if math.isnan(value):
        return "none"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def heading(metric: Metric) -> str:
    """Return the title of a metric with its unit."""
    return f"{metric.title} [{metric.unit}]" if metric.unit else metric.title


def spread(values: Spread) -> str:
    """Return the median, with the least and the greatest value if they differ."""
    median = number(values.median)
    return median if values.least == values.greatest else f"{median} ({span(values)})"


def median(result: CaseResult, contender: str, metric: Metric) -> str:
    """Return a contender's median, with a mark if it is a loss that is too great."""
    mark = f" {LOST}" * (metric.key == "loss" and result.troubled(contender))
    return f"{number(result.spread(contender, metric).median)}{mark}"


def span(values: Spread) -> str:
    """Return the least and the greatest value."""
    return f"{number(values.least)} – {number(values.greatest)}"


def of_yardstick(yardstick: Yardstick) -> str:
    """Return the medians of all parts, in the order of ``PARTS``."""
    if not yardstick.readings:
        return ""
    medians = " / ".join(number(yardstick.spread(part).median) for part in PARTS)
    return f"{medians} {MOVED}" if yardstick.moved else medians


def ratio_marks(result: CaseResult, other: str | None) -> str:
    """Return the marks of a ratio, with a space before them."""
    lost = any(result.troubled(name) for name in (OURS, other) if name in result.contenders)
    marks = f"{LOST * lost}{MOVED * bool(result.yardstick.moved)}"
    return f" {marks}" if marks else ""


def remarks(results: Sequence[CaseResult]) -> Iterator[str]:
    """Yield the remarks on failures, losses and disturbances that affect the figures."""
    failed = [f"{result.case.name} ({result.failure})" for result in results if result.failure]
    if failed:
        yield f"Failed: {'; '.join(failed)}"
    lost = [result.case.name for result in results if any(map(result.troubled, result.contenders))]
    if lost:
        yield (
            f"{LOST} over {MOST_LOSS} % lost, not a rate that both sides sustain: {', '.join(lost)}"
        )
    else:
        yield f"No rate was measured at which {MOST_LOSS} % or more was lost."
    moved = sum(bool(result.yardstick.moved) for result in results)
    if moved:
        yield (
            f"{MOVED} the yardstick moved by more than {100 * (MOST_MOVE - 1):.0f} % within the"
            f" case ({moved} of {len(results)}): the machine was not the same throughout"
        )
    whole = Yardstick([reading for result in results for reading in result.yardstick.readings])
    if whole.readings:
        parts = (f"{part.title} {span(whole.spread(part))} {part.unit}" for part in PARTS)
        yield f"The yardstick over all cases: {', '.join(parts)}"
    others = [cores for result in results for cores in result.others]
    much = sum(cores > MUCH for cores in others)
    if much:
        yield (
            f"Other processes took up to {max(others):.2f} cores, and more than {MUCH} during"
            f" {much} of {len(others)} turns: on a quiet machine there will be better numbers"
        )
