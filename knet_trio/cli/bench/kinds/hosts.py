"""Many hosts, most of which are not there."""

from __future__ import annotations

from typing import ClassVar, Final

import attrs
import trio

from knet_trio._core.percentile import percentile
from knet_trio.cli.bench.bed import OURS, Bed, Timers, wait_up
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.network import Network
from knet_trio.cli.bench.peer.nobody import nobody
from knet_trio.cli.bench.process import open_peer

_RATE: Final = 20
_SIZE: Final = 64
_FIRST: Final = 100
_SETTLE: Final = 2.0
# In times of a turn: each host is pinged once a second, and a turn needs several pings.
_TURNS: Final = 4
_DRAIN: Final = 0.3


@attrs.frozen
class RefusingHosts(Case):
    """Messages to a live host beside ``hosts`` hosts whose address refuses every ping."""

    kind: ClassVar[str] = "hosts/refusing"
    warm_up: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("cpu", "CPU", "% of a core", False),
        Metric("p50", "message p50", "ms", False, compared=True),
        Metric("p99", "p99", "ms", False),
        Metric("lost", "lost", "messages"),
        Metric("downs", "live link found down", ""),
    )

    hosts: int

    @property
    def name(self) -> str:
        """The name, such as ``hosts/refusing/1000``."""
        return f"{self.kind}/{self.hosts}"

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Send messages to the live host while the others refuse."""
        async with bed.open_peers(contender, network) as peers:
            hub, live = peers
            here, there = (f"{network.address(i, 0)}:{network.take_port(i, 0)}" for i in (0, 1))
            timers = Timers().arguments
            for id, peer in enumerate(peers, 1):
                await peer.call("handle", id=id)
                await peer.call("host", handle=id, id=3 - id)
            await hub.call("link", handle=1, host=2, id=0, src=here, dst=there, **timers)
            await live.call("link", handle=2, host=1, id=0, src=there, dst=here, **timers)
            await wait_up({1: hub, 2: live}, 0)
            for number in range(self.hosts):
                id, (address, port) = _FIRST + number, nobody(number)
                await hub.call("host", handle=1, id=id)
                dst = f"{address}:{port}"
                await hub.call("link", handle=1, host=id, id=0, src=here, dst=dst, ping=1)
            await trio.sleep(_SETTLE)
            await live.call("collect", handle=2)
            downs = await live.call("status", handle=2)
            before = await hub.call("usage")
            seconds = _TURNS * bed.seconds
            streamed = await hub.call("stream", handle=1, size=_SIZE, rate=_RATE, seconds=seconds)
            after = await hub.call("usage")
            await trio.sleep(_DRAIN)
            got = await live.call("collected", handle=2)
            end_downs = await live.call("status", handle=2)
            latencies = sorted(got["latencies_us"])
            return {
                "cpu": 100 * (after["cpu"] - before["cpu"]) / (after["now"] - before["now"]),
                "p50": percentile(latencies, 50) / 1e3,
                "p99": percentile(latencies, 99) / 1e3,
                "lost": streamed["sent"] - got["received"],
                "downs": end_downs["downs"] - downs["downs"],
            }


@attrs.frozen
class AddingHosts(Case):
    """Add ``hosts`` hosts with a link each, and remove them."""

    kind: ClassVar[str] = "hosts/adding"
    warm_up: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("added", "to add all", "s", False),
        Metric("removed", "to remove all", "s", False),
    )

    hosts: int

    @property
    def name(self) -> str:
        """The name, such as ``hosts/adding/2000``."""
        return f"{self.kind}/{self.hosts}"

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio alone, since the times are measured inside its process."""
        return (OURS,)

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Add and remove the hosts, timed in the peer."""
        async with open_peer(bed.commands[contender]) as peer:
            await peer.call("handle", id=1)
            src = f"{network.address(0, 0)}:{network.take_port(0, 0)}"
            added = await peer.call("crowd", handle=1, first=_FIRST, hosts=self.hosts, src=src)
            await trio.sleep(_SETTLE)
            removed = await peer.call("disperse", handle=1, first=_FIRST)
            return {"added": added["seconds"], "removed": removed["seconds"]}
