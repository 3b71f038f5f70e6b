"""Round trips of messages, one at a time, through both applications."""

from __future__ import annotations

from typing import ClassVar

import attrs

from knet_trio._core.percentile import percentile
from knet_trio.cli.bench.bed import Bed, Dressing
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.network import Network
from knet_trio.cli.bench.process import BenchPeer

_WARM_UP = 0.2


@attrs.frozen
class RoundTrip(Case):
    """Round trips of ``size``-byte messages: each is sent when the one before has come back."""

    kind: ClassVar[str] = "roundtrip"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("p50", "p50", "µs", False, of_message=True),
        Metric("p99", "p99", "µs", False),
        Metric("rate", "round trips", "1/s"),
        Metric("cpu", "CPU a round trip", "µs"),
        Metric("lost", "lost", "messages"),
    )

    on: str
    size: int
    dressing: Dressing
    who: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name, such as ``roundtrip/veth/64/clear``."""
        return f"{self.kind}/{self.on}/{self.size}/{self.dressing.name}"

    @property
    def network(self) -> str:
        """The network that ``on`` names."""
        return self.on

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio, libknet, and the contenders in ``who``."""
        return (*super().contenders, *self.who)

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Measure round trips for the time of a turn."""
        async with bed.open_pair(contender, network, dressing=self.dressing) as (here, there):
            return await self.run(here, there, bed.seconds)

    async def run(self, here: BenchPeer, there: BenchPeer, seconds: float) -> Measured:
        """Measure between two sides with links that are up."""
        await there.call("echo", handle=2)
        await here.call("roundtrip", handle=1, size=self.size, seconds=_WARM_UP)
        before = await there.call("usage")
        went = await here.call("roundtrip", handle=1, size=self.size, seconds=seconds)
        after = await there.call("usage")
        samples = sorted(went["samples_us"])
        trips = max(1, len(samples))
        here_cpu, there_cpu = went["cpu"], after["cpu"] - before["cpu"]
        measured = {
            "p50": percentile(samples, 50),
            "p99": percentile(samples, 99),
            "rate": len(samples) / went["seconds"],
            "cpu": 1e6 * (here_cpu + there_cpu) / trips,
            "here_cpu": 1e6 * here_cpu / trips,
            "there_cpu": 1e6 * there_cpu / trips,
            "lost": went["lost"],
        }
        return {metric.key: measured[metric.key] for metric in self.metrics}
