"""The base class of the bench's cases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import attrs

from knet_trio.cli.bench.bed import LIBKNET, OURS, Bed
from knet_trio.cli.bench.network import Loopback, Network

# The values that a run measured, by the keys of the case's metrics.
Measured = Mapping[str, float]


@attrs.frozen
class Metric:
    """A number that runs of a case measure.

    Attributes:
        key: The key of the value.
        title: The title in tables.
        unit: The unit of the values.
        more_is_better: True if greater values are better, None for a value that only explains.
        compared: True to show a ratio for it, as for the first metric of a case.
        of_message: True for a rate of messages or a time for a message, one way or there and back:
            the machine's time for a plain ``sendto`` and ``recv`` is a measure for it.
    """

    key: str
    title: str
    unit: str
    more_is_better: bool | None = None
    compared: bool = False
    of_message: bool = False


@attrs.frozen
class Case(ABC):
    """A case: one thing to measure.

    Attributes:
        metrics: The metrics; contenders are compared by the first.
        kind: The name of the kind of measurement, which the name of the case begins with.
        warm_up: True if a first run that does not count is worth its time.
    """

    metrics: ClassVar[tuple[Metric, ...]]
    kind: ClassVar[str]
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
        """The name of the case, such as ``throughput/loopback/64/clear``."""

    @property
    def network(self) -> str:
        """The name of the network that the case needs, loopback by default."""
        return Loopback.name

    @property
    def links(self) -> int:
        """The number of links that the network needs."""
        return 1

    @property
    def contenders(self) -> tuple[str, ...]:
        """The names of the contenders, in the order of their turns."""
        return (OURS, LIBKNET)

    @property
    def rounds(self) -> int | None:
        """The largest number of rounds, None for no limit."""
        return None

    @abstractmethod
    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Measure once.

        Args:
            bed: Starts the contender.
            contender: The name of the contender.
            network: The network, new for this run.

        Returns:
            The values of all metrics, by their keys.

        Raises:
            BenchError: The measurement failed.
        """
