"""Measuring of a handle, from Trio's thread or another one."""

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
    """A collector of the series of a handle, for a registry of prometheus-client.

    ::

        async with open_handle(1) as handle:
            prometheus_client.REGISTRY.register(HandleCollector(handle))
            prometheus_client.start_http_server(9905)

    Create the collector in the Trio program of the handle. It may then be used in any thread. In
    Trio's thread it measures all links without a pause, about 0.1 ms each; from another thread it
    lets the tasks of the handle run meanwhile. After the Trio program has ended, it returns no
    samples.

    Args:
        handle: The handle.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._token = trio.lowlevel.current_trio_token()
        self._thread = get_ident()

    def describe(self) -> Iterator[Metric]:
        """Yield the families without samples, so that a registry finds names used twice."""
        yield from make_families(None)

    def collect(self) -> Iterator[Metric]:
        """Yield the families with their current samples."""
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
    """Return the metrics of a handle and its hosts, letting other tasks run meanwhile."""
    metrics = measure_handle(handle)
    async with aclosing(measure_hosts(handle)) as measured:
        hosts = [host async for host in measured]
    return attrs.evolve(metrics, hosts=tuple(hosts))


async def measure_hosts(handle: Handle) -> AsyncGenerator[HostMetrics]:
    """Yield the metrics of each host, letting other tasks run meanwhile."""
    async with aclosing(visit_hosts(handle)) as hosts:
        async for host in hosts:
            yield measure_host(handle, host)
    await trio.lowlevel.checkpoint()
