"""The rate limit of log messages that repeat: logged once, and then counted.

The first message is logged at once. The messages that follow are counted, and the count is logged
after ``FIRST`` seconds. While they go on, each next count is logged after twice as long, up to
``LONGEST``. After an interval without a message, the next message is a first one again.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, NamedTuple, TypeVar

import attrs

from knet_trio._core.timers import TimerQueue

T = TypeVar("T")

# Longer than the ping interval of most links, so that a message for each ping is a repetition.
FIRST: Final = 5.0
LONGEST: Final = 60.0
# The kinds of message that are counted at a time. With more, the count due next is logged early.
LIMIT: Final = 1024


class Repeated(NamedTuple, Generic[T]):
    """Repetitions that were counted and not logged yet.

    Attributes:
        last: The last repetition.
        times: The number of repetitions.
        seconds: The time in which they came, in seconds.
    """

    last: T
    times: int
    seconds: float

    @property
    def text(self) -> str:
        """The count in words, to be appended to the message."""
        often = "once" if self.times == 1 else f"{self.times} times"
        return f"(repeated {often} in {self.seconds:.1f} s)"


@attrs.define
class _Flood(Generic[T]):
    last: T
    last_at: float
    logged_at: float
    interval: float = FIRST
    count: int = 0


class RateLimiter(Generic[T]):
    """The rate limit of log messages. Times are seconds, on any clock that does not go back."""

    def __init__(self) -> None:
        self._floods: dict[Hashable, _Flood[T]] = {}
        self._timers: TimerQueue[Hashable] = TimerQueue()
        # The counts that had to make room for other kinds.
        self._evicted: list[Repeated[T]] = []

    def __len__(self) -> int:
        return len(self._floods)

    @property
    def deadline(self) -> float:
        """When to call ``due`` next; ``math.inf`` for never."""
        return self._timers.next()

    def first(self, kind: Hashable, what: T, now: float, times: int = 1) -> bool:
        """Return whether to log a message now; count it otherwise.

        Args:
            kind: The kind of the message: messages of one kind are repetitions.
            what: The message.
            now: The time.
            times: How often it came. If it is to be logged now, all but one are counted.
        """
        flood = self._floods.get(kind)
        if flood is None:
            if len(self._floods) >= LIMIT:
                self._evict()
            self._floods[kind] = _Flood(what, now, now, count=times - 1)
            self._timers.set(kind, now + FIRST)
            return True
        flood.last = what
        flood.last_at = now
        flood.count += times
        return False

    def due(self, now: float) -> list[Repeated[T]]:
        """Return the counts to log now."""
        counts, self._evicted = self._evicted, []
        for kind in self._timers.pop_due(now):
            flood = self._floods[kind]
            if not flood.count:
                del self._floods[kind]
                continue
            counts.append(_count(flood))
            flood.count = 0
            flood.logged_at = now
            flood.interval = min(2 * flood.interval, LONGEST)
            self._timers.set(kind, now + flood.interval)
        return counts

    def end(self) -> list[Repeated[T]]:
        """Return all counts that were not logged yet, and forget everything."""
        counts = self._evicted + [_count(flood) for flood in self._floods.values() if flood.count]
        self._evicted = []
        self._floods.clear()
        self._timers = TimerQueue()
        return counts

    def _evict(self) -> None:
        for kind in self._timers.pop_due(self._timers.next()):
            flood = self._floods.pop(kind)
            if flood.count:
                self._evicted.append(_count(flood))


def _count(flood: _Flood[T]) -> Repeated[T]:
    return Repeated(flood.last, flood.count, flood.last_at - flood.logged_at)
