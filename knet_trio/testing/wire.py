"""One direction between two addresses: which packets pass, and when they arrive."""

from __future__ import annotations

import random
from typing import NamedTuple

from knet_trio.testing.conditions import Conditions
from knet_trio.testing.packets import Fate


class Copy(NamedTuple):
    """One copy of a packet that will arrive.

    Attributes:
        arrival: When the copy arrives.
        damaged: True if the copy is damaged.
    """

    arrival: float
    damaged: bool


class Wire:
    """One direction between two addresses. It decides the fate of each packet when it is sent.

    Each wire has its own random numbers, so that traffic elsewhere does not change its decisions.

    Attributes:
        own: The conditions of this wire; None for those of the network.
        cut: True if the wire is cut.
        tells: True if a router answers "host unreachable" while the wire is cut.
    """

    def __init__(self, seed: str) -> None:
        self.own: Conditions | None = None
        self.cut = False
        self.tells = False
        self._random = random.Random(seed)
        self._losing = False
        self._latest: Conditions | None = None
        # When the bottleneck becomes free, and when the last packet arrives.
        self._free_at = 0.0
        self._last_arrival = 0.0

    def carry(self, conditions: Conditions, size: int, now: float) -> Fate | list[Copy]:
        """Return the fate of a packet of ``size`` bytes sent at ``now``, or its copies."""
        # Draw the same number of values for each packet, whatever the conditions and its fate.
        draw = self._random.random
        loss, corrupt, duplicate = draw(), draw(), draw()
        delays = (draw(), draw(), draw())
        if self.cut:
            return Fate.CUT
        if size > conditions.mtu:
            return Fate.TOO_BIG
        if conditions is not self._latest:
            # New conditions are a new path: no packet queues behind those on the old one.
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
        """Return ``data`` with one to three bits inverted."""
        damaged = bytearray(data)
        bits = range(8 * len(data))
        for bit in self._random.sample(bits, min(self._random.randint(1, 3), len(bits))):
            damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)

    def _is_lost(self, conditions: Conditions, drawn: float) -> bool:
        loss = conditions.loss
        if not 0 < loss < 1:
            return loss == 1
        # Gilbert's model (1960): two states, one of which loses everything. The transition
        # probabilities follow from the mean length of bursts and the overall loss.
        end = 1 / max(conditions.burst, 1 / (1 - loss))
        begin = loss * end / (1 - loss)
        return drawn >= end if self._losing else drawn < begin

    def _arrival(self, conditions: Conditions, drawn: tuple[float, float, float]) -> float:
        arrival = self._free_at + conditions.latency + drawn[0] * conditions.jitter
        # A queue delays packets without reordering them.
        arrival = self._last_arrival = max(arrival, self._last_arrival)
        if drawn[1] < conditions.reorder:
            arrival += drawn[2] * conditions.reorder_delay
        return arrival
