"""The command ``bench`` and its options."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import attrs
import click
from click.core import ParameterSource

import knet_trio
from knet_trio.cli.bench import libknet
from knet_trio.cli.bench.bed import (
    BARE,
    ENVELOPED,
    LIBKNET,
    MESSAGES,
    OURS,
    PLAIN,
    STREAMING,
    Bed,
)
from knet_trio.cli.bench.case import Case
from knet_trio.cli.bench.cases import choose
from knet_trio.cli.bench.machine import Machine
from knet_trio.cli.bench.machines.command import (
    DEFAULT_PORT,
    MachineRequest,
    Where,
    list_cases,
    run_client,
    run_server,
)
from knet_trio.cli.bench.markdown import MarkdownError
from knet_trio.cli.bench.markdown import check as check_document
from knet_trio.cli.bench.markdown import write as write_document
from knet_trio.cli.bench.namespaces import namespaces_missing
from knet_trio.cli.bench.network import Veth
from knet_trio.cli.bench.plot import draw
from knet_trio.cli.bench.process import PYTHON_PEER, BenchError
from knet_trio.cli.bench.report import BenchReport
from knet_trio.cli.bench.result import BenchResult
from knet_trio.cli.bench.runner import case_contenders, run_cases
from knet_trio.cli.bench.yardstick import LONG_REPETITIONS, Yardstick
from knet_trio.cli.ending import FAILED, leave_without_result, run_until_signal
from knet_trio.cli.ranges import NumberRange

CONTENDERS: Final = (OURS, LIBKNET, *PLAIN, BARE, MESSAGES, *STREAMING, ENVELOPED)

_QUICK_ROUNDS: Final = 2
_QUICK_SECONDS: Final = 0.5
_QUICK_LOAD_SECONDS: Final = 5.0
_QUICK_SETTLE_SECONDS: Final = 1.0
# In the first ten seconds the pong timeout of a link is longer.
_SETTLE_SECONDS: Final = 11.0


# Options by the names of their parameters.
_OF_ONE_MACHINE: Final = ("load_seconds", "contenders", "source", "pin", "plot")
_OF_TWO_MACHINES: Final = ("links", "port", "key", "cluster", "host")
_OF_CLIENT: Final = ("server", "patterns", "as_list", "pairs", "seconds", "quick", "markdown")


@attrs.frozen
class Request:
    """The cases to measure, and the options.

    Attributes:
        cases: The cases.
        patterns: The values of ``--case``; empty for all cases.
        chosen: The values of ``--contender``; empty for all contenders.
        rounds: The number of rounds.
        seconds: How long a turn measures, in seconds.
        load_seconds: How long cases with lasting load measure, in seconds.
        settle_seconds: How long links are up before their failover is measured, in seconds.
        pin: True to bind each process to one CPU.
        source: The folder with the source of the libknet peer, None for that of the package.
    """

    cases: Sequence[Case]
    patterns: Sequence[str]
    chosen: Sequence[str]
    rounds: int
    seconds: float
    load_seconds: float
    settle_seconds: float
    pin: bool
    source: Path | None

    @property
    def contenders(self) -> Sequence[str]:
        """The names of the contenders."""
        return self.chosen or CONTENDERS

    @property
    def options(self) -> list[str]:
        """The options of the command for the same measurement."""
        return [
            *(part for pattern in self.patterns for part in ("--case", pattern)),
            *(part for name in self.chosen for part in ("--contender", name)),
            *("--pairs", str(self.rounds), "--seconds", f"{self.seconds:g}"),
            *("--load-seconds", f"{self.load_seconds:g}"),
            *(["--quick"] if self.settle_seconds < _SETTLE_SECONDS else []),
            *(["--pin"] if self.pin else []),
        ]


@click.command()
@click.argument("server", metavar="[HOST]", required=False)
@click.option(
    "--serve", is_flag=True, help="Run the other side of `bench HOST` on another machine."
)
@click.option(
    "--link",
    "links",
    multiple=True,
    metavar="ADDRESS",
    help="Between two machines: an address of the machine that serves, ADDRESS or ADDRESS:PORT, one"
    " for each link; HOST is the address of the first link.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65528),
    default=DEFAULT_PORT,
    show_default=True,
    help="The UDP port of link 0 on the machine that serves; the next links have the next ports.",
)
@click.option(
    "--key",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Encrypt with the key in this file, on both sides.  [default: in the clear]",
)
@click.option(
    "--cluster",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Measure between two hosts of this cluster file or corosync.conf, with its links, key and"
    " settings; HOST is a name or an id.",
)
@click.option(
    "--host",
    default=None,
    metavar="NAME_OR_ID",
    help="The host of the cluster file that this machine is.  [default: the one whose addresses it"
    " has]",
)
@click.option(
    "--case",
    "patterns",
    multiple=True,
    metavar="NAME",
    help="Measure only this case, the cases whose names begin with it, or the cases that fit a"
    " pattern such as 'throughput/*/64'. May be given several times.",
)
@click.option("--list", "as_list", is_flag=True, help="Print the names of all cases.")
@click.option(
    "--pairs",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="The number of turns of each contender; fewer for cases that need fewer, or last long.",
)
@click.option(
    "--seconds",
    type=NumberRange(0.1, 3600),
    default=1.0,
    show_default=True,
    help="How long a turn measures, in seconds.",
)
@click.option(
    "--load-seconds",
    type=NumberRange(1, 86400),
    default=30.0,
    show_default=True,
    help="How long the cases under load/ measure, in seconds.",
)
@click.option(
    "--quick",
    is_flag=True,
    help="Make turns short and few unless --seconds and --pairs are given, only to see that the"
    " bench works: links get no time to settle.",
)
@click.option(
    "--contender",
    "contenders",
    multiple=True,
    type=click.Choice(CONTENDERS),
    help="Measure only this contender. May be given several times.  [default: all that are"
    " installed]",
)
@click.option(
    "--libknet-peer",
    "source",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    help="A folder with C source for the libknet peer, instead of the source in the package.",
)
@click.option(
    "--pin", is_flag=True, help="Bind each of the two processes, with all its threads, to one CPU."
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object on standard output, and everything else on standard error.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    default=None,
    help="Draw the results into this file, such as bench.png.",
)
@click.option(
    "--markdown",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    default=None,
    help="Write the tables into this file: a new file, or one with marks for their place.",
)
def bench(
    server: str | None,
    serve: bool,
    links: tuple[str, ...],
    port: int,
    key: Path | None,
    cluster: Path | None,
    host: str | None,
    patterns: tuple[str, ...],
    as_list: bool,
    pairs: int,
    seconds: float,
    load_seconds: float,
    quick: bool,
    contenders: tuple[str, ...],
    source: Path | None,
    pin: bool,
    as_json: bool,
    plot: Path | None,
    markdown: Path | None,
) -> None:
    r"""Measure knet_trio: on this machine beside libknet and others, or between two machines.

    Without HOST, two processes send messages over loopback, or over a veth pair between two network
    namespaces, which needs root. The contenders take turns. The bench counts the messages that the
    receiving application got. docs/bench.md explains what each case measures.

    With HOST, the bench measures knet_trio alone between this machine and another one, where `bench
    --serve` runs: rates, round trips, a stream, and failover while links are disabled.

    \b
    Example:
      knet-trio bench --quick --case throughput/loopback
      knet-trio bench --serve --link 10.0.0.1 --link 10.1.0.1 --key lab.key
      knet-trio bench 10.0.0.1 --link 10.1.0.1 --key lab.key
      knet-trio bench beta --cluster lab.toml --json

    Exit status: 0 if all was measured, 1 if not, 2 for wrong arguments, 130 after Ctrl-C.
    """
    if markdown is not None:
        try:
            check_document(markdown)
        except MarkdownError as error:
            raise click.BadParameter(str(error), param_hint="--markdown") from error
    pairs = _QUICK_ROUNDS if quick and not _is_given("pairs") else pairs
    seconds = _QUICK_SECONDS if quick and not _is_given("seconds") else seconds
    settle_seconds = _QUICK_SETTLE_SECONDS if quick else _SETTLE_SECONDS
    if serve or server is not None:
        _refuse(_OF_ONE_MACHINE, "is for the bench on one machine")
        where = Where(server, links, port, key, cluster, host)
        if serve:
            _refuse(_OF_CLIENT, "is for the other side: `knet-trio bench HOST`")
            run_server(where, as_json=as_json)
        if as_list:
            list_cases(where, patterns)
            return
        options = where.options + _measuring_options(patterns, pairs, seconds, quick=quick)
        run_client(
            where,
            MachineRequest(patterns, pairs, seconds, settle_seconds, markdown, as_json, options),
        )
    _refuse(_OF_TWO_MACHINES, "is for the bench between two machines: add HOST, or --serve")
    try:
        cases = choose(patterns)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--case") from error
    if as_list:
        for case in cases:
            click.echo(case.name)
        return
    if plot is not None and find_spec("matplotlib") is None:
        raise click.UsageError("--plot needs matplotlib: pip install 'knet-trio[bench]'")
    request = Request(
        cases,
        patterns,
        contenders,
        pairs,
        seconds,
        _QUICK_LOAD_SECONDS if quick and not _is_given("load_seconds") else load_seconds,
        settle_seconds,
        pin,
        source,
    )
    stream = sys.stderr if as_json else sys.stdout
    report = BenchReport(stream)
    machine = Machine.look()
    report.introduce(machine)
    outcome = run_until_signal(partial(_measure, request, report), BenchError, OSError)
    if not isinstance(outcome, BenchResult):
        leave_without_result(outcome, "the bench cannot go on")
    report.summarize(outcome.cases)
    if plot is not None:
        draw(outcome.cases, plot)
        report.say(f"drawn into {plot}")
    if markdown is not None:
        write_document(markdown, outcome, machine, request.options)
        report.say(f"written into {markdown}")
    if as_json:
        click.echo(json.dumps(_as_json(request, outcome, machine)))
    sys.exit(FAILED if any(result.failure for result in outcome.cases) else 0)


def _is_given(option: str) -> bool:
    """Return whether the option was given, so that its value is not the default."""
    source = click.get_current_context().get_parameter_source(option)
    return source is not ParameterSource.DEFAULT


def _refuse(options: Sequence[str], why: str) -> None:
    """Exit if one of the options, by the names of their parameters, was given."""
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in options and _is_given(parameter.name):
            name = "HOST" if isinstance(parameter, click.Argument) else parameter.opts[0]
            raise click.UsageError(f"{name} {why}")


def _measuring_options(
    patterns: Sequence[str], pairs: int, seconds: float, *, quick: bool
) -> list[str]:
    return [
        *(part for pattern in patterns for part in ("--case", pattern)),
        *("--pairs", str(pairs), "--seconds", f"{seconds:g}"),
        *(["--quick"] if quick else []),
    ]


async def _measure(request: Request, report: BenchReport) -> BenchResult:
    with TemporaryDirectory(prefix="knet-trio-bench-") as folder:
        commands = await _contenders(request, Path(folder), report)
        bed = Bed(
            commands,
            request.seconds,
            load_seconds=request.load_seconds,
            settle_seconds=request.settle_seconds,
            pin=request.pin,
        )
        cases = [case for case in _possible(request.cases, report) if case_contenders(case, bed)]
        if not cases:
            who = ", ".join(commands) or "nobody"
            raise BenchError(
                f"there is nothing to measure: {who} takes part in none of the cases;"
                " choose other cases or contenders"
            )
        yardstick = Yardstick()
        await yardstick.read(LONG_REPETITIONS)
        report.show_yardstick(yardstick, "beginning")
        results = await run_cases(cases, bed, rounds=request.rounds, progress=report)
        await yardstick.read(LONG_REPETITIONS)
        report.show_yardstick(yardstick, "end")
        return BenchResult(results, yardstick)


async def _contenders(
    request: Request, folder: Path, report: BenchReport
) -> dict[str, Sequence[str]]:
    """Return the commands of the contenders that can run, and report why others cannot."""
    commands: dict[str, Sequence[str]] = {}
    for name in request.contenders:
        try:
            if name in (OURS, MESSAGES, ENVELOPED):
                commands[name] = (*PYTHON_PEER, "knet")
            elif name == BARE:
                commands[name] = (*PYTHON_PEER, "trio")
            elif name == LIBKNET:
                commands[name] = (str(await libknet.build(request.source, folder)),)
            else:
                commands[name] = _other(name)
        except BenchError as error:
            report.say(f"{name} does not take part: {error}", "yellow")
    if not commands:
        raise BenchError("no contender is left to measure: install one of those above")
    return commands


def _other(name: str) -> Sequence[str]:
    engine, module = {**PLAIN, **STREAMING}[name]
    if find_spec(module) is None:
        raise BenchError("pip install 'knet-trio[bench]'")
    return (*PYTHON_PEER, engine)


def _possible(cases: Sequence[Case], report: BenchReport) -> list[Case]:
    missing = namespaces_missing()
    if missing is None:
        return list(cases)
    possible = [case for case in cases if case.network != Veth.name]
    left_out = len(cases) - len(possible)
    if left_out:
        report.say(f"{left_out} cases over veth are left out: {missing}")
    if not possible:
        raise BenchError(f"none of the cases can be measured here: {missing}")
    return possible


def _as_json(request: Request, outcome: BenchResult, machine: Machine) -> dict[str, Any]:
    return {
        "knet_trio": knet_trio.__version__,
        "machine": attrs.asdict(machine),
        "yardstick": outcome.yardstick.as_json(),
        "pairs": request.rounds,
        "seconds": request.seconds,
        "load_seconds": request.load_seconds,
        "settle_seconds": request.settle_seconds,
        "pinned": request.pin,
        "cases": [result.as_json(OURS) for result in outcome.cases],
    }
