"""Measuring a handle, from wherever that is asked for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from threading import get_ident

import attrs
import trio
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from knet_trio import Handle
from knet_trio.control import HandleMetrics, HostMetrics
from knet_trio.control.reports import measure_handle, measure_host, visit_hosts
from knet_trio.metrics.families import make_families


class HandleCollector(Collector):
    """What a registry of prometheus-client asks for the series of a handle.

    ::

        async with open_handle(1) as handle:
            prometheus_client.REGISTRY.register(HandleCollector(handle))
            prometheus_client.start_http_server(9905)

    Make it in the Trio program that the handle runs in. It may then be asked in any thread. In
    Trio's it measures all links at once, some 0.1 ms each; from another one the handle's tasks get
    their turns meanwhile. Once the Trio program has ended, there are no samples any more.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._token = trio.lowlevel.current_trio_token()
        self._thread = get_ident()

    def describe(self) -> Iterator[Metric]:
        """Yield the families without samples, by which a registry finds names that are taken."""
        yield from make_families(None)

    def collect(self) -> Iterator[Metric]:
        """Yield the families with their samples as they are now."""
        yield from make_families(self._measure())

    def _measure(self) -> HandleMetrics | None:
        if get_ident() == self._thread:
            hosts = self._handle.hosts
            measured = tuple(
                measure_host(self._handle, hosts[host_id]) for host_id in sorted(hosts)
            )
            return attrs.evolve(measure_handle(self._handle), hosts=measured)
        try:
            return trio.from_thread.run(measure, self._handle, trio_token=self._token)
        except (trio.RunFinishedError, trio.Cancelled):
            return None


async def measure(handle: Handle) -> HandleMetrics:
    """Return what can be measured of a handle and its hosts; other tasks get turns meanwhile."""
    metrics = measure_handle(handle)
    async with aclosing(measure_hosts(handle)) as measured:
        hosts = [host async for host in measured]
    return attrs.evolve(metrics, hosts=tuple(hosts))


async def measure_hosts(handle: Handle) -> AsyncGenerator[HostMetrics]:
    """Yield what can be measured of each host; other tasks get turns meanwhile."""
    async with aclosing(visit_hosts(handle)) as hosts:
        async for host in hosts:
            yield measure_host(handle, host)
    await trio.lowlevel.checkpoint()
