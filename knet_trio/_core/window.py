"""The dedup window: which messages of one host were delivered, by their sequence numbers.

Messages arrive over several links, so the same number arrives several times and out of order. The
window holds the newest number and one mark for each of the 4096 numbers up to it: nothing is here,
its first fragment is here (started), it was delivered::

        newest - 4095                newest        newest + 4096
    ---------|--------- window ---------|-----------------|-----------
     too far |   deliver if unmarked    |  moves the window |  too far

A number that is too far off, either way, comes from a host that has started again (or after a very
long silence): the window starts again there.
"""

from __future__ import annotations

from typing import Final

WINDOW_SIZE: Final = 4096

_STARTED: Final = 1
_DELIVERED: Final = 2
_DELIVERED_MARK: Final = bytes([_DELIVERED])
_DELIVERED_RUN: Final = _DELIVERED_MARK * WINDOW_SIZE


class SequenceWindow:
    """The newest number of a host and marks for those before it.

    What does not move ``newest`` is about numbers that ``advance`` has just seen, but for
    ``count_delivered``.
    """

    __slots__ = ("_marks", "newest")

    def __init__(self) -> None:
        self.newest: int | None = None
        self._marks = bytearray(WINDOW_SIZE)

    def advance(self, seq: int) -> bool:
        """Make room for ``seq``; return whether the window started again, as it is too far off."""
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
        """Mark ``seq`` delivered if it is the one after the newest, and return whether it is."""
        newest = self.newest
        if newest is None or seq != newest + 1:
            return False
        self.newest = seq
        self._marks[seq % WINDOW_SIZE] = _DELIVERED
        return True

    def advance_delivered(self, first: int, count: int) -> bool:
        """Mark ``count`` numbers from ``first`` delivered, if all are just ahead of the newest.

        Returns:
            Whether they are; if not, nothing has happened.
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
        """Return how many numbers were delivered, from ``first`` up to one that was not.

        At most ``count`` are looked at. ``advance`` need not have seen them.
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
        """Return whether ``seq`` was started, or delivered, since it came into the window."""
        return self._marks[seq % WINDOW_SIZE] != 0

    def is_delivered(self, seq: int) -> bool:
        """Return whether ``seq`` was delivered since it came into the window."""
        return self._marks[seq % WINDOW_SIZE] == _DELIVERED

    def mark_started(self, seq: int) -> None:
        """Mark that a fragment of ``seq``, which is not delivered, is here."""
        self._marks[seq % WINDOW_SIZE] = _STARTED

    def mark_delivered(self, seq: int) -> None:
        """Mark that ``seq`` was handed on whole."""
        self._marks[seq % WINDOW_SIZE] = _DELIVERED

    def clear(self) -> None:
        """Forget everything: the next number is the first."""
        self.newest = None
        self._marks = bytearray(WINDOW_SIZE)
