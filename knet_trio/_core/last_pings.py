"""What became of the last pings of a link: how many were lost, and how long the others took."""

from __future__ import annotations

import math
from array import array
from itertools import pairwise
from typing import Final, NamedTuple

from knet_trio._core.percentile import percentile

LAST_PINGS: Final = 100
"""How many pings the figures are of."""

MOST_AWAITED: Final = 1024
"""For how many pings an answer is awaited at once. Of more, the oldest is given up."""

_LOST: Final = math.inf


class PingFigures(NamedTuple):
    """Figures of the last pings. Times are seconds, None without a sample.

    Attributes:
        loss: The share of pings that were not answered in time, 0 to 1.
        jitter: The mean difference between a round trip and the next.
        p50: What half of the round trips did not exceed.
        p99: What 99 % of them did not exceed.
    """

    loss: float | None
    jitter: float | None
    p50: float | None
    p99: float | None


class LastPings:
    """Keeps what became of the last pings. A ping counts once it is answered or given up."""

    def __init__(self) -> None:
        # When the pings without an answer were sent, the earliest first.
        self._awaited: dict[float, None] = {}
        # Of each ping that is no longer awaited, two numbers: when it was sent, and its round trip,
        # ``_LOST`` for none. An array, since there may be thousands of links.
        self._ended = array("d")

    def sent(self, at: float, timeout: float) -> None:
        """Note that a ping was sent at that time; give up those that are older than ``timeout``."""
        self._give_up(at - timeout)
        if len(self._awaited) == MOST_AWAITED:
            self._lose(next(iter(self._awaited)))
        self._awaited[at] = None

    def answered(self, sent: float, seconds: float) -> bool:
        """Note that the ping of that time was answered after ``seconds``, in time.

        Returns:
            Whether it was awaited: a copy of an answer is none.
        """
        if sent not in self._awaited:
            return False
        self._end(sent, seconds)
        return True

    def clear(self) -> None:
        """Forget them all."""
        self._awaited.clear()
        del self._ended[:]

    def figures(self, since: float = -math.inf) -> PingFigures:
        """Return the figures of those that were sent since then.

        Whether a ping is lost is found out when a later one is sent.
        """
        pairs = zip(self._ended[::2], self._ended[1::2], strict=True)
        ended = [seconds for sent, seconds in pairs if sent >= since]
        trips = [seconds for seconds in ended if seconds != _LOST]
        ranked = sorted(trips)
        steps = [abs(later - earlier) for earlier, later in pairwise(trips)]
        return PingFigures(
            loss=(len(ended) - len(trips)) / len(ended) if ended else None,
            jitter=sum(steps) / len(steps) if steps else None,
            p50=percentile(ranked, 50) if ranked else None,
            p99=percentile(ranked, 99) if ranked else None,
        )

    def _give_up(self, sent_before: float) -> None:
        awaited = self._awaited
        while awaited:
            earliest = next(iter(awaited))
            if earliest >= sent_before:
                return
            self._lose(earliest)

    def _lose(self, sent: float) -> None:
        self._end(sent, _LOST)

    def _end(self, sent: float, seconds: float) -> None:
        """Note what became of a ping that was awaited."""
        del self._awaited[sent]
        ended = self._ended
        ended.append(sent)
        ended.append(seconds)
        if len(ended) > 2 * LAST_PINGS:
            del ended[:2]
