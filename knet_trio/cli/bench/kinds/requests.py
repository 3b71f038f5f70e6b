"""Requests, one after the other, and acknowledged messages."""

from __future__ import annotations

from typing import ClassVar, Final

import attrs

from knet_trio._core.percentile import percentile
from knet_trio.cli.bench.bed import MESSAGES, OURS, TCP, Bed, Dressing
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.kinds.streams import ROUNDS, meeting_point
from knet_trio.cli.bench.network import Network
from knet_trio.cli.bench.process import BenchError

_SIZE: Final = 100
_WARM_UP: Final = 0.2
_AT_ONCE: Final = 32


@attrs.frozen
class Requests(Case):
    """Requests of 100 bytes with answers of 100 bytes, each sent after the answer to the last.

    The contender ``messages`` sends a message there and back.
    """

    kind: ClassVar[str] = "stream/requests"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("rate", "requests", "1/s", True, of_message=True),
        Metric("p50", "p50", "µs", False),
        Metric("p99", "p99", "µs", False),
        Metric("cpu", "CPU of a request", "µs"),
    )

    on: str
    dressing: Dressing
    who: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name, such as ``stream/requests/loopback/clear``."""
        return f"{self.kind}/{self.on}/{self.dressing.name}"

    @property
    def network(self) -> str:
        """The network that ``on`` names."""
        return self.on

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio, its messages, TCP, and the contenders in ``who``."""
        return (OURS, MESSAGES, TCP, *self.who)

    @property
    def rounds(self) -> int | None:
        """Two."""
        return ROUNDS

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Send requests for the time of a turn."""
        async with bed.open_pair(contender, network, dressing=self.dressing) as (here, there):
            common: dict[str, object] = {"size": _SIZE}
            if contender == MESSAGES:
                answer, ask = "echo", "roundtrip"
            else:
                answer, ask = "answer", "ask"
                common |= {"at": meeting_point(network), "tls": int(bool(self.dressing.cipher))}
            await there.call(answer, handle=2, **common)
            await here.call(ask, handle=1, to=2, seconds=_WARM_UP, **common)
            before = await there.call("usage")
            went = await here.call(ask, handle=1, to=2, seconds=bed.seconds, **common)
            after = await there.call("usage")
            samples = sorted(went["samples_us"])
            if not samples:
                raise BenchError("no request was answered")
            return {
                "rate": len(samples) / went["seconds"],
                "p50": percentile(samples, 50),
                "p99": percentile(samples, 99),
                "cpu": 1e6 * (went["cpu"] + after["cpu"] - before["cpu"]) / len(samples),
            }


@attrs.frozen
class Acknowledged(Case):
    """Messages of 100 bytes by ``Streams.send``, which returns when they have arrived."""

    kind: ClassVar[str] = "stream/acknowledged"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("rate", f"by {_AT_ONCE} tasks", "1/s", True, of_message=True),
        Metric("alone", "by one task", "1/s", True),
    )

    on: str
    dressing: Dressing

    @property
    def name(self) -> str:
        """The name, such as ``stream/acknowledged/loopback/clear``."""
        return f"{self.kind}/{self.on}/{self.dressing.name}"

    @property
    def network(self) -> str:
        """The network that ``on`` names."""
        return self.on

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio alone, since messages of the others are not acknowledged."""
        return (OURS,)

    @property
    def rounds(self) -> int | None:
        """Two."""
        return ROUNDS

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Send from one task, then from many."""
        async with bed.open_pair(contender, network, dressing=self.dressing) as (here, there):
            await there.call("hear", handle=2)
            rates: list[float] = []
            for tasks, seconds in ((1, _WARM_UP), (1, bed.seconds), (_AT_ONCE, bed.seconds)):
                sent = await here.call(
                    "tell", handle=1, to=2, size=_SIZE, tasks=tasks, seconds=seconds
                )
                rates.append(sent["count"] / sent["seconds"])
            _, alone, rate = rates
            return {"rate": rate, "alone": alone}
