"""Observation of a running host for some seconds."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import trio

from knet_trio import LinkDiagnosis
from knet_trio.cli.doctor.evidence import Evidence, LinkKey, Snapshot
from knet_trio.cli.doctor.machine import list_interfaces, read_steal, share_of_steal
from knet_trio.cli.doctor.wire import count_arrivals, list_silent_peers
from knet_trio.control import (
    ControlClient,
    ControlRequestError,
    HandleReport,
    LinkPing,
    LoopReport,
)

LEAST_SECONDS: Final = 3.0
"""The shortest default observation, in seconds; it is longer if the links ping rarely."""

MOST_SECONDS: Final = 12.0

PATH_PATIENCE: Final = 10.0
"""The most seconds that searches for path MTUs may take in addition. Usually they take none."""

_PINGS: Final = 100
"""The most pings over each link during an observation."""

_PINGS_A_SECOND: Final = 400
"""The most pings per second, over all links that are pinged at once."""

_AT_ONCE: Final = 6
"""Requests in progress at once, in addition to ``observe``: a server accepts eight."""

_CLOCK_SLACK: Final = 0.2
"""The difference between two readings of the same clock that is ignored, in seconds."""


def choose_seconds(report: HandleReport) -> float:
    """Return how long to observe: long enough for two pings of each link, up to a limit."""
    intervals = [link.ping_interval for host in report.hosts for link in host.links]
    return min(max([LEAST_SECONDS, *(2.5 * interval for interval in intervals)]), MOST_SECONDS)


async def watch(client: ControlClient, seconds: float | None = None) -> Evidence:
    """Observe a host for ``seconds``, None for the default duration."""
    before, steal = await take_snapshot(client), read_steal()
    seconds = choose_seconds(before.report) if seconds is None else seconds
    began = trio.current_time()
    seen: list[LoopReport] = []
    pings: dict[LinkKey, LinkPing] = {}
    arrived: Counter[LinkKey] = Counter()

    async def observe() -> None:
        seen.append(await client.observe(seconds))

    async with trio.open_nursery() as listening:
        listening.start_soon(count_arrivals, list_silent_peers(before), arrived)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(observe)
            nursery.start_soon(_try_links, client, before.report, seconds, pings)
        listening.cancel_scope.cancel()
    after = await take_snapshot(client)
    return Evidence(
        seconds=trio.current_time() - began,
        before=before,
        after=after,
        pings=pings,
        loop=seen[0],
        arrived=arrived,
        interfaces=list_interfaces(client.hello.pid),
        stolen=share_of_steal(steal, read_steal()),
        is_service={"rekey", "reload"} <= {*client.hello.methods},
    )


async def take_snapshot(client: ControlClient) -> Snapshot:
    """Return the current state of a host."""
    asked_at = time.time()
    report = await client.status()
    clock_error = _clock_error(report.time, asked_at, time.time())
    metrics = await client.metrics()
    diagnoses: dict[LinkKey, LinkDiagnosis] = {}

    async def diagnose(host_id: int, link_id: int) -> None:
        diagnoses[host_id, link_id] = await client.diagnose_link(host_id, link_id)

    await _in_parallel(
        partial(diagnose, host.host_id, link.link_id)
        for host in report.hosts
        for link in host.links
    )
    return Snapshot(
        report=report,
        handle=await client.diagnose(),
        links=diagnoses,
        counters={
            (host.host_id, link.link_id): link.stats
            for host in metrics.hosts
            for link in host.links
        },
        clock_error=clock_error,
    )


def _clock_error(reported: float, earliest: float, latest: float) -> float:
    """Return how far a time of day is outside the range of possible times, in seconds."""
    if earliest - _CLOCK_SLACK <= reported <= latest + _CLOCK_SLACK:
        return 0.0
    return reported - earliest if reported < earliest else reported - latest


async def _try_links(
    client: ControlClient, report: HandleReport, seconds: float, pings: dict[LinkKey, LinkPing]
) -> None:
    """Ping over all links that are up, and then search for their path MTUs."""
    up = {
        host.host_id: [link.link_id for link in host.links if link.connected]
        for host in report.hosts
    }
    hosts = [host_id for host_id, links in up.items() if links]
    at_once = max(1, sum(sorted((len(up[host_id]) for host_id in hosts), reverse=True)[:_AT_ONCE]))
    rounds = max(1, -(-len(hosts) // _AT_ONCE))
    interval = max(at_once / _PINGS_A_SECOND, seconds / _PINGS, 0.01)
    count = max(1, int(seconds / rounds / interval))

    async def ping(host_id: int) -> None:
        answer = await client.ping(host_id, count=count, interval=interval)
        pings.update({(host_id, link.link_id): link for link in answer.links})

    async def search(host_id: int, link_id: int) -> None:
        await client.discover_mtu(host_id, link_id)

    await _in_parallel(partial(ping, host_id) for host_id in hosts)
    with trio.move_on_after(PATH_PATIENCE):
        await _in_parallel(
            partial(search, host_id, link_id) for host_id in hosts for link_id in up[host_id]
        )


async def _in_parallel(requests: Iterable[Callable[[], Any]]) -> None:
    """Make requests, some at once. Those about removed hosts and links are skipped."""
    limit = trio.CapacityLimiter(_AT_ONCE)

    async def make(request: Callable[[], Any]) -> None:
        async with limit:
            try:
                await request()
            except ControlRequestError:
                # The host or the link was removed meanwhile.
                return

    async with trio.open_nursery() as nursery:
        for request in requests:
            nursery.start_soon(make, request)
