"""Cancelling calls at each of their steps, and what must be as before when something has ended."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import cast

import attrs
import trio

from knet_trio._state.workers import threads_at_work
from tests.datafds import living_tasks, open_fds

Call = Callable[[], Awaitable[object]]


@attrs.define(eq=False)
class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope when a task, whichever it is, is about to take a given step."""

    step: int
    scope: trio.CancelScope
    taken: int = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        del task
        self.taken += 1
        if self.taken == self.step:
            self.scope.cancel()


async def cancelled_at(step: int, call: Call) -> bool:
    """Make the call and cancel it at that step of the run; whether it was cancelled.

    Step 0 is a cancellation from before the call.
    """
    with trio.CancelScope() as scope:
        instrument = CancelAtStep(step, scope)
        if step == 0:
            scope.cancel()
        trio.lowlevel.add_instrument(instrument)
        try:
            await call()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return scope.cancelled_caught


async def at_every_step(
    call: Callable[[int], Awaitable[object]], check: Callable[[int, bool], Awaitable[None]]
) -> int:
    """Cancel ``call(step)`` at every step there is, and ``check`` each time what came of it."""
    step = 0
    untouched = 0
    while untouched < 5:
        cancelled = await cancelled_at(step, functools.partial(call, step))
        await check(step, cancelled)
        untouched = 0 if cancelled else untouched + 1
        step += 1
    return step


def leaves(error: BaseException) -> list[BaseException]:
    """The errors in a group of groups, or the one that is none."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return [leaf for one in group.exceptions for leaf in leaves(one)]
    return [error]


def kinds(error: BaseException) -> list[type[BaseException]]:
    """What kinds of errors they are."""
    return list(map(type, leaves(error)))


@contextmanager
def nothing_left() -> Generator[None]:
    """Hold that the block leaves no descriptor, no task and no working thread behind."""
    before = _held()
    try:
        yield
    finally:
        # Also after an error: the one who expects it outside learns of what was left.
        after = _held()
        assert after == before, f"{after} are held, before it were {before}"


def _held() -> tuple[set[int], int, int]:
    working = trio.to_thread.current_default_thread_limiter().borrowed_tokens
    return open_fds(), living_tasks(), int(working) + threads_at_work()
