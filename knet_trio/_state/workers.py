"""Threads for work that takes too long for a turn, such as slow compression."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Protocol, TypeVar, TypeVarTuple, Unpack

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

COMPRESSING: Final = 2
"""The messages of a handle that threads compress at the same time, each for other hosts."""

DECOMPRESSING: Final = 1
"""The messages of a handle that threads decompress at the same time."""

SIMULATED_WORK: Final = 0.005
"""The simulated time of a piece of work, in seconds."""

_at_work: trio.lowlevel.RunVar[int] = trio.lowlevel.RunVar("threads of handles at work", 0)


class NoThreadError(MemoryError):
    """No thread could be started for a piece of work, which was not begun."""


class Worker(Protocol):
    """Does a piece of work, and lets other tasks run meanwhile."""

    async def __call__(self, work: Callable[[Unpack[Ts]], T], /, *args: *Ts) -> T:
        """Return ``work(*args)``. If cancelled, the work finishes all the same.

        Raises:
            NoThreadError: The system cannot start another thread now.
        """
        ...


class _Threads:
    """The threads of one handle.

    They do not count towards Trio's default limit, so threads of the program do not delay messages,
    and messages do not delay threads of the program.
    """

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(COMPRESSING + DECOMPRESSING)

    async def __call__(self, work: Callable[[Unpack[Ts]], T], /, *args: *Ts) -> T:
        begun = False

        def begin() -> T:
            nonlocal begun
            begun = True
            return work(*args)

        _at_work.set(_at_work.get() + 1)
        try:
            return await trio.to_thread.run_sync(begin, limiter=self._limiter)
        except (RuntimeError, MemoryError) as error:
            # Raised by the work itself, this is a bug in the work.
            if begun:
                raise
            raise NoThreadError(f"no thread can be started: {error}") from error
        finally:
            _at_work.set(_at_work.get() - 1)


async def _work_in_simulated_time(work: Callable[[Unpack[Ts]], T], /, *args: *Ts) -> T:
    done = work(*args)
    with trio.CancelScope(shield=True):
        await trio.sleep(SIMULATED_WORK)
    return done


def _simulated() -> Worker:
    return _work_in_simulated_time


_new_worker: ContextVar[Callable[[], Worker]] = ContextVar("new worker", default=_Threads)


def new_worker() -> Worker:
    """Return a new worker for a handle that is opened in this context."""
    return _new_worker.get()()


def threads_at_work() -> int:
    """Return the number of threads that work for handles in this run of Trio, or are about to."""
    return _at_work.get()


@contextmanager
def simulated_workers() -> Generator[None, None, None]:
    """Use no threads for handles that are opened in this context.

    Each piece of work takes ``SIMULATED_WORK`` seconds on Trio's clock, whatever its real time.
    """
    token = _new_worker.set(_simulated)
    try:
        yield
    finally:
        _new_worker.reset(token)
