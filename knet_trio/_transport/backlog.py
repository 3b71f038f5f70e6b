"""Whether a train of datagrams may be sent: not where a queue of this machine may become full.

The kernel drops parts of a train without a word where a queue has no room for all of it; of single
datagrams it says so (ENOBUFS). A queue may be that of an interface, which sockets share, so what
waits in all of them counts.
"""

from __future__ import annotations

import threading
import time
from itertools import islice
from typing import Final, Protocol

TRAINS_BELOW: Final = 64 * 1024
"""Bytes that wait in this machine, with more than which datagrams go one by one."""

STANDS_STILL: Final = 0.25
"""Seconds after which what another socket holds is taken to be in a queue that does not move."""

_MOST_BUSY: Final = 16
"""Sockets that move and have something waiting, with more of which there are no trains: no more are
looked at for a train. As many of those that stand still are."""


class Backlogged(Protocol):
    """A socket from which something may wait to be sent."""

    def unsent(self) -> int:
        """Return the bytes that wait in this machine to be sent, with the kernel's bookkeeping."""
        ...


class Backlogs(threading.local):
    """The sockets of one thread that have something waiting.

    A few are looked at for each train, those first that were looked at longest ago.
    """

    def __init__(self) -> None:
        # How much waits in each, and since when it is that much; looked at longest ago first.
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
        """Forget a socket that is closed."""
        self._moving.pop(sender, None)
        self._still.pop(sender, None)

    def _look_at(self, other: Backlogged, now: float) -> int:
        """Return the bytes that wait in another socket, 0 if they stand still."""
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
