"""One way, as fast as both sides can: a source, a sink, credits that bound what is under way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import attrs

from knet_trio.cli.bench.bed import Bed, Dressing
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.network import Network
from knet_trio.cli.bench.process import BenchError, BenchPeer

# What is under way is at most so many messages and so many bytes, but always a few messages. More
# gained nobody anything; at 8 MiB, the room in both sides' sockets, libknet loses messages.
MOST_MESSAGES: Final = 1024
MOST_BYTES: Final = 2 * 1024 * 1024
LEAST_MESSAGES: Final = 64
# The sink tells of its progress so often in a window.
CREDITS: Final = 8
# Seconds under load before it is measured, and after.
LEAD: Final = 0.4
TAIL: Final = 0.05


def window(size: int) -> int:
    """Return how many messages of ``size`` bytes may be under way."""
    return max(LEAST_MESSAGES, min(MOST_MESSAGES, MOST_BYTES // size))


def per_second(answer: Mapping[str, Any], what: str) -> float:
    """Return a source's or sink's rate of ``what``. Raises BenchError if nothing arrived."""
    if not answer["seconds"] or not answer["count"]:
        raise BenchError("nothing went through while it was measured")
    return float(answer[what] / answer["seconds"])


async def send_messages(
    source: BenchPeer,
    sink: BenchPeer,
    size: int,
    seconds: float,
    *,
    mode: str = "many",
    payload: str = "random",
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Let messages go from host 1 to host 2, and return what each of them says."""
    begin = time.monotonic() + LEAD
    end = begin + seconds
    common = {"size": size, "mode": mode, "begin": begin, "end": end}
    under_way = window(size)
    await sink.call("sink", handle=2, step=under_way // CREDITS, **common)
    sent = await source.call(
        "source", handle=1, window=under_way, stop=end + TAIL, payload=payload, **common
    )
    return sent, await sink.call("sunk", handle=2)


@attrs.frozen
class Throughput(Case):
    """``size``-byte messages. ``mode``: many in a call, or ``one``."""

    kind: ClassVar[str] = "throughput"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("rate", "messages", "1/s", True, of_message=True),
        Metric("bandwidth", "payload", "MB/s"),
        Metric("loss", "lost", "%"),
        Metric("source_cpu", "CPU source", "cores"),
        Metric("sink_cpu", "CPU sink", "cores"),
    )

    on: str
    size: int
    dressing: Dressing
    mode: str = "many"
    who: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Such as ``throughput/veth/64/clear``."""
        extra = "/one" if self.mode == "one" else ""
        return f"{self.kind}/{self.on}/{self.size}/{self.dressing.name}{extra}"

    @property
    def network(self) -> str:
        """The name given for ``on``."""
        return self.on

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio, libknet, and those named by ``who``."""
        return (*super().contenders, *self.who)

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Run source and sink for a while, and count at the sink in the middle of it."""
        async with bed.open_pair(contender, network, dressing=self.dressing) as (source, sink):
            return await self.run(source, sink, bed.seconds)

    async def run(self, source: BenchPeer, sink: BenchPeer, seconds: float) -> Measured:
        """Measure between two sides whose links are up."""
        sent, got = await send_messages(
            source, sink, self.size, seconds, mode=self.mode, payload=self.dressing.payload
        )
        rate = per_second(got, "count")
        return {
            "rate": rate,
            "bandwidth": rate * self.size / 1e6,
            "loss": 100 * (1 - (got["received"] - got["wrong"]) / sent["sent"]),
            "source_cpu": per_second(sent, "cpu"),
            "sink_cpu": per_second(got, "cpu"),
        }
