from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from knet_trio._state.channel_queue import MOST_AT_ONCE, ChannelQueue
from knet_trio._state.turns import Turns, counted_turns
from knet_trio.message import Message
from tests.state.stepping import CancelAt, DoAt


def message(number: int, source: int = 2) -> Message:
    return Message(b"%d" % number, source, 0)


def numbers(messages: list[Message]) -> list[int]:
    return [int(message.data) for message in messages]


def filled(*counts: int, limit: int = 100) -> ChannelQueue:
    """A queue with so many messages of host 1, 2 and so on."""
    queue = ChannelQueue(limit, Turns())
    for source, count in enumerate(counts, start=1):
        if count:
            queue.put(source, [message(number, source) for number in range(count)])
    return queue


def drain(queue: ChannelQueue) -> list[Message]:
    return [queue.take_nowait() for _ in range(len(queue))]


class TestRoom:
    def test_the_newest_are_dropped(self) -> None:
        queue = ChannelQueue(3, Turns())
        assert [queue.put_one(message(number)) for number in range(5)] == [0, 0, 0, 1, 1]
        assert queue.put(2, [message(number) for number in range(5, 15)]) == 10
        assert numbers(drain(queue)) == [0, 1, 2]
        assert queue.put_one(message(15)) == 0

    def test_more_at_once_than_there_is_room_ever(self) -> None:
        queue = ChannelQueue(2, Turns())
        assert queue.put(2, [message(number) for number in range(10)]) == 8
        assert numbers(drain(queue)) == [0, 1]

    def test_a_flood_takes_nothing_from_others(self) -> None:
        queue = ChannelQueue(100, Turns())
        queue.put(3, [message(number, 3) for number in range(1000)])
        for number in range(20):
            # Each finds the queue full, and a message of the flood goes for it.
            assert queue.put_one(message(number, 2)) == 1
            assert queue.put(3, [message(number, 3) for number in range(64)]) == 64
        assert numbers([one for one in drain(queue) if one.source == 2]) == list(range(20))

    def test_one_that_comes_last_finds_room_too(self) -> None:
        queue = filled(4, 4, limit=8)
        assert queue.put_one(message(0, 3)) == 1
        assert 3 in [one.source for one in drain(queue)]

    def test_among_equals_the_one_that_comes_last_finds_none(self) -> None:
        queue = filled(1, 1, 1, 1, limit=4)
        assert queue.put_one(message(0, 5)) == 1
        assert queue.put(6, [message(0, 6), message(1, 6)]) == 2
        assert [one.source for one in drain(queue)] == [1, 2, 3, 4]

    def test_a_host_of_many_whose_only_message_goes_is_forgotten(self) -> None:
        queue = ChannelQueue(2, Turns())
        for source in range(5):
            queue.put_one(message(0, source))
        assert len(queue) == 2
        assert len({one.source for one in drain(queue)}) == 2
        assert queue.put(2, [message(1)]) == 0
        assert numbers(drain(queue)) == [1]


def lengths(queue: ChannelQueue) -> dict[int, int]:
    """How many messages of each host there are."""
    own = queue._queues  # pyright: ignore[reportPrivateUsage]
    assert [own[messages[0].source] for messages in own.values()] == list(own.values())
    return {source: len(messages) for source, messages in own.items()}


def after(before: dict[int, int], source: int, count: int, limit: int) -> dict[int, int]:
    """How many there are after ``count`` more of ``source``: the same rules in the simplest form.

    Among others that have as much as each other, either may be the one that loses.
    """
    have = {source: 0, **before}
    have[source] += count
    while sum(have.values()) > limit:
        loser = max(have, key=lambda host: (have[host], host == source))
        have[loser] -= 1
    return have


PUTS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 12)), max_size=12)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 9), st.integers(1, 12)),
        st.tuples(st.just("put"), st.integers(1, 9), st.just(1)),
        st.tuples(st.just("take"), st.just(0), st.integers(1, 12)),
        st.tuples(st.just("take many"), st.just(0), st.integers(1, 12)),
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 20))
async def test_it_drops_from_who_has_most_and_keeps_the_oldest(
    steps: list[tuple[str, int, int]], limit: int
) -> None:
    queue = ChannelQueue(limit, Turns())
    put, lost, number = 0, 0, 0
    taken: list[Message] = []
    for what, source, count in steps:
        before = lengths(queue)
        if what == "put":
            several = [message(number + i, source) for i in range(count)]
            number += count
            put += count
            lost += queue.put(source, several) if count > 1 else queue.put_one(several[0])
            now, wanted = lengths(queue), after(before, source, count, limit)
            assert now.pop(source, 0) == wanted.pop(source)
            assert sorted(now.values()) == sorted(wanted.values())
        elif what == "take":
            taken += [queue.take_nowait() for _ in range(min(count, len(queue)))]
        elif len(queue):
            taken += await queue.take_many(count)
        assert len(queue) == put - lost - len(taken) <= limit
        assert sum(lengths(queue).values()) == len(queue)
    taken += drain(queue)
    by_source: dict[int, list[int]] = {}
    for one in taken:
        by_source.setdefault(one.source, []).append(int(one.data))
    for kept in by_source.values():
        assert kept == sorted(set(kept))


@pytest.mark.parametrize(("count", "taken"), [(1, 0), (2, 0), (2, 1)])
def test_the_work_of_a_full_queue_does_not_grow_with_the_hosts(count: int, taken: int) -> None:
    calls: list[int] = []
    for hosts in (10, 1000):
        queue = ChannelQueue(2000, Turns())
        for number in range(2000):
            queue.put_one(message(number, number % hosts))
        # What has to be looked at once, is.
        queue.put_one(message(0, 0))
        queue._round = Walked(queue._round)  # pyright: ignore[reportPrivateUsage]
        with Calls() as counted:
            for number in range(200):
                # Of a host that has many, and of one that has none.
                source = number % hosts if number % 2 else 2000 + number
                for _ in range(taken):
                    queue.take_nowait()
                queue.put(source, [message(number, source)] * count)
        assert len(queue) == 2000
        calls.append(counted.number)
    few, many = calls
    assert many < 2 * few


class Walked(deque[deque[Message]]):
    """A deque that does not walk in C, where ``Calls`` would not see it."""

    def __iter__(self) -> Iterator[deque[Message]]:
        yield from map(self.__getitem__, range(len(self)))


class Calls:
    """Counts the functions that are called in the block, those of Python and of C.

    To resume a generator counts too.
    """

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> Calls:
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _count(self, frame: object, event: str, argument: object) -> None:
        del frame, argument
        self.number += event in ("call", "c_call")


@given(PUTS, st.integers(1, 40), st.booleans())
async def test_everything_is_taken_once_and_in_order(
    puts: list[tuple[int, int]], limit: int, one_by_one: bool
) -> None:
    queue = ChannelQueue(1000, Turns())
    number = 0
    for source, count in puts:
        queue.put(source, [message(number + i, source) for i in range(count)])
        number += count
    taken: list[Message] = []
    while len(queue):
        taken += [await queue.take()] if one_by_one else await queue.take_many(limit)
    assert sorted(numbers(taken)) == list(range(number))
    for source in range(1, 6):
        own = [int(one.data) for one in taken if one.source == source]
        assert own == sorted(own)


class TestGoingRound:
    def test_one_by_one(self) -> None:
        taken = drain(filled(4, 1, 2))
        assert [one.source for one in taken] == [1, 2, 3, 1, 3, 1, 1]

    async def test_several_at_once(self) -> None:
        queue = filled(50, 50, 1)
        assert [one.source for one in await queue.take_many(5)] == [1, 2, 3, 1, 2]

    async def test_a_host_that_is_alone(self) -> None:
        queue = filled(5)
        assert numbers(await queue.take_many(3)) == [0, 1, 2]
        assert numbers(await queue.take_many()) == [3, 4]
        with pytest.raises(trio.WouldBlock):
            queue.take_nowait()

    async def test_not_more_than_fits_in_a_turn(self) -> None:
        queue = filled(MOST_AT_ONCE + 1, limit=MOST_AT_ONCE * 2)
        assert len(await queue.take_many()) == MOST_AT_ONCE
        assert len(queue) == 1


both = pytest.mark.parametrize("many", [False, True], ids=["one", "many"])


class Reader:
    """Takes from a queue and keeps what it got. ``limit`` 0 is for one at a time."""

    def __init__(self, queue: ChannelQueue, limit: int | None = 0) -> None:
        self.queue = queue
        self.limit = limit
        self.got: list[Message] = []
        self.scope = trio.CancelScope()

    async def once(self) -> None:
        with self.scope:
            if self.limit == 0:
                self.got.append(await self.queue.take())
            else:
                self.got += await self.queue.take_many(self.limit)


class TestWaiting:
    async def test_messages_go_to_who_waited_longest(self) -> None:
        queue = ChannelQueue(100, Turns())
        readers = [Reader(queue) for _ in range(10)]
        async with trio.open_nursery() as nursery:
            for reader in readers:
                nursery.start_soon(reader.once)
                await wait_all_tasks_blocked()
            for number in range(5):
                assert queue.put_one(message(number)) == 0
            queue.put(2, [message(number) for number in range(5, 12)])
        assert [numbers(reader.got) for reader in readers] == [[number] for number in range(10)]
        assert numbers(drain(queue)) == [10, 11]

    async def test_who_takes_many_gets_what_comes_together(self) -> None:
        queue = ChannelQueue(100, Turns())
        readers = [Reader(queue, limit) for limit in (3, 0, None, None)]
        async with trio.open_nursery() as nursery:
            for reader in readers:
                nursery.start_soon(reader.once)
                await wait_all_tasks_blocked()
            queue.put(2, [message(number) for number in range(9)])
            queue.put_one(message(9))
        got = [numbers(reader.got) for reader in readers]
        assert got == [[0, 1, 2], [3], [4, 5, 6, 7, 8], [9]]

    async def test_one_in_each_round_is_taken_in_place_of_waking_who_waits(self) -> None:
        turns = Turns()
        queue = ChannelQueue(100, turns)
        taken: list[Message] = []
        queue.take_alone = taken.append
        # While nobody waits, all are for whoever comes: nothing overtakes.
        queue.put_one(message(0))
        assert not taken
        assert numbers(await queue.take_many()) == [0]
        reader = Reader(queue, None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.once)
            await wait_all_tasks_blocked()
            for number in range(1, 4):
                queue.put_one(message(number))
            assert numbers(taken) == [1]
            assert not reader.got
        assert numbers(reader.got) == [2]
        assert numbers(await queue.take_many()) == [3]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Reader(queue, None).once)
            await wait_all_tasks_blocked()
            turns.resumed(turns.round)
            queue.put_one(message(4))
            assert numbers(taken) == [1, 4]
            nursery.cancel_scope.cancel()

    @both
    async def test_one_that_was_cancelled_is_passed_over(self, many: bool) -> None:
        queue = ChannelQueue(100, Turns())
        readers = [Reader(queue, None if many else 0) for _ in range(3)]
        async with trio.open_nursery() as nursery:
            for reader in readers:
                nursery.start_soon(reader.once)
                await wait_all_tasks_blocked()
            readers[1].scope.cancel()
            await wait_all_tasks_blocked()
            queue.put_one(message(0))
            queue.put_one(message(1))
        assert [numbers(reader.got) for reader in readers] == [[0], [], [1]]

    async def test_cancelled_in_the_turn_in_which_a_message_comes(self) -> None:
        queue = ChannelQueue(100, Turns())
        first, second = Reader(queue), Reader(queue)
        async with trio.open_nursery() as nursery:
            for reader in (first, second):
                nursery.start_soon(reader.once)
                await wait_all_tasks_blocked()
            # Who is cancelled first gets nothing; who was handed a message keeps it.
            first.scope.cancel()
            queue.put_one(message(0))
            second.scope.cancel()
        assert (numbers(first.got), numbers(second.got)) == ([], [0])
        assert first.scope.cancelled_caught
        assert not second.scope.cancelled_caught

    @both
    @pytest.mark.parametrize("waits", [False, True])
    async def test_cancelled_at_any_step(self, many: bool, waits: bool) -> None:
        step, reached = 0, True
        while reached:
            queue = filled(0 if waits else 3)
            reader = Reader(queue, 2 if many else 0)
            at = CancelAt(reader.once, step, reader.scope)
            async with trio.open_nursery() as nursery:
                if waits:
                    nursery.start_soon(self.fill, queue)
                await at
            reached = at.reached
            left = numbers(drain(queue))
            assert numbers(reader.got) + left == [0, 1, 2]
            step += 1
        assert step > 1

    @staticmethod
    async def fill(queue: ChannelQueue) -> None:
        await wait_all_tasks_blocked()
        queue.put(2, [message(number) for number in range(3)])


class TestTurns:
    async def test_what_is_there_is_taken_in_this_turn(self) -> None:
        with counted_turns():
            queue = filled(3, 3)
        with NoScheduling():
            assert numbers([await queue.take()]) == [0]
            assert len(await queue.take_many(2)) == 2

    @both
    async def test_cancelled_before_takes_nothing(self, many: bool) -> None:
        queue = filled(3)
        reader = Reader(queue, None if many else 0)
        reader.scope.cancel()
        await reader.once()
        assert reader.scope.cancelled_caught
        assert len(queue) == 3

    async def test_others_run_when_the_turn_is_over(self) -> None:
        with counted_turns():
            queue = ChannelQueue(1000, Turns())
        queue.put(2, [message(number) for number in range(1000)])
        queue.end()
        taken_between: list[int] = []
        readers = 10

        async def read() -> None:
            with suppress(trio.EndOfChannel):
                while True:
                    await queue.take()

        async def watch() -> None:
            while len(queue):
                before = len(queue)
                await trio.lowlevel.checkpoint()
                taken_between.append(before - len(queue))

        async with trio.open_nursery() as nursery:
            for _ in range(readers):
                nursery.start_soon(read)
            nursery.start_soon(watch)
        # All readers together have the turn of one handle, and each takes one more at most. The
        # clock of this test goes on with each look at it, 32 of which are a turn.
        assert max(taken_between) <= 2 * (32 + readers)
        assert len(taken_between) > 5


class TestEnds:
    @both
    @pytest.mark.parametrize(
        ("stop", "error"),
        [(ChannelQueue.end, trio.EndOfChannel), (ChannelQueue.close, trio.ClosedResourceError)],
    )
    async def test_everybody_who_waits_is_woken(
        self, many: bool, stop: Callable[[ChannelQueue], object], error: type[Exception]
    ) -> None:
        queue = ChannelQueue(10, Turns())
        stopped: list[str] = []

        async def take() -> None:
            with pytest.raises(error):
                await Reader(queue, None if many else 0).once()
            stopped.append("stopped")

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(take)
            await wait_all_tasks_blocked()
            stop(queue)
        assert stopped == ["stopped"] * 3

    async def test_what_is_left_can_be_taken_after_the_end(self) -> None:
        queue = filled(3)
        queue.end()
        assert numbers([await queue.take(), queue.take_nowait()]) == [0, 1]
        assert numbers(await queue.take_many()) == [2]
        with pytest.raises(trio.EndOfChannel):
            queue.take_nowait()
        with assert_checkpoints(), pytest.raises(trio.EndOfChannel):
            await queue.take()
        with assert_checkpoints(), pytest.raises(trio.EndOfChannel):
            await queue.take_many()

    @both
    async def test_nobody_waits_beside_what_is_put_after_the_end(
        self, many: bool, autojump_clock: trio.testing.MockClock
    ) -> None:
        """At whatever step of taking it is put."""
        taken: list[list[int]] = []
        step, reached = 0, True
        while reached:
            queue = ChannelQueue(10, Turns())
            queue.end()
            reader = Reader(queue, None if many else 0)
            two = [message(0), message(1)]
            at = DoAt(reader.once, step, partial(queue.put, 2, two))
            with trio.fail_after(1), suppress(trio.EndOfChannel):
                await at
            taken.append(numbers(reader.got))
            assert len(queue) == (2 if at.reached else 0) - len(reader.got)
            reached = at.reached
            step += 1
        assert taken == [[0, 1] if many else [0]] * (step - 1) + [[]]
        assert step > 2

    async def test_what_is_left_is_gone_after_closing(self) -> None:
        queue = filled(3)
        queue.end()
        assert queue.close() == 3
        assert len(queue) == 0
        with pytest.raises(trio.ClosedResourceError):
            queue.take_nowait()
        with assert_checkpoints(), pytest.raises(trio.ClosedResourceError):
            await queue.take()

    async def test_closed_while_its_turn_is_given_up(self) -> None:
        with counted_turns():
            queue = ChannelQueue(10, Turns())
        queue.put_one(message(0))

        async def take() -> None:
            for _ in range(100):
                queue.put_one(message(1))
                await queue.take()

        async with trio.open_nursery() as nursery:
            with pytest.raises(trio.ClosedResourceError):
                nursery.start_soon(close_soon, queue)
                await take()


async def close_soon(queue: ChannelQueue) -> None:
    queue.close()


class NoScheduling:
    """Asserts that no other task can have run in the block."""

    def __enter__(self) -> None:
        self._task = trio.lowlevel.current_task()
        self._points = self._task._schedule_points  # pyright: ignore[reportPrivateUsage]

    def __exit__(self, *_: object) -> None:
        assert self._task._schedule_points == self._points  # pyright: ignore[reportPrivateUsage]
