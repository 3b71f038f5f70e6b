"""The life of a handle, and the counter of the packets that the handle has sealed.

Life and counter together make a nonce unique: no two packets of a life have the same counter, and
no two lives are the same. So a new life is drawn whenever a counter could be used twice: when the
handle opens, in a forked process, on request, and when the counter is at its end.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Final

LIFE_SIZE: Final = 9
"""The size of a life's name in bytes."""
_NO_PROCESS: Final = 0
LAST_COUNTER: Final = (1 << 48) - 1
"""The highest counter of a life."""


class Life:
    """A life and its counter: one for all slots, hosts and links of a handle.

    Args:
        draw: Returns as many random bytes as its argument says.
        pid: Returns the id of this process.

    Attributes:
        name: The random bytes that name the life.
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
        """Begin a new life."""
        self.name: bytes = self._draw(LIFE_SIZE)
        self.counter: int = 0
        self._process = self._pid()

    def forked(self) -> None:
        """Begin a new life with the next packet, since this process was forked from its owner."""
        self._process = _NO_PROCESS

    def take(self, count: int) -> range:
        """Return the next counters, all of the life ``name``. They are never given back.

        Args:
            count: The most counters to return, at least 1.

        Returns:
            At least one counter; fewer than ``count`` at the end of a life.

        Raises:
            OSError: The system has no random bytes for a new life.
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


# The child process has copies of its parent's lives and counters.
os.register_at_fork(after_in_child=_forked)
