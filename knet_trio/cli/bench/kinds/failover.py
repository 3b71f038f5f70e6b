"""The messages lost and the longest pause between arrivals when a link fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ClassVar, Final

import attrs
import trio

from knet_trio.cli.bench.bed import Bed, Timers
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.network import Network, Veth
from knet_trio.cli.bench.process import BenchError, BenchPeer

_RATE: Final = 1000
_SIZE: Final = 64
_SECONDS: Final = 3.0
CUT_AT: Final = 1.0
# Seconds for messages that are still on their way at the end.
_DRAIN: Final = 0.3
_LINKS: Final = 2


@attrs.frozen
class Failover(Case):
    """1000 messages a second over two links; after a second, the first link fails.

    The ping interval is 100 ms, the pong timeout 300 ms.

    Attributes:
        cut: ``interface-down`` sets the sender's interface down, which its system knows;
            ``black-hole`` lets packets vanish, which no error reports.
        policy: The policy of the links.
        hedge: The argument of ``open_handle``, which libknet does not have.
    """

    kind: ClassVar[str] = "failover"
    warm_up: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("lost", "lost", "messages", False),
        Metric("pause", "longest pause", "ms", False),
        Metric("repeated", "arrived twice", "messages"),
        Metric("downs", "links found down", ""),
    )

    cut: str
    policy: str
    hedge: bool = True

    @property
    def name(self) -> str:
        """The name, such as ``failover/black-hole/passive``."""
        return f"{self.kind}/{self.cut}/{self.policy}{'' if self.hedge else '/no-hedge'}"

    @property
    def network(self) -> str:
        """Veth, because loopback has no interface for each link."""
        return Veth.name

    @property
    def links(self) -> int:
        """Two links."""
        return _LINKS

    @property
    def rounds(self) -> int | None:
        """Two, because links have to settle each time."""
        return 2

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Let the links settle, send messages, and cut."""
        if not isinstance(network, Veth):
            raise BenchError(f"{self.name} needs interfaces of its own")
        async with bed.open_pair(
            contender,
            network,
            links=_LINKS,
            policy=self.policy,
            timers=Timers(ping=0.1, timeout=0.3),
            hedge=self.hedge,
        ) as (source, sink):
            await trio.sleep(bed.settle_seconds)
            if self.cut == "interface-down":
                cut = partial(network.take_down, 0, 0)
            else:
                cut = partial(network.lose_all, 0)
            return await self.run(source, sink, cut)

    async def run(
        self,
        source: BenchPeer,
        sink: BenchPeer,
        cut: Callable[[], Awaitable[None]],
        seconds: float = _SECONDS,
    ) -> Measured:
        """Measure between two sides with links that have settled.

        Args:
            source: The side that sends.
            sink: The side that receives.
            cut: Makes the link fail.
            seconds: How long messages are sent, in seconds.
        """
        before = await source.call("status", handle=1)
        await sink.call("collect", handle=2)
        streamed: dict[str, Any] = {}

        async def stream() -> None:
            streamed.update(
                await source.call("stream", handle=1, size=_SIZE, rate=_RATE, seconds=seconds)
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream)
            await trio.sleep(CUT_AT)
            await cut()
        await trio.sleep(_DRAIN)
        got = await sink.call("collected", handle=2)
        after = await source.call("status", handle=1)
        return {
            "lost": streamed["sent"] - got["received"],
            "pause": 1e3 * got["pause"],
            "repeated": got["repeated"],
            "downs": after["downs"] - before["downs"],
        }
