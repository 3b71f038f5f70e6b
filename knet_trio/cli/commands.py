"""The commands and their options."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from typing import NoReturn, cast

import click
import trio

import knet_trio as package
from knet_trio import KnetError, LinkPolicy
from knet_trio.cli.demo import DemoError, run_demo
from knet_trio.cli.report import Report, open_report
from knet_trio.cli.result import Result, Settings, default_rate

_FAILED = 1
_BY_SIGNAL = 128


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package.__version__, prog_name="knet-trio")
def knet_trio() -> None:
    """Many links, one conversation: libknet's protocol for Trio programs."""
    # The report tells what happens; warnings on stderr would tear its table apart.
    logging.getLogger("knet_trio").addHandler(logging.NullHandler())


@knet_trio.command()
@click.option(
    "--policy",
    type=click.Choice([policy.value for policy in LinkPolicy]),
    default=LinkPolicy.ACTIVE.value,
    show_default=True,
    help="How the links share the messages.",
)
@click.option(
    "--nodes", type=click.IntRange(2, 8), default=3, show_default=True, help="How many nodes."
)
@click.option(
    "--seconds",
    type=click.FloatRange(3, 3600),
    default=15.0,
    show_default=True,
    help="How long to stream, after the links have come up. It may take longer when cuts are"
    " noticed late.",
)
@click.option(
    "--rate",
    type=click.FloatRange(1, 1000),
    default=None,
    help="Messages a second of every node, each to all others.  [default: what one process carries"
    " with ease: 100 for up to 3 nodes, 10 for 8]",
)
@click.option(
    "--hedge",
    is_flag=True,
    help="Send over a second link too as soon as there is doubt about the first, as handles do"
    " unless told not to; without it the gap is that of the C library.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object on standard output and nothing else there; tell the rest on"
    " standard error.",
)
def demo(
    policy: str, nodes: int, seconds: float, rate: float | None, hedge: bool, as_json: bool
) -> None:
    """Stream messages between nodes while links are cut and mended.

    The nodes run in this process, with two links between each two, encrypted with AES-256 and
    authenticated with SHA-256. Between them is a relay of the demo's own, in which the packets of a
    link vanish as they do in a network that fails; no root is needed. Link 0 is cut and mended,
    then link 1.

    With the active policy nothing may be lost. With the others, what is sent over a link between
    its cut and the moment its sender knows is lost, as in the C library, and nothing else may be;
    --hedge makes that far less. Nothing may arrive twice or changed, no host may become
    unreachable.

    sent, delivered and lost count a message once for every node that is to get it.
    failover_seconds is how long the slowest way from one node to another took to get over a cut:
    where messages were lost, from the cut to the first message after the last of them; else the
    longest pause between two arrivals, less the normal interval.

    Exit status: 0 if all that should hold held, 1 if not, 2 for wrong arguments, 130 after Ctrl-C.
    """
    settings = Settings(nodes, LinkPolicy(policy), seconds, rate or default_rate(nodes), hedge)
    with open_report(sys.stderr if as_json else sys.stdout) as report:
        report.introduce(settings)
        outcome = _run(settings, report)
    if not isinstance(outcome, Result):
        _leave_without_result(outcome)
    report.summarize(outcome)
    if as_json:
        click.echo(json.dumps(outcome.as_json()))
    sys.exit(0 if outcome.ok else _FAILED)


def _run(settings: Settings, report: Report) -> Result | signal.Signals | BaseException:
    """The result, or the signal or error there is instead of one."""
    try:
        return trio.run(_until_signal, settings, report)
    except* (DemoError, KnetError, OSError) as errors:
        # Several tasks may have met the same trouble.
        trouble = _first(errors)
    return trouble


def _leave_without_result(outcome: signal.Signals | BaseException) -> NoReturn:
    if isinstance(outcome, signal.Signals):
        click.echo(f"ended by {outcome.name}", err=True)
        sys.exit(_BY_SIGNAL + outcome)
    if isinstance(outcome, BrokenPipeError):
        _forget_output()
        sys.exit(_FAILED)
    raise click.ClickException(f"the demo cannot go on: {outcome}")


async def _until_signal(settings: Settings, report: Report) -> Result | signal.Signals:
    """The result of the demo, or the signal that ended it early."""
    outcome: Result | signal.Signals | None = None
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def wait_signal() -> None:
                nonlocal outcome
                async for number in signals:
                    outcome = signal.Signals(number)
                    nursery.cancel_scope.cancel()

            nursery.start_soon(wait_signal)
            outcome = await run_demo(settings, report)
            nursery.cancel_scope.cancel()
    assert outcome is not None
    return outcome


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error = errors.exceptions[0]
    if isinstance(error, BaseExceptionGroup):
        return _first(cast("BaseExceptionGroup[BaseException]", error))
    return error


def _forget_output() -> None:
    # The reader has gone; what is buffered must not fail once more at the end of the process.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
