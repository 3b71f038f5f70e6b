"""Stages in a row that have to wait now and then, and what must hold whatever happens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, NamedTuple

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from knet_trio._pipeline.stage import BATCH_LIMIT, Stage


class Item(NamedTuple):
    """One of several numbers that somebody sent, which may have joined."""

    sender: str
    numbers: tuple[int, ...]


class Passer(Stage[Item, Item]):
    """Passes everything on, but what ``drops`` says. It waits while ``gate`` is closed."""

    name: ClassVar[str] = "passer"

    def __init__(self, sink: Stage[Item, Item] | None, *, batches: int, drops: int) -> None:
        super().__init__(sink, batches=batches)
        self.seen: list[Item] = []
        self.gate = trio.Event()
        self.gate.set()
        self._drops = drops

    def ready(self, item: Item) -> bool:
        return self.gate.is_set()

    def step(self, item: Item) -> list[Item]:
        self.seen.append(item)
        kept = tuple(number for number in item.numbers if number % 10 != self._drops)
        return [Item(item.sender, kept)] if kept else []

    async def process(self, item: Item) -> list[Item]:
        if not self.gate.is_set():
            await self.gate.wait()
        return self.step(item)

    async def linger(self, items: Iterable[Item]) -> None:
        await trio.lowlevel.checkpoint()

    def join(self, last: Item, item: Item) -> Item | None:
        if last.sender != item.sender or len(last.numbers) + len(item.numbers) > 5:
            return None
        return Item(last.sender, last.numbers + item.numbers)

    def numbers(self, sender: str) -> list[int]:
        """What of this sender has come by."""
        return [number for item in self.seen if item.sender == sender for number in item.numbers]


class Send(NamedTuple):
    """Send so many items, and maybe wait for them to get through; at once or in a task."""

    items: int
    flush: bool
    later: bool


class Gate(NamedTuple):
    """Open or close that of one stage."""

    stage: int
    opened: bool


SENDS = st.builds(
    Send,
    st.one_of(st.integers(0, 3), st.integers(0, 2 * BATCH_LIMIT)),
    st.booleans(),
    st.booleans(),
)
GATES = st.builds(Gate, st.integers(0, 2), st.booleans())
HAPPENINGS = st.lists(
    st.one_of(SENDS, SENDS, GATES, st.sampled_from(["turn", "cancel"])), max_size=60
)


class Run:
    """Three stages, one who sends what he can at once, and one who waits for room."""

    def __init__(self, capacities: list[int], nursery: trio.Nursery) -> None:
        last = Passer(None, batches=capacities[2], drops=7)
        middle = Passer(last, batches=capacities[1], drops=3)
        self.stages = [Passer(middle, batches=capacities[0], drops=9), middle, last]
        self.sent: dict[str, list[int]] = {"now": [], "later": []}
        # What has to have come by when it is set.
        self.flushes: list[tuple[trio.Event, dict[str, int]]] = []
        self.waiting: trio.CancelScope | None = None
        self._next = 0
        self._nursery = nursery
        for stage in self.stages:
            nursery.start_soon(stage.run)

    def items(self, sender: str, count: int) -> list[Item]:
        self._next += count
        return [Item(sender, (self._next - count + i,)) for i in range(count)]

    def note(self, items: list[Item], flushed: list[trio.Event]) -> None:
        """They were taken."""
        for item in items:
            self.sent[item.sender] += item.numbers
        self.flushes += [
            (event, {who: len(self.sent[who]) for who in self.sent}) for event in flushed
        ]

    def send(self, happening: Send) -> None:
        if happening.later and self.waiting is not None:
            return
        items = self.items("later" if happening.later else "now", happening.items)
        flushed = [trio.Event()] * happening.flush
        if happening.later:
            self.waiting = trio.CancelScope()
            self._nursery.start_soon(self._send_later, items, flushed, self.waiting)
            return
        try:
            self.stages[0].send_nowait(items, flushed)
        except trio.WouldBlock:
            # A few, without more before them, always find room.
            assert not self.stages[0].has_room
            return
        self.note(items, flushed)

    async def _send_later(
        self, items: list[Item], flushed: list[trio.Event], scope: trio.CancelScope
    ) -> None:
        with scope:
            await self.stages[0].send(items, flushed)
        if not scope.cancelled_caught:
            self.note(items, flushed)
        self.waiting = None

    async def settle(self) -> None:
        await wait_all_tasks_blocked()
        for sender, sent in self.sent.items():
            for stage, dropped in zip(self.stages, ((), (9,), (9, 3)), strict=True):
                wanted = [number for number in sent if number % 10 not in dropped]
                seen = stage.numbers(sender)
                # Each in order, none twice, and none that was not sent.
                assert seen == wanted[: len(seen)]
        for event, counts in self.flushes:
            if event.is_set():
                for sender, count in counts.items():
                    assert self.got_through(sender) >= self.through(self.sent[sender][:count])

    def through(self, numbers: Iterable[int]) -> int:
        return sum(number % 10 not in (9, 3) for number in numbers)

    def got_through(self, sender: str) -> int:
        return len(self.stages[-1].numbers(sender))

    async def finish(self) -> None:
        """With all gates open, all of it gets through, and everything is idle again."""
        for stage in self.stages:
            stage.gate.set()
        await self.settle()
        assert self.waiting is None
        for sender, sent in self.sent.items():
            assert self.stages[0].numbers(sender) == sent
            assert self.got_through(sender) == self.through(sent)
        assert all(event.is_set() for event, _ in self.flushes)
        self.stages[0].send_nowait([Item("at once", (0,))])
        assert self.stages[-1].seen[-1] == ("at once", (0,))


@given(HAPPENINGS, st.lists(st.integers(1, 4), min_size=3, max_size=3))
async def test_everything_gets_through_once_and_in_order(
    happenings: list[Send | Gate | str], capacities: list[int]
) -> None:
    async with trio.open_nursery() as nursery:
        run = Run(capacities, nursery)
        for happening in happenings:
            match happening:
                case Send():
                    run.send(happening)
                case Gate(number, opened):
                    stage = run.stages[number]
                    if opened:
                        stage.gate.set()
                    elif stage.gate.is_set():
                        stage.gate = trio.Event()
                case "cancel":
                    if run.waiting is not None:
                        run.waiting.cancel()
                case _:
                    await run.settle()
        await run.settle()
        await run.finish()
        nursery.cancel_scope.cancel()
