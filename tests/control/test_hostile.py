"""A client that does what it likes harms neither the handle nor other clients."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio import open_handle
from knet_trio.control import ControlRequestError, connect_control, serve_control
from knet_trio.control.codec import Json
from knet_trio.control.protocol import MAX_AT_ONCE, MAX_CLIENTS, MAX_REQUEST, STUCK
from tests.cluster import LOCALHOST, wait_for
from tests.control.serving import RawClient, Served, open_raw, open_served


async def is_served(served: Served) -> None:
    """Another client gets its answers."""
    async with connect_control(served.path) as client:
        assert (await client.status()).host_id == 1
        assert await client.explain() == served.handle.explain()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff\xfe",
        b"GET / HTTP/1.1",
        b"[" * 60000,
        b'{"id": 1, "method": ["status"]}',
        b'{"id": NaN, "method": "status"}',
        b"9" * 60000,
        b"\xed\xa0\x80",
    ],
    ids=lambda garbage: repr(garbage[:20]),
)
async def test_garbage_is_answered_once_and_the_connection_ends(
    tmp_path: Path, garbage: bytes
) -> None:
    async with open_served(tmp_path) as served, open_raw(served.path) as client:
        answer = await client.ask(garbage)
        assert answer["id"] is None
        assert answer["error"]["code"] == "bad_line"
        assert await client.receive() is None
        await is_served(served)


async def test_an_endless_line_ends_the_connection(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served, open_raw(served.path) as client:
        sent = 0
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await client.stream.send_all(b"x" * 1024)
                sent += 1024
        # Not more is taken than a line may have, and what fits into the socket.
        assert sent < MAX_REQUEST + 1_000_000
        assert (await client.receive())["error"]["code"] == "line_too_long"
        await is_served(served)


async def test_a_line_may_be_as_long_as_the_documentation_says(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served, open_raw(served.path) as client:
        request = json.dumps({"id": 1, "method": "explain"}).encode()
        padded = request[:-1] + b" " * (MAX_REQUEST - 1 - len(request)) + b"}"
        assert (await client.ask(padded))["id"] == 1
        assert (await client.ask(padded + b" "))["error"]["code"] == "line_too_long"


async def test_lines_that_are_cut_off_are_nothing(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        async with open_raw(served.path) as client:
            await client.stream.send_all(b'{"id": 1, "method": "set"')
        async with open_raw(served.path, greeted=False):
            pass
        await is_served(served)


async def test_thousands_of_requests_at_once_are_answered_a_few_at_a_time(tmp_path: Path) -> None:
    at_once: list[int] = []
    running = 0

    async def reload(parameters: dict[str, object]) -> Json:
        nonlocal running
        running += 1
        at_once.append(running)
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        running -= 1
        return None

    async with open_served(tmp_path, reload=reload) as served, open_raw(served.path) as client:
        line = json.dumps({"id": 1, "method": "reload"}).encode() + b"\n"

        async def flood() -> None:
            await client.stream.send_all(line * 5000)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            nursery.start_soon(is_served, served)
            for _ in range(5000):
                assert await client.receive() == {"id": 1, "result": None}
        assert max(at_once) <= MAX_AT_ONCE


@asynccontextmanager
async def open_deaf(path: Path) -> AsyncGenerator[RawClient]:
    """A client that asks for more than its socket holds, and reads nothing."""
    async with open_raw(path) as client:
        line = json.dumps({"id": 1, "method": "statistics"}).encode() + b"\n"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_for_ever, client, line)
            # Nobody gets on any more: neither does the other side send, nor does it read.
            await wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
        yield client


async def ask_for_ever(client: RawClient, line: bytes) -> None:
    while True:
        await client.stream.send_all(line)


async def test_a_client_that_does_not_read_is_not_read_from(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served, open_deaf(served.path) as deaf:
        tasks = trio.lowlevel.current_statistics().tasks_living
        with trio.move_on_after(0.05) as scope:
            await deaf.stream.send_all(b"\n" * 1_000_000)
        assert scope.cancelled_caught
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        await is_served(served)
        # It gets what it asked for when it reads.
        for _ in range(20):
            assert (await deaf.receive())["id"] == 1


async def test_a_status_is_made_as_it_is_read(tmp_path: Path) -> None:
    """What a deaf client holds of a large answer is a piece."""
    path = tmp_path / "a.sock"
    async with open_handle(1) as handle, serve_control(handle, path), open_raw(path) as client:
        for host_id in range(2, 902):
            host = handle.add_host(host_id)
            await host.add_link(0, (LOCALHOST, 0), (LOCALHOST, 1), enabled=False)
        await client.send({"id": 1, "method": "status"})
        await wait_all_tasks_blocked(0.01)
        # What has not been read yet is not there yet: it tells of what happens now.
        handle.hosts[901].name = "renamed since"
        await handle.hosts[900].remove()
        hosts = (await client.receive())["result"]["hosts"]
        assert [host["host_id"] for host in hosts] == [*range(2, 900), 901]
        assert hosts[-1]["name"] == "renamed since"


async def test_as_many_clients_as_there_may_be(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served, AsyncExitStack() as stack:
        for _ in range(MAX_CLIENTS):
            await stack.enter_async_context(open_raw(served.path))
        with pytest.raises(ControlRequestError, match="64 clients are connected") as caught:
            async with connect_control(served.path):
                pytest.fail("it was let in")
        assert caught.value.code == "too_many_clients"
        await stack.aclose()
        await wait_all_tasks_blocked(0.01)
        await is_served(served)


async def test_one_that_has_not_read_for_long_makes_room(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_served(tmp_path) as served, AsyncExitStack() as stack:
        deaf = await stack.enter_async_context(open_deaf(served.path))
        others = [
            await stack.enter_async_context(open_raw(served.path)) for _ in range(MAX_CLIENTS - 1)
        ]
        await trio.sleep(STUCK)
        await is_served(served)
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await deaf.stream.send_all(b"\n" * 1000)
        # Those that have nothing to read are left alone.
        for other in others:
            assert (await other.ask({"id": 1, "method": "explain"}))["id"] == 1


@pytest.mark.parametrize("says_so", [True, False])
async def test_one_that_hangs_up_is_not_answered_any_more(tmp_path: Path, says_so: bool) -> None:
    """Whoever only sends nothing more is (``test_server``), and looks the same at first."""
    async with open_served(tmp_path) as served:
        await is_served(served)
        await wait_all_tasks_blocked(0.01)
        before = trio.lowlevel.current_statistics().tasks_living
        async with open_raw(served.path) as client:
            ping = {"host": 1, "count": 1000, "interval": 3600}
            await client.send({"id": 1, "method": "ping", "params": ping})
            if says_so:
                await client.stream.send_eof()
            await wait_all_tasks_blocked(0.01)
            assert trio.lowlevel.current_statistics().tasks_living > before
        await wait_for(lambda: trio.lowlevel.current_statistics().tasks_living == before)
        await is_served(served)


async def test_clients_that_come_and_go_leave_nothing_behind(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        await is_served(served)
        await wait_all_tasks_blocked(0.01)
        before = trio.lowlevel.current_statistics().tasks_living
        for number in range(200):
            async with open_raw(served.path, greeted=number % 2 == 0) as client:
                await client.send({"id": 1, "method": "events"}, {"id": 2, "method": "status"})
        served.link.enabled = False
        await wait_all_tasks_blocked(0.01)
        assert trio.lowlevel.current_statistics().tasks_living == before
        await is_served(served)
