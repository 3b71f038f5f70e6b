"""Wakes tasks that wait for news: a ParkingLot that costs less to make and to wait on."""

from __future__ import annotations

import trio


class Bell:
    """Tasks that wait until it rings, in the order in which they began to.

    Attributes:
        waiting: They; to be read only.
    """

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: list[trio.lowlevel.Task] = []

    @trio.lowlevel.enable_ki_protection
    async def wait(self) -> None:
        """Wait until it rings. Cancelled, it has not been waited for."""
        task, waiting = trio.lowlevel.current_task(), self.waiting

        def abort(_: object) -> trio.lowlevel.Abort:
            waiting.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        waiting.append(task)
        await trio.lowlevel.wait_task_rescheduled(abort)

    @trio.lowlevel.enable_ki_protection
    def ring(self) -> None:
        """Wake all who wait."""
        waiting = self.waiting
        while waiting:
            trio.lowlevel.reschedule(waiting.pop(0))

    @trio.lowlevel.enable_ki_protection
    def ring_for(self, count: int) -> None:
        """Wake up to ``count`` of those who wait, who have waited for longest."""
        for task in self.waiting[:count]:
            trio.lowlevel.reschedule(task)
        del self.waiting[:count]

    @trio.lowlevel.enable_ki_protection
    def ring_for_one(self) -> None:
        """Wake the one who has waited for longest."""
        if self.waiting:
            trio.lowlevel.reschedule(self.waiting.pop(0))
