"""What wakes tasks: in their order, each once, and none that was cancelled."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio.streams._bell import Bell


async def wait(bell: Bell, woken: list[int], number: int) -> None:
    """Wait once, and say so."""
    await bell.wait()
    woken.append(number)


async def begin(nursery: trio.Nursery, bell: Bell, woken: list[int], count: int) -> None:
    """Have tasks wait, one after the other."""
    for number in range(count):
        nursery.start_soon(wait, bell, woken, number, name=str(number))
        await wait_all_tasks_blocked()


async def test_ringing_wakes_all_who_wait_in_their_order() -> None:
    bell = Bell()
    woken: list[int] = []
    # Nobody waits: it is not remembered.
    bell.ring()
    bell.ring_for_one()
    async with trio.open_nursery() as nursery:
        await begin(nursery, bell, woken, 5)
        assert [task.name for task in bell.waiting] == list("01234")
        assert woken == []
        bell.ring()
        assert bell.waiting == []
    # Trio runs those that can in any order.
    assert sorted(woken) == list(range(5))


async def test_ringing_for_one_wakes_who_has_waited_for_longest() -> None:
    bell = Bell()
    woken: list[int] = []
    async with trio.open_nursery() as nursery:
        await begin(nursery, bell, woken, 5)
        for count in range(5):
            assert woken == list(range(count))
            bell.ring_for_one()
            await wait_all_tasks_blocked()
        bell.ring_for_one()
    assert woken == list(range(5))


async def test_who_is_cancelled_waits_no_more_and_others_do() -> None:
    bell = Bell()
    woken: list[int] = []
    scope = trio.CancelScope()

    async def wait_in_scope() -> None:
        with scope:
            await wait(bell, woken, -1)

    async with trio.open_nursery() as nursery:
        await begin(nursery, bell, woken, 1)
        nursery.start_soon(wait_in_scope)
        await wait_all_tasks_blocked()
        nursery.start_soon(wait, bell, woken, 2)
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        assert scope.cancelled_caught
        assert len(bell.waiting) == 2
        bell.ring_for_one()
        bell.ring_for_one()
    assert sorted(woken) == [0, 2]


async def test_who_is_woken_before_it_is_cancelled_has_been_woken() -> None:
    bell = Bell()
    woken: list[int] = []
    async with trio.open_nursery() as nursery:
        await begin(nursery, bell, woken, 1)
        bell.ring()
        nursery.cancel_scope.cancel()
    assert woken == [0]


async def test_a_wait_in_a_cancelled_scope_leaves_nothing_behind() -> None:
    bell = Bell()
    with trio.CancelScope() as scope:
        scope.cancel()
        await bell.wait()
    assert scope.cancelled_caught
    assert bell.waiting == []


async def test_who_waits_again_when_it_rings_is_woken_by_the_next_ring_only() -> None:
    bell = Bell()
    rounds: list[int] = []

    async def wait_thrice() -> None:
        for number in range(3):
            await bell.wait()
            rounds.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_thrice)
        for count in range(3):
            await wait_all_tasks_blocked()
            assert rounds == list(range(count))
            bell.ring()
            # Twice in one turn: nobody waits by then.
            bell.ring()
    assert rounds == [0, 1, 2]
