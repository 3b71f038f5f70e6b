"""``knet-trio preflight``: a test of all links of a cluster file, before it is used."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from knet_trio import InvalidArgumentError
from knet_trio.cli.completion import complete_hosts
from knet_trio.cli.ending import describe_error, leave_without_result, run_until_signal
from knet_trio.cli.findings import Severity
from knet_trio.cli.looking import leave, open_console
from knet_trio.cli.names import name_of
from knet_trio.cli.preflight.host import CannotStartError, Found, Plan, Preflight
from knet_trio.cli.preflight.verdict import Row, Verdict, judge
from knet_trio.cli.ranges import NumberRange
from knet_trio.cli.units import format_latency
from knet_trio.cluster import Cluster, ClusterFileError, ClusterHost, find_own_host, load_cluster
from knet_trio.errors import count_of

UNUSABLE: Final = 2
CANNOT_START: Final = 4
MANY: Final = 8
"""With more hosts than this, only links that do not work are shown."""

_STYLES: Final = {"up": "green", "down": "bold red", "off": "dim", "unknown": "yellow"}
_SEVERITIES: Final = {
    Severity.OK: "green",
    Severity.WARNING: "bold yellow",
    Severity.FAULT: "bold red",
}


@click.command()
@click.argument("file", type=click.Path())
@click.option(
    "--host",
    metavar="NAME_OR_ID",
    shell_complete=complete_hosts,
    help="The host of the file that this machine is.  [default: the one whose addresses it has]",
)
@click.option(
    "--wait",
    type=NumberRange(0, 86400),
    default=60.0,
    show_default=True,
    help="Seconds to wait for the other hosts.",
)
@click.option(
    "--seconds",
    type=NumberRange(0.5, 3600),
    default=10.0,
    show_default=True,
    help="Seconds of measuring, with 50 pings a second over every link; with less than 4 seconds,"
    " pings are sent faster, so that there are 200.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print only one JSON object on standard output.",
)
def preflight(file: str, host: str | None, wait: float, seconds: float, as_json: bool) -> None:
    r"""Test all links between the hosts of a cluster file, before anything runs.

    FILE is a cluster file, or a corosync.conf while corosync is stopped. Start the command on every
    host, within a minute. It opens the links of the file, tries every pair of hosts on every link,
    measures loss, latency and MTU, and prints the same verdict on each host: a table, and findings,
    each with a code that docs/findings.md explains, and a remedy.

    \b
    Example:
      knet-trio preflight lab.toml
      systemctl stop corosync; knet-trio preflight /etc/corosync/corosync.conf

    Exit status: 0 if all is well, 1 if there are findings, 2 for wrong arguments or a file that
    cannot be used, 3 if a host did not come, 4 if the links cannot be opened, as when corosync
    runs, 130 after Ctrl-C.
    """
    try:
        cluster = load_cluster(file)
        me = find_own_host(cluster, host)
    except ClusterFileError as error:
        click.echo(str(error), err=True)
        sys.exit(UNUSABLE)
    except InvalidArgumentError as error:
        leave(describe_error(error), UNUSABLE)
    if len(cluster.hosts) < 2:
        leave(f"{file} has only one host: a preflight needs two or more", UNUSABLE)
    plan = Plan(wait=wait, seconds=seconds)
    run = Preflight(cluster, me, plan, lambda text: click.echo(f"{me.name}: {text}", err=True))
    outcome = run_until_signal(run.run, CannotStartError, OSError, stop=run.stop)
    if isinstance(outcome, CannotStartError):
        leave(str(outcome), CANNOT_START)
    if not isinstance(outcome, Found):
        leave_without_result(outcome, "the preflight cannot go on")
    verdict = judge(cluster, outcome.news, outcome.left)
    if as_json:
        click.echo(json.dumps(describe(file, cluster, me, verdict)))
    else:
        show(open_console(), cluster, verdict)
    sys.exit(verdict.status)


def describe(file: str, cluster: Cluster, me: ClusterHost, verdict: Verdict) -> dict[str, Any]:
    """Return the object that `--json` prints."""
    return {
        "file": file,
        "this_host": me.host_id,
        "name": cluster.name,
        "ok": verdict.status == 0,
        "status": verdict.status,
        "hosts": [{"id": host.host_id, "name": host.name} for host in cluster.hosts],
        "missing": list(verdict.missing),
        "ping_interval": verdict.interval,
        "links": [row.as_json() for row in verdict.rows],
        "findings": [finding.as_json() for finding in verdict.findings],
    }


def show(console: Console, cluster: Cluster, verdict: Verdict) -> None:
    """Print the table and the findings."""
    rows = verdict.rows
    if len(cluster.hosts) > MANY:
        rows = tuple(row for row in rows if row.state != "up" or (row.way and row.way.lost))
    if rows:
        console.print(_make_table(rows))
        console.print()
    for finding in verdict.findings:
        line = Text()
        line.append(f"{finding.severity.value} {finding.code}", _SEVERITIES[finding.severity])
        line.append(f"  {finding.where}: {finding.text}")
        console.print(line, soft_wrap=True)
        if finding.remedy:
            console.print(Text(f"  {finding.remedy}"), soft_wrap=True)
    hosts, links = len(cluster.hosts), len(cluster.links)
    sizes = f"{count_of(hosts, 'host')}, {count_of(links, 'link')}"
    if not verdict.status:
        console.print(Text(f"all is well: {sizes}", "green"), soft_wrap=True)
        return
    names = {host.host_id: host.name for host in cluster.hosts}
    total = f"{count_of(len(verdict.findings), 'finding')}: {sizes}"
    if verdict.missing:
        total += f"; did not come: {', '.join(names[host_id] for host_id in verdict.missing)}"
    console.print(Text(total, "bold red"), soft_wrap=True)


def _make_table(rows: tuple[Row, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("FROM", "TO"):
        table.add_column(name)
    table.add_column("LINK", justify="right")
    table.add_column("STATE")
    for name in ("LOST", "LATENCY", "MTU"):
        table.add_column(name, justify="right")
    for row in rows:
        way = row.way
        lost = "-" if way is None or not way.sent else f"{way.lost} of {way.sent}"
        table.add_row(
            Text(name_of(row.source)),
            Text(name_of(row.target)),
            str(row.link_id),
            Text(row.state, _STYLES[row.state]),
            lost,
            format_latency(way.latency if way else None),
            str(way.path_mtu) if way and way.path_mtu else "-",
        )
    return table
