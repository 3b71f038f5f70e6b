"""Round trips beside those of a bare Trio socket."""

from __future__ import annotations

from typing import ClassVar, Final

import attrs

from knet_trio._core.percentile import percentile
from knet_trio.cli.bench.bed import BARE, OURS, Bed, Dressing
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.network import Network

_SIZE: Final = 64
_WARM_UP: Final = 0.2


@attrs.frozen
class Echo(Case):
    """Round trips of messages: each is sent when the one before has come back."""

    kind: ClassVar[str] = "echo"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("p50", "p50", "µs", False, of_message=True),
        Metric("cpu", "CPU of one side", "µs", False, compared=True, of_message=True),
        Metric("lost", "lost", "messages"),
    )

    dressing: Dressing

    @property
    def name(self) -> str:
        """The name, such as ``echo/clear``."""
        return f"{self.kind}/{self.dressing.name}"

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio and bare Trio, which encrypts nothing."""
        return (OURS, BARE)

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Measure round trips for the time of a turn."""
        async with bed.open_pair(contender, network, dressing=self.dressing) as (here, there):
            await there.call("echo", handle=2)
            await here.call("roundtrip", handle=1, size=_SIZE, seconds=_WARM_UP)
            went = await here.call("roundtrip", handle=1, size=_SIZE, seconds=bed.seconds)
            samples = sorted(went["samples_us"])
            return {
                "p50": percentile(samples, 50),
                "cpu": 1e6 * went["cpu"] / max(1, len(samples)),
                "lost": went["lost"],
            }
