"""Work that takes too long for a turn, such as slow compression: a thread does it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Protocol, TypeVar, TypeVarTuple, Unpack

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SIMULATED_WORK: Final = 0.005
"""Simulated seconds that a thread would work for."""


class Worker(Protocol):
    """Does a piece of work, and lets other tasks run meanwhile."""

    async def __call__(self, work: Callable[[Unpack[Ts]], T], /, *args: *Ts) -> T:
        """Return ``work(*args)``. When cancelled, it finishes all the same."""
        ...


async def _work_in_thread(work: Callable[[Unpack[Ts]], T], /, *args: *Ts) -> T:
    return await trio.to_thread.run_sync(work, *args)


async def _work_in_simulated_time(work: Callable[[Unpack[Ts]], T], /, *args: *Ts) -> T:
    done = work(*args)
    with trio.CancelScope(shield=True):
        await trio.sleep(SIMULATED_WORK)
    return done


_worker: ContextVar[Worker] = ContextVar("worker", default=_work_in_thread)


def current_worker() -> Worker:
    """Return what works for handles that are opened in this context."""
    return _worker.get()


@contextmanager
def simulated_workers() -> Generator[None, None, None]:
    """Have no threads work for handles that are opened in this context.

    Each piece takes ``SIMULATED_WORK`` seconds on Trio's clock, however long the machine works.
    """
    token = _worker.set(_work_in_simulated_time)
    try:
        yield
    finally:
        _worker.reset(token)
