"""Deadlines of many things and the task that keeps them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from knet_trio._core.timers import TimerQueue

Action = Callable[[float], None]
"""Something to be done at a time, and told what time it is."""

# How many things are done before other tasks get a turn.
_BATCH: Final = 32


class Schedule:
    """Does each action once when its deadline has come; the action sets its next one itself."""

    def __init__(self) -> None:
        self._timers: TimerQueue[Action] = TimerQueue()
        # What has come due and is not done yet: it can still be moved or discarded.
        self._due: dict[Action, None] = {}
        self._sooner = trio.Event()

    def set(self, action: Action, deadline: float) -> None:
        """Move the deadline of ``action``; ``math.inf`` for none."""
        if deadline == self._timers.get(action):
            return
        if deadline < self._timers.next():
            self._sooner.set()
        self._due.pop(action, None)
        self._timers.set(action, deadline)

    def discard(self, action: Action) -> None:
        """Forget ``action``."""
        self._due.pop(action, None)
        self._timers.discard(action)

    async def run(self) -> None:
        """Keep the deadlines until cancelled."""
        while True:
            now = trio.current_time()
            self._due = dict.fromkeys(self._timers.pop_due(now))
            done = 0
            while self._due:
                action = next(iter(self._due))
                del self._due[action]
                action(now)
                done += 1
                if done % _BATCH == 0:
                    await trio.lowlevel.checkpoint()
            self._sooner = trio.Event()
            with trio.move_on_at(self._timers.next()):
                await self._sooner.wait()
