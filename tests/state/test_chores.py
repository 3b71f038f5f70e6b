from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio._state.chores import AT_ONCE, Chores
from knet_trio._state.turns import Turns, counted_turns


def make() -> Chores:
    """Chores whose turns end after 32 pieces."""
    with counted_turns():
        return Chores(Turns())


async def work_off(chores: Chores, nursery: trio.Nursery) -> None:
    """Do what waits."""
    nursery.start_soon(chores.run)
    await wait_all_tasks_blocked()
    assert len(chores) == 0
    nursery.cancel_scope.cancel()


class TestAtOnce:
    @pytest.mark.parametrize("count", [0, 1, AT_ONCE])
    async def test_little_work_is_done_by_whoever_adds_it(self, count: int) -> None:
        chores, done = make(), list[int]()
        chores.add("a", range(count), done.append)
        assert done == list(range(count))
        assert len(chores) == 0

    async def test_the_first_pieces_of_much_work_too(self) -> None:
        chores, done = make(), list[int]()
        chores.add("a", range(100), done.append)
        assert done == list(range(AT_ONCE))
        assert len(chores) == 1

    async def test_also_while_work_of_another_kind_waits(self) -> None:
        chores, done = make(), list[int]()
        chores.add("a", range(100), done.append)
        chores.add("b", [200], done.append)
        assert done == [*range(AT_ONCE), 200]

    async def test_nothing_overtakes_work_of_its_own_kind(self, nursery: trio.Nursery) -> None:
        chores, done = make(), list[int]()
        chores.add("a", range(20), done.append)
        chores.add("a", [100], done.append)
        assert done == list(range(AT_ONCE))
        await work_off(chores, nursery)
        assert done == [*range(20), 100]

    async def test_a_bug_comes_out_of_the_call_and_the_others_have_their_turn(
        self, nursery: trio.Nursery
    ) -> None:
        chores, done = make(), list[float]()
        with pytest.raises(ZeroDivisionError):
            chores.add("a", [0, 1, 2], lambda number: done.append(1 / number))
        assert done == []
        await work_off(chores, nursery)
        assert done == [1, 0.5]


class TestAgain:
    async def test_what_was_done_is_done_again_and_what_waits_keeps_its_place(
        self, nursery: trio.Nursery
    ) -> None:
        chores, done = make(), list[int]()
        for _ in range(10):
            chores.add("a", range(50), done.append)
        assert len(chores) == 1
        await work_off(chores, nursery)
        assert done == [*range(50), *range(AT_ONCE)]

    async def test_what_waits_is_done_in_the_newest_way(self, nursery: trio.Nursery) -> None:
        chores, done = make(), list[tuple[str, int]]()
        for way in ("old", "newer", "newest"):
            chores.add("a", range(20), lambda number, way=way: done.append((way, number)))  # type: ignore[misc]
        await work_off(chores, nursery)
        newest = [number for way, number in done if way == "newest"]
        assert newest == [*range(AT_ONCE, 20), *range(AT_ONCE)]
        assert len(done) == 20 + AT_ONCE

    async def test_whoever_asks_all_the_time_puts_nobody_off(self, nursery: trio.Nursery) -> None:
        chores, done = make(), list[int]()
        chores.add("a", range(300), done.append)
        nursery.start_soon(chores.run)
        for _ in range(20):
            await trio.lowlevel.checkpoint()
            chores.add("a", range(300), done.append)
        assert len(done) >= 300
        # All are served, and evenly.
        assert set(done) == set(range(300))
        assert done[:300] == list(range(300))
        nursery.cancel_scope.cancel()

    async def test_a_piece_may_ask_for_more_of_its_kind(self, nursery: trio.Nursery) -> None:
        chores, done = make(), list[int]()

        def count_down(number: int) -> None:
            done.append(number)
            if number:
                chores.add("a", [number - 1], count_down)

        chores.add("a", [AT_ONCE + 5], count_down)
        assert len(done) == AT_ONCE
        await work_off(chores, nursery)
        assert done == list(range(AT_ONCE + 5, -1, -1))


class TestKinds:
    async def test_they_have_their_turns_one_after_the_other(self, nursery: trio.Nursery) -> None:
        chores, done = make(), list[int]()
        chores.add("a", range(100), done.append)
        chores.add("b", range(1000, 1020), done.append)
        done.clear()
        await work_off(chores, nursery)
        assert done[:8] == [16, 1016, 17, 1017, 18, 1018, 19, 1019]
        assert done[8:] == list(range(20, 100))

    async def test_one_that_has_no_end_holds_up_no_other(self, nursery: trio.Nursery) -> None:
        chores, done = make(), list[int]()

        def again(number: int) -> None:
            chores.add("endless", [number], again)

        chores.add("endless", [0], again)
        chores.add("b", range(100), done.append)
        nursery.start_soon(chores.run)
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        assert done == list(range(100))
        assert len(chores) == 1
        nursery.cancel_scope.cancel()


class TestLongPieces:
    @staticmethod
    def act(done: list[tuple[int, int]], number: int) -> Iterator[None]:
        for part in range(10):
            if part:
                yield
            done.append((number, part))

    async def test_they_are_cut_up(self, nursery: trio.Nursery) -> None:
        chores, done = make(), list[tuple[int, int]]()
        chores.add("a", range(5), partial(self.act, done))
        assert len(done) == AT_ONCE
        others = list[int]()
        chores.add("b", range(20), others.append)
        assert len(others) == AT_ONCE
        await work_off(chores, nursery)
        assert done == [(number, part) for number in range(5) for part in range(10)]
        assert others == list(range(20))

    async def test_what_is_begun_is_done_again_when_it_is_asked_for_meanwhile(
        self, nursery: trio.Nursery
    ) -> None:
        chores, done = make(), list[tuple[int, int]]()
        chores.add("a", [1, 2], partial(self.act, done))
        assert done[-1] == (2, 5)
        chores.add("a", [1, 2], partial(self.act, done))
        await work_off(chores, nursery)
        assert done == [(number, part) for number in (1, 2, 1, 2) for part in range(10)]


class TestTurns:
    async def test_others_have_their_turn_in_between(self, nursery: trio.Nursery) -> None:
        chores, done = make(), list[int]()
        seen = [0]
        chores.add("a", range(300), done.append)
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
            chores.add("a", range(start, start + 50), done.append)
            await wait_all_tasks_blocked()
        assert done == [*range(50), *range(100, 150)]
        nursery.cancel_scope.cancel()

    async def test_a_bug_comes_out_of_the_task(self) -> None:
        chores, done = make(), list[float]()
        chores.add("a", range(-AT_ONCE, 1), lambda number: done.append(1 / number))
        with pytest.raises(ZeroDivisionError):
            await chores.run()
        assert len(done) == AT_ONCE
