"""The threads of a handle are its own."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio._state.workers import (
    COMPRESSING,
    DECOMPRESSING,
    NoThreadError,
    Worker,
    new_worker,
    simulated_workers,
    threads_at_work,
)
from tests.threads import no_new_threads


@contextmanager
def no_thread_left() -> Generator[None]:
    """Use up Trio's default limit, as a program with many blocking calls does."""
    limiter = trio.to_thread.current_default_thread_limiter()
    borrowers = [object() for _ in range(int(limiter.available_tokens))]
    for borrower in borrowers:
        limiter.acquire_on_behalf_of_nowait(borrower)
    try:
        yield
    finally:
        for borrower in borrowers:
            limiter.release_on_behalf_of(borrower)


class Work:
    """Pieces of work that last until ``finish`` is set."""

    def __init__(self) -> None:
        self.finish = threading.Event()
        self.begun = threading.Semaphore(0)

    def __call__(self) -> None:
        self.begun.release()
        assert self.finish.wait(20)

    async def wait_begun(self, count: int) -> None:
        """Wait until so many more have begun."""
        with trio.fail_after(20):
            for _ in range(count):
                while not self.begun.acquire(blocking=False):
                    await trio.lowlevel.checkpoint()


async def test_they_need_none_of_the_programs() -> None:
    with no_thread_left(), trio.fail_after(5):
        assert await new_worker()(sum, (1, 2)) == 3


async def test_and_none_of_other_handles() -> None:
    work, busy = Work(), new_worker()
    try:
        async with trio.open_nursery() as nursery:
            for _ in range(COMPRESSING + DECOMPRESSING):
                nursery.start_soon(busy, work)
            await work.wait_begun(COMPRESSING + DECOMPRESSING)
            # Nobody else has begun in it, and somebody in another one can.
            assert await new_worker()(sum, (1, 2)) == 3
            work.finish.set()
    finally:
        work.finish.set()


async def test_there_are_no_more_than_a_handle_needs() -> None:
    work, busy = Work(), new_worker()
    async with trio.open_nursery() as nursery:
        for _ in range(COMPRESSING + DECOMPRESSING + 1):
            nursery.start_soon(busy, work)
        await work.wait_begun(COMPRESSING + DECOMPRESSING)
        await wait_all_tasks_blocked()
        assert not work.begun.acquire(blocking=False)
        work.finish.set()
    assert work.begun.acquire(blocking=False)


async def test_they_are_at_work_until_they_have_finished() -> None:
    work = Work()
    assert threads_at_work() == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(new_worker(), work)
        nursery.start_soon(new_worker(), work)
        await work.wait_begun(2)
        assert threads_at_work() == 2
        # Which stops nothing that a thread does.
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
        assert threads_at_work() == 2
        work.finish.set()
    assert threads_at_work() == 0


async def test_failing_ends_work_too() -> None:
    def fail() -> None:
        raise ValueError(threads_at_work.__name__)

    with pytest.raises(ValueError, match="threads_at_work"):
        await new_worker()(fail)
    assert threads_at_work() == 0


async def test_that_none_can_be_started_is_want_of_memory() -> None:
    worker = new_worker()
    with no_new_threads():
        # None of those that the handle may have is taken for good.
        for _ in range(2 * (COMPRESSING + DECOMPRESSING)):
            with pytest.raises(NoThreadError, match="can't start new thread"):
                await worker(sum, (1, 2))
    assert issubclass(NoThreadError, MemoryError)
    assert threads_at_work() == 0
    assert await worker(sum, (1, 2)) == 3


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError("none")])
async def test_but_not_if_the_work_says_so(error: Exception) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await new_worker()(fail)
    assert caught.value is error


async def test_in_simulated_time_there_are_none(autojump_clock: trio.testing.MockClock) -> None:
    with simulated_workers():
        worker: Worker = new_worker()
    assert await worker(threading.current_thread) is threading.main_thread()
