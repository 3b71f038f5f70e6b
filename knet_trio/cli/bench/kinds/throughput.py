"""Messages one way, as fast as both sides can: a source, a sink, and credits as a limit."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import attrs

from knet_trio.cli.bench.bed import Bed, Dressing
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.network import Network
from knet_trio.cli.bench.process import BenchError, BenchPeer

# The limits of messages and bytes on their way, with a least number of messages. Larger limits do
# not help any contender; at 8 MiB, the buffers of both sockets, libknet loses messages.
MOST_MESSAGES: Final = 1024
MOST_BYTES: Final = 2 * 1024 * 1024
LEAST_MESSAGES: Final = 64
# The number of credits that the sink sends in a window.
CREDITS: Final = 8
# Seconds of load before and after the measurement.
LEAD: Final = 0.4
TAIL: Final = 0.05


def window(size: int) -> int:
    """Return the number of messages of ``size`` bytes that may be on their way."""
    return max(LEAST_MESSAGES, min(MOST_MESSAGES, MOST_BYTES // size))


def per_second(answer: Mapping[str, Any], what: str) -> float:
    """Return the rate of ``what`` in the answer of a source or sink.

    Raises:
        BenchError: Nothing arrived.
    """
    if not answer["seconds"] or not answer["count"]:
        raise BenchError("nothing arrived during the measurement")
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
    """Send messages from host 1 to host 2.

    Args:
        source: The process of host 1.
        sink: The process of host 2.
        size: The size of a message, in bytes.
        seconds: How long to measure, in seconds.
        mode: ``many`` messages in a call, or ``one``.
        payload: The kind of payload.

    Returns:
        The answers of source and sink.
    """
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
    """Messages one way, as fast as both sides can.

    Attributes:
        on: The name of the network.
        size: The size of a message, in bytes.
        dressing: The encryption and compression.
        mode: ``many`` messages in a call, or ``one``.
        who: More contenders.
    """

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
        """The name, such as ``throughput/veth/64/clear``."""
        extra = "/one" if self.mode == "one" else ""
        return f"{self.kind}/{self.on}/{self.size}/{self.dressing.name}{extra}"

    @property
    def network(self) -> str:
        """The network that ``on`` names."""
        return self.on

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio, libknet, and the contenders in ``who``."""
        return (*super().contenders, *self.who)

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Run source and sink, and count in the middle of it at the sink."""
        async with bed.open_pair(contender, network, dressing=self.dressing) as (source, sink):
            return await self.run(source, sink, bed.seconds)

    async def run(self, source: BenchPeer, sink: BenchPeer, seconds: float) -> Measured:
        """Measure between two sides with links that are up."""
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
