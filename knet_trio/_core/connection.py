"""A connection to a peer: made, lost, and made again.

::

    WAITING ---- it is time ----> CONNECTING ---- the peer accepts ----> CONNECTED
       ^                              |                                      |
       +------------ refused ---------+------------ lost, or useless --------+

Attempts begin at least ``interval`` apart. So a connection that lasted longer than that is made
again at once, and one that is refused at once is tried again every ``interval``.
"""

from __future__ import annotations

import enum
import math
from typing import Final


class ConnectPhase(enum.Enum):
    """The phase of a connection."""

    WAITING = "waiting for the next attempt"
    CONNECTING = "being made"
    CONNECTED = "established"


class ConnectCue(enum.Enum):
    """An event that moves a connection to another phase."""

    DUE = "the attempt is due"
    TAKEN = "the peer accepts it"
    BROKEN = "it is refused, lost or useless"


TRANSITIONS: Final = {
    (ConnectPhase.WAITING, ConnectCue.DUE): ConnectPhase.CONNECTING,
    (ConnectPhase.CONNECTING, ConnectCue.TAKEN): ConnectPhase.CONNECTED,
    (ConnectPhase.CONNECTING, ConnectCue.BROKEN): ConnectPhase.WAITING,
    (ConnectPhase.CONNECTED, ConnectCue.BROKEN): ConnectPhase.WAITING,
}
"""The next phase, by phase and cue. A pair that is missing changes nothing."""


class Connector:
    """The timing of the attempts to connect. Times are seconds.

    Args:
        interval: The least time from the beginning of one attempt to the beginning of the next.

    Attributes:
        interval: The least time between attempts; it may be changed at any time.
        phase: The present phase.
    """

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.phase = ConnectPhase.WAITING
        self._began = -math.inf

    @property
    def deadline(self) -> float:
        """When the next attempt is due; infinity unless the phase is WAITING."""
        return self._began + self.interval if self.phase is ConnectPhase.WAITING else math.inf

    def begin(self, now: float) -> None:
        """Note that an attempt begins."""
        if self._follow(ConnectCue.DUE):
            self._began = now

    def taken(self) -> bool:
        """Note that the peer has accepted; return whether this changes the phase."""
        return self._follow(ConnectCue.TAKEN)

    def broken(self) -> bool:
        """Note that the connection was refused or lost; return whether this changes the phase."""
        return self._follow(ConnectCue.BROKEN)

    def _follow(self, cue: ConnectCue) -> bool:
        phase = TRANSITIONS.get((self.phase, cue))
        if phase is None:
            return False
        self.phase = phase
        return True
