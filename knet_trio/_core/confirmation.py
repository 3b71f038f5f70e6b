"""The confirmed life of one host in one crypto slot, and which of its packets are taken.

::

    UNCONFIRMED --- a pong with a stamp drawn since then ---> CONFIRMED --.
         ^                                                     |   ^     | another life does so
         '---- contact is lost, or the other slot has ---------'   '------'
               another life confirmed

A host draws the name of its life at random when its handle opens, and at some times later. A packet
that was sealed under a shared key may be a recording of any time. Only a pong proves that a host is
there now: it brings back a stamp that this handle has drawn for the host since the last change
here. The life of that pong is *confirmed*, and the counter of the pong is the *floor*. Only packets
of the confirmed life with counters above the floor are taken, each once.

When a life is confirmed again after a lapse, its host has not reached any counter above the new
floor. If one was taken before, somebody else who has the key made the packet. It is not taken
again, nor is any with a higher counter, so a recording of such a packet has no effect.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final, NamedTuple

from knet_trio._core.counter_window import WIDTH, CounterWindow


class LifeStage(enum.Enum):
    """The stage of a host in one slot."""

    UNCONFIRMED = "no life of the host is confirmed"
    CONFIRMED = "a life of the host is confirmed"


class LifeCue(enum.Enum):
    """An event that changes the stage."""

    PROVEN = "a pong of a life brings back a stamp that was drawn since the last change"
    LAPSED = "contact with the host is lost, or another life of it is confirmed in the other slot"


LIFE_TRANSITIONS: Final = {
    (LifeStage.UNCONFIRMED, LifeCue.PROVEN): LifeStage.CONFIRMED,
    (LifeStage.UNCONFIRMED, LifeCue.LAPSED): LifeStage.UNCONFIRMED,
    (LifeStage.CONFIRMED, LifeCue.PROVEN): LifeStage.CONFIRMED,
    (LifeStage.CONFIRMED, LifeCue.LAPSED): LifeStage.UNCONFIRMED,
}
"""The next stage, by stage and cue. Each transition counts as a change."""


class Credit(enum.Enum):
    """The credit of a packet before it is opened, by the life and counter in its header."""

    FRESH = "it is of the confirmed life, and has not been taken"
    COPY = "it is of the confirmed life, and has been taken, or is too old to be sure"
    EARLIER = "it is of the confirmed life, and was sealed before the confirmation"
    UNCONFIRMED = "it is of another life, or no life is confirmed"


class Confirmed(NamedTuple):
    """A confirmed life.

    Attributes:
        life: The bytes that name the life.
        window: The counters of the life that have been taken.
    """

    life: bytes
    window: CounterWindow


class Confirmation:
    """The confirmation of one host's life in one slot.

    Attributes:
        stage: The present stage.
        changes: The number of transitions so far. Stamps are bound to this number, so that a stamp
            from before the last transition proves nothing.
    """

    __slots__ = ("_confirmed", "_last", "_newest", "_newest_data", "_spoofed", "changes", "stage")

    def __init__(self) -> None:
        self.stage: LifeStage = LifeStage.UNCONFIRMED
        self.changes: int = 0
        self._confirmed: Confirmed | None = None
        # The life that was confirmed last, kept after it has lapsed.
        self._last: bytes | None = None
        # Counters of that life that were the newest ones, the one of its last lapse and the lowest
        # of those that its host had not reached; None for none.
        self._newest: int | None = None
        self._spoofed: int | None = None
        # The highest counter of the data that was taken of the confirmed life.
        self._newest_data = 0

    @property
    def life(self) -> bytes | None:
        """The confirmed life, None if no life is confirmed."""
        return None if self._confirmed is None else self._confirmed.life

    def judge(self, life: bytes, counter: int) -> Credit:
        """Return the credit of a packet whose header has ``life`` and ``counter``."""
        confirmed = self._confirmed
        if confirmed is None or confirmed.life != life:
            return Credit.UNCONFIRMED
        if confirmed.window.is_new(counter):
            return Credit.FRESH
        return Credit.EARLIER if counter <= confirmed.window.floor else Credit.COPY

    def are_fresh(self, life: bytes, counters: Sequence[int]) -> bool:
        """Return whether packets of ``life`` with rising ``counters`` may all be taken."""
        confirmed = self._confirmed
        return (
            confirmed is not None
            and confirmed.life == life
            # After the last of them the first would be too old.
            and counters[-1] - counters[0] < WIDTH
            and confirmed.window.are_new(counters)
        )

    def take_all(self, counters: Sequence[int]) -> None:
        """Mark packets of the confirmed life with rising ``counters`` as taken.

        Call ``are_fresh`` first.
        """
        confirmed = self._confirmed
        assert confirmed is not None
        confirmed.window.mark_all(counters)

    def take(self, counter: int) -> None:
        """Mark a packet of the confirmed life as taken, after all checks that could refuse it."""
        confirmed = self._confirmed
        assert confirmed is not None
        confirmed.window.mark(counter)

    def note_data(self, counters: Sequence[int]) -> bool:
        """Note that data packets with rising ``counters`` were taken.

        Returns:
            True if each of them is newer than all data of its life before it. A ping on another
            link may be newer still.
        """
        if counters[-1] <= self._newest_data:
            return False
        are_newest = counters[0] > self._newest_data
        self._newest_data = counters[-1]
        return are_newest

    def is_far_ahead(self, counter: int) -> bool:
        """Return whether data with ``counter`` is so far ahead that all data before is too old.

        Meanwhile the numbers of messages may have come round.
        """
        return counter - self._newest_data >= WIDTH

    def prove(self, life: bytes, counter: int) -> bool:
        """Confirm ``life``: a pong of it has brought back a stamp drawn since the last change.

        Nothing changes if ``life`` is confirmed already.

        Args:
            life: The life that the pong was sealed in.
            counter: The counter of the pong.

        Returns:
            True if the host has started again: ``life`` is not the life that was confirmed last.
        """
        confirmed = self._confirmed
        if confirmed is not None and confirmed.life == life:
            return False
        self._follow(LifeCue.PROVEN)
        last, self._last = self._last, life
        known = (self._spoofed, self._newest) if life == last else ()
        self._spoofed = min(
            (one for one in known if one is not None and one > counter), default=None
        )
        self._newest = None
        self._confirmed = Confirmed(life, CounterWindow(counter, self._spoofed))
        self._newest_data = counter
        return life != last

    def lapse(self) -> None:
        """Let the confirmed life lapse, and make all pongs that are on their way worthless."""
        self._follow(LifeCue.LAPSED)
        if self._confirmed is not None:
            self._newest = self._confirmed.window.newest
        self._confirmed = None

    def _follow(self, cue: LifeCue) -> None:
        self.stage = LIFE_TRANSITIONS[self.stage, cue]
        self.changes += 1
