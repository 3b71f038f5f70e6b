from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from knet_trio._waiting import AsyncBool, Mailbox
from tests.state.stepping import CancelAt


class TestSwitch:
    async def test_begins_off(self) -> None:
        assert not AsyncBool().is_on

    @pytest.mark.parametrize("state", [True, False])
    async def test_returns_at_once_when_it_is_so(self, state: bool) -> None:
        switch = AsyncBool()
        switch.set(state)
        with assert_checkpoints():
            await switch.wait(state)

    @pytest.mark.parametrize("state", [True, False])
    async def test_waits_for_either_state(
        self, state: bool, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        switch = AsyncBool()
        switch.set(not state)

        async def flip() -> None:
            await trio.sleep(3)
            switch.set(state)

        nursery.start_soon(flip)
        await switch.wait(state)
        assert trio.current_time() == 3
        assert switch.is_on is state

    async def test_setting_what_it_is_wakes_nobody(self, nursery: trio.Nursery) -> None:
        switch = AsyncBool()
        woken = False

        async def wait() -> None:
            nonlocal woken
            await switch.wait(True)
            woken = True

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        switch.set(False)
        await wait_all_tasks_blocked()
        assert not woken
        switch.set(True)

    @pytest.mark.parametrize("flips", [1, 2, 3, 10])
    async def test_a_flip_shorter_than_a_task_switch_is_not_missed(
        self, flips: int, nursery: trio.Nursery
    ) -> None:
        switch = AsyncBool()
        nursery.start_soon(switch.wait, True)
        nursery.start_soon(switch.wait, True)
        await wait_all_tasks_blocked()
        for number in range(flips):
            switch.set(number % 2 == 0)
        # The nursery ends only when both have seen it.

    async def test_a_flip_right_before_closing_is_not_missed(self) -> None:
        switch = AsyncBool()
        with trio.fail_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(switch.wait, True)
                await wait_all_tasks_blocked()
                switch.set(True)
                switch.close("it was removed")

    async def test_closing_wakes_who_waits(self) -> None:
        switch = AsyncBool()
        closed: list[str] = []

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError, match="removed"):
                await switch.wait(True)
            closed.append("closed")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            switch.close("it was removed")
        assert closed == ["closed", "closed"]

    @pytest.mark.parametrize("state", [True, False])
    async def test_after_closing_every_wait_says_so(self, state: bool) -> None:
        switch = AsyncBool()
        switch.close("it was removed")
        with assert_checkpoints(), pytest.raises(trio.ClosedResourceError, match="it was removed"):
            await switch.wait(state)


def filled(*items: int, limit: int = 10) -> Mailbox[int]:
    mailbox: Mailbox[int] = Mailbox(limit)
    for item in items:
        mailbox.put(item)
    return mailbox


def take_all(mailbox: Mailbox[int]) -> list[int]:
    return [mailbox.take_nowait() for _ in range(len(mailbox))]


class TestDropping:
    def test_the_oldest_go(self) -> None:
        mailbox = filled(1, 2, limit=3)
        assert [mailbox.put(item) for item in (3, 4, 5)] == [False, True, True]
        assert take_all(mailbox) == [3, 4, 5]
        assert not mailbox.put(6)


class TestTaking:
    async def test_takes_the_first(self) -> None:
        mailbox = filled(1, 2)
        with assert_checkpoints():
            assert await mailbox.take() == 1
        assert mailbox.take_nowait() == 2
        with pytest.raises(trio.WouldBlock):
            mailbox.take_nowait()

    async def test_waits_for_an_item(self, nursery: trio.Nursery) -> None:
        mailbox = filled()

        async def put() -> None:
            await wait_all_tasks_blocked()
            mailbox.put(1)

        nursery.start_soon(put)
        with assert_checkpoints():
            assert await mailbox.take() == 1

    async def test_put_back_is_next_again(self, nursery: trio.Nursery) -> None:
        mailbox = filled(1, 2)
        assert mailbox.take_nowait() == 1
        mailbox.put_back(1)
        assert take_all(mailbox) == [1, 2]

        async def put_back() -> None:
            await wait_all_tasks_blocked()
            mailbox.put_back(3)

        nursery.start_soon(put_back)
        assert await mailbox.take() == 3

    async def test_one_that_comes_first_leaves_nobody_asleep(self) -> None:
        mailbox = filled(limit=2)
        taken: list[int] = []

        async def take_one() -> None:
            taken.append(await mailbox.take())

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(take_one)
            await wait_all_tasks_blocked()
            mailbox.put(3)
            mailbox.put(4)
            assert mailbox.take_nowait() == 3
            await wait_all_tasks_blocked()
            assert taken == [4]
            for item in (5, 6, 7):
                mailbox.put(item)
        assert taken == [4, 6]
        assert take_all(mailbox) == [7]

    async def test_every_item_is_taken_once_by_many_receivers(self) -> None:
        mailbox = filled(limit=1000)
        taken: list[int] = []

        async def take() -> None:
            while True:
                try:
                    taken.append(await mailbox.take())
                except trio.EndOfChannel:
                    return

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(take)
            for start in range(0, 300, 3):
                for item in range(start, start + 3):
                    mailbox.put(item)
                await trio.lowlevel.checkpoint()
            mailbox.end()
        assert sorted(taken) == list(range(300))


class TestCancelling:
    async def test_cancelled_at_any_step_takes_nothing_or_returns_it(self) -> None:
        step, reached = 0, True
        while reached:
            mailbox = filled(1, 2, 3)
            got: list[int] = []
            scope = trio.CancelScope()
            at = CancelAt(mailbox.take, step, scope)
            with scope:
                got = [await at]
            reached = at.reached
            assert got + take_all(mailbox) == [1, 2, 3]
            if reached:
                assert scope.cancelled_caught
            step += 1
        assert step > 1

    @pytest.mark.parametrize("cancel_first", [True, False])
    async def test_cancelled_in_the_moment_an_item_comes(self, cancel_first: bool) -> None:
        mailbox = filled()
        got: list[int] = []

        async def take() -> None:
            got.append(await mailbox.take())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await wait_all_tasks_blocked()
            steps: list[Callable[[], object]] = [
                nursery.cancel_scope.cancel,
                lambda: mailbox.put(1),
            ]
            for step in steps if cancel_first else reversed(steps):
                step()
        assert got + take_all(mailbox) == [1]

    async def test_the_wake_up_of_a_cancelled_receiver_is_not_lost(self) -> None:
        mailbox = filled()
        got: list[int] = []
        scope = trio.CancelScope()

        async def cancelled() -> None:
            with scope:
                got.append(await mailbox.take())

        async def other() -> None:
            got.append(await mailbox.take())

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancelled)
                await wait_all_tasks_blocked()
                nursery.start_soon(other)
                await wait_all_tasks_blocked()
                scope.cancel()
                mailbox.put(1)
        assert got == [1]


class TestEndAndClose:
    async def test_what_is_left_can_be_taken_after_the_end(self) -> None:
        mailbox = filled(1, 2)
        mailbox.end()
        assert await mailbox.take() == 1
        assert mailbox.take_nowait() == 2
        with pytest.raises(trio.EndOfChannel):
            mailbox.take_nowait()
        with assert_checkpoints(), pytest.raises(trio.EndOfChannel):
            await mailbox.take()

    async def test_what_is_left_is_gone_after_closing(self) -> None:
        mailbox = filled(1, 2)
        # Closed wins over ended.
        mailbox.end()
        mailbox.close()
        with pytest.raises(trio.ClosedResourceError):
            mailbox.take_nowait()
        with assert_checkpoints(), pytest.raises(trio.ClosedResourceError):
            await mailbox.take()
        assert len(mailbox) == 0

    @pytest.mark.parametrize(
        ("stop", "error"),
        [(Mailbox[int].end, trio.EndOfChannel), (Mailbox[int].close, trio.ClosedResourceError)],
    )
    async def test_wakes_every_receiver(
        self, stop: Callable[[Mailbox[int]], None], error: type[Exception]
    ) -> None:
        mailbox = filled()
        stopped: list[str] = []

        async def take() -> None:
            with pytest.raises(error):
                await mailbox.take()
            stopped.append("stopped")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            nursery.start_soon(take)
            await wait_all_tasks_blocked()
            stop(mailbox)
        assert stopped == ["stopped", "stopped"]


async def test_cancel_at_hits_every_step() -> None:
    async def steps() -> str:
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        return "done"

    call: Callable[[], Awaitable[str]] = steps
    outcomes: list[str] = []
    for step in range(4):
        with trio.CancelScope() as scope:
            outcomes.append(await CancelAt(call, step, scope))
        if scope.cancelled_caught:
            outcomes.append("cancelled")
    # A checkpoint looks for cancellation after it was resumed too; there is no step 3.
    assert outcomes == ["cancelled", "cancelled", "cancelled", "done"]
