"""What all tests share: how Hypothesis looks for counterexamples, and how a test that hangs ends.

A run of the tests is the same every time. ``pytest --hypothesis-profile=search`` looks where no
run has looked before, and keeps what it finds. ``brief`` tries less: it is for nox, which runs all
of the tests.

No test takes longer than its limit, which is in pyproject.toml or in its mark ``timeout``. Then
pytest-timeout ends the whole process, for nothing else stops every kind of test. But some time
before, the test is failed in such a way that what it started is cleaned up, and the others run.
"""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import pytest
import trio
from hypothesis import settings

# No deadline: how fast a machine is has no part in whether the code is right.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("brief", derandomize=True, deadline=None, max_examples=20)
settings.register_profile("search", derandomize=False, deadline=None, max_examples=2000)
settings.load_profile("steady")

# Seconds that a test which is failed for its time has to clean up.
GRACE: Final = 30.0


# What runs in real time beside another library, whose threads get the processor when the machine
# likes, or measures what gets through in a second or two: what fails there once, and not a second
# time, is in the report as a rerun.
IN_REAL_TIME: Final = (
    "attack/test_floods.py",
    "cli/test_bench.py",
    "cli/test_bench_machines.py",
    "interop",
    "machine",
    "network",
    "soak",
    "tap",
)


class Limit(Protocol):
    """What pytest-timeout knows of a test's limit."""

    timeout: float


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A search takes as long as it takes, if nothing else is asked for."""
    if config.getoption("--hypothesis-profile") == "search" and config.option.timeout is None:
        config.option.timeout = 0
    # A shell has what it runs in the background ignore Ctrl-C, and so would all programs that the
    # tests start.
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run a test in real time once more if it fails."""
    places = [Path(__file__).parent / name for name in IN_REAL_TIME]
    for item in items:
        if any(item.path.is_relative_to(place) for place in places):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Limit) -> None:
    """Fail the test shortly before it has reached its limit."""
    if threading.current_thread() is not threading.main_thread():
        return
    seconds = max(settings.timeout - GRACE, settings.timeout / 2)
    message = f"{item.nodeid} takes longer than {seconds:.0f} s"

    def fail(*_: object) -> None:
        if trio.lowlevel.in_trio_run():
            # An exception in Trio's own code would break it, for the tests to come as well.
            trio.lowlevel.current_trio_token().run_sync_soon(fail_tasks, message)
        else:
            pytest.fail(message)

    signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, seconds)


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_cancel_timer() -> None:
    """The test has ended."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def pytest_enter_pdb() -> None:
    """Whoever debugs has time."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def fail_tasks(message: str) -> None:
    """Say where all tasks are, and raise in what the main task runs them in."""
    for depth, task in tasks():
        print(f"{'  ' * depth}{task.name}", file=sys.stderr)
        for line in traceback.StackSummary.extract(task.iter_await_frames()).format():
            print(line.rstrip(), file=sys.stderr)

    async def fail() -> None:
        pytest.fail(message)

    for depth, task in tasks():
        if depth == 1:
            for nursery in task.child_nurseries:
                nursery.start_soon(fail)


def tasks() -> list[tuple[int, trio.lowlevel.Task]]:
    """Every task, and how far it is from the root."""

    def below(task: trio.lowlevel.Task, depth: int) -> Iterator[tuple[int, trio.lowlevel.Task]]:
        yield depth, task
        for nursery in task.child_nurseries:
            for child in nursery.child_tasks:
                yield from below(child, depth + 1)

    root = trio.lowlevel.current_root_task()
    return [] if root is None else list(below(root, 0))
