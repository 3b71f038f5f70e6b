"""Which life of a host is believed, for one crypto slot, and which of its packets.

::

    UNCONFIRMED --- a pong with a stamp drawn since then ---> CONFIRMED --.
         ^                                                     |   ^     | another life does so
         '---- contact is lost, or the other slot has ---------'   '------'
               another life confirmed

A packet that was sealed under a shared key may be a recording of any time. What shows that a host
is there now is a pong, which brings back a stamp that this handle has drawn for it since its last
change: that pong's life is *confirmed*, and its counter is the *floor*. Only packets of that life
with counters above the floor are taken, each once.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final, NamedTuple

from knet_trio._core.counter_window import CounterWindow


class LifeStage(enum.Enum):
    """Whether a life of the host is believed."""

    UNCONFIRMED = "no life of the host is confirmed"
    CONFIRMED = "one is"


class LifeCue(enum.Enum):
    """What changes that."""

    PROVEN = "a pong of a life brings back a stamp that was drawn since the last change"
    LAPSED = "contact with the host is lost, or another life of it is confirmed in the other slot"


LIFE_TRANSITIONS: Final = {
    (LifeStage.UNCONFIRMED, LifeCue.PROVEN): LifeStage.CONFIRMED,
    (LifeStage.UNCONFIRMED, LifeCue.LAPSED): LifeStage.UNCONFIRMED,
    (LifeStage.CONFIRMED, LifeCue.PROVEN): LifeStage.CONFIRMED,
    (LifeStage.CONFIRMED, LifeCue.LAPSED): LifeStage.UNCONFIRMED,
}
"""What follows. Each of them counts as a change."""


class Credit(enum.Enum):
    """How far a packet is believed before it is opened."""

    FRESH = "it is of the confirmed life, and has not been taken"
    COPY = "it is of the confirmed life, and has been taken, or is too old to tell"
    EARLIER = "it is of the confirmed life, and was sealed before the confirmation"
    UNCONFIRMED = "it is of another life, or none is confirmed"


class Confirmed(NamedTuple):
    """A life that is believed.

    Attributes:
        life: Its name.
        window: The counters of it that have been taken.
    """

    life: bytes
    window: CounterWindow


class Confirmation:
    """Which life of one host is believed in one slot.

    Attributes:
        stage: Whether one is.
        changes: How many cues have changed it. Stamps are bound to it, so that one that was drawn
            before proves nothing.
    """

    __slots__ = ("_confirmed", "_last", "_newest_data", "changes", "stage")

    def __init__(self) -> None:
        self.stage: LifeStage = LifeStage.UNCONFIRMED
        self.changes: int = 0
        self._confirmed: Confirmed | None = None
        # The life that was confirmed last, also after that has lapsed.
        self._last: bytes | None = None
        # The highest counter of the data that was taken of the confirmed life.
        self._newest_data = 0

    @property
    def life(self) -> bytes | None:
        """The life that is confirmed, None if none is."""
        return None if self._confirmed is None else self._confirmed.life

    def judge(self, life: bytes, counter: int) -> Credit:
        """Return how far a packet is believed that says it has ``counter`` of ``life``."""
        confirmed = self._confirmed
        if confirmed is None or confirmed.life != life:
            return Credit.UNCONFIRMED
        if confirmed.window.is_new(counter):
            return Credit.FRESH
        return Credit.EARLIER if counter <= confirmed.window.floor else Credit.COPY

    def are_fresh(self, life: bytes, counters: Sequence[int]) -> bool:
        """Return whether packets with ``counters`` of ``life``, which go up, may all be taken."""
        confirmed = self._confirmed
        return (
            confirmed is not None and confirmed.life == life and confirmed.window.are_new(counters)
        )

    def take_all(self, counters: Sequence[int]) -> None:
        """Mark packets with ``counters`` as taken, which go up; see ``are_fresh``."""
        confirmed = self._confirmed
        assert confirmed is not None
        confirmed.window.mark_all(counters)

    def take(self, counter: int) -> None:
        """Mark a packet of the confirmed life as taken, after all that could refuse it."""
        confirmed = self._confirmed
        assert confirmed is not None
        confirmed.window.mark(counter)

    def note_data(self, counters: Sequence[int]) -> bool:
        """Note that packets of data, with ``counters`` that go up, are among those taken.

        Returns:
            Whether each of them is the newest data of its life when its turn comes. A ping may have
            overtaken it, on another link.
        """
        if counters[-1] <= self._newest_data:
            return False
        are_newest = counters[0] > self._newest_data
        self._newest_data = counters[-1]
        return are_newest

    def prove(self, life: bytes, counter: int) -> bool:
        """Take into account that a pong of ``life`` has brought back a stamp of now.

        Args:
            life: The life that the pong was sealed in.
            counter: Its counter.

        Returns:
            Whether the host has another life than the one that was confirmed last: it has started
            again. For the life that is confirmed already nothing changes.
        """
        confirmed = self._confirmed
        if confirmed is not None and confirmed.life == life:
            return False
        self._follow(LifeCue.PROVEN)
        self._confirmed = Confirmed(life, CounterWindow(counter))
        self._newest_data = counter
        last, self._last = self._last, life
        return life != last

    def lapse(self) -> None:
        """Believe no life any more, and no pong that is on its way."""
        self._follow(LifeCue.LAPSED)
        self._confirmed = None

    def _follow(self, cue: LifeCue) -> None:
        self.stage = LIFE_TRANSITIONS[self.stage, cue]
        self.changes += 1
