"""The life of a handle, and the counter of the packets that it has sealed.

Both are what makes a nonce: no two packets of a life have one counter, and no two lives are the
same. So a new life is drawn whenever the counter could be known twice: at the opening, in a process
that was forked, when it is asked for, and when the counter is at its end.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Final

LIFE_SIZE: Final = 9
"""Bytes of a life."""
_NO_PROCESS: Final = 0
LAST_COUNTER: Final = (1 << 48) - 1
"""The highest counter of a life."""


class Life:
    """A life and its counter; one for all slots, hosts and links of a handle.

    Args:
        draw: Returns that many random bytes.
        pid: Returns the number of this process.

    Attributes:
        name: The bytes of the life.
        counter: The counter that was taken last, 0 before the first.
    """

    __slots__ = ("__weakref__", "_draw", "_pid", "_process", "counter", "name")

    def __init__(
        self,
        draw: Callable[[int], bytes] = os.urandom,
        pid: Callable[[], int] = os.getpid,
    ) -> None:
        self._draw = draw
        self._pid = pid
        self.renew()
        _LIVES.add(self)

    def renew(self) -> None:
        """Begin another life."""
        self.name: bytes = self._draw(LIFE_SIZE)
        self.counter: int = 0
        self._process = self._pid()

    def forked(self) -> None:
        """Begin another life with the next packet: this process is a copy of that which had it."""
        self._process = _NO_PROCESS

    def take(self, count: int) -> range:
        """Return the next counters, at most ``count`` and at least one; they are never given back.

        They are all of one life, ``name``.

        Raises:
            OSError: The system has no random bytes for another life.
        """
        if self._process != self._pid() or self.counter >= LAST_COUNTER:
            self.renew()
        first = self.counter + 1
        self.counter = min(self.counter + count, LAST_COUNTER)
        return range(first, self.counter + 1)


_LIVES: Final[weakref.WeakSet[Life]] = weakref.WeakSet()


def _forked() -> None:
    for life in list(_LIVES):
        life.forked()


# The child has all that the parent had, the counter too.
os.register_at_fork(after_in_child=_forked)
