"""A connection to a peer: made, lost, and made again.

::

    WAITING ---- it is time ----> CONNECTING ---- the peer takes it ----> CONNECTED
       ^                              |                                       |
       +------------ refused ---------+------------ lost, or of no use -------+

Attempts begin at least ``interval`` apart. So what was there for longer than that is made anew at
once, and what is refused at once is tried again in steady steps.
"""

from __future__ import annotations

import enum
import math
from typing import Final


class ConnectPhase(enum.Enum):
    """How far a connection is; the value says it in words."""

    WAITING = "not connected, and tried again in time"
    CONNECTING = "being made"
    CONNECTED = "there"


class ConnectCue(enum.Enum):
    """What takes a connection further."""

    DUE = "it is time to try"
    TAKEN = "the peer takes it"
    BROKEN = "it is refused, or lost, or of no use"


TRANSITIONS: Final = {
    (ConnectPhase.WAITING, ConnectCue.DUE): ConnectPhase.CONNECTING,
    (ConnectPhase.CONNECTING, ConnectCue.TAKEN): ConnectPhase.CONNECTED,
    (ConnectPhase.CONNECTING, ConnectCue.BROKEN): ConnectPhase.WAITING,
    (ConnectPhase.CONNECTED, ConnectCue.BROKEN): ConnectPhase.WAITING,
}
"""What follows; every other cue changes nothing."""


class Connector:
    """When to connect. Times are seconds.

    Args:
        interval: The time from the beginning of one attempt to that of the next, at least.

    Attributes:
        interval: The same; it may be changed at any time.
        phase: How far it is.
    """

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.phase = ConnectPhase.WAITING
        self._began = -math.inf

    @property
    def deadline(self) -> float:
        """When to try, while it waits; else infinity."""
        return self._began + self.interval if self.phase is ConnectPhase.WAITING else math.inf

    def begin(self, now: float) -> None:
        """Note that it is being tried."""
        if self._follow(ConnectCue.DUE):
            self._began = now

    def taken(self) -> bool:
        """Note that the peer has taken it; return whether that is news."""
        return self._follow(ConnectCue.TAKEN)

    def broken(self) -> bool:
        """Note that it was refused or lost, and is tried again; return whether that is news."""
        return self._follow(ConnectCue.BROKEN)

    def _follow(self, cue: ConnectCue) -> bool:
        phase = TRANSITIONS.get((self.phase, cue))
        if phase is None:
            return False
        self.phase = phase
        return True
