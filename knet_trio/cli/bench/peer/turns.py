"""The time that the tasks of this process wait for each other.

A turn is one step of a task. It is measured in CPU time of the thread, without the time of garbage
collections. Garbage collections, and the time that the system gave to other processes, are measured
separately.
"""

from __future__ import annotations

import gc
import threading
import time
from bisect import bisect_right
from typing import Final

import attrs
import trio
from trio.abc import Instrument

from knet_trio._core.percentile import percentile
from knet_trio.cli.bench.peer.commands import Answer, Arguments, Command, CommandError

# Seconds for which the task that measures waits sleeps each time.
_NAP: Final = 0.001


@attrs.define
class Measurements:
    """The measurements, in seconds.

    Attributes:
        turns: The CPU time of each turn.
        waits: The CPU time for which a task that was due waited.
        delays: The elapsed time for which a task that was due waited.
        collections: The time of each garbage collection.
        preempted: The time in each turn for which the thread did not run.
    """

    turns: list[float] = attrs.field(factory=list[float])
    waits: list[float] = attrs.field(factory=list[float])
    delays: list[float] = attrs.field(factory=list[float])
    collections: list[float] = attrs.field(factory=list[float])
    preempted: list[float] = attrs.field(factory=list[float])


class TurnWatch(Instrument):
    """An instrument that measures every turn, and how late a sleeping task wakes up."""

    def __init__(self) -> None:
        self.measured: Final = Measurements()
        self._own: trio.lowlevel.Task | None = None
        self._thread = threading.get_ident()
        self._collecting = 0.0
        self._collected = 0.0
        self._step_wall = 0.0
        self._step_cpu = 0.0
        self._step_collected = 0.0
        # Times since the last nap, each with the CPU time without collections used by then.
        self._moments: list[tuple[float, float]] = []

    async def watch(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Measure until cancelled."""
        self._own = trio.lowlevel.current_task()
        gc.callbacks.append(self._on_collection)
        trio.lowlevel.add_instrument(self)
        try:
            task_status.started()
            while True:
                await self._nap()
        finally:
            trio.lowlevel.remove_instrument(self)
            gc.callbacks.remove(self._on_collection)

    async def _nap(self) -> None:
        self._mark()
        due = time.monotonic() + _NAP
        await trio.sleep(_NAP)
        self._mark()
        now, used = self._moments[-1]
        self.measured.delays.append(max(0.0, now - due))
        self.measured.waits.append(max(0.0, used - self._used_at(due)))
        self._moments.clear()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Record the times at the beginning of a turn."""
        self._step_wall, self._step_cpu = time.monotonic(), time.thread_time()
        self._step_collected = self._collected

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Record a turn that has ended."""
        if task is self._own:
            return
        wall, cpu = time.monotonic(), time.thread_time()
        used = cpu - self._step_cpu
        self.measured.turns.append(used - (self._collected - self._step_collected))
        self.measured.preempted.append(max(0.0, wall - self._step_wall - used))
        self._moments.append((wall, cpu - self._collected))

    def before_io_wait(self, timeout: float) -> None:
        """Mark the beginning of a wait, during which no CPU time is used."""
        self._mark()

    def after_io_wait(self, timeout: float) -> None:
        """Mark the end of a wait."""
        self._mark()

    def _mark(self) -> None:
        self._moments.append((time.monotonic(), time.thread_time() - self._collected))

    def _used_at(self, moment: float) -> float:
        """Return the CPU time used by then, interpolated between two marks."""
        after = bisect_right(self._moments, (moment, float("inf")))
        if not 0 < after < len(self._moments):
            return self._moments[-1 if after else 0][1]
        (begin, used), (end, more) = self._moments[after - 1 : after + 1]
        return used + (more - used) * (moment - begin) / (end - begin)

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        if threading.get_ident() != self._thread:
            # In a worker thread: for this thread it counts as preempted.
            return
        if phase == "start":
            self._collecting = time.thread_time()
            return
        took = time.thread_time() - self._collecting
        self._collected += took
        self.measured.collections.append(took)


class Watching:
    """Commands to watch the turns of this process."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._watch: TurnWatch | None = None
        self._scope = trio.CancelScope()
        self.commands: Final[dict[str, Command]] = {"watch": self.start, "watched": self.end}

    async def start(self, arguments: Arguments) -> Answer:
        """Carry out ``watch``: begin to measure."""
        if self._watch is not None:
            raise CommandError("turns are being watched already")
        self._watch = TurnWatch()
        self._scope = trio.CancelScope()
        await self._nursery.start(self._run, self._watch)
        return {"ok": True}

    async def end(self, arguments: Arguments) -> Answer:
        """Carry out ``watched``: stop, and return the measurements."""
        watch, self._watch = self._watch, None
        if watch is None:
            raise CommandError("no turns are being watched")
        self._scope.cancel()
        measured = watch.measured
        turns = sorted(measured.turns)
        return {
            "turns": len(turns),
            "p50": percentile(turns, 50),
            "p99": percentile(turns, 99),
            "longest": turns[-1],
            "waited": max(measured.waits, default=0.0),
            "delayed": max(measured.delays, default=0.0),
            "collection": max(measured.collections, default=0.0),
            "preempted": max(measured.preempted, default=0.0),
        }

    async def _run(self, watch: TurnWatch, task_status: trio.TaskStatus[None]) -> None:
        with self._scope:
            await watch.watch(task_status)
