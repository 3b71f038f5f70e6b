"""The limit on trains of datagrams: none is sent while a queue of this machine may become full.

If a queue has no room for a whole train, the kernel silently drops parts of it; for single
datagrams it reports an error (ENOBUFS). Sockets share the queue of an interface, so the bytes that
wait in all sockets count.
"""

from __future__ import annotations

import threading
import time
from itertools import islice
from typing import Final, Protocol

TRAINS_BELOW: Final = 64 * 1024
"""The most bytes that may wait in this machine for trains to be sent."""

STANDS_STILL: Final = 0.25
"""The time in seconds after which the unchanged bytes of another socket no longer count."""

_MOST_BUSY: Final = 16
"""The most sockets with moving bytes while trains are sent. For each train, this number of moving
sockets is checked at most, and the same number of sockets that stand still."""


class Backlogged(Protocol):
    """A socket in which bytes may wait to be sent."""

    def unsent(self) -> int:
        """Return the bytes that wait to be sent, including the kernel's bookkeeping."""
        ...


class Backlogs(threading.local):
    """The sockets of one thread in which bytes wait.

    For each train a few sockets are checked, first those whose last check was longest ago.
    """

    def __init__(self) -> None:
        # The bytes that wait in each socket, and since when that number is the same. The socket
        # whose last check was longest ago is first.
        self._moving: dict[Backlogged, tuple[int, float]] = {}
        self._still: dict[Backlogged, tuple[int, float]] = {}

    def allow_train(self, sender: Backlogged) -> bool:
        """Return whether ``sender`` may send a train now."""
        moving, still = self._moving, self._still
        own = total = sender.unsent()
        if not total and not moving and not still:
            return True
        now = time.monotonic()
        self.forget(sender)
        for other in (*islice(moving, _MOST_BUSY), *islice(still, _MOST_BUSY)):
            if total > TRAINS_BELOW:
                break
            total += self._look_at(other, now)
        if own:
            moving[sender] = own, now
        return total <= TRAINS_BELOW and len(moving) <= _MOST_BUSY

    def forget(self, sender: Backlogged) -> None:
        """Forget a socket, which is closed or is checked next."""
        self._moving.pop(sender, None)
        self._still.pop(sender, None)

    def _look_at(self, other: Backlogged, now: float) -> int:
        """Return the bytes that wait in another socket; 0 if they stand still."""
        known = self._moving if other in self._moving else self._still
        before, since = known.pop(other)
        unsent = other.unsent()
        if not unsent:
            return 0
        if unsent != before:
            since = now
        if now - since < STANDS_STILL:
            self._moving[other] = unsent, since
            return unsent
        self._still[other] = unsent, since
        return 0
