"""The pings that were answered, by the lives of their host, so that recordings of them are not.

A ping of a life that is not confirmed has to be answered, since its host may just have started. A
host that is there sends pings with rising counters, so each of its pings is answered. A recording
that is sent again and again is answered at most once in ``INTERVAL`` seconds: not never, because a
member could have spoofed a high counter of the life.

A dynamic link asks at a limited rate the places where pings come from. Pings with rising counters
have a rate of their own, so that recordings do not use up that of a host that is there.
"""

from __future__ import annotations

from typing import Final, NamedTuple

INTERVAL: Final = 0.01
"""Seconds after an answer in which a ping with the same or a lower counter is not answered."""
MOST: Final = 128
"""How many lives and links are remembered for each host and slot: 16 lives over all links."""


class _Taken(NamedTuple):
    """The highest counter that was taken, and when a ping was taken last."""

    counter: int
    at: float


class AnsweredPings:
    """The pings of one host that were answered, in one crypto slot, by their lives and links.

    Args:
        interval: The seconds after which a ping is taken although its counter is not the highest;
            ``math.inf`` for never.
    """

    __slots__ = ("_interval", "_taken")

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._taken: dict[tuple[bytes, int], _Taken] = {}

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, life: bytes, link_id: int, counter: int, now: float) -> bool:
        """Return whether to answer a ping, and remember it if so.

        Args:
            life: The life in which it was sealed.
            link_id: The link that it is for.
            counter: Its counter in that life.
            now: The time in seconds.
        """
        place = life, link_id
        last = self._taken.get(place)
        if last is None:
            if len(self._taken) >= MOST:
                # The oldest. A ping of a forgotten life is answered like its first one.
                del self._taken[next(iter(self._taken))]
        elif counter <= last.counter:
            if 0 <= now - last.at < self._interval:
                return False
            counter = last.counter
        self._taken[place] = _Taken(counter, now)
        return True
