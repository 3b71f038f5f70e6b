"""The tables of a run as Markdown, in a file of their own or in a marked part of a document."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from knet_trio.cli.bench.bed import OURS
from knet_trio.cli.bench.case import Metric
from knet_trio.cli.bench.figures import (
    NOTHING,
    heading,
    median,
    number,
    of_yardstick,
    ratio_marks,
    remarks,
    spread,
)
from knet_trio.cli.bench.machine import Machine
from knet_trio.cli.bench.result import BenchResult, CaseResult
from knet_trio.cli.bench.spread import Spread
from knet_trio.cli.bench.yardstick import PARTS, UNIT, Yardstick

BEGIN: Final = "<!-- written by knet-trio bench --markdown: begin -->"
END: Final = "<!-- written by knet-trio bench --markdown: end -->"

_READING: Final = f"yardstick: {' / '.join(f'{part.title} [{part.unit}]' for part in PARTS)}"


class MarkdownError(ValueError):
    """A file exists without the marks between which the tables are written."""


def check(path: Path) -> None:
    """Check that the tables can be written into a file.

    Raises:
        MarkdownError: The file exists without the two marks.
    """
    if path.exists():
        _split(path)


def write(
    path: Path,
    measured: BenchResult,
    machine: Machine,
    options: Sequence[str],
    other: Machine | None = None,
) -> None:
    """Write the tables between the marks of a file, or into a new file.

    Args:
        path: The file.
        measured: The results.
        machine: This machine.
        options: The options of the command.
        other: The machine at the other end, None if there was one machine.

    Raises:
        MarkdownError: The file exists without the two marks.
    """
    before, after = _split(path) if path.exists() else ("", "\n")
    part = "\n".join(_lines(measured, machine, options, other))
    path.write_text(f"{before}{BEGIN}\n\n{part}\n{END}{after}", encoding="utf-8")


def _split(path: Path) -> tuple[str, str]:
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise MarkdownError(
            f"{path} exists without the lines {BEGIN!r} and {END!r}: add them, or give a new file"
        )
    return before, after


def _lines(
    measured: BenchResult, machine: Machine, options: Sequence[str], other: Machine | None
) -> Iterator[str]:
    yield f"Measured {machine.text}."
    if other is not None:
        yield ""
        yield f"At the other end {other.text}."
    yield ""
    yield f"    {shlex.join(['knet-trio', 'bench', *options])}"
    yield ""
    yield from _yardstick_table(measured.yardstick)
    for remark in remarks(measured.cases):
        yield f"- {remark}"
    yield ""
    whole = [result for result in measured.cases if result.rounds]
    for kind in dict.fromkeys(result.case.kind for result in whole):
        of_kind = [result for result in whole if result.case.kind == kind]
        yield f"### {kind}"
        yield ""
        yield from _compared_table(of_kind)
        yield ""
        if others := [m for m in of_kind[0].case.metrics if m not in of_kind[0].case.compared]:
            yield from _others_table(of_kind, others)
            yield ""


def _yardstick_table(yardstick: Yardstick) -> Iterator[str]:
    yield "| yardstick | | at the beginning | at the end |"
    yield "| --- | --- | --- | --- |"
    for part in PARTS:
        first, *_, last = (reading[part.key] * part.scale for reading in yardstick.readings)
        yield f"| {part.title} [{part.unit}] | {part.what} | {number(first)} | {number(last)} |"
    yield ""


def _compared_table(results: Sequence[CaseResult]) -> Iterator[str]:
    """Yield a table with a row for each ratio, or for each case with knet_trio alone."""
    yield (
        f"| case | {OURS} | beside | which has | ratio (least – most) | in {UNIT.title}, each"
        f" | {_READING} |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for result in results:
        for metric in result.case.compared:
            for other in _others(result):
                yield _row(_compared_cells(result, metric, other))


def _compared_cells(result: CaseResult, metric: Metric, other: str | None) -> Iterator[str]:
    sides = [side for side in (OURS, other) if side in result.contenders]
    yield f"`{result.case.name}` {heading(metric)}"
    yield spread(result.spread(OURS, metric)) if OURS in sides else NOTHING
    yield other or NOTHING
    yield NOTHING if other is None else spread(result.spread(other, metric))
    ratio = None if other is None or OURS not in sides else result.ratio(OURS, other, metric)
    yield NOTHING if ratio is None else f"{_ratio(result, ratio)}{ratio_marks(result, other)}"
    times = [result.in_datagrams(side, metric) for side in sides]
    yield " : ".join(number(one) for one in times if one is not None) or NOTHING
    yield of_yardstick(result.yardstick)


def _ratio(result: CaseResult, ratio: Spread) -> str:
    median = f"×{ratio.median:.2f}"
    if ratio.least == ratio.greatest:
        return median
    bold = "**" if result.shows(ratio) else ""
    return f"{bold}{median}{bold} (×{ratio.least:.2f} – ×{ratio.greatest:.2f})"


def _others_table(results: Sequence[CaseResult], metrics: Sequence[Metric]) -> Iterator[str]:
    """Yield a table of the metrics that only explain: the medians of each contender."""
    heads = map(heading, metrics)
    yield _row(["case", "", *heads])
    yield _row(["---"] * (2 + len(metrics)))
    for result in results:
        for contender in result.contenders:
            values = [median(result, contender, metric) for metric in metrics]
            yield _row([f"`{result.case.name}`", contender, *values])


def _others(result: CaseResult) -> Sequence[str | None]:
    return [name for name in result.contenders if name != OURS] or [None]


def _row(cells: Iterator[str] | Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
