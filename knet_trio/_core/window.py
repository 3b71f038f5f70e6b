"""The dedup window: which messages of one host were delivered, by their sequence numbers.

Messages arrive over several links, so the same number arrives several times and out of order. The
window holds the newest number and one mark for each of the 4096 numbers up to it: unmarked, started
(a fragment is here), or delivered::

        newest - 4095                newest        newest + 4096
    ---------|--------- window ---------|-----------------|-----------
     too far |   deliver if unmarked    |  moves the window |  too far

A number that is too far off, either way, comes from a host that has started again, or that was not
heard for very long: the window starts again at that number.
"""

from __future__ import annotations

from typing import Final

WINDOW_SIZE: Final = 4096

_STARTED: Final = 1
_DELIVERED: Final = 2
_DELIVERED_MARK: Final = bytes([_DELIVERED])
_DELIVERED_RUN: Final = _DELIVERED_MARK * WINDOW_SIZE


class SequenceWindow:
    """The newest number of a host, and the marks of the numbers before it.

    Call ``advance`` with a number before the methods that read or set its mark.
    ``count_delivered`` and the methods that move ``newest`` themselves do not need that.

    Attributes:
        newest: The newest number; None before the first.
    """

    __slots__ = ("_marks", "newest")

    def __init__(self) -> None:
        self.newest: int | None = None
        self._marks = bytearray(WINDOW_SIZE)

    def advance(self, seq: int) -> bool:
        """Move the window to ``seq`` if it is ahead.

        Returns:
            True if ``seq`` was too far off, so that the window has started again.
        """
        newest = self.newest
        if newest is None:
            self.newest = seq
            return False
        distance = (newest - seq) & 0xFFFF
        if distance < WINDOW_SIZE:
            return False
        self.newest = seq
        if distance <= 0xFFFF - WINDOW_SIZE:
            self._marks = bytearray(WINDOW_SIZE)
            return True
        first = (newest + 1) % WINDOW_SIZE
        last = seq % WINDOW_SIZE
        if first <= last:
            self._marks[first : last + 1] = bytes(last + 1 - first)
        else:
            self._marks[first:] = bytes(WINDOW_SIZE - first)
            self._marks[: last + 1] = bytes(last + 1)
        return False

    def is_too_far(self, seq: int) -> bool:
        """Return whether ``advance`` to ``seq`` would start the window again."""
        newest = self.newest
        return newest is not None and WINDOW_SIZE <= (newest - seq) & 0xFFFF <= 0xFFFF - WINDOW_SIZE

    def deliver_next(self, seq: int) -> bool:
        """Mark ``seq`` as delivered if it comes right after the newest; return whether it does."""
        newest = self.newest
        if newest is None or seq != newest + 1:
            return False
        self.newest = seq
        self._marks[seq % WINDOW_SIZE] = _DELIVERED
        return True

    def advance_delivered(self, first: int, count: int) -> bool:
        """Mark consecutive numbers as delivered, if all are ahead of the newest and not too far.

        Args:
            first: The first number.
            count: How many numbers.

        Returns:
            True if they were marked; False if nothing has changed.
        """
        newest = self.newest
        last = (first + count - 1) & 0xFFFF
        if newest is None or not count <= (last - newest) & 0xFFFF < WINDOW_SIZE:
            return False
        self.advance(last)
        start, end = first % WINDOW_SIZE, last % WINDOW_SIZE
        if start <= end:
            self._marks[start : end + 1] = _DELIVERED_RUN[:count]
        else:
            self._marks[start:] = _DELIVERED_RUN[: WINDOW_SIZE - start]
            self._marks[: end + 1] = _DELIVERED_RUN[: end + 1]
        return True

    def count_delivered(self, first: int, count: int) -> int:
        """Return how many consecutive numbers from ``first`` on were delivered.

        Args:
            first: The first number; ``advance`` need not have seen it.
            count: The most numbers to look at.
        """
        newest = self.newest
        if newest is None:
            return 0
        distance = (newest - first) & 0xFFFF
        if distance >= WINDOW_SIZE:
            return 0
        count = min(count, distance + 1)
        start = first % WINDOW_SIZE
        marks = self._marks[start : start + count]
        if len(marks) < count:
            marks += self._marks[: count - len(marks)]
        return count - len(marks.lstrip(_DELIVERED_MARK))

    def is_started(self, seq: int) -> bool:
        """Return whether ``seq`` was started or delivered since it came into the window."""
        return self._marks[seq % WINDOW_SIZE] != 0

    def is_delivered(self, seq: int) -> bool:
        """Return whether ``seq`` was delivered since it came into the window."""
        return self._marks[seq % WINDOW_SIZE] == _DELIVERED

    def mark_started(self, seq: int) -> None:
        """Mark ``seq``, which was not delivered, as started: a fragment of it is here."""
        self._marks[seq % WINDOW_SIZE] = _STARTED

    def mark_delivered(self, seq: int) -> None:
        """Mark ``seq`` as delivered."""
        self._marks[seq % WINDOW_SIZE] = _DELIVERED

    def clear(self) -> None:
        """Forget everything: the next number counts as the first."""
        self.newest = None
        self._marks = bytearray(WINDOW_SIZE)
