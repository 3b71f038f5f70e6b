from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio._state.chores import AT_ONCE, Chores, Piece
from knet_trio._state.turns import Turns, counted_turns


def make() -> Chores:
    """Chores whose turns end after 32 pieces."""
    with counted_turns():
        return Chores(Turns())


def notes(done: list[int], count: int, start: int = 0) -> list[Callable[[], object]]:
    return [partial(done.append, number) for number in range(start, start + count)]


class TestAtOnce:
    @pytest.mark.parametrize("count", [0, 1, AT_ONCE - 1])
    async def test_little_work_is_done_by_whoever_adds_it(self, count: int) -> None:
        chores, done = make(), list[int]()
        chores.add(notes(done, count))
        assert done == list(range(count))
        assert len(chores) == 0

    async def test_the_first_pieces_of_much_work_too(self) -> None:
        chores, done = make(), list[int]()
        chores.add(notes(done, 100))
        assert done == list(range(AT_ONCE))
        assert len(chores) == 1

    async def test_nothing_overtakes_what_waits(self, nursery: trio.Nursery) -> None:
        chores, done = make(), list[int]()
        chores.add(notes(done, 20))
        chores.add(notes(done, 1, start=100))
        assert done == list(range(AT_ONCE))
        nursery.start_soon(chores.run)
        await wait_all_tasks_blocked()
        assert done == [*range(20), 100]
        nursery.cancel_scope.cancel()

    async def test_a_piece_is_made_when_its_time_has_come(self) -> None:
        chores, made = make(), list[int]()

        def pieces() -> Iterator[Piece]:
            for number in range(100):
                made.append(number)
                yield partial(int)

        chores.add(pieces())
        assert made == list(range(AT_ONCE))


class TestKeys:
    async def test_the_later_takes_the_place_of_the_earlier(self, nursery: trio.Nursery) -> None:
        chores, done = make(), list[int]()
        chores.add(notes(done, 50), key="a")
        chores.add(notes(done, 1, start=200), key="b")
        chores.add(notes(done, 2, start=100), key="a")
        nursery.start_soon(chores.run)
        await wait_all_tasks_blocked()
        assert done == [*range(AT_ONCE), 200, 100, 101]
        nursery.cancel_scope.cancel()

    async def test_also_in_the_midst_of_it(self, nursery: trio.Nursery) -> None:
        chores, done = make(), list[int]()
        chores.add(notes(done, 500), key="a")
        nursery.start_soon(chores.run)
        while len(done) <= AT_ONCE:
            await trio.lowlevel.checkpoint()
        assert len(done) < 500
        reached = len(done)
        chores.add(notes(done, 2, start=1000), key="a")
        await wait_all_tasks_blocked()
        assert done == [*range(reached), 1000, 1001]
        assert len(chores) == 0
        nursery.cancel_scope.cancel()

    async def test_work_without_a_key_stays(self, nursery: trio.Nursery) -> None:
        chores, done = make(), list[int]()
        chores.add(notes(done, 20))
        chores.add(notes(done, 20, start=100))
        nursery.start_soon(chores.run)
        await wait_all_tasks_blocked()
        assert done == [*range(20), *range(100, 120)]
        nursery.cancel_scope.cancel()


class TestTurns:
    async def test_others_have_their_turn_in_between(self, nursery: trio.Nursery) -> None:
        chores, done = make(), list[int]()
        seen = [0]
        chores.add(notes(done, 300))
        nursery.start_soon(chores.run)
        while len(done) < 300:
            await trio.lowlevel.checkpoint()
            seen.append(len(done))
        assert done == list(range(300))
        # Two turns of 32 may follow each other, since tasks run in any order.
        assert max(b - a for a, b in pairwise(seen)) <= 66
        nursery.cancel_scope.cancel()

    async def test_it_sleeps_and_wakes(self, nursery: trio.Nursery) -> None:
        chores, done = make(), list[int]()
        nursery.start_soon(chores.run)
        for start in (0, 100):
            await wait_all_tasks_blocked()
            chores.add(notes(done, 50, start=start))
            await wait_all_tasks_blocked()
        assert done == [*range(50), *range(100, 150)]
        nursery.cancel_scope.cancel()

    async def test_a_bug_comes_out_of_the_task(self) -> None:
        chores = make()

        def fail() -> None:
            raise ZeroDivisionError

        chores.add([*notes([], AT_ONCE), fail])
        with pytest.raises(ZeroDivisionError):
            await chores.run()
