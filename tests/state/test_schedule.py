from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio._state.schedule import Action, Schedule
from knet_trio._state.turns import Turns, counted_turns


class Log:
    """When which action was done."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, float]] = []

    def action(self, name: str) -> Action:
        return partial(self._note, name)

    def _note(self, name: str, now: float) -> None:
        assert now == trio.current_time()
        self.entries.append((name, now))


async def test_deadlines_are_kept_exactly(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    schedule, log = Schedule(Turns()), Log()
    for name, deadline in [("c", 2.75), ("a", 0.001), ("b", 1.5), ("d", 5000.0)]:
        schedule.set(log.action(name), deadline)
    nursery.start_soon(schedule.run)
    await trio.sleep(5001)
    assert log.entries == [("a", 0.001), ("b", 1.5), ("c", 2.75), ("d", 5000.0)]
    nursery.cancel_scope.cancel()


async def test_set_while_nothing_is_due(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    schedule, log = Schedule(Turns()), Log()
    nursery.start_soon(schedule.run)
    await trio.sleep(5)
    schedule.set(log.action("a"), 7)
    await trio.sleep(5)
    assert log.entries == [("a", 7)]
    nursery.cancel_scope.cancel()


async def test_moved_earlier_while_it_waits(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    schedule, log = Schedule(Turns()), Log()
    action = log.action("a")
    schedule.set(action, 10)
    nursery.start_soon(schedule.run)
    await trio.sleep(1)
    schedule.set(action, 3)
    await trio.sleep(20)
    assert log.entries == [("a", 3)]
    nursery.cancel_scope.cancel()


async def test_moved_later_while_it_waits(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    schedule, log = Schedule(Turns()), Log()
    action = log.action("a")
    schedule.set(action, 3)
    nursery.start_soon(schedule.run)
    await trio.sleep(1)
    schedule.set(action, 10)
    await trio.sleep(20)
    assert log.entries == [("a", 10)]
    nursery.cancel_scope.cancel()


async def test_discarded_while_it_waits(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    schedule, log = Schedule(Turns()), Log()
    gone, infinite, kept = log.action("gone"), log.action("infinite"), log.action("kept")
    for action in (gone, infinite, kept):
        schedule.set(action, 3)
    nursery.start_soon(schedule.run)
    await trio.sleep(1)
    schedule.discard(gone)
    schedule.discard(log.action("never set"))
    schedule.set(infinite, math.inf)
    await trio.sleep(20)
    assert log.entries == [("kept", 3)]
    nursery.cancel_scope.cancel()


async def test_a_deadline_in_the_past_is_due_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    schedule, log = Schedule(Turns()), Log()
    nursery.start_soon(schedule.run)
    await trio.sleep(5)
    schedule.set(log.action("a"), 1)
    await wait_all_tasks_blocked()
    assert log.entries == [("a", 5)]
    nursery.cancel_scope.cancel()


async def test_an_action_that_sets_itself_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    schedule = Schedule(Turns())
    times: list[float] = []

    def tick(now: float) -> None:
        times.append(now)
        schedule.set(tick, now + 0.25)

    schedule.set(tick, 0.0)
    nursery.start_soon(schedule.run)
    await trio.sleep(1.1)
    assert times == [0.0, 0.25, 0.5, 0.75, 1.0]
    nursery.cancel_scope.cancel()


async def test_one_that_is_always_due_does_not_starve_others(nursery: trio.Nursery) -> None:
    schedule = Schedule(Turns())
    rounds = 0

    def again(now: float) -> None:
        nonlocal rounds
        rounds += 1
        schedule.set(again, now)

    schedule.set(again, 0.0)
    nursery.start_soon(schedule.run)
    for _ in range(10):
        await trio.lowlevel.checkpoint()
    assert rounds > 1
    nursery.cancel_scope.cancel()


async def test_an_action_may_discard_or_move_others_that_are_due(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    schedule, log = Schedule(Turns()), Log()
    gone, moved = log.action("gone"), log.action("moved")

    def first(now: float) -> None:
        schedule.discard(gone)
        schedule.set(moved, now + 1)

    schedule.set(first, 3)
    schedule.set(gone, 3)
    schedule.set(moved, 3)
    nursery.start_soon(schedule.run)
    await trio.sleep(20)
    assert log.entries == [("moved", 4)]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("count", [31, 32, 33, 200])
async def test_many_at_once_let_other_tasks_have_a_turn(count: int, nursery: trio.Nursery) -> None:
    with counted_turns():
        schedule = Schedule(Turns())
    done = 0
    seen: list[int] = []

    def act(number: int, now: float) -> None:
        nonlocal done
        done += 1

    for number in range(count):
        schedule.set(partial(act, number), 0.0)
    nursery.start_soon(schedule.run)
    while done < count:
        await trio.lowlevel.checkpoint()
        seen.append(done)
    # None is done twice. Two turns of 32 may follow each other, since tasks run in any order.
    assert done == count
    assert max(b - a for a, b in pairwise([0, *seen])) <= 64
    nursery.cancel_scope.cancel()
