"""The results: medians, spreads, ratios round by round, and the machine's yardstick."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Final

import attrs

from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.spread import Spread, plain
from knet_trio.cli.bench.yardstick import Yardstick

# In per cent: with more loss, a rate is not one that both sides sustain.
MOST_LOSS: Final = 0.1


@attrs.define
class CaseResult:
    """The result of a case.

    Attributes:
        case: The case.
        contenders: The names of the contenders.
        rounds: For each round the values of every contender, by name.
        failure: Why there are no rounds, or too few; None if there are all.
        others: The CPU use of other processes during each turn, in cores.
        yardstick: A reading from before the first round, and one from after each.
    """

    case: Case
    contenders: tuple[str, ...]
    rounds: list[dict[str, Measured]] = attrs.field(factory=list[dict[str, Measured]])
    failure: str | None = None
    others: list[float] = attrs.field(factory=list[float])
    yardstick: Yardstick = attrs.field(factory=Yardstick)

    def values(self, contender: str, metric: Metric) -> list[float]:
        """Return the values of a contender, one for each round."""
        return [turns[contender][metric.key] for turns in self.rounds]

    def spread(self, contender: str, metric: Metric) -> Spread:
        """Return the spread of a contender's values."""
        return Spread.of(self.values(contender, metric))

    def ratio(self, contender: str, other: str, metric: Metric) -> Spread | None:
        """Return the ratio of two contenders, round by round; None if one value is 0."""
        pairs = zip(self.values(contender, metric), self.values(other, metric), strict=True)
        ratios = [mine / theirs for mine, theirs in pairs if theirs]
        return Spread.of(ratios) if len(ratios) == len(self.rounds) else None

    def shows(self, ratio: Spread) -> bool:
        """Return whether all rounds, two at least, agree on which contender's value is greater."""
        return len(self.rounds) > 1 and ratio.excludes(1.0)

    def in_datagrams(self, contender: str, metric: Metric) -> float | None:
        """Return the cost of a message in times of ``sendto+recv``, None for other metrics."""
        if not metric.of_message:
            return None
        return self.yardstick.of(metric.unit, self.spread(contender, metric).median)

    def troubled(self, contender: str) -> bool:
        """Return whether the median loss reaches ``MOST_LOSS``."""
        losses = [turns[contender].get("loss", 0.0) for turns in self.rounds]
        return bool(losses) and statistics.median(losses) >= MOST_LOSS

    def as_json(self, ours: str) -> dict[str, Any]:
        """Return all rounds and their summaries as a JSON object.

        Args:
            ours: The contender whose ratios to the others are included.
        """
        return {
            "case": self.case.name,
            "failure": self.failure,
            "network": self.case.network,
            "others_cores": [plain(cores) for cores in self.others],
            "yardstick": self.yardstick.as_json(),
            "metrics": {
                metric.key: {
                    "title": metric.title,
                    "unit": metric.unit,
                    "more_is_better": metric.more_is_better,
                    "contenders": {
                        contender: {
                            **self.spread(contender, metric).as_json(),
                            "rounds": [plain(value) for value in self.values(contender, metric)],
                            **self._normalized(contender, metric),
                        }
                        for contender in self.contenders
                    },
                    "ratios": {
                        contender: ratio.as_json()
                        for contender in self.contenders
                        if contender != ours
                        and ours in self.contenders
                        and (ratio := self.ratio(ours, contender, metric)) is not None
                    },
                }
                for metric in (self.case.metrics if self.rounds else ())
            },
            "too_much_lost": [name for name in self.contenders if self.troubled(name)],
        }

    def _normalized(self, contender: str, metric: Metric) -> dict[str, float | None]:
        datagrams = self.in_datagrams(contender, metric)
        return {} if datagrams is None else {"in_sendto_recv": plain(datagrams)}


@attrs.frozen
class BenchResult:
    """The result of a run.

    Attributes:
        cases: The results of the cases.
        yardstick: Readings from the beginning and the end of the run.
    """

    cases: Sequence[CaseResult]
    yardstick: Yardstick
