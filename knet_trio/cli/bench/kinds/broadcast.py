"""The CPU time of sending a message to many hosts."""

from __future__ import annotations

import time
from typing import ClassVar, Final

import attrs

from knet_trio.cli.bench.bed import Bed, Timers
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.kinds.throughput import CREDITS, LEAD, TAIL, per_second, window
from knet_trio.cli.bench.network import Network

_SIZE: Final = 64


@attrs.frozen
class BroadcastCost(Case):
    """64-byte messages to ``hosts`` hosts, which share a process that limits the rate."""

    kind: ClassVar[str] = "broadcast"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("cost", "sender's CPU a message", "µs", False, of_message=True),
        Metric("rate", "messages", "1/s", True),
        Metric("loss", "lost", "%"),
        Metric("source_cpu", "CPU source", "cores"),
        Metric("sink_cpu", "CPU sinks", "cores"),
    )

    hosts: int

    @property
    def name(self) -> str:
        """The name, such as ``broadcast/16``."""
        return f"{self.kind}/{self.hosts}"

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Measure throughput; the source waits for the slowest sink."""
        timers = Timers()
        ids = range(2, 2 + self.hosts)
        async with bed.open_star(contender, network, hosts=self.hosts, links=1, timers=timers) as (
            hub,
            rim,
        ):
            begin = time.monotonic() + LEAD
            end = begin + bed.seconds
            common = {"size": _SIZE, "begin": begin, "end": end}
            size = window(_SIZE)
            for host in ids:
                await rim.call("sink", handle=host, step=size // CREDITS, **common)
            sent = await hub.call(
                "source", handle=1, window=size, sinks=self.hosts, stop=end + TAIL, **common
            )
            got = [await rim.call("sunk", handle=host) for host in ids]
            arrived = sum(one["received"] - one["wrong"] for one in got)
            return {
                "cost": 1e6 * per_second(sent, "cpu") / per_second(sent, "count"),
                "rate": min(per_second(one, "count") for one in got),
                "loss": 100 * (1 - arrived / (sent["sent"] * self.hosts)),
                "source_cpu": per_second(sent, "cpu"),
                "sink_cpu": per_second(got[0], "cpu"),
            }
