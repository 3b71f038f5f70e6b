"""Long full load: the stability of links, the use of memory, the latency of other channels."""

from __future__ import annotations

import time
from typing import Any, ClassVar, Final

import attrs
import trio

from knet_trio._core.percentile import percentile
from knet_trio.cli.bench.bed import Bed, Dressing, Timers
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.kinds.throughput import CREDITS, LEAD, TAIL, per_second, window
from knet_trio.cli.bench.network import Network
from knet_trio.cli.bench.process import PeerProcess

_RATE: Final = 100
_SIZE: Final = 64
_MIB: Final = 1024 * 1024


@attrs.frozen
class Load(Case):
    """As many ``size``-byte messages as possible on one channel, 100 messages a second on another.

    The ping interval is 100 ms, the pong timeout 300 ms.
    """

    kind: ClassVar[str] = "load"
    warm_up: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("p99", "other channel p99", "ms", False),
        Metric("p50", "p50", "ms", False),
        Metric("other_lost", "lost", "messages"),
        Metric("flaps", "links found down", "", False),
        Metric("rate", "messages", "1/s", True, compared=True, of_message=True),
        Metric("loss", "lost", "%"),
        Metric("source_start", "source at start", "MiB"),
        Metric("source_middle", "middle", "MiB"),
        Metric("source_end", "end", "MiB"),
        Metric("sink_start", "sink at start", "MiB"),
        Metric("sink_middle", "middle", "MiB"),
        Metric("sink_end", "end", "MiB"),
    )

    on: str
    size: int
    dressing: Dressing

    @property
    def name(self) -> str:
        """The name, such as ``load/loopback/1400/clear``."""
        return f"{self.kind}/{self.on}/{self.size}/{self.dressing.name}"

    @property
    def network(self) -> str:
        """The network that ``on`` names."""
        return self.on

    @property
    def rounds(self) -> int | None:
        """One, because it takes long."""
        return 1

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Send on both channels at once, and measure memory three times."""
        seconds = bed.load_seconds
        async with bed.open_pair(
            contender,
            network,
            dressing=self.dressing,
            timers=Timers(ping=0.1, timeout=0.3),
        ) as peers:
            source, sink = peers
            downs = await _downs(peers)
            begin = time.monotonic() + LEAD
            end = begin + seconds
            common = {"size": self.size, "begin": begin, "end": end}
            size = window(self.size)
            answers: dict[str, dict[str, Any]] = {}

            async def call(command: str, **arguments: object) -> None:
                answers[command] = await source.call(command, handle=1, **arguments)

            async def load() -> None:
                await call(
                    "source",
                    window=size,
                    stop=end + TAIL,
                    payload=self.dressing.payload,
                    **common,
                )

            async def stream() -> None:
                await call("stream", size=_SIZE, rate=_RATE, seconds=seconds)

            await sink.call("sink", handle=2, step=size // CREDITS, **common)
            await sink.call("collect", handle=2)
            memory: list[float] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load)
                await trio.sleep(LEAD)
                nursery.start_soon(stream)
                memory += _resident(peers)
                await trio.sleep(seconds / 2)
                memory += _resident(peers)
                await trio.sleep(seconds / 2)
                memory += _resident(peers)
            got = await sink.call("sunk", handle=2)
            other = await sink.call("collected", handle=2)
            latencies = sorted(other["latencies_us"])
            return {
                "flaps": await _downs(peers) - downs,
                "rate": per_second(got, "count"),
                "loss": 100 * (1 - (got["received"] - got["wrong"]) / answers["source"]["sent"]),
                "p50": percentile(latencies, 50) / 1e3,
                "p99": percentile(latencies, 99) / 1e3,
                "other_lost": answers["stream"]["sent"] - other["received"],
                **dict(zip(_MEMORY, memory, strict=True)),
            }


_MEMORY: Final = (
    "source_start",
    "sink_start",
    "source_middle",
    "sink_middle",
    "source_end",
    "sink_end",
)


async def _downs(peers: tuple[PeerProcess, PeerProcess]) -> int:
    # libknet counts a new link, which is down, too.
    states = [await peer.call("status", handle=id) for id, peer in enumerate(peers, 1)]
    return sum(int(state["downs"]) for state in states)


def _resident(peers: tuple[PeerProcess, PeerProcess]) -> list[float]:
    return [peer.resident_bytes() / _MIB for peer in peers]
