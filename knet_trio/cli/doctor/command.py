"""The command ``doctor``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import click
import trio
from rich.console import Console
from rich.text import Text

from knet_trio.cli.doctor.judging import judge, not_answering
from knet_trio.cli.doctor.watching import MOST_SECONDS, PATH_PATIENCE, watch
from knet_trio.cli.ending import run_until_signal
from knet_trio.cli.findings import Finding, Severity
from knet_trio.cli.looking import (
    DOWN,
    EXPECTED,
    choose_socket,
    json_option,
    leave_by,
    open_console,
    socket_option,
)
from knet_trio.cli.ranges import NumberRange
from knet_trio.control import connect_control
from knet_trio.control.codec import dump
from knet_trio.errors import count_of

ONLY_WARNINGS: Final = 4

_PATIENCE: Final = 10.0
"""Seconds that a program may take to answer, in addition to the requested work."""

_STYLES: Final = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.FAULT: "bold red"}


@click.command()
@socket_option
@click.option(
    "--seconds",
    type=NumberRange(0.5, 60),
    default=None,
    help="How long to watch.  [default: 3, or longer if links ping rarely]",
)
@json_option("one JSON object instead")
def doctor(socket: Path | None, seconds: float | None, as_json: bool) -> None:
    r"""Find faults of a running host, and say what to do about them.

    The command watches the host for some seconds, pings its peers over all links that are up, and
    searches for their path MTUs; it changes nothing. Each finding is ok, a warning or a fault, and
    has a code with a section in docs/findings.md.

    Some faults show at one end only. If a peer does not answer, run the command there too.

    \b
    Example:
      knet-trio doctor
      knet-trio doctor --json | jq -r '.findings[] | select(.severity == "fault") | .code'

    Exit status: 0 if nothing is wrong, 1 if there are faults, 2 for wrong arguments, 3 if no
    running host is found, 4 if there are warnings and no faults.
    """
    found: list[list[Finding]] = []
    run = partial(_examine, choose_socket(socket), seconds, found)
    outcome = run_until_signal(run, *EXPECTED)
    if not found:
        leave_by(outcome)
    findings = found[0]
    severities = {finding.severity for finding in findings}
    healthy = severities <= {Severity.OK}
    if as_json:
        listed = [finding.as_json() for finding in findings]
        click.echo(dump({"ok": healthy, "findings": listed}))
    else:
        print_findings(open_console(), findings)
    sys.exit(0 if healthy else DOWN if Severity.FAULT in severities else ONLY_WARNINGS)


async def _examine(path: Path, seconds: float | None, found: list[list[Finding]]) -> None:
    limit = (MOST_SECONDS if seconds is None else seconds) + PATH_PATIENCE + _PATIENCE
    with trio.move_on_after(limit) as scope:
        async with connect_control(path) as client:
            found.append(judge(await watch(client, seconds)))
    if scope.cancelled_caught and not found:
        found.append(not_answering(limit))


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Print findings for people, the worst first."""
    wraps = not console.is_terminal
    for finding in findings:
        line = Text(f"{finding.severity.value:<7}  ", _STYLES[finding.severity])
        line.append(finding.code, "bold")
        line.append(f"  {finding.where}: " if finding.where else "  ")
        line.append(finding.text)
        console.print(line, soft_wrap=wraps)
        if finding.remedy and finding.severity is not Severity.OK:
            console.print(
                Text(f"         {finding.remedy}", "dim"), soft_wrap=not console.is_terminal
            )
    faults = sum(finding.severity is Severity.FAULT for finding in findings)
    warnings = sum(finding.severity is Severity.WARNING for finding in findings)
    console.print()
    console.print(Text(f"{count_of(faults, 'fault')}, {count_of(warnings, 'warning')}"))
