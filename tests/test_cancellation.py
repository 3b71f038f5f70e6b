"""Every public call cancelled at each of its checkpoints: it has happened, or it has not."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from knet_trio import (
    Channel,
    CompressConfig,
    CryptoConfig,
    Handle,
    Host,
    Link,
    LinkStatusChanged,
    open_handle,
)
from knet_trio._state.turns import counted_turns
from tests.cancelled_messages import arrived, sent
from tests.cancelling import Call, at_every_step, kinds, nothing_left
from tests.cluster import KEY, LOCALHOST, PATIENCE, open_pair, receive, wait_for
from tests.datafds import living_tasks, open_fds
from tests.public_calls import CASES, PUBLIC, Spied, of, spy

NOWHERE: Final = (LOCALHOST, 1)


def test_there_is_a_case_for_every_public_call() -> None:
    assert sorted(PUBLIC) == sorted(CASES)
    # Some of each kind, lest the search for them finds less some day.
    assert {"open_handle", "Handle.events", "Host.add_link", "Channel.__anext__"} <= set(PUBLIC)
    assert {"open_network", "EventReceiver.receive"} <= set(PUBLIC)


@pytest.mark.parametrize("name", CASES)
async def test_cancelled_at_any_step_it_has_happened_or_it_has_not(name: str) -> None:
    call = spy(name)
    with nothing_left():
        await CASES[name](call)
    assert call.returned > 0
    # Trio's own, which has no checkpoint.
    assert call.cancelled > 0 or name.endswith("__aenter__")


# What changes.


@asynccontextmanager
async def open_alone() -> AsyncGenerator[tuple[Handle, Link]]:
    """A handle and its link to itself, which is up or down as it is told and at once."""
    async with open_handle(1) as handle:
        me = handle.add_host(1)
        yield handle, await me.add_link(0, (LOCALHOST, 0), transport="loopback")


async def soon(link: Link, enabled: bool) -> None:
    """Take a link up or down when whoever waits for that does so."""
    for _ in range(4):
        await trio.lowlevel.checkpoint()
    link.enabled = enabled


@of("EventReceiver.receive", "EventReceiver.__anext__")
async def receiving_events(call: Spied) -> None:
    async with open_alone() as (handle, link), handle.events() as events:
        seen: list[bool] = []

        async def one(step: int) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(soon, link, step % 2 == 0)
                keep(await call(events))

        def keep(event: object) -> None:
            if isinstance(event, LinkStatusChanged):
                seen.append(event.connected)

        async def check(step: int, cancelled: bool) -> None:
            del cancelled
            link.enabled = step % 2 == 0
            # Of each change the handle tells about the link, and about the host.
            with trio.fail_after(PATIENCE):
                while len(seen) <= step:
                    keep(await events.receive())
            assert seen == [number % 2 == 0 for number in range(step + 1)]

        link.enabled = False
        assert await events.receive() == LinkStatusChanged(1, 0, False, "it was disabled here")
        assert await at_every_step(one, check) > 4


@of("Host.wait_reachable", "Link.wait_connected")
async def waiting_for_on(call: Spied) -> None:
    await waiting(call, True)


@of("Host.wait_unreachable", "Link.wait_disconnected")
async def waiting_for_off(call: Spied) -> None:
    await waiting(call, False)


async def waiting(call: Spied, enabled: bool) -> None:
    """One that was cancelled leaves the others, and later ones, their answer."""
    async with open_alone() as (handle, link), trio.open_nursery() as nursery:
        answers = 0

        async def other(thing: Host | Link) -> None:
            nonlocal answers
            await call(thing)
            answers += 1

        async def one(step: int) -> None:
            link.enabled = not enabled
            async with trio.open_nursery() as both:
                both.start_soon(soon, link, enabled)
                await call(thing)

        async def check(step: int, cancelled: bool) -> None:
            del cancelled
            link.enabled = enabled
            with trio.fail_after(PATIENCE):
                await call(thing)
            await wait_for(lambda: answers == step + 1)
            link.enabled = not enabled
            nursery.start_soon(other, thing)
            await wait_all_tasks_blocked()

        thing: Host | Link = link if call.owner is Link else handle.hosts[1]
        link.enabled = not enabled
        nursery.start_soon(other, thing)
        await wait_all_tasks_blocked()
        assert await at_every_step(one, check) > 4
        nursery.cancel_scope.cancel()


@of("Link.ping")
async def pinging(call: Spied) -> None:
    """One that was cancelled leaves the later ones their answer, and nobody who waits."""
    async with open_pair() as pair:
        link = pair.a.hosts[2].links[0]

        async def one(step: int) -> None:
            del step
            trips.append(await call(link))

        async def check(step: int, cancelled: bool) -> None:
            del step
            assert bool(trips) is not cancelled
            trips.clear()
            trip = await call(link)
            assert trip is not None
            assert 0 < trip < PATIENCE

        trips: list[object] = []
        assert await at_every_step(one, check) > 2


@of("Link.discover_mtu")
async def discovering(call: Spied) -> None:
    """The search goes on, and a later call waits for its end or makes another."""
    async with open_pair() as pair:
        link = pair.a.hosts[2].links[0]
        found = await link.discover_mtu()

        async def one(step: int) -> None:
            del step
            found_then.append(await call(link))

        async def check(step: int, cancelled: bool) -> None:
            del step
            assert found_then == ([] if cancelled else [found])
            found_then.clear()
            assert await call(link) == found

        found_then: list[object] = []
        assert await at_every_step(one, check) > 1


@of("Handle.set_forwarding")
async def setting_forwarding(call: Spied) -> None:
    """It is as it was, or as it was to be, and then what was sent before has gone out."""
    async with open_pair() as pair:
        sender = pair.a.open_channel(0)
        receiver = pair.b.open_channel(0, receive_buffer=1_000_000)
        pair.a.set_compress(CompressConfig("lzma"))
        count = 0

        async def one(step: int) -> None:
            nonlocal count
            if pair.a.forwarding:
                await sender.send_many([b"%d" % step] * 3)
                count += 3
            before.append(pair.a.forwarding)
            await call(pair.a, not pair.a.forwarding)

        async def check(step: int, cancelled: bool) -> None:
            del step
            if before:
                assert pair.a.forwarding is (before.pop() is cancelled)
            if not pair.a.forwarding:
                assert sent(pair) == count

        before: list[bool] = []
        assert await at_every_step(one, check) > 6
        await receive(receiver, count)


# Links and hosts.


@of("Host.add_link")
async def adding_a_link(call: Spied) -> None:
    async with open_handle(1) as handle:
        host = handle.add_host(2)
        fds = open_fds()

        async def one(step: int) -> None:
            del step
            await call(host, 0, (LOCALHOST, 0), NOWHERE)

        async def check(step: int, cancelled: bool) -> None:
            del step
            assert bool(host.links) is not cancelled
            for link in list(host.links.values()):
                await link.remove()
            assert open_fds() == fds

        assert await at_every_step(one, check) > 1


@of("Link.remove", "Host.remove_link", "Host.remove")
async def removing(call: Spied) -> None:
    """What is closed must not stay half open: it has happened all the same."""
    async with open_handle(1) as handle:
        fds = open_fds()
        host = handle.add_host(2)
        link = await host.add_link(0, (LOCALHOST, 0), NOWHERE)

        async def one(step: int) -> None:
            del step
            if call.owner is Link:
                await call(link)
            elif call.name == "Host.remove_link":
                await call(host, 0)
            else:
                await call(host)

        async def check(step: int, cancelled: bool) -> None:
            nonlocal host, link
            del step, cancelled
            assert open_fds() == fds
            assert dict(host.links) == {}
            # What it had can be had again at once.
            host = handle.hosts.get(2) or handle.add_host(2)
            link = await host.add_link(0, link.config.src, NOWHERE)

        assert await at_every_step(one, check) > 4


# Resources.


def nothing_wrong(call: Spied) -> list[None]:
    """What ``__aexit__`` is given at the normal end of a block."""
    return [None] * 3 if call.name.endswith("__aexit__") else []


@of("Channel.aclose", "Channel.__aexit__")
async def closing_a_channel(call: Spied) -> None:
    """Closed it is, and its number free."""
    async with open_handle(1) as handle:
        channel = handle.open_channel(0)

        async def one(step: int) -> None:
            del step
            await call(channel, *nothing_wrong(call))

        async def check(step: int, cancelled: bool) -> None:
            nonlocal channel
            del step, cancelled
            with pytest.raises(trio.ClosedResourceError):
                await channel.send(b"x")
            with pytest.raises(trio.ClosedResourceError):
                await channel.receive()
            channel = handle.open_channel(0)

        assert await at_every_step(one, check) > 1


@of("EventReceiver.aclose", "EventReceiver.__aexit__")
async def closing_events(call: Spied) -> None:
    async with open_alone() as (handle, _), AsyncExitStack() as stack:
        events = await stack.enter_async_context(handle.events())

        async def one(step: int) -> None:
            del step
            await call(events, *nothing_wrong(call))

        async def check(step: int, cancelled: bool) -> None:
            nonlocal events
            del step, cancelled
            with pytest.raises(trio.ClosedResourceError):
                await events.receive()
            events = await stack.enter_async_context(handle.events())

        assert await at_every_step(one, check) > 1


@of("Channel.__aenter__", "EventReceiver.__aenter__")
async def entering(call: Spied) -> None:
    async with open_handle(1) as handle, handle.events() as events:
        thing = handle.open_channel() if call.owner is Channel else events

        async def one(step: int) -> None:
            del step
            assert await call(thing) is thing

        async def check(step: int, cancelled: bool) -> None:
            del step
            assert not cancelled

        await at_every_step(one, check)


@of("Handle.events")
async def listening(call: Spied) -> None:
    """Whether it was left by its end or not, it has ended, and the handle goes on."""
    async with open_alone() as (handle, link):

        async def one(step: int) -> None:
            async with call(handle) as events:
                listeners.append(events)
                link.enabled = step % 2 == 0
                await events.receive()

        async def check(step: int, cancelled: bool) -> None:
            del step, cancelled
            for events in listeners:
                # What had come before can be taken still.
                with pytest.raises(trio.EndOfChannel):
                    while True:
                        await events.receive()
            listeners.clear()

        link.enabled = False
        listeners: list[trio.abc.ReceiveChannel[object]] = []
        assert await at_every_step(one, check) > 1


@of("open_handle")
async def opening_a_handle(call: Spied) -> None:
    """Nothing is left of it, whatever it was about."""

    async def one(step: int) -> None:
        del step
        async with call(1, crypto=CryptoConfig(key=KEY)) as handle, handle.events():
            me = handle.add_host(1)
            await me.add_link(0, (LOCALHOST, 0), transport="loopback")
            host = handle.add_host(2)
            await host.add_link(0, (LOCALHOST, 0), NOWHERE, ping_interval=0.001)
            channel = handle.open_channel(0)
            handle.add_datafd(channel=1)
            await channel.send(b"x")
            await channel.receive()
            await handle.set_forwarding(False)
            await host.remove()

    async def check(step: int, cancelled: bool) -> None:
        del step, cancelled
        assert (open_fds(), living_tasks()) == before

    before = (open_fds(), living_tasks())
    assert await at_every_step(one, check) > 10


async def test_two_handles_can_be_cancelled_at_every_step_of_their_lives() -> None:
    async def live(step: int) -> None:
        del step
        async with open_pair() as pair:
            receiver = pair.b.open_channel(0)
            await pair.a.open_channel(0).send(b"x")
            await receiver.receive()
            await pair.a.set_forwarding(False)

    async def check(step: int, cancelled: bool) -> None:
        del step, cancelled
        assert (open_fds(), living_tasks()) == before

    before = (open_fds(), living_tasks())
    assert await at_every_step(live, check) > 10


@of("open_network")
async def opening_a_network(call: Spied) -> None:
    """Afterwards links are bound to real sockets again."""

    async def one(step: int) -> None:
        async with call(step), open_handle(1) as handle:
            await handle.add_host(2).add_link(0, ("10.0.0.1", 5405), ("10.0.0.2", 5405))
            # There, no such socket is made.
            assert len(open_fds()) == len(fds)

    async def check(step: int, cancelled: bool) -> None:
        del step, cancelled
        assert open_fds() == fds
        async with open_handle(1) as handle:
            await handle.add_host(2).add_link(0, (LOCALHOST, 0), NOWHERE)
            assert len(open_fds()) == len(fds) + 1

    fds = open_fds()
    assert await at_every_step(one, check) > 4


# A call that happened was a checkpoint too.


async def test_every_call_that_can_be_awaited_is_a_checkpoint() -> None:
    async with open_pair() as pair:
        sender = pair.a.open_channel(0)
        host = pair.a.get_host(2)
        link = host.links[0]
        calls: list[Call] = [
            lambda: sender.send_sync(b"x", to=[2]),
            host.wait_reachable,
            link.wait_connected,
            lambda: pair.a.set_forwarding(True),
            lambda: pair.a.set_forwarding(False),
            lambda: host.add_link(5, (LOCALHOST, 0), NOWHERE),
            lambda: host.links[5].remove(),
            host.remove,
            sender.aclose,
        ]
        for call in calls:
            with assert_checkpoints():
                await call()


def of_messages(sender: Channel, receiver: Channel) -> list[Call]:
    """Calls that need not wait."""
    return [
        lambda: sender.send(b"x"),
        lambda: sender.send_many([b"x"]),
        lambda: sender.send_many([]),
        receiver.receive,
        receiver.receive_many,
        receiver.__anext__,
    ]


@pytest.mark.parametrize("index", range(6))
async def test_calls_that_need_not_wait_look_for_cancellation(index: int) -> None:
    async with open_pair() as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        await sender.send_many([b"1", b"2"])
        await wait_for(lambda: arrived(pair) == 2)
        with trio.CancelScope() as scope:
            scope.cancel()
            await of_messages(sender, receiver)[index]()
        assert scope.cancelled_caught
        # Nothing was sent, and nothing taken.
        assert sent(pair) == 2
        assert [message.data for message in await receiver.receive_many()] == [b"1", b"2"]


async def test_calls_that_need_not_wait_let_others_run_now_and_then() -> None:
    async with open_pair() as pair, trio.open_nursery() as nursery:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0, receive_buffer=100_000)
        rounds = 0

        async def count() -> None:
            nonlocal rounds
            while True:
                await trio.lowlevel.checkpoint()
                rounds += 1

        nursery.start_soon(count)
        for _ in range(2000):
            await sender.send(bytes(1000))
        assert rounds > 10
        # On a machine with no time, some may take another way.
        await wait_for(lambda: arrived(pair) >= 1000)
        rounds = 0
        for _ in range(1000):
            await receiver.receive()
        assert rounds > 0
        nursery.cancel_scope.cancel()


class Moments(trio.abc.Instrument):
    """Counts how often the loop went on to another task."""

    def __init__(self) -> None:
        self.steps = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1


async def test_receiving_what_is_there_looks_for_cancellation_and_lets_nobody_run() -> None:
    with counted_turns():
        async with open_pair() as pair:
            sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
            await sender.send_many([b"1", b"2", b"3", b"4", b"5"])
            await wait_for(lambda: arrived(pair) == 5)
            with trio.CancelScope() as scope:
                scope.cancel()
                await receiver.receive()
            with trio.CancelScope() as scope_of_many:
                scope_of_many.cancel()
                await receiver.receive_many()
            assert scope.cancelled_caught
            assert scope_of_many.cancelled_caught
            # A turn begins, and goes on for 32 looks at the clock.
            await pair.b._context.turns.give_up()  # pyright: ignore[reportPrivateUsage]
            moments = Moments()
            trio.lowlevel.add_instrument(moments)
            try:
                taken = [await receiver.receive(), *await receiver.receive_many(3)]
            finally:
                trio.lowlevel.remove_instrument(moments)
            assert [message.data for message in taken] == [b"1", b"2", b"3", b"4"]
            assert moments.steps == 0
            async for message in receiver:
                assert message.data == b"5"
                break


@pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is not signal.default_int_handler,
    reason="interrupts are ignored here",
)
def test_an_interrupt_ends_a_loop_that_receives_what_is_there() -> None:
    async def main() -> None:
        async with open_pair() as pair:
            sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
            await sender.send_many([b"x"] * 50)
            await wait_for(lambda: arrived(pair) == 50)
            count = 0
            async for _ in receiver:
                count += 1
                if count == 10:
                    signal.raise_signal(signal.SIGINT)
                assert count <= 10

    with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)) as caught:
        trio.run(main)
    assert kinds(caught.value) == [KeyboardInterrupt]
