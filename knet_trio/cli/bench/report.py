"""The output of the bench: its progress, and tables at the end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from knet_trio.cli.bench.bed import OURS
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.disturbance import MUCH
from knet_trio.cli.bench.result import MOST_LOSS, CaseResult, Spread
from knet_trio.cli.bench.runner import Progress

_LEAST_WIDTH: Final = 160
_MOST_COLUMNS: Final = 6


class BenchReport(Progress):
    """Progress in lines, results in tables, on a stream.

    Nothing is drawn while a run lasts: that would take time from what is measured.
    """

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)
        if not self._console.is_terminal:
            # Whoever reads a file can scroll; a table folded at 80 columns cannot be read.
            self._console.width = max(self._console.width, _LEAST_WIDTH)
        self._rounds = 0

    def say(self, text: str, style: str = "") -> None:
        """Print a line."""
        self._console.print(Text(text, style))

    def begin_case(self, case: Case, place: str, rounds: int) -> None:
        """Print the name of the case."""
        self._rounds = rounds
        self.say(f"[{place}] {case.name}", "bold")

    def begin_turn(self, case: Case, round_number: int, contender: str) -> None:
        """Print whose turn it is, on a terminal."""
        if self._console.is_terminal:
            self._console.print(Text(f"  {self._turn(round_number)} {contender} …"), end="\r")

    def end_turn(self, case: Case, round_number: int, contender: str, measured: Measured) -> None:
        """Print what was measured."""
        values = ", ".join(
            f"{metric.title} {_number(measured[metric.key])} {metric.unit}".rstrip()
            for metric in case.metrics
        )
        style = "dim" if round_number == 0 else ""
        self.say(f"  {self._turn(round_number):8} {contender:10} {values}", style)

    def fail(self, case: Case, why: str) -> None:
        """Print the reason."""
        self.say(f"  {case.name} failed: {why}", "bold red")

    def _turn(self, round_number: int) -> str:
        return f"{round_number}/{self._rounds}" if round_number else "warm-up"

    def summarize(self, results: Sequence[CaseResult]) -> None:
        """Print the tables."""
        measured = [result for result in results if result.rounds]
        for kind in dict.fromkeys(result.case.kind for result in measured):
            of_kind = [result for result in measured if result.case.kind == kind]
            tables = (
                map(_tall_table, of_kind)
                if len(of_kind[0].case.metrics) > _MOST_COLUMNS
                else [_table(kind, of_kind)]
            )
            for table in tables:
                self._console.print()
                self._console.print(table)
        for result in results:
            if result.failure is not None:
                self.say(f"{result.case.name} failed: {result.failure}", "bold red")
        others = [cores for result in results for cores in result.others]
        much = sum(cores > MUCH for cores in others)
        if much:
            self.say(
                f"others took up to {max(others):.2f} cores, and more than {MUCH} during {much} of"
                f" {len(others)} turns: on a quiet machine there will be better numbers",
                "yellow",
            )
        if any(result.troubled(name) for result in results for name in result.contenders):
            self.say(f"! over {MOST_LOSS} % lost: not a rate that both sides sustain", "red")


def _table(kind: str, results: Sequence[CaseResult]) -> Table:
    metrics = results[0].case.metrics
    table = Table(title=kind, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("case", no_wrap=True)
    table.add_column("", no_wrap=True)
    for metric in metrics:
        table.add_column(Text("\n".join(_heading(metric)), justify="right"), justify="right")
        if metric is metrics[0] or metric.compared:
            table.add_column("least – most", justify="right")
            table.add_column(f"{OURS}\nby this", justify="right")
            table.add_column("least – most", justify="right")
    for result in results:
        for contender in result.contenders:
            first = contender == result.contenders[0]
            name = result.case.name.removeprefix(f"{kind}/") if first else ""
            table.add_row(name, *_cells(result, contender, metrics))
        table.add_section()
    return table


def _tall_table(result: CaseResult) -> Table:
    """Return a table with a row for each metric, for cases with many."""
    table = Table(title=result.case.name, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for contender in result.contenders:
        table.add_column(contender, justify="right")
    for metric in result.case.metrics:
        medians = [result.spread(name, metric).median for name in result.contenders]
        table.add_row(Text(" ".join(_heading(metric))), *map(_number, medians))
    return table


def _heading(metric: Metric) -> tuple[str, str]:
    return metric.title, f"[{metric.unit}]" if metric.unit else ""


def _cells(result: CaseResult, contender: str, metrics: Sequence[Metric]) -> Iterable[Text]:
    yield Text(contender, "bold" if contender == OURS else "")
    for metric in metrics:
        spread = result.spread(contender, metric)
        troubled = metric.key == "loss" and result.troubled(contender)
        yield Text(f"{_number(spread.median)}{' !' * troubled}", "red" if troubled else "")
        if metric is metrics[0] or metric.compared:
            yield Text(_range(spread), "dim")
            ratio = None
            if contender != OURS and OURS in result.contenders:
                ratio = result.ratio(OURS, contender, metric)
            if ratio is None:
                yield Text("")
                yield Text("")
            else:
                better = metric.more_is_better is not None and (
                    (ratio.median > 1) == metric.more_is_better
                )
                yield Text(f"×{ratio.median:.2f}", "bold green" if better else "bold yellow")
                yield Text(f"×{ratio.least:.2f} – ×{ratio.greatest:.2f}", "dim")


def _range(spread: Spread) -> str:
    return f"{_number(spread.least)} – {_number(spread.greatest)}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "none"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
