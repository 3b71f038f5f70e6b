"""The packet numbers received, and the timer of the acknowledgement."""

from __future__ import annotations

import math
from typing import Final

from knet_trio.streams._core.limits import (
    MAX_ACK_DELAY,
    MAX_ACK_RANGES,
    MAX_KEPT_RANGES,
    MAX_PACKET_THRESHOLD,
)
from knet_trio.streams._core.range_set import RangeSet
from knet_trio.streams._core.wire import ACK_FRAME_SIZE, ACK_RANGE_SIZE
from knet_trio.streams._core.wire_writing import write_ack

# Numbers are forgotten in batches of at least this many.
_FORGOTTEN_TOGETHER: Final = 64


class ReceivedNumbers:
    """The numbers of the packets received.

    Attributes:
        deadline: When an acknowledgement is due [seconds]; infinity if none is.
        largest: The highest number; -1 before the first.
        has_gaps: True if lower numbers are missing.
    """

    __slots__ = ("_floor", "_numbers", "_since", "deadline", "has_gaps", "largest")

    def __init__(self) -> None:
        self._numbers = RangeSet()
        # Lower numbers count as received.
        self._floor = 0
        self._since = 0.0
        self.largest: int = -1
        self.has_gaps: bool = False
        self.deadline: float = math.inf

    def __contains__(self, number: int) -> bool:
        if number > self.largest:
            return False
        return number < self._floor or number in self._numbers

    @property
    def is_pending(self) -> bool:
        """True if a packet waits for its acknowledgement."""
        return self.deadline < math.inf

    def add(self, number: int, count: int, now: float, *, eliciting: bool, asks: bool) -> None:
        """Note that packets have arrived.

        Args:
            number: The number of the first.
            count: The number of packets, consecutively numbered; more than one only if all are
                higher than ``largest``.
            now: The time.
            eliciting: True if the packets have to be acknowledged.
            asks: True if they have to be acknowledged at once.
        """
        in_order = number == self.largest + 1
        self._numbers.add(number, number + count)
        if number > self.largest:
            self.largest = number + count - 1
            self._since = now
        if not in_order:
            if len(self._numbers) > MAX_KEPT_RANGES:
                self._floor = self._numbers.drop_first()
            self.has_gaps = len(self._numbers) > 1
        if eliciting:
            # Acknowledge packets out of order at once: the sender detects losses by that.
            due = now if asks or not in_order else now + MAX_ACK_DELAY
            if due < self.deadline:
                self.deadline = due

    def write(self, now: float, room: int) -> bytes:
        """Return an ACK frame of at most ``room`` bytes, with as many ranges as fit.

        A packet must have been received, and ``room`` must be enough for one range.
        """
        self.deadline = math.inf
        count = 1 + (room - ACK_FRAME_SIZE) // ACK_RANGE_SIZE
        ranges = self._numbers.newest(max(1, min(count, MAX_ACK_RANGES + 1)))
        return write_ack(ranges, max(0.0, now - self._since))

    def write_simple(self, now: float) -> tuple[int, int, float]:
        """Return the contents of an ACK without gaps: first number, last number, delay."""
        self.deadline = math.inf
        since = self._since
        return self._numbers.first()[0], self.largest, now - since if now > since else 0.0

    def ack_delivered(self, largest: int) -> None:
        """Note that the peer knows which numbers up to ``largest`` have arrived."""
        # Keep the latest ones: missing packets may still arrive over a slower link.
        largest -= MAX_PACKET_THRESHOLD
        if largest >= self._floor + _FORGOTTEN_TOGETHER:
            self._floor = largest + 1
            self._numbers.remove(0, self._floor)
            self.has_gaps = len(self._numbers) > 1
