"""What to do when the network says that the peer of a link cannot be reached.

Anybody can make the network say so (RFC 5927), so it is a reason to ask the peer, and no more. The
link goes down if the peer does not answer in time::

    QUIET --- an error ---> WAITING --- the pause is over ---> ASKING --- the time is over ---> GONE
      ^                        |                                  |
      +------ an answer -------+------------ an answer -----------+

The pause lies between the beginnings of two inquiries, so that errors in a row do not make pings in
a row; without an earlier inquiry there is none. Whatever else is said meanwhile changes nothing: it
neither prolongs the time nor sends pings. An inquiry has three pings, since one may be lost, and an
answer to any of them will do. Time counts from when the first one has left. One that this machine
refuses to send is none of them, and is tried again; while all are refused, time counts from the
first try.
"""

from __future__ import annotations

import enum
import math
from typing import Final

PATIENCE: Final = 0.2
"""Seconds that the peer has to answer, at least."""
PATIENCE_ROUND_TRIPS: Final = 3
"""Smoothed round trips that it has to answer, at least."""
PAUSE: Final = 0.2
"""Seconds from the beginning of an inquiry to that of the next, at least."""
PINGS: Final = 3
"""Pings of an inquiry, at most."""
SPACING: Final = 0.25
"""The share of the time between two of its pings, so that the last may be answered too."""
RETRY: Final = 0.02
"""Seconds until a ping that found no room in the socket, or was refused, is tried again."""
LOOK_AGAIN: Final = 0.01
"""Seconds until it is looked again whether the sockets have been read until empty."""


class InquiryStage(enum.Enum):
    """How far an inquiry is; the value says what that makes of the link."""

    QUIET = "up"
    WAITING = "in doubt, and asked when the pause is over"
    ASKING = "in doubt, and being asked"
    GONE = "down"


class Cue(enum.Enum):
    """What takes an inquiry further."""

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
"""What an inquiry becomes. What is not here changes nothing."""


class Inquiry:
    """Whether the peer of a link that is up is there, though the network says that it is not.

    Call ``poll`` when ``deadline`` has come, send a ping if it says so, and tell ``asked`` whether
    it has left.

    Attributes:
        stage: How far it is.
        began_at: When the first ping has left, in seconds; infinity before.
        refused_at: When this machine refused to send one first, in seconds; infinity if it has not.
    """

    def __init__(self) -> None:
        self.stage: InquiryStage = InquiryStage.QUIET
        self.began_at: float = math.inf
        self.refused_at: float = math.inf
        # The time of the last ping before the error, whose answer would prove nothing.
        self._after = -math.inf
        self._patience = PATIENCE
        self._pause_ends = -math.inf
        self._pings = 0
        # When the next ping is due, and when the time is over.
        self._next_ping = self._ends = math.inf

    @property
    def deadline(self) -> float:
        """When ``poll`` has to be called next."""
        return min(self._next_ping, self._ends)

    @property
    def active(self) -> bool:
        """Whether the peer is being asked, or about to be."""
        return self.stage is InquiryStage.ASKING or self.stage is InquiryStage.WAITING

    def is_over(self, now: float) -> bool:
        """Return whether the time is over, so that ``poll`` would find the peer gone."""
        return self.stage is InquiryStage.ASKING and now >= self._ends

    def report(self, now: float, newest: float, patience: float) -> bool:
        """Note that the network says that the peer cannot be reached.

        Args:
            now: The time in seconds.
            newest: What the last ping carried; answers to later ones prove that the peer is there.
            patience: How long the peer has to answer, in seconds.

        Returns:
            Whether that begins an inquiry.
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
        """Note that a ping was sent to the peer, or that it found no room if not ``left``."""
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
        """Note that the ping of that time is answered; return whether that ends the inquiry."""
        if sent <= self._after or not self._advance(Cue.ANSWER):
            return False
        self._settle()
        return True

    def postpone(self, now: float) -> None:
        """Give what waits in the sockets a moment to be read, since the answer may be there."""
        self._ends = now + LOOK_AGAIN

    def excuse(self, now: float, until: float) -> None:
        """Give the peer until then to answer one more ping: this process was not running."""
        if self.stage is InquiryStage.ASKING and self._ends < math.inf:
            self._ends = max(self._ends, until)
            self._pings = min(self._pings, PINGS - 1)
            self._next_ping = min(self._next_ping, now)

    def reset(self) -> None:
        """End it without a result: the link is down, or leads elsewhere."""
        self.stage = InquiryStage.QUIET
        self._settle()

    def _advance(self, cue: Cue) -> bool:
        """Return whether ``cue`` changes anything now."""
        stage = TRANSITIONS.get((self.stage, cue))
        if stage is None:
            return False
        self.stage = stage
        return True

    def _settle(self) -> None:
        self._next_ping = self._ends = self.began_at = self.refused_at = math.inf
