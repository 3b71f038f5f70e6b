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


class _Answered(NamedTuple):
    """The highest counter that was answered, and when the last answer was sent."""

    counter: int
    at: float


class AnsweredPings:
    """The answered pings of the unconfirmed lives of one host, in one crypto slot."""

    __slots__ = ("_answered",)

    def __init__(self) -> None:
        self._answered: dict[tuple[bytes, int], _Answered] = {}

    def __len__(self) -> int:
        return len(self._answered)

    def take(self, life: bytes, link_id: int, counter: int, now: float) -> bool:
        """Return whether to answer a ping, and remember it if so.

        Args:
            life: The life in which it was sealed.
            link_id: The link that it is for.
            counter: Its counter in that life.
            now: The time in seconds.
        """
        place = life, link_id
        last = self._answered.get(place)
        if last is None:
            if len(self._answered) >= MOST:
                # The oldest. A ping of a forgotten life is answered like its first one.
                del self._answered[next(iter(self._answered))]
        elif counter <= last.counter:
            if 0 <= now - last.at < INTERVAL:
                return False
            counter = last.counter
        self._answered[place] = _Answered(counter, now)
        return True


class HighestPings:
    """The highest counters of the pings of one host from elsewhere, in one crypto slot."""

    __slots__ = ("_highest",)

    def __init__(self) -> None:
        self._highest: dict[tuple[bytes, int], int] = {}

    def __len__(self) -> int:
        return len(self._highest)

    def take(self, life: bytes, link_id: int, counter: int) -> bool:
        """Return whether ``counter`` is above all others so far, and remember it if so.

        Args:
            life: The life in which the ping was sealed.
            link_id: The link that it is for.
            counter: Its counter in that life.
        """
        place = life, link_id
        highest = self._highest.get(place)
        if highest is None:
            if len(self._highest) >= MOST:
                del self._highest[next(iter(self._highest))]
        elif counter <= highest:
            return False
        self._highest[place] = counter
        return True
