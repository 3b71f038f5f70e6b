"""Calls from elsewhere than the Trio program of the handle: asyncio, another thread, no loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, cast

import attrs
import pytest
import trio

from knet_trio import (
    AclEntry,
    Channel,
    Handle,
    Host,
    KnetError,
    Link,
    LinkPolicy,
    OutsideTrioError,
    open_handle,
)
from tests.cluster import LOCALHOST, open_pair, receive


async def enter() -> None:
    async with open_handle(1):
        pass


def test_under_asyncio_no_handle_opens() -> None:
    with pytest.raises(OutsideTrioError, match=r"trio\.run \(not asyncio\.run\)") as caught:
        asyncio.run(enter())
    assert isinstance(caught.value, KnetError)
    assert isinstance(caught.value, RuntimeError)


def test_without_an_event_loop_no_handle_opens() -> None:
    coroutine = enter()
    with pytest.raises(OutsideTrioError, match=r"trio\.run"):
        coroutine.send(None)
    coroutine.close()


@attrs.frozen
class Place:
    """What is called from another thread."""

    handle: Handle
    host: Host
    link: Link
    channel: Channel


async def iterate(channel: Channel) -> None:
    async for _ in channel:
        pass


async def look(handle: Handle) -> None:
    async with handle.events():
        pass


CALLS: Final[dict[str, Callable[[Place], object]]] = {
    "add_host": lambda at: at.handle.add_host(3),
    "open_channel": lambda at: at.handle.open_channel(3),
    "add_datafd": lambda at: at.handle.add_datafd(),
    "set_filter": lambda at: at.handle.set_filter(None),
    "mtu": lambda at: setattr(at.handle, "mtu", 1500),
    "set_crypto": lambda at: at.handle.set_crypto(None),
    "set_compress": lambda at: at.handle.set_compress(None),
    "set_forwarding": lambda at: at.handle.set_forwarding(False),
    "events": lambda at: look(at.handle),
    "name": lambda at: setattr(at.host, "name", "beta"),
    "policy": lambda at: setattr(at.host, "policy", LinkPolicy.ACTIVE),
    "add_link": lambda at: at.host.add_link(1, (LOCALHOST, 0), (LOCALHOST, 5405)),
    "remove_link": lambda at: at.host.remove_link(0),
    "remove": lambda at: at.host.remove(),
    "wait_reachable": lambda at: at.host.wait_reachable(),
    "wait_unreachable": lambda at: at.host.wait_unreachable(),
    "enabled": lambda at: setattr(at.link, "enabled", False),
    "priority": lambda at: setattr(at.link, "priority", 3),
    "set_ping_timers": lambda at: at.link.set_ping_timers(1, 2, 3),
    "wait_connected": lambda at: at.link.wait_connected(),
    "wait_disconnected": lambda at: at.link.wait_disconnected(),
    "remove of a link": lambda at: at.link.remove(),
    "explain": lambda at: at.handle.explain(),
    "append": lambda at: at.link.acl.append(AclEntry.address("10.0.0.1")),
    "insert": lambda at: at.link.acl.insert(0, AclEntry.address("10.0.0.1")),
    "remove of an entry": lambda at: at.link.acl.remove(next(iter(at.link.acl))),
    "clear": lambda at: at.link.acl.clear(),
    "send": lambda at: at.channel.send(b"x"),
    "send_nowait": lambda at: at.channel.send_nowait(b"x"),
    "send_many": lambda at: at.channel.send_many([b"x"]),
    "send_sync": lambda at: at.channel.send_sync(b"x", to=2),
    "receive": lambda at: at.channel.receive(),
    "receive_nowait": lambda at: at.channel.receive_nowait(),
    "receive_many": lambda at: at.channel.receive_many(),
    "async for": lambda at: iterate(at.channel),
    "close": lambda at: at.channel.close(),
    "aclose": lambda at: at.channel.aclose(),
}


def call_outside(call: Callable[[Place], object], place: Place) -> None:
    answer = call(place)
    if isinstance(answer, Coroutine):
        asyncio.run(cast("Coroutine[Any, Any, object]", answer))


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_from_another_thread_says_how_it_is_done(name: str) -> None:
    async with open_pair() as pair:
        host = pair.a.get_host(2)
        receiver, channel = pair.b.open_channel(0), pair.a.open_channel(0)
        place = Place(pair.a, host, host.links[0], channel)
        with pytest.raises(OutsideTrioError, match=r"trio\.from_thread\.run_sync"):
            await trio.to_thread.run_sync(call_outside, CALLS[name], place)
        # Nothing has changed, and all goes on.
        assert list(pair.a.hosts) == [2]
        assert list(host.links) == [0]
        assert pair.a.forwarding
        assert host.links[0].enabled
        assert list(host.links[0].acl) == [AclEntry.address(LOCALHOST)]
        await channel.send(b"afterwards")
        assert await receive(receiver, 1) == [b"afterwards"]


async def test_the_way_that_it_names_works() -> None:
    async with open_pair() as pair:
        receiver, channel = pair.b.open_channel(0), pair.a.open_channel(0)

        def work() -> None:
            trio.from_thread.run_sync(channel.send_nowait, b"sync")
            trio.from_thread.run(channel.send, b"async")
            trio.from_thread.run_sync(pair.a.add_host, 3)

        await trio.to_thread.run_sync(work)
        assert await receive(receiver, 2) == [b"sync", b"async"]
        assert list(pair.a.hosts) == [2, 3]


@pytest.mark.parametrize("name", CALLS)
async def test_another_trio_program_is_elsewhere_too(name: str) -> None:
    """Its own functions work there, so nothing but the handle can refuse."""

    async def other(place: Place) -> None:
        answer = CALLS[name](place)
        if isinstance(answer, Coroutine):
            await cast("Coroutine[Any, Any, object]", answer)

    async with open_pair() as pair:
        host = pair.a.get_host(2)
        receiver, channel = pair.b.open_channel(0), pair.a.open_channel(0)
        place = Place(pair.a, host, host.links[0], channel)
        with pytest.raises(OutsideTrioError):
            await trio.to_thread.run_sync(trio.run, other, place)
        await channel.send(b"afterwards")
        assert await receive(receiver, 1) == [b"afterwards"]
