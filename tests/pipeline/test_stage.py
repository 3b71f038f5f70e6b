from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import ClassVar

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio._pipeline.stage import BATCH_LIMIT, CHANNEL_BATCHES, TURN, Stage
from tests.pipeline.stages import Doubler, fill, finish, held, twice


class Joiner(Stage[str, str]):
    """Joins words of up to four letters. It waits while ``gate`` is closed."""

    name: ClassVar[str] = "joiner"

    def __init__(self, *, batches: int = CHANNEL_BATCHES) -> None:
        super().__init__(batches=batches)
        self.seen: list[str] = []
        self.gate = trio.Event()

    def ready(self, item: str) -> bool:
        return self.gate.is_set()

    def step(self, item: str) -> list[str]:
        self.seen.append(item)
        return []

    async def process(self, item: str) -> Sequence[str]:
        await self.gate.wait()
        return self.step(item)

    def join(self, last: str, item: str) -> str | None:
        return last + item if len(last + item) <= 4 else None


class TestIdle:
    async def test_items_are_done_in_the_turn_of_who_sends_them(self) -> None:
        # Nobody has started its task.
        stage = Doubler()
        stage.send_nowait([1, 2])
        assert stage.seen == [1, 2]
        stage.send_nowait([3])
        assert stage.seen == [1, 2, 3]

    async def test_and_so_by_the_stages_after_it(self) -> None:
        last = Doubler()
        middle = Doubler(last)
        first = Doubler(middle)
        first.send_nowait([1, 2, 3, 4])
        assert first.seen == [1, 2, 3, 4]
        assert middle.seen == [2, 2, 4, 4]
        assert last.seen == [2] * 4 + [4] * 4

    async def test_items_are_passed_on_one_by_one(self) -> None:
        order: list[str] = []
        last = Doubler()
        first = Doubler(last)
        first.during = lambda item: order.append(f"first {item}")
        last.during = lambda item: order.append(f"last {item}")
        first.send_nowait([2, 4])
        assert order == ["first 2", "last 2", "last 2", "first 4", "last 4", "last 4"]

    async def test_it_may_be_sent_more_than_gathers_in_a_batch(self) -> None:
        stage = Doubler(batches=1)
        stage.send_nowait(range(5 * BATCH_LIMIT))
        assert stage.seen == list(range(5 * BATCH_LIMIT))

    async def test_it_is_idle_again_when_its_task_is_done(self, nursery: trio.Nursery) -> None:
        stage = held()
        nursery.start_soon(stage.run)
        stage.send_nowait([1])
        assert stage.seen == []
        stage.gate.set()
        await wait_all_tasks_blocked()
        assert stage.seen == [1]
        stage.send_nowait([2])
        assert stage.seen == [1, 2]
        nursery.cancel_scope.cancel()

    async def test_what_a_step_raises_goes_to_who_sent_and_stops_nobody_else(self) -> None:
        stage = Doubler()

        def fail(item: int) -> None:
            if item == 3:
                raise KeyboardInterrupt

        stage.during = fail
        with pytest.raises(KeyboardInterrupt):
            stage.send_nowait([2, 3, 4])
        stage.send_nowait([5])
        assert stage.seen == [2, 3, 5]


class TestBusy:
    async def test_what_has_to_wait_is_done_by_the_task(self, nursery: trio.Nursery) -> None:
        stage = held()
        nursery.start_soon(stage.run)
        stage.send_nowait([1, 2])
        await wait_all_tasks_blocked()
        assert stage.seen == []
        stage.gate.set()
        await wait_all_tasks_blocked()
        assert stage.seen == [1, 2]
        nursery.cancel_scope.cancel()

    async def test_from_the_first_that_has_to_wait(self) -> None:
        last = Doubler()
        stage = Doubler(last)
        stage.during = lambda item: stage.hold() if item == 4 else None
        stage.send_nowait([2, 4, 6, 8])
        assert stage.seen == [2, 4]
        assert last.seen == [2, 2, 4, 4]
        await finish(stage)
        assert stage.seen == [2, 4, 6, 8]
        assert last.seen == twice([2, 4, 6, 8])

    async def test_what_comes_meanwhile_waits_its_turn(self) -> None:
        stage = held()
        stage.send_nowait([1])
        stage.gate.set()
        # It need not wait any more, but there is something before it.
        stage.send_nowait([2])
        assert stage.seen == []
        await finish(stage)
        assert stage.seen == [1, 2]

    async def test_a_sink_without_room_holds_up_the_stage(self) -> None:
        last = held(batches=1)
        stage = Doubler(last)
        last.send_nowait([0])
        stage.send_nowait([2, 4])
        stage.send_nowait([6])
        assert stage.seen == []
        await finish(stage, last)
        assert stage.seen == [2, 4, 6]
        assert last.seen == [0, *twice([2, 4, 6])]

    async def test_a_sink_with_room_does_not(self) -> None:
        last = held(batches=3)
        stage = Doubler(last)
        # Two of a kind do not fit into a batch that is full but for one.
        last.send_nowait([0] * (BATCH_LIMIT - 1))
        stage.send_nowait([2, 4, 6])
        assert stage.seen == [2, 4, 6]
        assert last.seen == []
        await finish(stage, last)
        assert last.seen == [0] * (BATCH_LIMIT - 1) + twice([2, 4, 6])

    async def test_nothing_is_passed_on_where_nothing_is_made(self) -> None:
        last = held(batches=1)
        stage = Doubler(last)
        stage.send_nowait([1, 3])
        assert stage.seen == [1, 3]
        assert last.has_room

    async def test_the_task_waits_for_a_sink_that_is_behind(self, nursery: trio.Nursery) -> None:
        last = held(batches=2)
        stage = Doubler(last)
        stage.hold()
        nursery.start_soon(stage.run)
        nursery.start_soon(last.run)
        for item in range(0, 4 * BATCH_LIMIT, 2):
            stage.send_nowait([item])
        stage.gate.set()
        await wait_all_tasks_blocked()
        assert 0 < len(stage.seen) < 2 * BATCH_LIMIT
        last.gate.set()
        await wait_all_tasks_blocked()
        assert stage.seen == list(range(0, 4 * BATCH_LIMIT, 2))
        assert last.seen == twice(stage.seen)
        nursery.cancel_scope.cancel()


class TestBatches:
    async def test_they_grow_to_the_limit_while_the_stage_is_busy(
        self, nursery: trio.Nursery
    ) -> None:
        stage = held()
        nursery.start_soon(stage.run)
        stage.send_nowait([-1])
        await wait_all_tasks_blocked()
        # That one was taken, so it grows no more, but counts as long as it is in the works.
        assert len(fill(stage)) == BATCH_LIMIT * (CHANNEL_BATCHES - 1)
        stage.gate.set()
        await wait_all_tasks_blocked()
        assert stage.seen == [-1, *range(BATCH_LIMIT * (CHANNEL_BATCHES - 1))]
        nursery.cancel_scope.cancel()

    async def test_or_before_it_began(self) -> None:
        stage = held()
        sent = fill(stage)
        assert len(sent) == BATCH_LIMIT * CHANNEL_BATCHES
        await finish(stage)
        assert stage.seen == sent

    async def test_what_is_sent_at_once_stays_together(self) -> None:
        stage = held(batches=4)
        for number, count in enumerate((10, BATCH_LIMIT, 2 * BATCH_LIMIT, 5)):
            assert stage.has_room, number
            stage.send_nowait([number] * count)
        assert not stage.has_room
        stage.send_nowait([4] * (BATCH_LIMIT - 5))
        with pytest.raises(trio.WouldBlock):
            stage.send_nowait([5])
        await finish(stage)
        assert stage.seen == sorted(stage.seen)
        assert len(stage.seen) == 10 + 4 * BATCH_LIMIT

    async def test_the_items_are_copied(self) -> None:
        stage = held()
        items = [1, 2]
        stage.send_nowait(items)
        stage.send_nowait([3])
        assert items == [1, 2]
        items.clear()
        await finish(stage)
        assert stage.seen == [1, 2, 3]


class TestJoining:
    async def finish(self, stage: Joiner) -> list[str]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.run)
            stage.gate.set()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        return stage.seen

    async def test_items_become_one_as_long_as_they_can(self) -> None:
        stage = Joiner()
        for letter in "abcdefghi":
            stage.send_nowait([letter])
        assert await self.finish(stage) == ["abcd", "efgh", "i"]

    async def test_a_batch_holds_so_much_more(self) -> None:
        stage = Joiner(batches=1)
        sent = 0
        with pytest.raises(trio.WouldBlock):
            while True:
                stage.send_nowait(["x"])
                sent += 1
        assert sent == 4 * BATCH_LIMIT
        assert await self.finish(stage) == ["xxxx"] * BATCH_LIMIT

    async def test_an_idle_stage_joins_nothing(self) -> None:
        stage = Joiner()
        stage.gate.set()
        for letter in "abc":
            stage.send_nowait([letter])
        assert stage.seen == ["a", "b", "c"]

    async def test_nothing_joins_what_was_taken(self, nursery: trio.Nursery) -> None:
        stage = Joiner()
        nursery.start_soon(stage.run)
        stage.send_nowait(["a"])
        await wait_all_tasks_blocked()
        stage.send_nowait(["b"])
        assert await self.finish(stage) == ["a", "b"]
        nursery.cancel_scope.cancel()

    async def test_the_senders_items_stay_as_they_are(self) -> None:
        stage = Joiner()
        items = ["a"]
        stage.send_nowait(items)
        stage.send_nowait(["b"])
        assert items == ["a"]
        assert await self.finish(stage) == ["ab"]

    async def test_a_flush_waits_for_what_it_came_with(self) -> None:
        stage = Joiner()
        flushed = [trio.Event(), trio.Event()]
        stage.send_nowait(["a"])
        stage.send_nowait(["b"], [flushed[0]])
        stage.send_nowait([], [flushed[1]])
        assert not any(event.is_set() for event in flushed)
        assert await self.finish(stage) == ["ab"]
        assert all(event.is_set() for event in flushed)


class Lingerer(Doubler):
    """Lingers until ``go_on``."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = trio.Event()
        self.waited_with: list[list[int]] = []

    async def linger(self, items: Sequence[int]) -> None:
        await self.go_on.wait()
        self.waited_with.append(list(items))


class TestLingering:
    async def test_what_comes_meanwhile_joins_what_is_there(self, nursery: trio.Nursery) -> None:
        stage = Lingerer()
        stage.hold()
        nursery.start_soon(stage.run)
        flushed = trio.Event()
        stage.send_nowait([1])
        await wait_all_tasks_blocked()
        # The gate is open, but nobody overtakes.
        stage.gate.set()
        stage.send_nowait([2])
        stage.send_nowait([3, 4], [flushed])
        await wait_all_tasks_blocked()
        assert stage.seen == []
        stage.go_on.set()
        await wait_all_tasks_blocked()
        assert stage.waited_with == [[1, 2, 3, 4]]
        assert stage.seen == [1, 2, 3, 4]
        assert flushed.is_set()
        nursery.cancel_scope.cancel()

    async def test_as_far_as_it_has_room(self, nursery: trio.Nursery) -> None:
        stage = Lingerer()
        stage.hold()
        nursery.start_soon(stage.run)
        stage.send_nowait([1])
        await wait_all_tasks_blocked()
        sent = fill(stage)
        assert len(sent) == BATCH_LIMIT * CHANNEL_BATCHES - 1
        stage.go_on.set()
        stage.gate.set()
        await wait_all_tasks_blocked()
        assert stage.seen == [1, *sent]
        assert list(map(len, stage.waited_with)) == [BATCH_LIMIT] * CHANNEL_BATCHES
        nursery.cancel_scope.cancel()

    async def test_an_idle_stage_does_not(self) -> None:
        stage = Lingerer()
        stage.send_nowait([1, 2])
        assert stage.seen == [1, 2]
        assert stage.waited_with == []


class TestFlush:
    async def test_through_idle_stages_is_set_at_once(self) -> None:
        last = Doubler()
        first = Doubler(last)
        for items in ([], [1], [2, 4]):
            flushed = trio.Event()
            first.send_nowait(items, [flushed])
            assert flushed.is_set()
        assert last.seen == [2, 2, 4, 4]

    @pytest.mark.parametrize("count", [0, 1, BATCH_LIMIT, BATCH_LIMIT + 1, 5 * BATCH_LIMIT])
    @pytest.mark.parametrize("kind", ["kept", "dropped"])
    @pytest.mark.parametrize("behind", ["first", "last"])
    async def test_passes_through_full_and_empty_batches_in_order(
        self, count: int, kind: str, behind: str, nursery: trio.Nursery
    ) -> None:
        last = Doubler()
        first = Doubler(last)
        nursery.start_soon(first.run)
        nursery.start_soon(last.run)
        slow = first if behind == "first" else last
        slow.hold()
        flushed = trio.Event()
        seen_at_flush: list[tuple[int, int]] = []

        async def wait() -> None:
            await flushed.wait()
            seen_at_flush.append((len(first.seen), len(last.seen)))

        nursery.start_soon(wait)
        item = 0 if kind == "kept" else 1
        slow.send_nowait([0])
        made = 2 if slow is first else 1
        await first.send([item] * count)
        await first.send([], [flushed])
        await wait_all_tasks_blocked()
        # There is something before it, if only in the last stage.
        assert not flushed.is_set()
        slow.gate.set()
        await wait_all_tasks_blocked()
        expected = (count + (slow is first), 2 * count * (kind == "kept") + made)
        assert seen_at_flush == [expected]
        nursery.cancel_scope.cancel()

    async def test_waits_where_there_is_no_room(self, nursery: trio.Nursery) -> None:
        last = held(batches=1)
        first = Doubler(last, batches=1)
        sent = fill(last)
        flushed = [trio.Event() for _ in range(3)]
        # It gets into the first stage, which is idle, but not on from there.
        first.send_nowait([], flushed[:1])
        first.send_nowait([4], flushed[1:2])
        nursery.start_soon(first.run)
        nursery.start_soon(first.send, [6] * BATCH_LIMIT, flushed[2:])
        await wait_all_tasks_blocked()
        assert not any(event.is_set() for event in flushed)
        nursery.start_soon(last.run)
        last.gate.set()
        await wait_all_tasks_blocked()
        assert all(event.is_set() for event in flushed)
        assert last.seen == [*sent, *twice([4] + [6] * BATCH_LIMIT)]
        nursery.cancel_scope.cancel()

    async def test_waits_where_there_is_none_to_join(self, nursery: trio.Nursery) -> None:
        last = held(batches=1)
        first = Doubler(last)
        nursery.start_soon(last.run)
        last.send_nowait([0])
        await wait_all_tasks_blocked()
        flushed = trio.Event()
        first.send_nowait([], [flushed])
        nursery.start_soon(first.run)
        await wait_all_tasks_blocked()
        assert not flushed.is_set()
        last.gate.set()
        await wait_all_tasks_blocked()
        assert flushed.is_set()
        nursery.cancel_scope.cancel()

    async def test_several_in_a_row(self) -> None:
        stage = held()
        events = [trio.Event() for _ in range(3)]
        for number, event in enumerate(events):
            stage.send_nowait([number], [event])
        # All three are of one batch, so the last item tells all.
        assert not any(event.is_set() for event in events)
        await finish(stage)
        assert all(event.is_set() for event in events)

    async def test_is_not_held_up_by_what_comes_after(self, nursery: trio.Nursery) -> None:
        stage = held()
        nursery.start_soon(stage.run)
        flushed = trio.Event()
        stage.send_nowait([1], [flushed])
        await wait_all_tasks_blocked()
        stage.during = lambda _: stage.hold()
        stage.send_nowait([2])
        stage.gate.set()
        await wait_all_tasks_blocked()
        assert stage.seen == [1]
        assert flushed.is_set()
        nursery.cancel_scope.cancel()


class Rounds(trio.abc.Instrument):
    """Counts how often all tasks that can go on have had a turn."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


class TestTurns:
    @pytest.mark.parametrize(
        ("cost", "items"),
        [(TURN * 1.1, [1] * 12), (TURN * 0.6, [2] * 6), (TURN * 0.3, [4] * 3), (0.0, [12])],
    )
    async def test_the_task_gives_others_one_when_it_has_had_its_time(
        self,
        cost: float,
        items: list[int],
        monkeypatch: pytest.MonkeyPatch,
        nursery: trio.Nursery,
    ) -> None:
        now = 0.0
        clock = SimpleNamespace(perf_counter=lambda: now)
        monkeypatch.setattr("knet_trio._pipeline.stage.time", clock)
        rounds = Rounds()
        at: list[int] = []

        def work(_: int) -> None:
            nonlocal now
            now += cost
            at.append(rounds.count)

        stage = held()
        stage.send_nowait([1] * 12)
        stage.during = work
        trio.lowlevel.add_instrument(rounds)
        nursery.start_soon(stage.run)
        stage.gate.set()
        await wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(rounds)
        assert [at.count(number) for number in dict.fromkeys(at)] == items
        nursery.cancel_scope.cancel()
