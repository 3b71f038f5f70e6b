"""Running a program in simulated time, repeatably."""

from __future__ import annotations

import importlib
import math
import random
import secrets
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import trio
from trio.testing import MockClock

from knet_trio._state.turns import counted_turns
from knet_trio._state.workers import threads_at_work
from knet_trio.errors import InvalidArgumentError, shown
from knet_trio.testing.conditions import Conditions, Interface, check_seed, check_type
from knet_trio.testing.network import SimulatedNetwork, open_network

T = TypeVar("T")


def run(
    main: Callable[[SimulatedNetwork], Awaitable[T]],
    *,
    seed: int | None = None,
    conditions: Conditions = Conditions(),  # noqa: B008  # frozen
    interface: Interface = Interface(),  # noqa: B008  # frozen
) -> T:
    """Run ``main`` on a simulated network, in simulated time, and return its result.

    Time jumps from one event to the next, so an hour takes as long as the work in it. Work takes no
    simulated time, except for compression that would run in a thread, which takes 5 ms a message.
    While a thread of ``trio.to_thread`` works, time stands still; its duration depends on the
    machine, so such a run may not repeat exactly.

    Args:
        main: An async function that is called with the network.
        seed: The seed of all random decisions: of the network, of the order in which Trio runs
            tasks, and of the ``random`` module. Runs with the same seed are identical. None draws
            one; an error that leaves ``main`` has a note with the seed.
        conditions: The conditions of every wire, until set otherwise.
        interface: The properties of every interface, until set otherwise.

    Returns:
        The result of ``main``.

    Raises:
        InvalidArgumentError: An argument has the wrong type.
    """
    _check_main(main)
    check_seed(seed)
    check_type("conditions", conditions, Conditions)
    check_type("interface", interface, Interface)
    seed = secrets.randbelow(2**32) if seed is None else seed

    async def on_network() -> T:
        async with open_network(seed, conditions=conditions, interface=interface) as network:
            return await main(network)

    return run_decided(on_network, seed)


def _check_main(main: object) -> None:
    if isinstance(main, Coroutine):
        # Otherwise Python warns that it was never awaited.
        main.close()
        name = getattr(cast("object", main), "__name__", "main")
        raise InvalidArgumentError(f"give the function, not its call: run({name})")
    if not callable(main):
        raise InvalidArgumentError(f"{shown(main)} is not an async function")


def run_decided(
    main: Callable[[], Awaitable[T]],
    seed: int,
    *,
    clock: trio.abc.Clock | None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> T:
    """For the package itself: run ``main``, the same way each time, in simulated time.

    Args:
        main: An async function.
        seed: Decides what is left to chance.
        clock: The time that it runs in, if not that which jumps.
        instruments: Trio's, besides those that this needs.
    """
    more: list[trio.abc.Instrument] = []
    if clock is None:
        clock, waiting = simulated_time()
        more.append(waiting)
    with decided_by(seed), counted_turns():
        return trio.run(main, clock=clock, instruments=[*instruments, *more])


def simulated_time() -> tuple[MockClock, trio.abc.Instrument]:
    """For the package itself: return a clock that jumps, and an instrument that it needs."""
    clock = MockClock(autojump_threshold=0)
    return clock, _WaitForThreads(clock)


class _WaitForThreads(trio.abc.Instrument):
    """An instrument that stops the clock from jumping while a thread works."""

    def __init__(self, clock: MockClock) -> None:
        self._clock = clock
        self._limiter: trio.CapacityLimiter | None = None
        self._waiting = False

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Check for threads at work: each is started and awaited by a task."""
        if self._limiter is None:
            self._limiter = trio.to_thread.current_default_thread_limiter()
        # Threads of handles have their own limiters.
        waiting = self._limiter.borrowed_tokens > 0 or threads_at_work() > 0
        if waiting != self._waiting:
            self._waiting = waiting
            self._clock.autojump_threshold = math.inf if waiting else 0


@contextmanager
def decided_by(seed: int) -> Generator[None, None, None]:
    """For the package itself: seed Trio's scheduler and the ``random`` module, for the block."""
    state = random.getstate()
    random.seed(seed)
    try:
        with _scheduler_decided_by(seed):
            yield
    finally:
        random.setstate(state)


@contextmanager
def _scheduler_decided_by(seed: int) -> Generator[None, None, None]:
    # Trio runs tasks in random order, so that nobody relies on an order. For tests with Hypothesis
    # it has a private way to draw the order from a seeded source.
    scheduler: dict[str, Any] = vars(importlib.import_module("trio._core._run"))
    source, switch = scheduler.get("_r"), "_ALLOW_DETERMINISTIC_SCHEDULING"
    if not isinstance(source, random.Random) or switch not in scheduler:
        warnings.warn(
            f"the scheduler of Trio {trio.__version__} cannot be seeded: runs on a simulated"
            " network will not repeat exactly",
            RuntimeWarning,
            stacklevel=7,
        )
        yield
        return
    state, switched = source.getstate(), scheduler[switch]
    source.seed(seed)
    scheduler[switch] = True
    try:
        yield
    finally:
        scheduler[switch] = switched
        source.setstate(state)
