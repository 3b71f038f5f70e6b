"""Stages to test with, and what the tests of stages share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio._pipeline.stage import CHANNEL_BATCHES, Stage


class Doubler(Stage[int, int]):
    """Passes on even numbers twice, and no odd ones.

    It has to wait while ``gate`` is closed. ``during`` is called in its steps.
    """

    name: ClassVar[str] = "doubler"

    def __init__(
        self, sink: Stage[int, int] | None = None, *, batches: int = CHANNEL_BATCHES
    ) -> None:
        super().__init__(sink, batches=batches)
        self.seen: list[int] = []
        self.gate = trio.Event()
        self.gate.set()
        self.during: Callable[[int], None] | None = None

    def ready(self, item: int) -> bool:
        return self.gate.is_set()

    def step(self, item: int) -> list[int]:
        self.seen.append(item)
        if self.during is not None:
            self.during(item)
        return [item, item] if item % 2 == 0 else []

    async def process(self, item: int) -> Sequence[int]:
        if not self.gate.is_set():
            await self.gate.wait()
        return self.step(item)

    def hold(self) -> None:
        """Have it wait from now on, until the gate is set."""
        self.gate = trio.Event()


def held(*, batches: int = CHANNEL_BATCHES) -> Doubler:
    """A stage that has to wait for its gate."""
    stage = Doubler(batches=batches)
    stage.hold()
    return stage


def fill(stage: Stage[int, int]) -> list[int]:
    """Send until there is no room; what was sent."""
    sent: list[int] = []
    while True:
        try:
            stage.send_nowait([len(sent)])
        except trio.WouldBlock:
            return sent
        sent.append(len(sent))


async def finish(*stages: Doubler) -> None:
    """Let the stages do all that was sent to them."""
    async with trio.open_nursery() as nursery:
        for stage in stages:
            stage.gate.set()
            nursery.start_soon(stage.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


def twice(items: Sequence[int]) -> list[int]:
    return [item for item in items for _ in range(2)]
