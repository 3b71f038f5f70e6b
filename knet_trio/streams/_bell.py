"""A ParkingLot that costs less to create and to wait on."""

from __future__ import annotations

import trio


class Bell:
    """A queue of tasks that sleep until the bell rings, first in, first out.

    Attributes:
        waiting: The waiting tasks, the longest waiting first. Read-only.
    """

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: list[trio.lowlevel.Task] = []

    @trio.lowlevel.enable_ki_protection
    async def wait(self) -> None:
        """Wait until the bell rings. If cancelled, the task leaves the queue."""
        task, waiting = trio.lowlevel.current_task(), self.waiting

        def abort(_: object) -> trio.lowlevel.Abort:
            waiting.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        waiting.append(task)
        await trio.lowlevel.wait_task_rescheduled(abort)

    @trio.lowlevel.enable_ki_protection
    def ring(self) -> None:
        """Wake all waiting tasks."""
        waiting = self.waiting
        while waiting:
            trio.lowlevel.reschedule(waiting.pop(0))

    @trio.lowlevel.enable_ki_protection
    def ring_for(self, count: int) -> None:
        """Wake up to ``count`` tasks, the longest waiting first."""
        for task in self.waiting[:count]:
            trio.lowlevel.reschedule(task)
        del self.waiting[:count]

    @trio.lowlevel.enable_ki_protection
    def ring_for_one(self) -> None:
        """Wake the task that has waited longest."""
        if self.waiting:
            trio.lowlevel.reschedule(self.waiting.pop(0))
