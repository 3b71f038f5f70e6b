"""The two commands: ``bench --serve``, and ``bench HOST``."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import attrs
import click

import knet_trio
from knet_trio import KnetError, UnknownHostError, format_address
from knet_trio.cli.bench.bed import OURS
from knet_trio.cli.bench.case import Case
from knet_trio.cli.bench.cases import choose
from knet_trio.cli.bench.machine import Machine
from knet_trio.cli.bench.machines.cases import make_cases
from knet_trio.cli.bench.machines.client import (
    Machines,
    describe_machine,
    make_bed,
    open_machines,
)
from knet_trio.cli.bench.machines.place import (
    CLIENTS,
    Place,
    parse_links,
    place_client,
    place_server,
    read_key,
    read_place,
)
from knet_trio.cli.bench.machines.server import serve
from knet_trio.cli.bench.markdown import write as write_document
from knet_trio.cli.bench.process import BenchError
from knet_trio.cli.bench.report import BenchReport
from knet_trio.cli.bench.result import BenchResult
from knet_trio.cli.bench.runner import run_cases
from knet_trio.cli.bench.yardstick import LONG_REPETITIONS, Yardstick
from knet_trio.cli.ending import (
    FAILED,
    describe_error,
    leave_without_result,
    run_until_signal,
)
from knet_trio.cluster import ClusterHost

DEFAULT_PORT: Final = 5405

CANNOT: Final = "the bench cannot go on"


@attrs.frozen
class Where:
    """The options that choose the two machines.

    Attributes:
        server: The argument HOST, None with ``--serve``.
        links: Other addresses of the server.
        port: The port of link 0.
        key: The file with the key, None for no encryption.
        cluster: The cluster file, None without one.
        host: The host of the file that this machine is, None to find out.
    """

    server: str | None
    links: Sequence[str]
    port: int
    key: Path | None
    cluster: Path | None
    host: str | None

    @property
    def options(self) -> list[str]:
        """The options of the command for the same machines."""
        return [
            *([] if self.server is None else [self.server]),
            *(part for link in self.links for part in ("--link", link)),
            *([] if self.port == DEFAULT_PORT else ["--port", str(self.port)]),
            *([] if self.key is None else ["--key", str(self.key)]),
            *([] if self.cluster is None else ["--cluster", str(self.cluster)]),
            *([] if self.host is None else ["--host", self.host]),
        ]

    def find(self) -> tuple[Place, ClusterHost]:
        """Return the place, and the server.

        Raises:
            BenchError: The file or an address cannot be used.
            UsageError: The options do not fit each other.
        """
        if self.cluster is not None:
            if self.links or self.key is not None:
                raise click.UsageError("with --cluster, links and key are those of the file")
            place = read_place(self.cluster, self.host)
            return place, place.me if self.server is None else self._find_server(place)
        if self.host is not None:
            raise click.UsageError("--host is for a cluster file: add --cluster FILE")
        texts = [*(() if self.server is None else (self.server,)), *self.links]
        if not texts:
            raise click.UsageError(
                "give the addresses to serve (--link ADDRESS, for each link), or --cluster FILE"
            )
        if len(texts) > 8:
            raise click.UsageError("a host has 8 links at most: give fewer addresses")
        addresses = parse_links(texts, self.port)
        try:
            crypto = read_key(self.key)
        except KnetError as error:
            raise BenchError(describe_error(error)) from None
        if self.server is None:
            place = place_server(addresses, crypto)
            return place, place.me
        # At random, so that two clients at once are rarely the same host.
        place = place_client(addresses, crypto, random.choice(CLIENTS))
        return place, place.cluster.hosts[0]

    def _find_server(self, place: Place) -> ClusterHost:
        try:
            server = place.cluster.get_host(self.server or "")
        except UnknownHostError as error:
            raise BenchError(describe_error(error)) from None
        if server == place.me:
            raise BenchError(f"{server.name} is this host itself: choose another one")
        return server


@attrs.frozen
class MachineRequest:
    """The measurement, and its output.

    Attributes:
        patterns: The values of ``--case``; empty for all cases.
        rounds: The number of rounds.
        seconds: How long a turn measures, in seconds.
        settle_seconds: How long links are up before their failover is measured, in seconds.
        markdown: The file for the tables, None for none.
        as_json: True to print JSON.
        options: The options of the command for the same measurement.
    """

    patterns: Sequence[str]
    rounds: int
    seconds: float
    settle_seconds: float
    markdown: Path | None
    as_json: bool
    options: Sequence[str]


def run_server(where: Where, *, as_json: bool) -> NoReturn:
    """Serve until a signal comes."""

    def say(what: str, text: str, **more: object) -> None:
        click.echo(json.dumps({"event": what, "text": text, **more}) if as_json else text)

    place, _ = _find(where)
    if place.cluster.crypto is None:
        click.echo("without a key, any host that can reach this server may use it", err=True)
    leave_without_result(run_until_signal(partial(serve, place, say), BenchError, OSError), CANNOT)


def list_cases(where: Where, patterns: Sequence[str]) -> None:
    """Print the names of the cases."""
    place, server = _find(where)
    for case in _choose(place, server, patterns):
        click.echo(case.name)


def run_client(where: Where, request: MachineRequest) -> NoReturn:
    """Measure, and print the results."""
    place, server = _find(where)
    cases = _choose(place, server, request.patterns)
    report = BenchReport(sys.stderr if request.as_json else sys.stdout)
    here = Machine.look()
    report.introduce(here)
    there: list[Machine] = []

    async def measure() -> BenchResult:
        async with open_machines(place, server) as machines:
            there.append(describe_machine(machines.machine))
            report.say(f"{place.describe_host(server)} is {there[0].text}", "dim")
            for trouble in await machines.wait_links():
                report.say(trouble, "bold red")
            return await _measure(machines, cases, request, report)

    outcome = run_until_signal(measure, BenchError, OSError)
    if not isinstance(outcome, BenchResult):
        leave_without_result(outcome, CANNOT)
    report.summarize(outcome.cases)
    if request.markdown is not None:
        write_document(request.markdown, outcome, here, request.options, there[0])
        report.say(f"written into {request.markdown}")
    if request.as_json:
        click.echo(json.dumps(_as_json(request, place, server, outcome, (here, there[0]))))
    sys.exit(FAILED if any(result.failure for result in outcome.cases) else 0)


async def _measure(
    machines: Machines, cases: Sequence[Case], request: MachineRequest, report: BenchReport
) -> BenchResult:
    yardstick = Yardstick()
    await yardstick.read(LONG_REPETITIONS)
    report.show_yardstick(yardstick, "beginning")
    bed = make_bed(machines, request.seconds, request.settle_seconds)
    results = await run_cases(cases, bed, rounds=request.rounds, progress=report)
    await yardstick.read(LONG_REPETITIONS)
    report.show_yardstick(yardstick, "end")
    return BenchResult(results, yardstick)


def _find(where: Where) -> tuple[Place, ClusterHost]:
    try:
        return where.find()
    except BenchError as error:
        raise click.ClickException(str(error)) from None


def _choose(place: Place, server: ClusterHost, patterns: Sequence[str]) -> list[Case]:
    links = sum(server.find_link(link.link_id) is not None for link in place.me.links)
    try:
        return choose(patterns, make_cases(place, links))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--case") from error


def _as_json(
    request: MachineRequest,
    place: Place,
    server: ClusterHost,
    outcome: BenchResult,
    machines: Sequence[Machine],
) -> dict[str, Any]:
    here, there = machines
    return {
        "knet_trio": knet_trio.__version__,
        "machine": attrs.asdict(here),
        "server": {
            "host_id": server.host_id,
            "name": server.name,
            "links": [
                None if link.address is None else format_address(link.address)
                for link in server.links
            ],
            "machine": attrs.asdict(there),
        },
        "policy": place.cluster.policy.value,
        "yardstick": outcome.yardstick.as_json(),
        "pairs": request.rounds,
        "seconds": request.seconds,
        "settle_seconds": request.settle_seconds,
        "cases": [result.as_json(OURS) for result in outcome.cases],
    }
