"""Loss, duplicates and order by the message numbers of a host.

A number has 16 bits and wraps around. As in libknet it belongs to a window of 4096 numbers around
the newest one; a number outside the window means that the host has restarted.
"""

from __future__ import annotations

from typing import Final

_ROUND: Final = 1 << 16
_WINDOW: Final = 4096
_MOST_INCOMPLETE: Final = 1024

_UNSEEN: Final = 0
_BEGUN: Final = 1
_WHOLE: Final = 2


class MessageNumbers:
    """Counts missing, duplicate and late message numbers.

    Attributes:
        messages: The message numbers that were seen.
        whole: Messages of which all fragments were seen.
        duplicates: Packets that were seen before.
        late: Packets after one with a higher number, or after a later fragment.
        restarts: The number of times the sequence of numbers started again.
        missing_fragments: Missing fragments of incomplete messages; final after ``finish``.
    """

    def __init__(self) -> None:
        self.messages: int = 0
        self.whole: int = 0
        self.duplicates: int = 0
        self.late: int = 0
        self.restarts: int = 0
        self.missing_fragments: int = 0
        self._skipped = 0
        # The range from the first to the newest number, extended beyond 16 bits.
        self._first: int | None = None
        self._newest = 0
        self._messages_here = 0
        self._newest_fragment = 0
        self._state = bytearray()
        # For incomplete messages, their number of fragments, and a bit for each one seen.
        self._incomplete: dict[int, tuple[int, int]] = {}

    @property
    def missing(self) -> int:
        """The numbers between the first and the newest one that were not seen."""
        if self._first is None:
            return self._skipped
        # 0 is skipped when the numbers wrap around.
        zeros = self._newest // _ROUND - (self._first - 1) // _ROUND
        span = self._newest - self._first + 1
        return self._skipped + max(0, span - zeros - self._messages_here)

    @property
    def newest(self) -> int | None:
        """The newest number, None if there was none."""
        return None if self._first is None else self._newest % _ROUND

    def see(self, number: int, fragments: int, fragment: int) -> None:
        """Note a data packet, ``fragment`` of ``fragments`` (1 of 1 for a complete message)."""
        if self._first is None:
            self._begin(number)
        full = self._newest + (number - self._newest + _ROUND // 2) % _ROUND - _ROUND // 2
        ahead = full - self._newest
        assert self._first is not None
        if ahead >= _WINDOW or ahead <= -_WINDOW:
            self.restart()
            self._begin(number)
            full = number
        elif ahead > 0:
            self._advance(full)
        elif full < self._first:
            # A late number, older than all before.
            self._first = full
        self._place(full, fragments, max(fragment, 1))

    def restart(self) -> None:
        """Start the sequence again after a restart of the host, keeping the counts."""
        if self._first is not None:
            self.restarts += 1
            self._forget()

    def finish(self) -> None:
        """Count the missing fragments at the end of the capture."""
        self._forget()

    def _forget(self) -> None:
        self._skipped = self.missing
        for full in list(self._incomplete):
            self._give_up(full)
        self._first = None

    def _begin(self, number: int) -> None:
        self._first = self._newest = number
        self._newest_fragment = 0
        self._messages_here = 0
        self._state = bytearray(_WINDOW)

    def _advance(self, full: int) -> None:
        for passed in range(self._newest + 1, full + 1):
            slot = passed % _WINDOW
            if self._state[slot] == _BEGUN:
                self._give_up(passed - _WINDOW)
            self._state[slot] = _UNSEEN
        self._newest = full
        self._newest_fragment = 0

    def _place(self, full: int, fragments: int, fragment: int) -> None:
        slot = full % _WINDOW
        state = self._state[slot]
        if state == _WHOLE:
            self.duplicates += 1
            return
        total, seen = self._incomplete.get(full, (fragments, 0))
        bit = 1 << fragment
        if state == _BEGUN and (seen & bit or full not in self._incomplete):
            self.duplicates += bool(seen & bit)
            return
        if state == _UNSEEN:
            self.messages += 1
            self._messages_here += 1
        if full < self._newest or fragment < self._newest_fragment:
            self.late += 1
        else:
            self._newest_fragment = fragment
        seen |= bit
        if seen.bit_count() >= total:
            self.whole += 1
            self._state[slot] = _WHOLE
            self._incomplete.pop(full, None)
            return
        self._state[slot] = _BEGUN
        self._incomplete[full] = total, seen
        if len(self._incomplete) > _MOST_INCOMPLETE:
            self._give_up(next(iter(self._incomplete)))

    def _give_up(self, full: int) -> None:
        found = self._incomplete.pop(full, None)
        # The first message may have begun before the capture, the newest may end after it.
        if found is not None and full not in (self._first, self._newest):
            total, seen = found
            self.missing_fragments += total - seen.bit_count()
