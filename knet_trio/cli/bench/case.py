"""The base class of the bench's cases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import attrs

from knet_trio.cli.bench.bed import LIBKNET, OURS, Bed
from knet_trio.cli.bench.network import Loopback, Network

# Values that a run measured, by the keys of the case's metrics.
Measured = Mapping[str, float]


@attrs.frozen
class Metric:
    """A number that runs of a case measure.

    ``unit`` is what its values are in; ``more_is_better`` is None for those that only explain.
    ``compared``: a ratio is shown for it too, as for the first of a case. ``of_message``: it is a
    rate, or a time for a message or for one there and back, so what the machine takes for a plain
    ``sendto`` and ``recv`` is a measure for it.
    """

    key: str
    title: str
    unit: str
    more_is_better: bool | None = None
    compared: bool = False
    of_message: bool = False


@attrs.frozen
class Case(ABC):
    """Something to measure. The first of ``metrics`` is what contenders are compared by."""

    metrics: ClassVar[tuple[Metric, ...]]
    kind: ClassVar[str]
    # Whether a first run, that does not count, is worth its time.
    warm_up: ClassVar[bool] = True

    @property
    def compared(self) -> tuple[Metric, ...]:
        """The metrics that contenders are compared by."""
        return tuple(
            metric for metric in self.metrics if metric is self.metrics[0] or metric.compared
        )

    @property
    @abstractmethod
    def name(self) -> str:
        """The name that chooses it, such as ``throughput/loopback/64/clear``."""

    @property
    def network(self) -> str:
        """The name of the network it needs: loopback, unless a case says otherwise."""
        return Loopback.name

    @property
    def links(self) -> int:
        """How many links the network has to have."""
        return 1

    @property
    def contenders(self) -> tuple[str, ...]:
        """The names of those who take part, in the order of their turns."""
        return (OURS, LIBKNET)

    @property
    def rounds(self) -> int | None:
        """The most rounds that it is worth, None for as many as are asked for."""
        return None

    @abstractmethod
    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Measure once, and return the values of all metrics."""
