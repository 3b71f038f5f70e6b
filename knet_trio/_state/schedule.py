"""The deadlines of many actions, and the task that keeps them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import trio

from knet_trio._core.timers import TimerQueue
from knet_trio._state.loop_watch import LoopWatch
from knet_trio._state.turns import Turns

Action = Callable[[float], None]
"""Called with the time in seconds when its deadline has come."""

# Actions that are taken out of the heap at a time.
_TAKEN: Final = 32


class Schedule:
    """Calls each action once when its deadline has come; the action sets its next deadline.

    Args:
        turns: The turns of the handle.
        watch: Notified when the task wakes after sleeping for a deadline; None for nothing.
    """

    def __init__(self, turns: Turns, watch: LoopWatch | None = None) -> None:
        self._turns = turns
        self._watch = watch
        self._timers: TimerQueue[Action] = TimerQueue()
        # Actions that are due and were not called yet: they can still be moved or discarded.
        self._due: dict[Action, None] = {}
        self._sooner = trio.Event()
        # The deadline that ``run`` sleeps for; minus infinity while it is awake.
        self._sleeps_until = -math.inf

    def set(self, action: Action, deadline: float) -> None:
        """Set the deadline of ``action``; ``math.inf`` for none."""
        if deadline < self._sleeps_until:
            self._sooner.set()
        if self._due:
            self._due.pop(action, None)
        self._timers.set(action, deadline)

    def discard(self, action: Action) -> None:
        """Remove ``action``."""
        self._due.pop(action, None)
        self._timers.discard(action)

    async def run(self) -> None:
        """Keep the deadlines until cancelled, in turns."""
        turns = self._turns
        while True:
            now = trio.current_time()
            self._due = dict.fromkeys(self._timers.pop_due(now, _TAKEN))
            if self._due:
                await self._run_due(now)
                continue
            self._sooner = trio.Event()
            before = turns.round
            self._sleeps_until = deadline = self._timers.next()
            with trio.move_on_at(deadline):
                await self._sooner.wait()
            if self._watch is not None:
                self._watch.awake(deadline, trio.current_time())
            self._sleeps_until = -math.inf
            turns.resumed(before)

    async def _run_due(self, now: float) -> None:
        while self._due:
            action = next(iter(self._due))
            del self._due[action]
            action(now)
            if self._turns.is_over():
                await self._turns.give_up()
