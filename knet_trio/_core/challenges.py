"""The bound on how often a link asks an address whether its peer is there.

Anybody can forge pings from other hosts' addresses. So the answers to such addresses are bounded
for each link, and one address cannot use up the share of the others.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, final

from knet_trio._core.stamps import Place

RATE: Final = 50
"""The most challenges of one link in a second, of each of two kinds."""

EVERY: Final = 0.1
"""Seconds between two challenges to one address."""

MOST_PLACES: Final = 128
"""The addresses remembered for one link: more than are challenged in ``EVERY`` seconds."""


@final
class ChallengeLimit:
    """The bound on the challenges of one link.

    These are ``RATE`` at once, then ``RATE`` in each second, because of pings that may be copies of
    earlier ones; and as many because of pings of which the envelope shows that they are not.
    """

    __slots__ = ("_asked", "_buckets")

    def __init__(self) -> None:
        self._asked: OrderedDict[Place, float] = OrderedDict()
        # What is left of each rate, and since when, by whether the ping is no copy.
        self._buckets: dict[bool, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._asked)

    def admits(
        self, place: Place, now: float, *, proven: bool = False, highest: bool = False
    ) -> bool:
        """Return whether a challenge may go to ``place`` now, and count it if so.

        Args:
            place: The address.
            now: The time, in seconds.
            proven: True if the peer has answered from ``place`` before. Its challenges are outside
                the rate, so that a flood does not keep out a peer that comes back.
            highest: True if the envelope shows that the ping is no copy of an earlier one.

        Returns:
            True if the challenge may go.
        """
        before = self._asked.get(place)
        if before is not None and now < before + EVERY:
            return False
        if not proven:
            left, at = self._buckets.get(highest, (float(RATE), now))
            left = min(left + (now - at) * RATE, float(RATE))
            if left < 1:
                self._buckets[highest] = left, now
                return False
            self._buckets[highest] = left - 1, now
        self._asked[place] = now
        self._asked.move_to_end(place)
        if len(self._asked) > MOST_PLACES:
            self._asked.popitem(last=False)
        return True
