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


class Backlogged(Protocol):
    """A socket from which something may wait to be sent."""

    def unsent(self) -> int:
        """Return the bytes that wait in this machine to be sent, with the kernel's bookkeeping."""
        ...


class Backlogs(threading.local):
    """The sockets of one thread that have something waiting, and since when that is how much."""

    def __init__(self) -> None:
        self._busy: dict[Backlogged, tuple[int, float]] = {}

    def allow_train(self, sender: Backlogged) -> bool:
        """Return whether ``sender`` may send a train now."""
        busy = self._busy
        total = sender.unsent()
        if not total and not busy:
            return True
        now = time.monotonic()
        if total:
            busy[sender] = total, now
        else:
            busy.pop(sender, None)
        for other in list(islice(busy, _MOST_BUSY)):
            if total > TRAINS_BELOW:
                return False
            if other is sender:
                continue
            before, since = busy[other]
            unsent = other.unsent()
            if not unsent:
                del busy[other]
            elif unsent != before:
                busy[other] = unsent, now
                total += unsent
            elif now - since < STANDS_STILL:
                total += unsent
        return total <= TRAINS_BELOW and len(busy) <= _MOST_BUSY

    def forget(self, sender: Backlogged) -> None:
        """Forget a socket that is closed."""
        self._busy.pop(sender, None)
