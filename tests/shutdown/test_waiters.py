"""Whoever waits for something of a handle, outside of its block, is told that it has ended."""

from __future__ import annotations

import lzma
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio import Channel, CompressConfig, DropCause, HostDownError, open_handle
from knet_trio._state.workers import threads_at_work
from tests.cancelling import nothing_left
from tests.cluster import LOCALHOST, PATIENCE, Pair, open_pair, wait_for
from tests.drops import counted
from tests.shutdown.ways import (
    LARGE,
    SLOW,
    Leave,
    by_its_end,
    every_way,
    fill,
    left_by,
    open_far_pair,
)

CLOSED: Final = trio.ClosedResourceError


class Waiters:
    """Tasks outside of the block, each with what came of its wait."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.outcomes: dict[str, object] = {}

    def start(self, name: str, call: Callable[[], Awaitable[object]]) -> None:
        """Have a task wait for ``call()``."""
        self._nursery.start_soon(self._wait, name, call)

    async def _wait(self, name: str, call: Callable[[], Awaitable[object]]) -> None:
        try:
            await call()
        except (trio.ClosedResourceError, trio.EndOfChannel, HostDownError) as error:
            self.outcomes[name] = type(error)
        else:
            self.outcomes[name] = "returned"

    def when(self, name: str, action: Callable[[], None]) -> None:
        """Do that as soon as the task of that name has been told."""

        async def act() -> None:
            await wait_for(lambda: name in self.outcomes)
            action()

        self._nursery.start_soon(act)


@asynccontextmanager
async def open_waiters() -> AsyncGenerator[Waiters]:
    """At the end of the block, all of them have to have been told."""
    with nothing_left(), trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            yield Waiters(nursery)


async def exhaust(items: trio.abc.ReceiveChannel[object]) -> None:
    async for _ in items:
        pass


@every_way
async def test_what_comes_in_and_what_changes(leave: Leave) -> None:
    async with (
        open_waiters() as waiters,
        left_by(leave) as scope,
        open_handle(1) as handle,
        handle.events() as events,
    ):
        channel = handle.open_channel(0)
        other = handle.open_channel(1)
        host = handle.add_host(2)
        link = await host.add_link(0, (LOCALHOST, 0), (LOCALHOST, 1))
        me = handle.add_host(1)
        own = await me.add_link(0, (LOCALHOST, 0), transport="loopback")
        datafd = handle.add_datafd()
        assert (await events.receive()) is not None
        assert (await events.receive()) is not None
        waiters.start("receive", channel.receive)
        waiters.start("receive_many", channel.receive_many)
        waiters.start("messages", lambda: exhaust(other))
        waiters.start("event", events.receive)
        waiters.start("events", lambda: exhaust(events))
        waiters.start("reachable", host.wait_reachable)
        waiters.start("connected", link.wait_connected)
        waiters.start("unreachable", me.wait_unreachable)
        waiters.start("disconnected", own.wait_disconnected)
        waiters.start("data fd", partial(trio.lowlevel.wait_readable, datafd.fd))
        await wait_all_tasks_blocked()
        await leave(scope)
    assert waiters.outcomes == {
        "receive": trio.EndOfChannel,
        "receive_many": trio.EndOfChannel,
        "messages": "returned",
        "event": trio.EndOfChannel,
        "events": "returned",
        "reachable": CLOSED,
        "connected": CLOSED,
        "unreachable": CLOSED,
        "disconnected": CLOSED,
        "data fd": CLOSED,
    }


def start_sending(waiters: Waiters, pair: Pair) -> Channel:
    channel = pair.a.open_channel(1)
    waiters.start("send", lambda: channel.send(b"x"))
    waiters.start("send_many", lambda: channel.send_many([b"x"] * 100))
    waiters.start("set_forwarding", lambda: pair.a.set_forwarding(False))
    return channel


def check_forwarding(waiters: Waiters, pair: Pair) -> None:
    """What has become of a call that stops the forwarding, for which it waits a second at most.

    The end of the block waits as long, and either may be the first.
    """
    outcome = waiters.outcomes.pop("set_forwarding")
    assert (outcome, pair.a.forwarding) in ((CLOSED, True), ("returned", False))


@every_way
async def test_room_for_a_message_behind_a_full_socket(leave: Leave) -> None:
    async with open_waiters() as waiters, left_by(leave) as scope, open_far_pair(SLOW) as pair:
        await fill(pair)
        start_sending(waiters, pair)
        await wait_all_tasks_blocked()
        assert waiters.outcomes == {}
        await leave(scope)
    check_forwarding(waiters, pair)
    # What waits when the forwarding stops is counted, and its senders return.
    ended = {CLOSED, "returned"} if leave is by_its_end else {CLOSED}
    assert set(waiters.outcomes) == {"send", "send_many"}
    assert set(waiters.outcomes.values()) <= ended


@every_way
async def test_a_full_socket_alone(leave: Leave) -> None:
    """What the pipeline has given to a socket waits there."""
    async with open_waiters() as waiters, left_by(leave) as scope, open_far_pair(SLOW) as pair:
        await pair.a.open_channel(0).send(LARGE)
        waiters.start("set_forwarding", lambda: pair.a.set_forwarding(False))
        await wait_all_tasks_blocked()
        assert waiters.outcomes == {}
        await leave(scope)
    check_forwarding(waiters, pair)
    assert waiters.outcomes == {}


@every_way
async def test_a_thread_that_compresses(leave: Leave, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it makes comes when there is no socket any more, and is not sent."""
    go_on = threading.Event()

    def compress(data: bytes, **options: object) -> bytes:
        del options
        assert go_on.wait(PATIENCE)
        return data[:1]

    monkeypatch.setattr(lzma, "compress", compress)
    async with open_waiters() as waiters:
        async with left_by(leave) as scope, open_pair() as pair:
            pair.a.set_compress(CompressConfig("lzma"))
            await fill(pair)
            channel = start_sending(waiters, pair)
            waiters.start("send_sync", lambda: channel.send_sync(LARGE, to=[2]))
            await wait_for(lambda: threads_at_work() == 2)
            assert waiters.outcomes == {}
            # Told when the handle itself ends. Whoever sends may be told earlier.
            waiters.start("receive", channel.receive)
            waiters.when("receive", go_on.set)
            await leave(scope)
        # It is counted: where the handle was cut off, as what could not be sent.
        assert set(counted(pair.a.statistics().drops)) <= {
            DropCause.HOST_DOWN,
            DropCause.FORWARDING_DISABLED,
            DropCause.SEND_FAILED,
        }
        assert counted(pair.a.statistics().drops)
        assert pair.a.get_host(2).links[0].status.stats.tx_data_packets == 0
    check_forwarding(waiters, pair)
    # At its end the other handle ends first, and who waits for its host is told.
    host_is_lost = leave is by_its_end
    # What a send_many has left to hand over then meets the end of the handle, or does not.
    assert waiters.outcomes.pop("send_many") in ({"returned", CLOSED} if host_is_lost else {CLOSED})
    assert waiters.outcomes == {
        "send": "returned" if host_is_lost else CLOSED,
        "send_sync": HostDownError if host_is_lost else CLOSED,
        "receive": trio.EndOfChannel,
    }


async def test_a_handle_that_is_cancelled_and_sent_to_in_a_shield() -> None:
    """Its tasks end before its block does, so nobody takes what is sent."""
    with nothing_left(), trio.fail_after(PATIENCE), trio.CancelScope() as scope:
        async with open_far_pair(SLOW) as pair:
            channel = pair.a.open_channel(1)
            await fill(pair)
            scope.cancel()
            with trio.CancelScope(shield=True), trio.fail_after(PATIENCE):
                calls: list[Callable[[], Awaitable[object]]] = [
                    lambda: channel.send(b"x"),
                    lambda: channel.send_many([b"x"]),
                    lambda: channel.send_sync(b"x", to=[2]),
                    lambda: pair.a.set_forwarding(False),
                ]
                for call in calls:
                    with pytest.raises(trio.ClosedResourceError):
                        await call()
                with pytest.raises(trio.ClosedResourceError):
                    channel.send_nowait(b"x")
    assert scope.cancelled_caught
