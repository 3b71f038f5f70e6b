"""The loss and the round trips of the last pings of a link."""

from __future__ import annotations

import math
from array import array
from itertools import pairwise
from typing import Final, NamedTuple

from knet_trio._core.percentile import percentile

LAST_PINGS: Final = 100
"""The number of pings that the figures cover."""

MOST_AWAITED: Final = 1024
"""The most pings that wait for an answer at once. With more, the oldest counts as lost."""

_LOST: Final = math.inf


class PingFigures(NamedTuple):
    """Figures of the last pings. Times are seconds, None without a sample.

    Attributes:
        loss: The share of the pings that were not answered in time, 0 to 1.
        jitter: The mean difference between one round trip and the next.
        p50: The round trip that half of the pings did not exceed.
        p99: The round trip that 99 % of the pings did not exceed.
    """

    loss: float | None
    jitter: float | None
    p50: float | None
    p99: float | None


class LastPings:
    """The results of the last pings. A ping counts once it is answered or given up as lost."""

    def __init__(self) -> None:
        # When the pings that wait for an answer were sent, the earliest first.
        self._awaited: dict[float, None] = {}
        # Two numbers for each ping that has a result: when it was sent, and its round trip
        # (``_LOST`` for none). An array, since there may be thousands of links.
        self._ended = array("d")

    def sent(self, at: float, timeout: float) -> None:
        """Note that a ping was sent, and give up earlier pings without an answer.

        Args:
            at: When it was sent, in seconds.
            timeout: After how many seconds a ping without an answer is lost.
        """
        self._give_up(at - timeout)
        if len(self._awaited) == MOST_AWAITED:
            self._lose(next(iter(self._awaited)))
        self._awaited[at] = None

    def answered(self, sent: float, seconds: float) -> bool:
        """Note that a ping was answered in time.

        Args:
            sent: When the ping was sent, in seconds.
            seconds: The round trip.

        Returns:
            True if the answer was awaited; False for a copy of an answer.
        """
        if sent not in self._awaited:
            return False
        self._end(sent, seconds)
        return True

    def clear(self) -> None:
        """Forget all pings."""
        self._awaited.clear()
        del self._ended[:]

    def figures(self, since: float = -math.inf) -> PingFigures:
        """Return the figures of the pings that were sent from ``since`` on.

        A ping counts as lost only when a later ping is sent.
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
        """Record the result of a ping that waited for an answer."""
        del self._awaited[sent]
        ended = self._ended
        ended.append(sent)
        ended.append(seconds)
        if len(ended) > 2 * LAST_PINGS:
            del ended[:2]
