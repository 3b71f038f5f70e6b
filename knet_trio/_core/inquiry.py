"""Asking the peer of a link whether it is there, after the network has reported it unreachable.

Anybody can forge such an error (RFC 5927), so the error is only a reason to ask the peer. The link
goes down if the peer does not answer in time::

    QUIET --- an error ---> WAITING --- the pause is over ---> ASKING --- the time is over ---> GONE
      ^                        |                                  |
      +------ an answer -------+------------ an answer -----------+

The pause separates the beginnings of two inquiries, so that a burst of errors does not cause a
burst of pings. The first inquiry begins without a pause. Further errors during an inquiry change
nothing: they neither prolong the time nor send pings. An inquiry sends three pings, since one may
be lost; an answer to any of the three is enough. The time runs from when the first ping has left. A
ping that this machine refuses to send does not count and is tried again; while all are refused, the
time runs from the first try.
"""

from __future__ import annotations

import enum
import math
from typing import Final

PATIENCE: Final = 0.2
"""The least time the peer has to answer, in seconds."""
PATIENCE_ROUND_TRIPS: Final = 3
"""The least time the peer has to answer, in smoothed round trips."""
PAUSE: Final = 0.2
"""The least time from the beginning of one inquiry to the beginning of the next, in seconds."""
PINGS: Final = 3
"""The most pings of one inquiry."""
SPACING: Final = 0.25
"""The share of the time between two pings: small enough that the last ping can be answered too."""
RETRY: Final = 0.02
"""Seconds until a ping that found no room in the socket, or was refused, is tried again."""
LOOK_AGAIN: Final = 0.01
"""Seconds until the next check that the sockets have been read until empty."""


class InquiryStage(enum.Enum):
    """The stage of an inquiry. The value describes the link in that stage."""

    QUIET = "up"
    WAITING = "in doubt, and asked when the pause is over"
    ASKING = "in doubt, and being asked"
    GONE = "down"


class Cue(enum.Enum):
    """An event that moves an inquiry to another stage."""

    ERROR = "the network says that the peer cannot be reached"
    PAUSE_OVER = "the pause is over, or there is none"
    ANSWER = "a ping sent after the error is answered"
    TIME_OVER = "the time is over, and the sockets have been read until empty"


TRANSITIONS: Final = {
    (InquiryStage.QUIET, Cue.ERROR): InquiryStage.WAITING,
    (InquiryStage.WAITING, Cue.PAUSE_OVER): InquiryStage.ASKING,
    (InquiryStage.WAITING, Cue.ANSWER): InquiryStage.QUIET,
    (InquiryStage.ASKING, Cue.ANSWER): InquiryStage.QUIET,
    (InquiryStage.ASKING, Cue.TIME_OVER): InquiryStage.GONE,
}
"""The next stage, by stage and cue. A pair that is missing changes nothing."""


class Inquiry:
    """The inquiry whether the peer of a link that is up is there, after an error of the network.

    Call ``poll`` when ``deadline`` has come, send a ping if ``poll`` says so, and report to
    ``asked`` whether the ping has left.

    Attributes:
        stage: The present stage.
        began_at: When the first ping left, in seconds; infinity before.
        refused_at: When this machine first refused to send a ping, in seconds; infinity before.
    """

    def __init__(self) -> None:
        self.stage: InquiryStage = InquiryStage.QUIET
        self.began_at: float = math.inf
        self.refused_at: float = math.inf
        # The time of the last ping before the error. Its answer would prove nothing.
        self._after = -math.inf
        self._patience = PATIENCE
        self._pause_ends = -math.inf
        self._pings = 0
        # When the next ping is due, and when the peer's time is over.
        self._next_ping = self._ends = math.inf

    @property
    def deadline(self) -> float:
        """When to call ``poll`` next, in seconds."""
        return min(self._next_ping, self._ends)

    @property
    def active(self) -> bool:
        """True if the peer is being asked, or about to be."""
        return self.stage is InquiryStage.ASKING or self.stage is InquiryStage.WAITING

    def is_over(self, now: float) -> bool:
        """Return whether the peer's time is over, so that ``poll`` would find the peer gone."""
        return self.stage is InquiryStage.ASKING and now >= self._ends

    def report(self, now: float, newest: float, patience: float) -> bool:
        """Note that the network reports the peer unreachable.

        Args:
            now: The time in seconds.
            newest: The time that the last ping carried; answers to later pings prove that the peer
                is there.
            patience: How long the peer has to answer, in seconds.

        Returns:
            True if an inquiry begins.
        """
        if not self._advance(Cue.ERROR):
            return False
        self._after = newest
        self._patience = patience
        self._next_ping = max(now, self._pause_ends)
        return True

    def poll(self, now: float) -> tuple[bool, bool]:
        """Return whether a ping is due, and whether the peer has just been found gone."""
        if self.is_over(now):
            self._advance(Cue.TIME_OVER)
            self._settle()
            return False, True
        if now < self._next_ping:
            return False, False
        if self._advance(Cue.PAUSE_OVER):
            self._pause_ends = now + PAUSE
            self._pings = 0
        self._next_ping = now + RETRY
        return True, False

    def asked(self, now: float, *, left: bool) -> None:
        """Note that a ping was sent to the peer, or, if not ``left``, that it found no room."""
        if self.stage is not InquiryStage.ASKING or not left:
            return
        if not self._pings:
            self.began_at = now
            self._ends = now + self._patience
        self._pings += 1
        self._next_ping = now + SPACING * self._patience if self._pings < PINGS else math.inf

    def refused(self, now: float) -> None:
        """Note that this machine refused to send a ping to the peer."""
        if self.stage is not InquiryStage.ASKING:
            return
        if not self._pings and self.refused_at == math.inf:
            self.refused_at = now
            self._ends = now + self._patience
        self._next_ping = now + RETRY

    def answered(self, sent: float) -> bool:
        """Note that the ping sent at ``sent`` is answered; return whether this ends the inquiry."""
        if sent <= self._after or not self._advance(Cue.ANSWER):
            return False
        self._settle()
        return True

    def postpone(self, now: float) -> None:
        """Wait a moment until the sockets have been read, since the answer may be in them."""
        self._ends = now + LOOK_AGAIN

    def excuse(self, now: float, until: float) -> None:
        """Give the peer time for one more ping, since this process was not running.

        Args:
            now: The time in seconds.
            until: When the peer's time is over at the earliest, in seconds.
        """
        if self.stage is InquiryStage.ASKING and self._ends < math.inf:
            self._ends = max(self._ends, until)
            self._pings = min(self._pings, PINGS - 1)
            self._next_ping = min(self._next_ping, now)

    def reset(self) -> None:
        """End the inquiry without a result: the link is down, or leads elsewhere."""
        self.stage = InquiryStage.QUIET
        self._settle()

    def _advance(self, cue: Cue) -> bool:
        """Move to the stage that ``cue`` leads to; return whether there is one."""
        stage = TRANSITIONS.get((self.stage, cue))
        if stage is None:
            return False
        self.stage = stage
        return True

    def _settle(self) -> None:
        self._next_ping = self._ends = self.began_at = self.refused_at = math.inf
