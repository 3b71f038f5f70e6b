"""``knet-trio status``: hosts and links of a running host, on one screen."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import trio
from rich.console import Console
from rich.text import Text

from knet_trio.cli.link_table import (
    STREAM_LINES,
    STYLES,
    LinkRow,
    LinkTable,
    fit,
    is_all_up,
    list_drops,
    list_streams,
    make_rows,
    summarize,
)
from knet_trio.cli.looking import DOWN, json_option, look, open_console, socket_option
from knet_trio.cli.ranges import NumberRange
from knet_trio.control import ControlClient, HandleReport
from knet_trio.control.codec import dump, to_json
from knet_trio.errors import count_of

# Two empty lines, the titles, the rows left out, the note on the asterisk, and the next prompt.
_OTHER_LINES: Final = 6


@click.command()
@socket_option
@click.option(
    "--interval",
    type=NumberRange(0, 60),
    default=0.5,
    show_default=True,
    help="How long to measure the rates, in seconds; 0 leaves them out.",
)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Show all links even if they do not fit on the terminal, and streams that are idle.",
)
@json_option("one JSON object instead")
def status(socket: Path | None, interval: float, everything: bool, as_json: bool) -> None:
    r"""Show the hosts and links of a running host.

    A link is up; up without carrying data ("no data": the path does not even take the smallest
    packets); down; or off, if it is disabled. An asterisk marks the links that messages go over
    now. Latency is the average round trip, loss the share of the last 100 pings without a pong, MTU
    the bytes of a message that fit in one packet; sent and received count messages with their
    headers.

    If a terminal has too few lines, hosts with a fault come first, and the remaining links are
    counted; --all shows them, and `knet-trio top` scrolls through them.

    \b
    Example:
      knet-trio status
      knet-trio status --json | jq '.hosts[] | select(.reachable | not) | .name'

    Exit status: 0 if all hosts can be reached and all links that are enabled carry data, 1 if not,
    2 for wrong arguments, 3 if there is no running host to ask.
    """
    before, now = look(socket, partial(_measure, interval=interval))
    if as_json:
        click.echo(dump(describe(now, before)))
    else:
        print_status(open_console(), now, before, everything=everything)
    sys.exit(0 if is_all_up(now) else DOWN)


async def _measure(
    client: ControlClient, interval: float
) -> tuple[HandleReport | None, HandleReport]:
    first = await client.status()
    if not interval:
        return None, first
    await trio.sleep(interval)
    return first, await client.status()


def describe(now: HandleReport, before: HandleReport | None) -> Any:
    """Return the object that ``--json`` prints: the report, the rates, and ``ok`` if all is up."""
    report: Any = to_json(now)
    rows = {row.key: row for row in make_rows(now, before)}
    for host in report["hosts"]:
        for link in host["links"]:
            row = rows[host["host_id"], link["link_id"]]
            link["tx_data_rate"], link["rx_data_rate"] = row.tx, row.rx
    return {"ok": is_all_up(now), **report}


def print_status(
    console: Console, now: HandleReport, before: HandleReport | None, *, everything: bool = True
) -> None:
    """Print a report for people.

    Args:
        console: Where to print.
        now: The report.
        before: An earlier report, which the rates are computed from; None for no rates.
        everything: Print all links even if a terminal has too few lines, and streams that are idle.
    """
    width = console.width if console.is_terminal else None
    summary = summarize(now)
    for line in summary:
        console.print(Text(line), soft_wrap=not console.is_terminal)
    rows = make_rows(now, before)
    table = LinkTable(rows, width)
    drops, streams = list_drops(now), list_streams(now, idle=everything)
    left: Sequence[LinkRow] = ()
    if console.is_terminal and not everything:
        streams = list_streams(now, STREAM_LINES, rest=": --all shows all")
        lines = sum(_lines(line, console.width) for line in (*summary, *streams, drops))
        room = console.height - lines - _OTHER_LINES
        rows, left = fit(rows, room, lambda row: _lines_of_row(row, table, console.width))
    if rows:
        console.print()
        console.print(table.head(), soft_wrap=True)
    last: int | None = None
    for row in rows:
        # For programs that read the output, each line has the host.
        repeats = console.is_terminal and row.host.host_id == last
        console.print(table.row(row, repeats=repeats), soft_wrap=True)
        last = row.host.host_id
        if not table.has_reasons and row.mood != "up":
            reason = Text(f"  {row.reason}", STYLES[row.mood])
            console.print(reason, soft_wrap=False)
    if left:
        console.print(_describe_left(left), soft_wrap=True)
    console.print()
    if rows:
        console.print(Text("* messages go over this link", "dim"))
    for line in streams:
        console.print(Text(line), soft_wrap=True)
    console.print(Text(drops))


def _describe_left(left: Sequence[LinkRow]) -> Text:
    wrong = sum(row.mood not in ("up", "off") for row in left)
    text = Text(f"… {count_of(len(left), 'more link')}", "dim")
    if wrong:
        text.append(f", {wrong} not up", STYLES["down"])
    return text.append(": --all shows all, knet-trio top scrolls", "dim")


def _lines_of_row(row: LinkRow, table: LinkTable, width: int) -> int:
    """Return the number of lines that a row takes, with its reason below."""
    if table.has_reasons or row.mood == "up":
        return 1
    return 1 + _lines(f"  {row.reason}", width)


def _lines(text: str, width: int) -> int:
    return max(1, -(-len(text) // width))
