"""The command ``demo`` and its options."""

from __future__ import annotations

import json
import sys
from functools import partial

import click

from knet_trio import KnetError, LinkPolicy
from knet_trio.cli.demo import DemoError, run_demo
from knet_trio.cli.ending import FAILED, leave_without_result, run_until_signal
from knet_trio.cli.ranges import NumberRange
from knet_trio.cli.report import open_report
from knet_trio.cli.result import Result, Settings, default_rate


@click.command()
@click.option(
    "--policy",
    type=click.Choice([policy.value for policy in LinkPolicy]),
    default=LinkPolicy.ACTIVE.value,
    show_default=True,
    help="How the links share the messages.",
)
@click.option(
    "--hosts",
    "--nodes",
    "nodes",
    type=click.IntRange(2, 8),
    default=3,
    show_default=True,
    help="How many hosts.",
)
@click.option(
    "--seconds",
    type=NumberRange(3, 3600),
    default=15.0,
    show_default=True,
    help="How long to stream, in seconds, after the links have come up. The demo takes longer where"
    " cuts are noticed late.",
)
@click.option(
    "--rate",
    type=NumberRange(1, 1000),
    default=None,
    help="Messages a second of every host, each to all others.  [default: as many as one process"
    " carries with ease: 100 for up to 3 hosts, 10 for 8]",
)
@click.option(
    "--no-hedge",
    is_flag=True,
    help="Do not send over a second link too while there is doubt about the first. Handles do so by"
    " default; without it the gap is that of the C library.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object on standard output, and everything else on standard error.",
)
def demo(
    policy: str, nodes: int, seconds: float, rate: float | None, no_hedge: bool, as_json: bool
) -> None:
    r"""Stream messages between hosts while links are cut and mended.

    The hosts run in this process, with two links between every two hosts, encrypted with AES-256
    and authenticated with SHA-256. A relay between them drops the packets of a cut link, as a
    failing network does; no root is needed. Link 0 is cut and mended, then link 1.

    With the active policy no message may be lost. With the other policies, a message may be lost
    only if it was sent over a link between its cut and the moment its sender has doubts about it;
    with --no-hedge, until the sender knows that the link is dead, as in the C library. No message
    may arrive twice or changed, and no host may become unreachable.

    sent, delivered and lost count a message once for every host that is to get it.
    failover_seconds is how long the slowest way from one host to another took to get over a cut:
    where messages were lost, from the cut to the first message after the last lost one; else the
    longest pause between two arrivals, less the normal interval.

    \b
    Example:
      knet-trio demo
      knet-trio demo --policy passive --no-hedge

    Exit status: 0 if all checks passed, 1 if not, 2 for wrong arguments, 130 after Ctrl-C.
    """
    settings = Settings(
        nodes, LinkPolicy(policy), seconds, rate or default_rate(nodes), not no_hedge
    )
    with open_report(sys.stderr if as_json else sys.stdout) as report:
        report.introduce(settings)
        outcome = run_until_signal(
            partial(run_demo, settings, report), DemoError, KnetError, OSError
        )
    if not isinstance(outcome, Result):
        leave_without_result(outcome, "the demo cannot go on")
    report.summarize(outcome)
    if as_json:
        click.echo(json.dumps(outcome.as_json()))
    sys.exit(0 if outcome.ok else FAILED)
