"""The course of a preflight on one host.

::

    WAITING     wait for the other hosts, until all have come or one of them begins
    MEASURING   links come up; send pings over each, and search for the path MTU
    MEASURED    publish the report; wait for the reports of the others
    DONE        publish which reports count; all agree on the choice of the first host

A host leaves WAITING as soon as it knows that another host has, so all measure at the same time.
Every wait has an end: a host that does not come, or does not go on, is left out.
"""

from __future__ import annotations

import errno
import math
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import attrs
import trio

from knet_trio import KnetError
from knet_trio.cli.ending import describe_error
from knet_trio.cli.free_channels import choose_service_channel
from knet_trio.cli.preflight.ears import Ears
from knet_trio.cli.preflight.exchange import MAX_SIZE, Exchange
from knet_trio.cli.preflight.machine import count_filtered
from knet_trio.cli.preflight.preparing import list_settings, prepare
from knet_trio.cli.preflight.records import VERSION, HostNews, PreflightPhase
from knet_trio.cli.preflight.watch import LOOK_EVERY, Watch
from knet_trio.cluster import Cluster, ClusterHost, open_cluster
from knet_trio.streams import open_streams

PATIENCE: Final = 5.0
"""Seconds of silence of a host after which a question to it fails."""
GRACE: Final = 15.0
"""Seconds that the reports of other hosts may take longer than this host's."""
ENDING: Final = 5.0
"""Seconds that the other hosts may take to agree."""
GOODBYE: Final = 2.0
"""Seconds that hosts wait for each other when all have their verdict."""

PINGS: Final = 200
"""The number of pings that measure a link, at least if there is time."""
INTERVALS: Final = (0.005, 0.02)
"""Seconds between two of these pings: the least and the most."""
RATE: Final = 1000
"""Pings a second over all links together, at most."""


_ENDS: Final = (PreflightPhase.DONE, PreflightPhase.LEFT)


class CannotStartError(Exception):
    """The links cannot be opened. The message says why and what to do."""


@attrs.frozen(kw_only=True)
class Plan:
    """The times of a preflight.

    Attributes:
        wait: The seconds to wait for the other hosts.
        seconds: The seconds of measuring.
    """

    wait: float
    seconds: float

    def find_interval(self, links: int) -> float:
        """Return the seconds from one ping over a link to the next, with ``links`` links."""
        least, most = INTERVALS
        return max(least, min(most, self.seconds / PINGS), links / RATE)

    def count_pings(self, links: int) -> int:
        """Return the number of pings that measure each link; no fewer if there are many links."""
        interval = self.find_interval(links)
        return max(round(self.seconds / interval), min(PINGS, round(self.seconds / INTERVALS[0])))


@attrs.frozen(kw_only=True)
class Found:
    """The reports of all hosts.

    Attributes:
        news: The news of each host that counts, by ids; empty if this host was stopped.
        left: The ids of hosts that were there and have not reported.
    """

    news: Mapping[int, HostNews]
    left: frozenset[int] = frozenset()


class Preflight:
    """The preflight of one host.

    Args:
        cluster: The cluster file.
        me: This host.
        plan: The times of the preflight.
        say: Called with the progress, in words.
    """

    def __init__(
        self, cluster: Cluster, me: ClusterHost, plan: Plan, say: Callable[[str], None]
    ) -> None:
        self._cluster = cluster
        self._me = me
        self._plan = plan
        self._say = say
        self._scope = trio.CancelScope()
        self._others = {host.host_id: host for host in cluster.hosts if host is not me}

    def stop(self) -> None:
        """End the preflight before its verdict, and notify the other hosts."""
        self._scope.cancel()

    async def run(self) -> Found:
        """Run the preflight, and return the reports of all hosts that count.

        Raises:
            CannotStartError: The links cannot be opened.
        """
        async with self._opened() as (exchange, watch):
            with self._scope:
                return await self._go_through(exchange, watch)
            with trio.move_on_after(GOODBYE):
                exchange.publish(PreflightPhase.LEFT)
                await exchange.say_goodbye()
        return Found(news={})

    @asynccontextmanager
    async def _opened(self) -> AsyncGenerator[tuple[Exchange, Watch]]:
        """Open the links and the sockets beside them, and exchange news with the other hosts."""
        own = HostNews(
            version=VERSION,
            host_id=self._me.host_id,
            started=time.time_ns(),
            settings=list_settings(self._cluster),
        )
        ears = Ears(self._cluster, self._me)
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            try:
                handle = await enter(open_cluster(prepare(self._cluster), host=self._me.host_id))
            except KnetError as error:
                raise CannotStartError(_advise(error)) from error
            watch = Watch(handle, self._cluster, ears)
            stack.enter_context(ears.opened())
            channel = choose_service_channel(self._cluster)
            streams = await enter(
                open_streams(handle, channel=channel, patience=PATIENCE, max_size=MAX_SIZE)
            )
            exchange = Exchange(handle, streams, own)
            nursery = await enter(trio.open_nursery())
            nursery.start_soon(ears.run)
            nursery.start_soon(exchange.run)
            yield exchange, watch
            nursery.cancel_scope.cancel()

    async def _go_through(self, exchange: Exchange, watch: Watch) -> Found:
        before = count_filtered()
        await self._wait_others(exchange, watch)
        exchange.publish(PreflightPhase.MEASURING)
        links = len(watch.links)
        interval, count = self._plan.find_interval(links), self._plan.count_pings(links)
        self._say(f"measuring: {count} pings over each link, one in {interval * 1e3:g} ms")
        await watch.settle(lambda: {host for host in exchange.news if _is_here(exchange, host)})
        if exchange.news.keys() >= self._others.keys():
            watch.open_stream_cipher()
        await watch.measure(count, interval)
        if exchange.news.keys() >= self._others.keys():
            await watch.refine()
        exchange.publish(
            PreflightPhase.MEASURED,
            ways=await watch.report(),
            interval=interval,
            filtered=count_filtered() - before,
        )
        await self._wait_reports(exchange)
        return await self._agree(exchange)

    async def _wait_others(self, exchange: Exchange, watch: Watch) -> None:
        """Wait until all hosts have come, or one of them has begun, or the time is over."""
        deadline = trio.current_time() + self._plan.wait
        missing = await self._find_missing(exchange, watch)
        while missing:
            names = ", ".join(self._others[host_id].name for host_id in missing)
            left = max(deadline - trio.current_time(), 0)
            self._say(f"waiting up to {left:.0f} s for {names}")
            # Packets that cannot be opened bring no news, so look at the links as well.
            while missing == await self._find_missing(exchange, watch):
                if trio.current_time() >= deadline or _has_begun(exchange):
                    return
                until = min(trio.current_time() + LOOK_EVERY, deadline)
                await exchange.wait(lambda: _has_begun(exchange), until)
            missing = await self._find_missing(exchange, watch)

    async def _find_missing(self, exchange: Exchange, watch: Watch) -> tuple[int, ...]:
        """Return the ids of hosts that have not come and show no other sign of life."""
        missing: list[int] = []
        for host_id in self._others:
            if not _is_here(exchange, host_id) and not watch.shows_life(host_id):
                missing.append(host_id)
            await trio.lowlevel.checkpoint()
        return tuple(missing)

    async def _wait_reports(self, exchange: Exchange) -> None:
        """Wait for the reports of the hosts that have come."""

        def is_complete() -> bool:
            return all(
                news.has_measured or news.phase == PreflightPhase.LEFT
                for news in exchange.news.values()
            )

        await exchange.wait(is_complete, trio.current_time() + self._plan.seconds + GRACE)

    async def _agree(self, exchange: Exchange) -> Found:
        """Return the reports that count, the same on each host.

        The host with the lowest id that is there at the end decides which reports count. No host
        leaves before the others have agreed too.
        """
        reports = {host_id: news for host_id, news in exchange.news.items() if news.has_measured}
        exchange.publish(PreflightPhase.DONE, counted=tuple(sorted(reports)))

        def are_done() -> bool:
            return all(exchange.news[host_id].phase in _ENDS for host_id in reports)

        await exchange.wait(are_done, trio.current_time() + ENDING)
        done = [news for news in exchange.news.values() if news.phase == PreflightPhase.DONE]
        first = min(done, key=lambda news: news.host_id)
        counted = {
            host_id: exchange.news[host_id]
            for host_id in first.counted
            if host_id in exchange.news and exchange.news[host_id].has_measured
        }
        others = counted.keys() - {self._me.host_id}
        with trio.move_on_after(GOODBYE):
            await exchange.say_goodbye()
            await exchange.wait(
                lambda: all(
                    host_id in exchange.byes or not exchange.has_met(host_id) for host_id in others
                ),
                math.inf,
            )
        left = (host_id for host_id, news in exchange.news.items() if not news.has_measured)
        return Found(news=counted, left=frozenset(left))


def _is_here(exchange: Exchange, host_id: int) -> bool:
    """Return whether a host has come, and has not left again."""
    news = exchange.news.get(host_id)
    return news is not None and news.phase != PreflightPhase.LEFT


def _has_begun(exchange: Exchange) -> bool:
    """Return whether another host has begun to measure."""
    begun = (PreflightPhase.MEASURING, PreflightPhase.MEASURED, PreflightPhase.DONE)
    return any(news.phase in begun for news in exchange.news.values() if news is not exchange.own)


def _advise(error: KnetError) -> str:
    """Return why the links cannot be opened, and what to do."""
    text = describe_error(error)
    if error.errno == errno.EADDRINUSE:
        return (
            f"{text}: another program has this port: stop corosync first (systemctl stop corosync),"
            " or the program that ss -lunp shows, with SCTP ss -lSnp"
        )
    return text
