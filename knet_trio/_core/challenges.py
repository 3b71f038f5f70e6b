"""The bound on how often a link asks an address whether its peer is there.

Anybody can forge pings from other hosts' addresses. So the answers to such addresses are bounded
for each link, and one address cannot use up the share of the others.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final, final

from knet_trio._core.stamps import Place

RATE: Final = 50
"""The most challenges of one link in a second."""

EVERY: Final = 0.1
"""Seconds between two challenges to one address."""

MOST_PLACES: Final = 128
"""The addresses remembered for one link: more than are challenged in ``EVERY`` seconds."""


@final
class ChallengeLimit:
    """The bound on the challenges of one link: ``RATE`` at once, then ``RATE`` in each second."""

    __slots__ = ("_asked", "_at", "_left")

    def __init__(self) -> None:
        self._asked: OrderedDict[Place, float] = OrderedDict()
        self._left = float(RATE)
        self._at = -math.inf

    def __len__(self) -> int:
        return len(self._asked)

    def admits(self, place: Place, now: float, *, proven: bool = False) -> bool:
        """Return whether a challenge may go to ``place`` now, and count it if so.

        Args:
            place: The address.
            now: The time, in seconds.
            proven: True if the peer has answered from ``place`` before. Its challenges are outside
                the rate, so that a flood does not keep out a peer that comes back.

        Returns:
            True if the challenge may go.
        """
        before = self._asked.get(place)
        if before is not None and now < before + EVERY:
            return False
        if not proven:
            self._left = min(self._left + (now - self._at) * RATE, float(RATE))
            self._at = now
            if self._left < 1:
                return False
            self._left -= 1
        self._asked[place] = now
        self._asked.move_to_end(place)
        if len(self._asked) > MOST_PLACES:
            self._asked.popitem(last=False)
        return True
