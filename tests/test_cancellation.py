"""Every public call cancelled at each of its checkpoints: it has happened, or it has not."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio
from trio.testing import assert_checkpoints

from knet_trio import CompressConfig, open_handle
from tests.cluster import LOCALHOST, Pair, open_pair, receive, wait_for

Call = Callable[[], Awaitable[object]]


@attrs.define(eq=False)
class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope when a task, whichever it is, is about to take a given step."""

    step: int
    scope: trio.CancelScope
    taken: int = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        del task
        self.taken += 1
        if self.taken == self.step:
            self.scope.cancel()


async def cancelled_at(step: int, call: Call) -> bool:
    """Make the call and cancel it at that step of the run; whether it was cancelled.

    Step 0 is a cancellation from before the call.
    """
    with trio.CancelScope() as scope:
        instrument = CancelAtStep(step, scope)
        if step == 0:
            scope.cancel()
        trio.lowlevel.add_instrument(instrument)
        try:
            await call()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return scope.cancelled_caught


async def at_every_step(
    call: Callable[[int], Awaitable[object]], check: Callable[[int, bool], Awaitable[None]]
) -> int:
    """Cancel ``call(step)`` at every step there is, and ``check`` each time what came of it."""
    step = 0
    untouched = 0
    while untouched < 5:
        cancelled = await cancelled_at(step, functools.partial(call, step))
        await check(step, cancelled)
        untouched = 0 if cancelled else untouched + 1
        step += 1
    return step


async def test_a_cancelled_send_has_not_happened_and_another_has_once() -> None:
    async with open_pair() as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        expected: list[bytes] = []

        for kind in ("send", "send_many", "send_sync"):

            async def send(step: int, kind: str = kind) -> None:
                data = f"{kind} {step}".encode()
                if kind == "send":
                    await sender.send(data)
                elif kind == "send_sync":
                    await sender.send_sync(data, to=[2])
                else:
                    await sender.send_many([data, data])

            async def check(step: int, cancelled: bool, kind: str = kind) -> None:
                if not cancelled:
                    expected.extend([f"{kind} {step}".encode()] * (1 + (kind == "send_many")))

            await at_every_step(send, check)
        # The synchronous ones overtake the others, which is what they are for.
        assert sorted(await receive(receiver, len(expected))) == sorted(expected)
        await sender.send(b"end")
        assert await receive(receiver, 1) == [b"end"]


async def test_a_send_that_waits_for_room_and_is_cancelled_has_not_happened() -> None:
    async with open_pair() as pair:
        sender = pair.a.open_channel(0)
        receiver = pair.b.open_channel(0, receive_buffer=1_000_000)
        # What needs a thread cannot be done at once, so there is something to wait for.
        pair.a.set_compress(CompressConfig("lzma"))
        expected: list[bytes] = []
        step = untouched = 0
        while untouched < 3:
            with pytest.raises(trio.WouldBlock):
                while True:
                    data = b"fill %d" % len(expected)
                    sender.send_nowait(data)
                    expected.append(data)
            data = b"wait %d" % step
            cancelled = await cancelled_at(step, functools.partial(sender.send, data))
            if not cancelled:
                expected.append(data)
            untouched = 0 if cancelled else untouched + 1
            step += 1
            await wait_for(lambda: sent(pair) == len(expected))
        assert step > 3
        assert await receive(receiver, len(expected)) == expected


def sent(pair: Pair) -> int:
    return pair.a.get_host(2).links[0].status.stats.tx_data_packets


async def test_a_cancelled_receive_has_taken_nothing() -> None:
    async with open_pair() as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        total = 60
        await sender.send_many([b"%d" % number for number in range(total)])
        await wait_for(lambda: arrived(pair) == total)
        got: list[bytes] = []

        async def take(step: int) -> None:
            messages = [await receiver.receive()] if step % 2 else await receiver.receive_many(2)
            got.extend(message.data for message in messages)

        async def check(step: int, cancelled: bool) -> None:
            del step, cancelled
            assert got == [b"%d" % number for number in range(len(got))]

        await at_every_step(take, check)
        assert got
        got += await receive(receiver, total - len(got))
        assert got == [b"%d" % number for number in range(total)]


async def test_a_receive_that_waits_and_is_cancelled_has_taken_nothing() -> None:
    async with open_pair() as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        got: list[bytes] = []
        sent: list[bytes] = []

        async def take(step: int) -> None:
            sent.append(b"%d" % step)
            # It is not there yet, so the call waits while this goes through both handles.
            sender.send_nowait(sent[-1])
            got.append((await receiver.receive()).data)

        async def check(step: int, cancelled: bool) -> None:
            del step
            if cancelled and sent:
                # Taken by nobody, it is still to come.
                while len(got) < len(sent):
                    got.extend(await receive(receiver, 1))
            assert got == sent

        assert await at_every_step(take, check) > 4


def arrived(pair: Pair) -> int:
    return pair.b.get_host(1).links[0].status.stats.rx_data_packets


async def test_a_cancelled_add_link_leaves_the_link_or_nothing() -> None:
    async with open_handle(1) as handle:
        host = handle.add_host(2)

        async def add(step: int) -> None:
            del step
            await host.add_link(0, (LOCALHOST, 0), (LOCALHOST, 1))

        async def check(step: int, cancelled: bool) -> None:
            del step
            assert bool(host.links) is not cancelled
            for link in list(host.links.values()):
                await link.remove()

        assert await at_every_step(add, check) > 1


async def test_a_cancelled_remove_has_removed_all_the_same() -> None:
    """What is closed must not stay half open, so only the waiting is cut short."""
    async with open_handle(1) as handle:

        async def remove(step: int) -> None:
            host = handle.add_host(10 + step)
            for link_id in range(3):
                await host.add_link(link_id, (LOCALHOST, 0), (LOCALHOST, 1))
            await host.remove()

        async def check(step: int, cancelled: bool) -> None:
            host = handle.hosts.get(10 + step)
            if host is not None:
                assert cancelled
                await host.remove()

        assert await at_every_step(remove, check) > 4
        assert dict(handle.hosts) == {}
    # Leaving the block would hang, or complain of an open socket, if one had been forgotten.


async def test_a_handle_can_be_cancelled_at_every_step_of_its_life() -> None:
    async def live(step: int) -> None:
        del step
        async with open_pair() as pair:
            receiver = pair.b.open_channel(0)
            await pair.a.open_channel(0).send(b"x")
            await receiver.receive()
            await pair.a.set_forwarding(False)

    async def check(step: int, cancelled: bool) -> None:
        del step, cancelled
        assert trio.lowlevel.current_statistics().tasks_living == tasks

    tasks = trio.lowlevel.current_statistics().tasks_living
    assert await at_every_step(live, check) > 10


async def test_every_call_that_can_be_awaited_is_a_checkpoint() -> None:
    async with open_pair() as pair:
        sender = pair.a.open_channel(0)
        host = pair.a.get_host(2)
        link = host.links[0]
        calls: list[Call] = [
            lambda: sender.send(b"x"),
            lambda: sender.send_many([b"x"]),
            lambda: sender.send_many([]),
            lambda: sender.send_sync(b"x", to=[2]),
            host.wait_reachable,
            link.wait_connected,
            lambda: pair.a.set_forwarding(True),
            lambda: pair.a.set_forwarding(False),
            lambda: host.add_link(5, (LOCALHOST, 0), (LOCALHOST, 1)),
            lambda: host.links[5].remove(),
            host.remove,
            sender.aclose,
        ]
        for call in calls:
            with assert_checkpoints():
                await call()


async def test_receiving_what_is_there_is_a_checkpoint() -> None:
    async with open_pair() as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        await sender.send_many([b"1", b"2"])
        await wait_for(lambda: arrived(pair) == 2)
        with assert_checkpoints():
            await receiver.receive()
        with assert_checkpoints():
            await receiver.receive_many()
