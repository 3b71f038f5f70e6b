"""The number of function calls of a message, which does not depend on the machine."""

from __future__ import annotations

from typing import ClassVar

import attrs

from knet_trio.cli.bench.bed import BARE, OURS, Bed, Dressing
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.network import Network
from knet_trio.cli.bench.process import open_peer


@attrs.frozen
class Calls(Case):
    """A message there and back with both hosts in one process, counted by cProfile."""

    kind: ClassVar[str] = "calls"
    warm_up: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("calls", "calls a round trip", "", False),
        Metric("own", "of knet_trio", "", False),
        Metric("trio", "of Trio's", "", False),
        Metric("cpu", "CPU, not counting", "µs", False),
    )

    dressing: Dressing

    @property
    def name(self) -> str:
        """The name, such as ``calls/clear``."""
        return f"{self.kind}/{self.dressing.name}"

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio, and sockets with tasks and queues, which encrypt nothing."""
        return (OURS, BARE)

    @property
    def rounds(self) -> int | None:
        """One, because all rounds find the same numbers."""
        return 1

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Count the calls of round trips in one process."""
        async with open_peer(bed.commands[contender]) as peer:
            counted = await peer.call("calls", **self.dressing.arguments)
            return {
                "calls": counted["calls"],
                "own": counted["own"],
                "trio": counted["trio"],
                "cpu": 1e6 * counted["cpu"],
            }
