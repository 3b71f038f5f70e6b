"""Round trips: pings and their pongs, matched by the time field that a pong repeats."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

_MOST_WAITING: Final = 1024
# The steps of the histogram for each factor of two, so that quantiles are exact to 5 %.
_STEPS: Final = 16
_SHORTEST: Final = 1e-7
# Nanoseconds that a pong may take before its ping counts as unanswered.
_PATIENCE: Final = 2_000_000_000


class LatencyHistogram:
    """A histogram of round trips in bounded memory.

    Attributes:
        count: The number of round trips.
        least: The shortest round trip, in seconds.
        most: The longest round trip, in seconds.
    """

    def __init__(self) -> None:
        self.count: int = 0
        self.least: float = math.inf
        self.most: float = 0.0
        self._sum = 0.0
        self._steps: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count a round trip."""
        self.count += 1
        self.least = min(self.least, seconds)
        self.most = max(self.most, seconds)
        self._sum += seconds
        self._steps[math.ceil(math.log2(max(seconds, _SHORTEST)) * _STEPS)] += 1

    @property
    def mean(self) -> float:
        """The mean round trip in seconds; there must be at least one."""
        return self._sum / self.count

    def quantile(self, share: float) -> float:
        """Return a quantile in seconds, exact to 5 %; there must be at least one round trip."""
        wanted, so_far = math.ceil(share * self.count), 0
        for step in sorted(self._steps):
            so_far += self._steps[step]
            if so_far >= wanted:
                return min(max(math.exp2(step / _STEPS), self.least), self.most)
        return self.most


class PingPairs:
    """The pings of one direction of a link, and their pongs in the other one.

    Attributes:
        latencies: The times from a ping to its pong, as seen where the capture was made.
        unanswered: Pings without a pong within two seconds of the capture.
        repeated: Pings that were seen before.
    """

    def __init__(self) -> None:
        self.latencies: LatencyHistogram = LatencyHistogram()
        self.unanswered: int = 0
        self.repeated: int = 0
        # The times of pings, by link and time field; the oldest first, also of answered ones.
        self._waiting: dict[tuple[int, bytes], int] = {}
        self._answered: dict[tuple[int, bytes], None] = {}

    def ping(self, link: int, field: bytes, now: int) -> None:
        """Note a ping; ``now`` is in nanoseconds."""
        key = link, field
        if key in self._waiting or key in self._answered:
            self.repeated += 1
            return
        self._waiting[key] = now
        if len(self._waiting) > _MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
            self.unanswered += 1

    def pong(self, link: int, field: bytes, now: int) -> float | None:
        """Note a pong.

        Returns:
            The seconds since its ping; None if the ping was not captured or already answered.
        """
        key = link, field
        sent = self._waiting.pop(key, None)
        # Times may go back in merged files.
        if sent is None or now < sent:
            return None
        self._answered[key] = None
        if len(self._answered) > _MOST_WAITING:
            del self._answered[next(iter(self._answered))]
        seconds = (now - sent) / 1e9
        self.latencies.add(seconds)
        return seconds

    def finish(self, now: int) -> None:
        """Count the pings without pong that had time to be answered, at the end of the capture."""
        self.unanswered += sum(now - sent > _PATIENCE for sent in self._waiting.values())
        self._waiting.clear()
