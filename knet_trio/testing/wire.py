"""One direction between two addresses: which packets pass, and when they arrive."""

from __future__ import annotations

import random
from typing import NamedTuple

from knet_trio.testing.conditions import Conditions
from knet_trio.testing.packets import Fate


class Copy(NamedTuple):
    """A packet that will arrive, when, and whether it is damaged."""

    arrival: float
    damaged: bool


class Wire:
    """Decides the fate of each packet when it is sent: what is on its way arrives.

    Each wire draws from a stream of its own, so that traffic elsewhere changes nothing here.
    ``own`` are its conditions where they are not those of the network.
    """

    def __init__(self, seed: str) -> None:
        self.own: Conditions | None = None
        self.cut = False
        # Whether a router says so where it is cut.
        self.tells = False
        self._random = random.Random(seed)
        self._losing = False
        self._latest: Conditions | None = None
        # When the narrowest place has passed what it has, and the last packet arrives.
        self._free_at = 0.0
        self._last_arrival = 0.0

    def carry(self, conditions: Conditions, size: int, now: float) -> Fate | list[Copy]:
        """What becomes of a packet of ``size`` bytes that is sent at ``now``."""
        # As many numbers for each packet, whatever the conditions and its fate.
        draw = self._random.random
        loss, corrupt, duplicate = draw(), draw(), draw()
        delays = (draw(), draw(), draw())
        if self.cut:
            return Fate.CUT
        if size > conditions.mtu:
            return Fate.TOO_BIG
        if conditions is not self._latest:
            # Other conditions are another way: nothing has to queue behind what went the old one.
            self._latest = conditions
            self._free_at = self._last_arrival = 0.0
        begins = max(now, self._free_at)
        if begins > now and (begins - now) * conditions.rate + size > conditions.queue:
            return Fate.QUEUE_FULL
        self._free_at = begins + size / conditions.rate
        self._losing = self._is_lost(conditions, loss)
        if self._losing:
            return Fate.LOST
        damaged = corrupt < conditions.corrupt
        copies = [Copy(self._arrival(conditions, delays), damaged)]
        if duplicate < conditions.duplicate:
            again = (draw(), draw(), draw())
            copies.append(Copy(self._arrival(conditions, again), damaged))
        return copies

    def damage(self, data: bytes) -> bytes:
        """``data`` with one to three of its bits the other way."""
        damaged = bytearray(data)
        bits = range(8 * len(data))
        for bit in self._random.sample(bits, min(self._random.randint(1, 3), len(bits))):
            damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)

    def _is_lost(self, conditions: Conditions, drawn: float) -> bool:
        loss = conditions.loss
        if not 0 < loss < 1:
            return loss == 1
        # Two states, of which one loses everything (E. N. Gilbert, 1960): the chances of changing
        # between them make for bursts of that mean length and for that loss on the whole.
        end = 1 / max(conditions.burst, 1 / (1 - loss))
        begin = loss * end / (1 - loss)
        return drawn >= end if self._losing else drawn < begin

    def _arrival(self, conditions: Conditions, drawn: tuple[float, float, float]) -> float:
        arrival = self._free_at + conditions.latency + drawn[0] * conditions.jitter
        # A queue makes packets late without changing their order.
        arrival = self._last_arrival = max(arrival, self._last_arrival)
        if drawn[1] < conditions.reorder:
            arrival += drawn[2] * conditions.reorder_delay
        return arrival
