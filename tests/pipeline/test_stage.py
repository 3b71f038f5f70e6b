from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from typing import ClassVar

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from knet_trio.pipeline.stage import (
    BATCH_LIMIT,
    CHANNEL_BATCHES,
    STEP,
    Batch,
    BatchSender,
    Stage,
    open_batch_channel,
)
from tests.node.stepping import CancelAt

Source = trio.MemoryReceiveChannel[Batch[int]]


class Doubler(Stage[int, int]):
    """Passes on even numbers twice, and no odd ones. It waits while ``gate`` is closed."""

    name: ClassVar[str] = "doubler"

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.gate = trio.Event()
        self.gate.set()

    async def process(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        await self.gate.wait()
        return [item for item in items if item % 2 == 0 for _ in range(2)]


def take(source: Source) -> list[int]:
    """The items of the next batch."""
    batch = source.receive_nowait()
    batch.taken = True
    return batch.items


def take_all(source: Source) -> list[list[int]]:
    """The items of all batches that are there."""
    batches: list[list[int]] = []
    while True:
        try:
            batches.append(take(source))
        except trio.WouldBlock:
            return batches


def joined(batches: Iterable[Sequence[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


def fill(sender: BatchSender[int]) -> list[int]:
    """Send until there is no room; what was sent."""
    sent: list[int] = []
    while True:
        try:
            sender.send_nowait([len(sent)])
        except trio.WouldBlock:
            return sent
        sent.append(len(sent))


class TestBatches:
    async def test_an_idle_pipeline_passes_on_batches_of_one(self) -> None:
        sender, source = open_batch_channel(int)
        for number in range(3):
            sender.send_nowait([number])
            assert take(source) == [number]

    async def test_they_grow_while_the_next_stage_is_busy(self) -> None:
        sender, source = open_batch_channel(int)
        sender.send_nowait([0])
        assert take(source) == [0]
        for number in range(1, 10):
            sender.send_nowait([number])
        assert take_all(source) == [list(range(1, 10))]

    async def test_a_batch_that_was_taken_grows_no_more(self) -> None:
        sender, source = open_batch_channel(int)
        sender.send_nowait([0])
        items = take(source)
        sender.send_nowait([1])
        assert items == [0]
        assert take_all(source) == [[1]]

    async def test_they_grow_to_the_limit(self) -> None:
        sender, source = open_batch_channel(int)
        sent = fill(sender)
        assert len(sent) == BATCH_LIMIT * CHANNEL_BATCHES
        batches = take_all(source)
        assert [len(batch) for batch in batches] == [BATCH_LIMIT] * CHANNEL_BATCHES
        assert joined(batches) == sent

    async def test_what_is_sent_at_once_stays_together(self) -> None:
        sender, source = open_batch_channel(int)
        sender.send_nowait(range(10))
        sender.send_nowait(range(BATCH_LIMIT))
        sender.send_nowait(range(2 * BATCH_LIMIT))
        sender.send_nowait(range(5))
        assert [len(batch) for batch in take_all(source)] == [10, BATCH_LIMIT, 2 * BATCH_LIMIT, 5]

    async def test_the_items_are_copied(self) -> None:
        sender, source = open_batch_channel(int)
        items = [1, 2]
        sender.send_nowait(items)
        sender.send_nowait([3])
        assert items == [1, 2]
        assert take(source) == [1, 2, 3]


class TestSending:
    async def test_would_block_when_full_and_sends_none(self) -> None:
        sender, source = open_batch_channel(int, 1)
        sender.send_nowait(range(BATCH_LIMIT - 1))
        with pytest.raises(trio.WouldBlock):
            sender.send_nowait([1, 2])
        sender.send_nowait([7])
        with pytest.raises(trio.WouldBlock):
            sender.send_nowait([1])
        assert take(source) == [*range(BATCH_LIMIT - 1), 7]

    async def test_every_send_is_a_checkpoint(self) -> None:
        sender, _source = open_batch_channel(int)
        for _ in range(2):
            with assert_checkpoints():
                await sender.send([1])

    async def test_waits_until_there_is_room(self, nursery: trio.Nursery) -> None:
        sender, source = open_batch_channel(int, 1)
        sent = fill(sender)
        done = trio.Event()

        async def send() -> None:
            with assert_checkpoints():
                await sender.send([-1, -2])
            done.set()

        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        assert not done.is_set()
        assert take(source) == sent
        await done.wait()
        # What comes now joins the batch that waited.
        sender.send_nowait([-3])
        assert take_all(source) == [[-1, -2, -3]]

    async def test_closing_ends_what_is_received(self) -> None:
        sender, source = open_batch_channel(int)
        sender.send_nowait([1])
        sender.close()
        assert [batch.items async for batch in source] == [[1]]
        with pytest.raises(trio.ClosedResourceError):
            sender.send_nowait(range(BATCH_LIMIT))

    @pytest.mark.parametrize("full", [False, True])
    async def test_cancelled_at_any_step_sends_all_or_none(self, full: bool) -> None:
        step, reached, outcomes = 0, True, set[bool]()
        while reached:
            sender, source = open_batch_channel(int, 1)
            before = fill(sender) if full else []
            received: list[int] = []

            async def drain(source: Source = source, received: list[int] = received) -> None:
                async for batch in source:
                    batch.taken = True
                    received.extend(batch.items)

            scope = trio.CancelScope()
            sending = CancelAt(partial(sender.send, [-1, -2]), step, scope)
            async with trio.open_nursery() as nursery:
                with scope:
                    if full:
                        nursery.start_soon(drain)
                    await sending
                if not full:
                    nursery.start_soon(drain)
                sender.close()
            reached = sending.reached
            assert received == [*before, *([] if scope.cancelled_caught else [-1, -2])]
            outcomes.add(scope.cancelled_caught)
            step += 1
        assert outcomes == {True, False}

    async def test_cancelled_while_it_waits_sends_none(self) -> None:
        sender, source = open_batch_channel(int, 1)
        before = fill(sender)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.send, [-1, -2])
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert joined(take_all(source)) == before

    async def test_cancelled_as_room_comes_sends_all_or_none(self) -> None:
        sender, source = open_batch_channel(int, 1)
        before = fill(sender)
        sent = False

        async def send() -> None:
            nonlocal sent
            await sender.send([-1, -2])
            sent = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            assert take(source) == before
            nursery.cancel_scope.cancel()
        assert joined(take_all(source)) == ([-1, -2] if sent else [])


class TestOrder:
    async def test_what_follows_a_wait_does_not_overtake(self, nursery: trio.Nursery) -> None:
        # The last batch has room for one, but not for two: those wait. Then one comes.
        sender, source = open_batch_channel(int, 2)
        sender.send_nowait(range(BATCH_LIMIT))
        sender.send_nowait(range(BATCH_LIMIT - 1))
        done = trio.Event()

        async def send() -> None:
            await sender.send([-1, -2])
            await sender.send([-3])
            done.set()

        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        take(source)
        await done.wait()
        assert [item for batch in take_all(source) for item in batch if item < 0] == [-1, -2, -3]

    async def test_nor_does_a_flush(self, nursery: trio.Nursery) -> None:
        sender, source = open_batch_channel(int, 2)
        sender.send_nowait(range(BATCH_LIMIT))
        sender.send_nowait(range(BATCH_LIMIT))
        flushed = trio.Event()
        done = trio.Event()

        async def send() -> None:
            await sender.send([-1])
            await sender.send([], [flushed])
            done.set()

        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        take(source)
        await done.wait()
        last = source.receive_nowait()
        assert last.flushed == []
        last = source.receive_nowait()
        assert (last.items, last.flushed) == ([-1], [flushed])

    @pytest.mark.parametrize("size", [1, 3, 100])
    async def test_is_kept_for_each_of_several_senders(self, size: int) -> None:
        sender, source = open_batch_channel(int, 2)
        received: list[int] = []

        async def send(who: int) -> None:
            # Batches of changing sizes, so that some fit where others do not.
            number = 0
            while number < 2000:
                count = 1 + (number * 7 + who) % size
                await sender.send([who * 10000 + number + i for i in range(count)])
                number += count

        async def receive() -> None:
            async for batch in source:
                batch.taken = True
                received.extend(batch.items)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            async with trio.open_nursery() as senders:
                for who in range(5):
                    senders.start_soon(send, who)
            sender.close()
        for who in range(5):
            mine = [item for item in received if item // 10000 == who]
            assert mine == sorted(mine)
            assert len(mine) >= 2000


async def run_stage(stage: Stage[int, int], *batches: Sequence[int]) -> list[list[int]]:
    """What comes out of the stage, batch by batch as it is sent."""
    sender, source = open_batch_channel(int, 100)
    sink, results = open_batch_channel(int, 100)
    got: list[list[int]] = []

    async def collect() -> None:
        async for batch in results:
            batch.taken = True
            got.append(batch.items)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect)
        for batch in batches:
            sender.send_nowait(batch)
        sender.close()
        await stage.run(source, sink)
        sink.close()
    return got


class TestStage:
    async def test_works_in_steps(self) -> None:
        stage = Doubler()
        await run_stage(stage, range(2 * STEP + 3))
        assert [len(call) for call in stage.calls] == [STEP, STEP, 3]
        assert joined(stage.calls) == list(range(2 * STEP + 3))

    async def test_passes_on_what_it_makes_of_the_items_in_order(self) -> None:
        results = await run_stage(Doubler(), range(BATCH_LIMIT), range(5))
        evens = [*range(0, BATCH_LIMIT, 2), 0, 2, 4]
        assert joined(results) == [item for item in evens for _ in range(2)]

    async def test_passes_on_no_empty_batches(self) -> None:
        assert await run_stage(Doubler(), [1, 3, 5]) == []

    async def test_waits_for_a_next_stage_that_is_behind(self, nursery: trio.Nursery) -> None:
        stage = Doubler()
        sender, source = open_batch_channel(int, 100)
        sink, results = open_batch_channel(int, 1)
        nursery.start_soon(stage.run, source, sink)
        for _ in range(10):
            sender.send_nowait([0] * BATCH_LIMIT)
        await wait_all_tasks_blocked()
        # 256 in the channel's one batch, 128 in hand.
        assert sum(map(len, stage.calls)) == 3 * STEP
        assert len(take(results)) == BATCH_LIMIT
        await wait_all_tasks_blocked()
        assert sum(map(len, stage.calls)) > 3 * STEP
        nursery.cancel_scope.cancel()

    @pytest.mark.parametrize("has_sink", [True, False])
    async def test_gives_others_a_turn_after_every_step(self, has_sink: bool) -> None:
        stage = Doubler()
        sender, source = open_batch_channel(int, 100)
        sink, results = open_batch_channel(int, 100)
        for _ in range(5):
            sender.send_nowait([1] * BATCH_LIMIT)
        sender.close()
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await stage.run(source, sink if has_sink else None)
            nursery.cancel_scope.cancel()
        assert len(stage.calls) == 5 * BATCH_LIMIT // STEP
        assert turns >= len(stage.calls) - 1
        results.close()


class TestFlush:
    @pytest.mark.parametrize("count", [0, 1, STEP - 1, STEP, STEP + 1, BATCH_LIMIT])
    @pytest.mark.parametrize("kind", ["kept", "dropped"])
    async def test_passes_through_full_and_empty_batches_in_order(
        self, count: int, kind: str, nursery: trio.Nursery
    ) -> None:
        stage, last = Doubler(), Doubler()
        sender, source = open_batch_channel(int)
        middle, middle_source = open_batch_channel(int)
        nursery.start_soon(stage.run, source, middle)
        nursery.start_soon(last.run, middle_source, None)
        item = 0 if kind == "kept" else 1
        flushed = trio.Event()
        seen_at_flush: list[int] = []

        async def wait() -> None:
            await flushed.wait()
            seen_at_flush.append(sum(map(len, last.calls)))

        nursery.start_soon(wait)
        last.gate = trio.Event()
        if count:
            await sender.send([item] * count)
        await sender.send([], [flushed])
        await wait_all_tasks_blocked()
        # The last stage has not got through, with items or without.
        assert not flushed.is_set()
        last.gate.set()
        with trio.fail_after(5):
            await flushed.wait()
        await wait_all_tasks_blocked()
        assert seen_at_flush == [2 * count if kind == "kept" else 0]
        nursery.cancel_scope.cancel()

    async def test_several_in_a_row(self, nursery: trio.Nursery) -> None:
        stage = Doubler()
        sender, source = open_batch_channel(int)
        order: list[int] = []
        events = [trio.Event() for _ in range(3)]

        async def wait(number: int) -> None:
            await events[number].wait()
            order.append(number)

        for number in range(3):
            nursery.start_soon(wait, number)
            sender.send_nowait([number], [events[number]])
        # All three are of one batch, so the last item tells all.
        nursery.start_soon(stage.run, source, None)
        await wait_all_tasks_blocked()
        assert sorted(order) == [0, 1, 2]
        nursery.cancel_scope.cancel()
