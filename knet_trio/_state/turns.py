"""Turns: the time that a handle works before other tasks of the program run.

A turn is the work of a handle in one round of the event loop. All of it shares one budget: the work
of the handle's tasks, and that of the program's calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import trio

TURN: Final = 0.0005
"""The work after which a turn ends, in seconds. A piece that was begun is finished, so single
pieces of work have to be small."""

_clock: ContextVar[Callable[[], float]] = ContextVar("turn clock", default=time.perf_counter)


class Turns:
    """The turns of one handle.

    Work in pieces, and between two of them::

        if turns.is_over():
            await turns.give_up()

    A task that has slept for another reason calls ``resumed`` with the ``round`` it fell asleep in.

    Attributes:
        began: When the turn began, in seconds as ``now`` returns them.
        round: The number of rounds of the loop that the handle has noticed.
        received: The bytes that receive tasks have worked on in this turn.
    """

    __slots__ = ("_clock", "began", "received", "round")

    def __init__(self) -> None:
        self._clock = _clock.get()
        self.began: float = self._clock()
        self.round: int = 0
        self.received: int = 0

    def now(self) -> float:
        """Return the time on the clock of turns, in seconds."""
        return self._clock()

    def is_over(self) -> bool:
        """Return whether the handle has used up its time in this round of the loop."""
        return self._clock() - self.began > TURN

    async def give_up(self) -> None:
        """Let other tasks run. A checkpoint."""
        before = self.round
        await trio.lowlevel.checkpoint()
        self.resumed(before)

    def resumed(self, before: int) -> None:
        """Note that a task runs again that fell asleep in round ``before``.

        With the first such task a new turn begins, since the loop has gone round. The tasks after
        it share that turn.
        """
        if before == self.round:
            self.round += 1
            self.received = 0
            self.began = self._clock()


class CountedClock:
    """A clock that advances by ``step`` seconds whenever it is read.

    With it, turns end after a number of pieces of work, however fast the machine is.
    """

    def __init__(self, step: float = TURN / 32) -> None:
        self._step = step
        self._now = 0.0

    def __call__(self) -> float:
        """Return the time, in seconds."""
        self._now += self._step
        return self._now


@contextmanager
def counted_turns(step: float = TURN / 32) -> Generator[None, None, None]:
    """End the turns of handles that are opened in this context by counting, not by time.

    Args:
        step: The time that each reading of the clock takes, in seconds; with 0 no turn ends.
    """
    token = _clock.set(CountedClock(step))
    try:
        yield
    finally:
        _clock.reset(token)
