"""Sending to a stage: room, cancelling, and the order of what several senders send."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import pytest
import trio
from trio.testing import assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

from knet_trio._pipeline.stage import BATCH_LIMIT, Stage
from tests.pipeline.stages import Doubler, fill, finish, held, twice
from tests.state.stepping import CancelAt


class TestSending:
    async def test_would_block_when_full_and_sends_none(self) -> None:
        stage = held(batches=1)
        stage.send_nowait(range(BATCH_LIMIT - 1))
        with pytest.raises(trio.WouldBlock):
            stage.send_nowait([-1, -2])
        stage.send_nowait([-3])
        with pytest.raises(trio.WouldBlock):
            stage.send_nowait([-4])
        await finish(stage)
        assert stage.seen == [*range(BATCH_LIMIT - 1), -3]

    async def test_every_send_is_a_checkpoint(self) -> None:
        stage = Doubler()
        with assert_checkpoints():
            await stage.send([1])
        stage.hold()
        for _ in range(2):
            with assert_checkpoints():
                await stage.send([1])
        with assert_checkpoints():
            await stage.send([])

    async def test_send_soon_is_none_unless_it_has_to_wait(self, nursery: trio.Nursery) -> None:
        stage = Doubler(batches=1)
        with assert_no_checkpoints():
            await stage.send_soon([-1])
        stage.hold()
        with assert_no_checkpoints():
            await stage.send_soon([-2])
        sent = fill(stage)

        async def make_room() -> None:
            await wait_all_tasks_blocked()
            nursery.start_soon(stage.run)
            stage.gate.set()

        nursery.start_soon(make_room)
        with assert_checkpoints():
            await stage.send_soon([-3])
        await wait_all_tasks_blocked()
        assert stage.seen == [-1, -2, *sent, -3]
        nursery.cancel_scope.cancel()

    @pytest.mark.parametrize("soon", [False, True])
    async def test_waits_until_there_is_room(self, soon: bool, nursery: trio.Nursery) -> None:
        stage = held(batches=1)
        sent = fill(stage)
        done = trio.Event()

        async def send() -> None:
            with assert_checkpoints():
                await (stage.send_soon if soon else stage.send)([-1, -2])
            done.set()

        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        assert not done.is_set()
        nursery.start_soon(stage.run)
        # The task takes the first batch, which still waits for the gate.
        await done.wait()
        # What comes now joins the batch that waited, though the stage has no room for another.
        assert not stage.has_room
        stage.send_nowait([-3])
        with pytest.raises(trio.WouldBlock):
            stage.send_nowait(range(BATCH_LIMIT))
        stage.gate.set()
        await wait_all_tasks_blocked()
        assert stage.seen == [*sent, -1, -2, -3]
        nursery.cancel_scope.cancel()


class TestCancelling:
    @pytest.mark.parametrize("soon", [False, True])
    @pytest.mark.parametrize("state", ["idle", "busy", "full"])
    async def test_at_any_step_sends_all_or_none(self, state: str, soon: bool) -> None:
        step, reached, outcomes = 0, True, set[bool]()
        while reached:
            stage = Doubler(batches=1)
            before: list[int] = []
            if state != "idle":
                stage.hold()
                before = fill(stage) if state == "full" else [0]
            if state == "busy":
                stage.send_nowait([0])
            scope = trio.CancelScope()
            send = stage.send_soon if soon else stage.send
            sending = CancelAt(partial(send, [-1, -2]), step, scope)
            async with trio.open_nursery() as nursery:
                with scope:
                    nursery.start_soon(stage.run)
                    await sending
                stage.gate.set()
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            reached = sending.reached
            sent = not scope.cancelled_caught
            assert stage.seen == [*before, *([-1, -2] if sent else [])]
            outcomes.add(sent)
            # Whatever became of it, the stage is idle again.
            stage.send_nowait([-3])
            assert stage.seen[-1] == -3
            step += 1
        # Only what has a checkpoint can be cancelled.
        assert outcomes == ({True} if soon and state != "full" else {True, False})

    @pytest.mark.parametrize("state", ["idle", "full"])
    async def test_before_it_began_sends_none(self, state: str) -> None:
        stage = Doubler()
        before: list[int] = []
        if state == "full":
            stage.hold()
            before = fill(stage)
        with trio.CancelScope() as scope:
            scope.cancel()
            await stage.send([-1])
        assert scope.cancelled_caught
        await finish(stage)
        assert stage.seen == before

    async def test_while_it_waits_sends_none_and_gives_its_place_back(self) -> None:
        stage = held(batches=1)
        before = fill(stage)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(stage.send, [-1, -2])
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await finish(stage)
        assert stage.seen == before
        assert stage.has_room
        stage.send_nowait([-3])
        assert stage.seen[-1] == -3

    async def test_as_room_comes_sends_all_or_none(self) -> None:
        stage = held(batches=1)
        before = fill(stage)
        sent = False

        async def send() -> None:
            nonlocal sent
            await stage.send([-1, -2])
            sent = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            async with trio.open_nursery() as running:
                running.start_soon(stage.run)
                stage.gate.set()
                # The task is about to take what is before it.
                nursery.cancel_scope.cancel()
                running.cancel_scope.shield = True
                await wait_all_tasks_blocked()
                running.cancel_scope.cancel()
        assert stage.seen == [*before, *([-1, -2] if sent else [])]

    async def test_one_of_several_that_wait_leaves_the_others_in_order(self) -> None:
        stage = held(batches=1)
        before = fill(stage)
        scopes = [trio.CancelScope() for _ in range(5)]

        async def send(number: int) -> None:
            with scopes[number]:
                await stage.send([-number])

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(send, number)
                await wait_all_tasks_blocked()
            scopes[1].cancel()
            scopes[3].cancel()
            await wait_all_tasks_blocked()
            await finish(stage)
        assert stage.seen == [*before, 0, -2, -4]


class TestOrder:
    async def test_what_follows_a_wait_does_not_overtake(self, nursery: trio.Nursery) -> None:
        # The last batch has room for one, but not for two: those wait. Then one comes.
        stage = held(batches=2)
        stage.send_nowait(range(BATCH_LIMIT))
        stage.send_nowait(range(BATCH_LIMIT - 1))
        done = trio.Event()

        async def send() -> None:
            await stage.send([-1, -2])
            await stage.send([-3])
            done.set()

        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        nursery.start_soon(stage.run)
        await done.wait()
        stage.gate.set()
        await wait_all_tasks_blocked()
        assert [item for item in stage.seen if item < 0] == [-1, -2, -3]
        nursery.cancel_scope.cancel()

    async def test_nor_does_a_flush(self, nursery: trio.Nursery) -> None:
        stage = held(batches=2)
        stage.send_nowait(range(BATCH_LIMIT))
        stage.send_nowait(range(BATCH_LIMIT))
        flushed = trio.Event()
        seen: list[int] = []

        async def send() -> None:
            await stage.send([-1])
            await stage.send([], [flushed])
            await flushed.wait()
            seen.extend(stage.seen)

        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        nursery.start_soon(stage.run)
        await wait_all_tasks_blocked()
        assert not flushed.is_set()
        stage.gate.set()
        await wait_all_tasks_blocked()
        assert seen == [*range(BATCH_LIMIT), *range(BATCH_LIMIT), -1]
        nursery.cancel_scope.cancel()

    async def test_nor_one_of_two_that_waited_and_go_on_in_any_order(self) -> None:
        # What has got in last is the hindmost, not who goes on last: that is left to chance.
        for _ in range(40):
            async with trio.open_nursery() as nursery:
                await self.two_that_wait(nursery)
                nursery.cancel_scope.cancel()

    async def two_that_wait(self, nursery: trio.Nursery) -> None:
        stage = held(batches=2)
        nursery.start_soon(stage.run)
        stage.send_nowait([0])
        await wait_all_tasks_blocked()
        stage.send_nowait([1] * BATCH_LIMIT)
        stage.during = lambda _: stage.hold()

        async def send(number: int) -> None:
            await stage.send([number] * 10)
            await trio.lowlevel.checkpoint()
            await stage.send([number + 1])

        nursery.start_soon(send, 10)
        nursery.start_soon(send, 20)
        stage.gate.set()
        await wait_all_tasks_blocked()
        stage.during = None
        stage.gate.set()
        await wait_all_tasks_blocked()
        for number in (10, 20):
            mine = [item for item in stage.seen if item // 10 * 10 == number]
            assert mine == [number] * 10 + [number + 1]

    @pytest.mark.parametrize("size", [1, 3, 100])
    @pytest.mark.parametrize("slow", ["none", "first", "last"])
    async def test_is_kept_for_each_of_several_senders(self, size: int, slow: str) -> None:
        class Passer(Stage[int, int]):
            """Now and then it has to wait."""

            name: ClassVar[str] = "passer"

            def __init__(self, sink: Stage[int, int] | None, *, slow: bool) -> None:
                super().__init__(sink, batches=2)
                self.slow = slow
                self.seen: list[int] = []

            def ready(self, item: int) -> bool:
                return not self.slow or item % 5 > 1

            def step(self, item: int) -> list[int]:
                self.seen.append(item)
                return [item]

            async def process(self, item: int) -> list[int]:
                if not self.ready(item):
                    await trio.lowlevel.checkpoint()
                return self.step(item)

        last = Passer(None, slow=slow == "last")
        first = Passer(last, slow=slow == "first")

        async def send(who: int) -> None:
            # Batches of changing sizes, so that some fit where others do not.
            number = 0
            while number < 2000:
                count = 1 + (number * 7 + who) % size
                await first.send([who * 10000 + number + i for i in range(count)])
                number += count
            flushed = trio.Event()
            await first.send((), [flushed])
            await flushed.wait()
            counts.append((number, sum(item // 10000 == who for item in last.seen)))

        counts: list[tuple[int, int]] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.run)
            nursery.start_soon(last.run)
            async with trio.open_nursery() as senders:
                for who in range(5):
                    senders.start_soon(send, who)
            nursery.cancel_scope.cancel()
        assert len(counts) == 5
        assert all(sent == seen >= 2000 for sent, seen in counts)
        assert last.seen == first.seen
        for who in range(5):
            mine = [item for item in last.seen if item // 10000 == who]
            assert mine == sorted(set(mine))


class TestFromWithin:
    """A filter, or what it calls, sends on the pipeline that it works in."""

    async def test_what_is_sent_comes_after(self) -> None:
        stage = Doubler()
        stage.during = lambda item: stage.send_nowait([item + 1]) if item < 5 else None
        stage.send_nowait([2, 10])
        assert stage.seen == [2, 10]
        await finish(stage)
        assert stage.seen == [2, 10, 3, 4, 5]

    async def test_it_leaves_room_for_what_is_being_sent(self) -> None:
        sent: list[int] = []

        def send(item: int) -> None:
            # The stage has more to do now, more than its channel holds, and has to wait.
            if item == -1:
                sent.extend(fill(stage))
                stage.hold()

        stage = Doubler(batches=2)
        stage.during = send
        stage.send_nowait([-1, -2, -3])
        assert stage.seen == [-1]
        assert sent == list(range(BATCH_LIMIT))
        await finish(stage)
        assert stage.seen == [-1, *sent, -2, -3]

    async def test_without_any_to_spare_it_would_block(self) -> None:
        blocked: list[int] = []

        def send(item: int) -> None:
            with pytest.raises(trio.WouldBlock):
                stage.send_nowait([-1])
            blocked.append(item)

        stage = Doubler(batches=1)
        stage.during = send
        stage.send_nowait([2, 4])
        assert stage.seen == blocked == [2, 4]

    async def test_a_flush_from_within_is_set_after(self) -> None:
        flushed = trio.Event()
        last = Doubler()
        stage = Doubler(last)
        stage.during = lambda item: stage.send_nowait([], [flushed]) if item == 2 else None
        stage.send_nowait([2])
        assert not flushed.is_set()
        await finish(stage, last)
        assert flushed.is_set()
        assert last.seen == [2, 2]

    async def test_by_a_later_stage(self) -> None:
        last = Doubler()
        first = Doubler(last)
        last.during = lambda item: first.send_nowait([item + 2]) if item < 6 else None
        first.send_nowait([2])
        # Both of what the first makes of it send one more.
        assert last.seen == [2, 2]
        await finish(first, last)
        assert first.seen == [2, 4, 4, 6, 6, 6, 6]
        assert last.seen == twice(first.seen)
