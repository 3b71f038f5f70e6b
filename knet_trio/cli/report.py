"""The output of the demo: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, Literal, TextIO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from knet_trio import LinkPolicy
from knet_trio.cli.result import LINKS, CutResult, LinkCell, Result, Settings, View
from knet_trio.errors import count_of

Kind = Literal["plain", "good", "bad", "odd"]

_STYLES: Final[dict[Kind, str]] = {"plain": "", "good": "green", "bad": "red", "odd": "yellow"}
_BAR_WIDTH: Final = 24


class Report(ABC):
    """The output of a demo: its progress and its result. Returned by ``open_report``.

    Attributes:
        period: The seconds between two calls of ``show``.
    """

    period: float

    @abstractmethod
    def say(self, at: float, what: str, kind: Kind = "plain") -> None:
        """Show an event.

        Args:
            at: When it happened, in seconds after the start.
            what: The text.
            kind: Selects the style of the text.
        """

    @abstractmethod
    def show(self, view: View) -> None:
        """Show the current state of nodes and links."""

    @abstractmethod
    def introduce(self, settings: Settings) -> None:
        """Show the settings, and the result that is expected."""

    @abstractmethod
    def summarize(self, result: Result) -> None:
        """Show the result."""


class PlainReport(Report):
    """A report in lines of plain text."""

    period: float = 1.0

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def _print(self, text: str) -> None:
        # A reader of a pipe gets each line at once.
        print(text, file=self._stream, flush=True)

    def say(self, at: float, what: str, kind: Kind = "plain") -> None:
        """Print the event with its time."""
        self._print(f"[{at:5.1f}] {what}")

    def show(self, view: View) -> None:
        """Print the sums over all nodes in one line."""
        rows = view.rows
        links = ", ".join(
            f"link {link_id} up {sum(row.links[link_id].up for row in rows)}"
            f" of {sum(row.links[link_id].others for row in rows)}"
            for link_id in range(LINKS)
        )
        known = [row.latency for row in rows if not math.isnan(row.latency)]
        latency = f"{sum(known) / len(known) * 1e3:.1f} ms" if known else "none yet"
        self.say(
            view.elapsed,
            f"  {links}; sent {sum(row.sent for row in rows)},"
            f" delivered {sum(row.delivered for row in rows)},"
            f" lost {sum(row.lost for row in rows)}; latency {latency};"
            f" MTU {min(row.mtu for row in rows)}",
        )

    def introduce(self, settings: Settings) -> None:
        """Print the settings, and the result that is expected."""
        self._print("\n".join(_introduction(settings)))

    def summarize(self, result: Result) -> None:
        """Print the result."""
        facts = _facts(result)
        width = max(len(name) for name, _ in facts)
        self._print("")
        for name, value in facts:
            self._print(f"{name:{width}}  {value}")
        self._print("")
        for check in result.checks:
            self._print(f"{'ok' if check.ok else 'FAILED':6}  {check.name} ({check.detail})")
        self._print("")
        self._print(_verdict(result))


class LiveReport(Report):
    """A report as a live table on a terminal, with the events above it."""

    period: float = 0.25

    def __init__(self, console: Console, live: Live) -> None:
        self._console = console
        self._live = live

    def say(self, at: float, what: str, kind: Kind = "plain") -> None:
        """Print the event above the table."""
        self._console.print(Text.assemble((f"{at:6.1f} s  ", "dim"), (what, _STYLES[kind])))

    def show(self, view: View) -> None:
        """Redraw the table."""
        self._live.update(live_view(view), refresh=True)

    def introduce(self, settings: Settings) -> None:
        """Print the settings, and the result that is expected."""
        title, *rest = _introduction(settings)
        self._console.print(Text(title, "bold"))
        for line in rest:
            self._console.print(Text(line))
        self._console.print()

    def summarize(self, result: Result) -> None:
        """Print the result as tables."""
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="bold")
        facts.add_column()
        for name, value in _facts(result):
            facts.add_row(name, Text(value))
        checks = Table.grid(padding=(0, 2))
        for check in result.checks:
            mark = Text("ok", "bold green") if check.ok else Text("FAILED", "bold red")
            checks.add_row(mark, Text(check.name).append(f" ({check.detail})", "dim"))
        for part in (Rule("summary", style="dim"), facts, "", checks, "", _verdict_text(result)):
            self._console.print(part)


@contextmanager
def open_report(stream: TextIO) -> Generator[Report]:
    """Open a report: a live table if ``stream`` is a terminal that can show one, else plain lines.

    Leaving the block removes the table; the report still takes events and the result.
    """
    console = Console(file=stream, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        yield PlainReport(stream)
        return
    # Drawn by calls and not by a thread, which would take time from the nodes.
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield LiveReport(console, live)


def live_view(view: View) -> RenderableType:
    """Return the table of nodes and links."""
    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(f"{view.elapsed:6.1f} s", "dim"),
        ProgressBar(total=1.0, completed=view.done, width=_BAR_WIDTH),
        Text(view.phase, "bold red" if view.cut else "bold"),
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("host", justify="right")
    for link_id in range(LINKS):
        is_cut = link_id in view.cut
        table.add_column(
            Text(f"link {link_id}, cut" if is_cut else f"link {link_id}", "red" if is_cut else ""),
            min_width=13,
        )
    for name, width in (("sent", 5), ("received", 8), ("lost", 4), ("latency", 7), ("MTU", 4)):
        table.add_column(name, justify="right", min_width=width)
    for row in view.rows:
        latency = "" if math.isnan(row.latency) else f"{row.latency * 1e3:.1f} ms"
        table.add_row(
            str(row.node),
            *map(_link_text, row.links),
            str(row.sent),
            str(row.delivered),
            Text(str(row.lost), "bold red" if row.lost else ""),
            latency,
            str(row.mtu),
        )
    return Group("", head, table)


def _link_text(cell: LinkCell) -> Text:
    if not cell.up:
        return Text("down", "bold red")
    state, style = ("up", "green") if cell.up == cell.others else ("partly", "yellow")
    return Text(f"{state:6}", style).append(f"{cell.packets:5.0f}/s", "dim")


def _verdict_text(result: Result) -> Text:
    return Text(_verdict(result), "bold green" if result.ok else "bold red")


def _introduction(settings: Settings) -> list[str]:
    policy = settings.policy
    timeout = settings.pong_timeout
    shared = (
        "the first link that is up carries all messages"
        if policy is LinkPolicy.PASSIVE
        else "the links take turns"
    )
    known = "there is doubt about it" if settings.hedge else "it is known to be dead"
    if policy is LinkPolicy.ACTIVE:
        expected = "no message is lost, since every link carries every message."
    else:
        expected = f"{shared}, so messages over the cut link are lost until {known}, and no others."
    streaming = (
        f"For {settings.seconds:g} s every host sends {settings.rate:g} messages a second to all"
        " the others; meanwhile link 0 is cut and mended, then link 1."
    )
    return [
        (
            f"{settings.nodes} hosts, {LINKS} links between each two, AES-256, SHA-256,"
            f" policy {policy.value}"
        ),
        streaming,
        f"Expected: {expected}",
        (
            f"A link goes down after {timeout:.2g} s without a pong, a new one after up to"
            f" {10 * timeout:.2g} s."
        ),
    ]


def _facts(result: Result) -> list[tuple[str, str]]:
    others = result.settings.nodes - 1
    facts = [
        (
            "sent",
            (f"{result.sent} ({result.messages} messages to {count_of(others, 'host')} each)"),
        ),
        ("delivered", str(result.delivered)),
        ("lost", str(result.lost)),
        ("duplicates", str(result.duplicates)),
        ("time to fail over", f"{result.failover:.3f} s"),
        *((f"  cut of link {cut.link}", _cut_text(cut)) for cut in result.cuts),
        (
            "latency",
            (
                f"median {result.latency_median * 1e3:.2f} ms, 99 % under"
                f" {result.latency_p99 * 1e3:.2f} ms, longest {result.latency_max * 1e3:.2f} ms"
            ),
        ),
        (
            "MTU found",
            f"{result.mtu} bytes of a message, {result.mtu + result.overhead} on the wire",
        ),
    ]
    drops = [f"{cause}: {times}" for cause, times in sorted(result.drops.items())]
    if drops:
        # With the active policy there are many, which is not a fault.
        note = "; each message comes over both links"
        active = result.settings.policy is LinkPolicy.ACTIVE
        facts.append(("packets dropped", ", ".join(drops) + note * active))
    if result.late > result.settings.ping_interval:
        facts.append(
            (
                "machine busy",
                f"the hosts ran up to {result.late:.2f} s late, and so did their pongs",
            )
        )
    return facts


def _cut_text(cut: CutResult) -> str:
    dead = "not down everywhere" if cut.known_dead is None else f"down in {cut.known_dead:.2f} s"
    back = "not up again everywhere" if cut.back is None else f"up again in {cut.back:.2f} s"
    return f"{cut.failover:.3f} s, {cut.lost} lost; {dead}, {back}"


def _verdict(result: Result) -> str:
    failed = sum(not check.ok for check in result.checks)
    if not failed:
        return "All expectations held."
    return f"{failed} of {len(result.checks)} expectations did not hold."
