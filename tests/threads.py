"""A process in which no thread can be started."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress

import pytest
import trio


def _refuse(_: threading.Thread) -> None:
    # What Python says when the system does not give it one.
    raise RuntimeError("can't start new thread")


@contextmanager
def no_new_threads() -> Generator[None]:
    """Have no thread be started, and none of those be idle that Trio keeps."""
    finish = threading.Event()
    idle = threading.Semaphore(0)
    busy = 0

    def work() -> None:
        assert finish.wait(60)

    def tell(_: object) -> None:
        # Trio's thread is idle again by then.
        idle.release()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", _refuse)
        try:
            with suppress(RuntimeError):
                while True:
                    trio.lowlevel.start_thread_soon(work, tell)
                    busy += 1
            yield
        finally:
            finish.set()
            for _ in range(busy):
                assert idle.acquire(timeout=60)
