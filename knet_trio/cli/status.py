"""``knet-trio status``: hosts and links of a running host, on one screen."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio
from rich.console import Console
from rich.text import Text

from knet_trio.cli.link_table import (
    STYLES,
    LinkTable,
    is_all_up,
    list_drops,
    make_rows,
    summarize,
)
from knet_trio.cli.looking import DOWN, json_option, look, open_console, socket_option
from knet_trio.control import ControlClient, HandleReport
from knet_trio.control.codec import dump, to_json


@click.command()
@socket_option
@click.option(
    "--interval",
    type=click.FloatRange(0, 60),
    default=0.5,
    show_default=True,
    help="How long to measure the rates, in seconds; 0 leaves them out.",
)
@json_option("one JSON object instead")
def status(socket: Path | None, interval: float, as_json: bool) -> None:
    r"""Show the hosts and links of a running host.

    A link is up; up without carrying data ("no data": the path does not even take the smallest
    packets); down; or off, if it was disabled. An asterisk marks the links that messages go over
    now. Latency is the average round trip, loss that of the last 100 pings, MTU the bytes of a
    message that go in one packet; sent and received are messages with their headers.

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
        print_status(open_console(), now, before)
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
    """Return what ``--json`` prints: the report, with rates, and whether all is up."""
    report: Any = to_json(now)
    rows = {row.key: row for row in make_rows(now, before)}
    for host in report["hosts"]:
        for link in host["links"]:
            row = rows[host["host_id"], link["link_id"]]
            link["tx_data_rate"], link["rx_data_rate"] = row.tx, row.rx
    return {"ok": is_all_up(now), **report}


def print_status(console: Console, now: HandleReport, before: HandleReport | None) -> None:
    """Print a report for people."""
    width = console.width if console.is_terminal else None
    for line in summarize(now):
        console.print(Text(line), soft_wrap=not console.is_terminal)
    rows = make_rows(now, before)
    table = LinkTable(rows, width)
    if rows:
        console.print()
        console.print(table.head(), soft_wrap=True)
    last: int | None = None
    for row in rows:
        # Each line of what a program reads says whose it is.
        repeats = console.is_terminal and row.host.host_id == last
        console.print(table.row(row, repeats=repeats), soft_wrap=True)
        last = row.host.host_id
        if not table.has_reasons and row.mood != "up":
            reason = Text(f"  {row.reason}", STYLES[row.mood])
            console.print(reason, soft_wrap=False)
    console.print()
    if rows:
        console.print(Text("* messages go over this link", "dim"))
    console.print(Text(list_drops(now)))
