"""The delay of messages to other hosts while the link to one host is stuck."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import ClassVar, Final

import attrs
import trio

from knet_trio._core.percentile import percentile
from knet_trio.cli.bench.bed import OURS, Bed, Timers, wait_up
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.network import Network, Veth
from knet_trio.cli.bench.process import BenchError, PeerProcess, open_peer

_HOSTS: Final = (2, 3, 4, 5)
_STUCK: Final = 2
_OTHERS: Final = (3, 4, 5)
_SHARED: Final = "10.89.0.1"
# Without CAP_NET_ADMIN, so that its sockets get the buffers of an ordinary program.
_UNPRIVILEGED: Final = ("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")
_RATE: Final = 100
_SIZE: Final = 64
_LOAD_SIZE: Final = 1400
_LOAD_BATCH: Final = 8
_TIMERS: Final = Timers(ping=0.2, timeout=2.0, pongs=1)
# In times of a turn: the stuck host is up for two seconds and then down, and a phase needs both.
_TURNS: Final = 3
_DRAIN: Final = 0.5
# Seconds by which the load is longer than both phases: a stream may be late.
_SPARE: Final = 20.0


@attrs.frozen
class Isolation(Case):
    """The latency of messages to hosts beside one that gets full load over a stuck interface.

    One of four hosts gets as many messages as possible, until its interface stops sending. 100
    messages a second go to the others.

    Attributes:
        source: ``own-addresses`` if each link has its own local address, ``one-address`` if they
            share one.
        to: ``alone`` for messages to one other host, ``broadcast`` for messages to all.
    """

    kind: ClassVar[str] = "isolation"
    warm_up: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("later", "later p99", "ms", False),
        Metric("free_p99", "p99 before", "ms"),
        Metric("free_max", "longest before", "ms"),
        Metric("stuck_p99", "p99 with a stuck host", "ms", False),
        Metric("stuck_max", "longest", "ms", False),
        Metric("lost", "lost", "messages", False),
    )

    source: str
    to: str

    @property
    def name(self) -> str:
        """The name, such as ``isolation/own-addresses/alone``."""
        return f"{self.kind}/{self.source}/{self.to}"

    @property
    def network(self) -> str:
        """Veth, because an interface of its own has to be stopped."""
        return Veth.name

    @property
    def links(self) -> int:
        """One link for each host."""
        return len(_HOSTS)

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio alone, since libknet's peer does not run without privileges."""
        return (OURS,)

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Measure latencies before and after the interface stops, under the same load."""
        if not isinstance(network, Veth):
            raise BenchError(f"{self.name} needs interfaces of its own")
        command = bed.commands[contender]
        async with AsyncExitStack() as stack:
            hub = await stack.enter_async_context(
                open_peer((*_UNPRIVILEGED, *command), namespace=network.namespace(0))
            )
            rim = await stack.enter_async_context(
                open_peer(command, namespace=network.namespace(1))
            )
            await self._connect(hub, rim, network)
            await network.narrow(_HOSTS.index(_STUCK))
            seconds = _TURNS * bed.seconds
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_load, hub, 2 * seconds + _SPARE)
                free, lost_before = await self._stream(hub, rim, seconds)
                await network.stand_still(_HOSTS.index(_STUCK))
                stuck, lost = await self._stream(hub, rim, seconds)
                nursery.cancel_scope.cancel()
        free_p99, stuck_p99 = percentile(free, 99), percentile(stuck, 99)
        return {
            "later": stuck_p99 - free_p99,
            "free_p99": free_p99,
            "free_max": percentile(free, 100),
            "stuck_p99": stuck_p99,
            "stuck_max": percentile(stuck, 100),
            "lost": lost_before + lost,
        }

    async def _connect(self, hub: PeerProcess, rim: PeerProcess, network: Veth) -> None:
        await hub.call("handle", id=1)
        port = network.take_port(0, 0)
        if self.source == "one-address":
            await network.share_address(_SHARED)
        for link, host in enumerate(_HOSTS):
            here = _SHARED if self.source == "one-address" else network.address(0, link)
            src, dst = f"{here}:{port}", f"{network.address(1, link)}:{port}"
            await hub.call("host", handle=1, id=host)
            await rim.call("handle", id=host)
            await rim.call("host", handle=host, id=1)
            common = {"id": 0, **_TIMERS.arguments}
            await hub.call("link", handle=1, host=host, src=src, dst=dst, **common)
            await rim.call("link", handle=host, host=1, src=dst, dst=src, **common)
        await wait_up({1: hub, **dict.fromkeys(_HOSTS, rim)}, network.least_mtu)

    async def _stream(
        self, hub: PeerProcess, rim: PeerProcess, seconds: float
    ) -> tuple[Sequence[float], int]:
        """Return latencies in milliseconds, ascending, and the number of messages lost."""
        watched = _OTHERS if self.to == "broadcast" else _OTHERS[:1]
        for host in watched:
            await rim.call("collect", handle=host)
        target = {} if self.to == "broadcast" else {"to": watched[0]}
        await hub.call("stream", handle=1, size=_SIZE, rate=_RATE, seconds=seconds, **target)
        await trio.sleep(_DRAIN)
        latencies: list[float] = []
        for host in watched:
            got = await rim.call("collected", handle=host)
            latencies += [latency / 1e3 for latency in got["latencies_us"]]
        return sorted(latencies), int(_RATE * seconds) * len(watched) - len(latencies)


async def _load(hub: PeerProcess, seconds: float) -> None:
    await hub.call("pour", handle=1, to=_STUCK, size=_LOAD_SIZE, batch=_LOAD_BATCH, seconds=seconds)
