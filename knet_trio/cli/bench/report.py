"""The output of the bench: its progress, and tables at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from knet_trio.cli.bench.bed import OURS
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.figures import median, number, of_yardstick, ratio_marks, remarks, span
from knet_trio.cli.bench.machine import Machine
from knet_trio.cli.bench.result import CaseResult
from knet_trio.cli.bench.runner import Progress
from knet_trio.cli.bench.yardstick import PARTS, UNIT, Yardstick

_LEAST_WIDTH: Final = 200
_MOST_COLUMNS: Final = 6
_YARDSTICK_LINE: Final = ", ".join(f"{part.title} [{part.unit}]" for part in PARTS)
_YARDSTICK: Final = f"yardstick\n{' / '.join(part.title for part in PARTS)}"


class BenchReport(Progress):
    """The progress in lines and the results in tables, on a stream.

    Nothing is drawn during a run: that would take time from the measurement.
    """

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)
        if not self._console.is_terminal:
            # A reader of a file can scroll; a table folded at 80 columns cannot be read.
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
        """Print the contender whose turn it is, on a terminal."""
        if self._console.is_terminal:
            self._console.print(Text(f"  {self._turn(round_number)} {contender} …"), end="\r")

    def end_turn(self, case: Case, round_number: int, contender: str, measured: Measured) -> None:
        """Print the values of the turn."""
        values = ", ".join(
            f"{metric.title} {number(measured[metric.key])} {metric.unit}".rstrip()
            for metric in case.metrics
        )
        style = "dim" if round_number == 0 else ""
        self.say(f"  {self._turn(round_number):8} {contender:10} {values}", style)

    def fail(self, case: Case, why: str) -> None:
        """Print the reason of a failure."""
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
        for remark in remarks(results):
            self.say(remark)

    def introduce(self, machine: Machine) -> None:
        """Print the facts about the machine."""
        self.say(machine.text, "dim")

    def show_yardstick(self, yardstick: Yardstick, when: str) -> None:
        """Print the last reading of the whole run's yardstick."""
        last = Yardstick(yardstick.readings[-1:])
        parts = ", ".join(
            f"{part.title} {number(last.spread(part).median)} {part.unit}" for part in PARTS
        )
        self.say(f"yardstick at the {when}: {parts}", "dim")


def _table(kind: str, results: Sequence[CaseResult]) -> Table:
    metrics = results[0].case.metrics
    compared = results[0].case.compared
    table = Table(title=kind, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("case", no_wrap=True)
    table.add_column("", no_wrap=True)
    for metric in metrics:
        table.add_column(Text("\n".join(_heading(metric)), justify="right"), justify="right")
        if metric in compared:
            table.add_column("least – most", justify="right")
            if metric.of_message:
                table.add_column(f"in\n{UNIT.title}", justify="right", no_wrap=True)
            table.add_column(f"{OURS}\nby this", justify="right")
            table.add_column("least – most", justify="right")
    table.add_column(_YARDSTICK, justify="right")
    for result in results:
        for contender in result.contenders:
            first = contender == result.contenders[0]
            name = result.case.name.removeprefix(f"{kind}/") if first else ""
            yardstick = Text(of_yardstick(result.yardstick), "dim")
            table.add_row(name, *_cells(result, contender, metrics), yardstick)
        table.add_section()
    return table


def _tall_table(result: CaseResult) -> Table:
    """Return a table with a row for each metric, for cases with many."""
    table = Table(title=result.case.name, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.caption = Text(f"yardstick: {of_yardstick(result.yardstick)} ({_YARDSTICK_LINE})", "dim")
    table.add_column("")
    for contender in result.contenders:
        table.add_column(contender, justify="right")
    others = [name for name in result.contenders if name != OURS and OURS in result.contenders]
    for other in others:
        table.add_column(f"by {other}", justify="right")
        table.add_column("least – most", justify="right")
    for metric in result.case.metrics:
        medians = [median(result, name, metric) for name in result.contenders]
        ratios = [cell for other in others for cell in _ratio_cells(result, other, metric)]
        table.add_row(Text(" ".join(_heading(metric))), *medians, *ratios)
    return table


def _heading(metric: Metric) -> tuple[str, str]:
    return metric.title, f"[{metric.unit}]" if metric.unit else ""


def _cells(result: CaseResult, contender: str, metrics: Sequence[Metric]) -> Iterator[Text]:
    yield Text(contender, "bold" if contender == OURS else "")
    for metric in metrics:
        values = result.spread(contender, metric)
        troubled = metric.key == "loss" and result.troubled(contender)
        yield Text(median(result, contender, metric), "red" if troubled else "")
        if metric in result.case.compared:
            yield Text(span(values), "dim")
            if metric.of_message:
                times = result.in_datagrams(contender, metric)
                yield Text("" if times is None else number(times))
            yield from _ratio_cells(result, contender, metric)


def _ratio_cells(result: CaseResult, other: str, metric: Metric) -> tuple[Text, Text]:
    """Return the ratio and its range, both empty if there is none."""
    ratio = None
    if metric in result.case.compared and other != OURS and OURS in result.contenders:
        ratio = result.ratio(OURS, other, metric)
    if ratio is None:
        return Text(""), Text("")
    style = ""
    if metric.more_is_better is not None and result.shows(ratio):
        better = (ratio.median > 1) == metric.more_is_better
        style = "bold green" if better else "bold yellow"
    marks = ratio_marks(result, other)
    reach = f"×{ratio.least:.2f} – ×{ratio.greatest:.2f}"
    return Text(f"×{ratio.median:.2f}{marks}", style), Text(reach, "dim")
