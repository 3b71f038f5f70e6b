from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio.control import (
    ControlProtocolError,
    ControlSocketError,
    connect_control,
)
from knet_trio.control.codec import Json
from tests.cluster import PATIENCE
from tests.control.serving import RawClient, open_client, open_served

HELLO = {"knet_trio_control": 1, "package": "9", "host_id": 5, "pid": 1, "methods": ["status"]}

Script = Callable[[RawClient], Awaitable[None]]


@asynccontextmanager
async def open_liar(path: Path, script: Script) -> AsyncGenerator[None]:
    """A server that says what the test wants."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await script(RawClient(stream))

    with trio.socket.socket(socket.AF_UNIX) as sock:
        await sock.bind(str(path))
        sock.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(sock)])
            with trio.fail_after(PATIENCE):
                yield
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "there is no such socket: check that the program runs"),
        ("stale", "no program listens there: the one that made the socket has ended"),
        ("x" * 200, "too many for a socket"),
        (".", "it is not a socket"),
    ],
    ids=["missing", "stale", "long", "directory"],
)
async def test_nobody_to_talk_to(tmp_path: Path, kind: str, said: str) -> None:
    if kind == "stale":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(tmp_path / kind))
    with pytest.raises(ControlSocketError, match=said):
        async with connect_control(tmp_path / kind):
            pytest.fail("it was connected")


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ({**HELLO, "knet_trio_control": 2}, "speaks version 2 of the control protocol"),
        ({"hello": "you"}, "speaks no version of"),
        ([], "speaks no version of"),
        (b"220 mail", "does not speak the control protocol"),
        ({"knet_trio_control": 1}, "package is missing"),
    ],
    ids=str,
)
async def test_somebody_else_altogether(tmp_path: Path, first: object, said: str) -> None:
    async def script(server: RawClient) -> None:
        await server.send(first)

    async with open_liar(tmp_path / "a", script):
        with pytest.raises(ControlProtocolError, match=said):
            async with connect_control(tmp_path / "a"):
                pytest.fail("it was connected")


async def test_somebody_who_says_nothing(tmp_path: Path) -> None:
    async def script(server: RawClient) -> None:
        await trio.lowlevel.checkpoint()

    async with open_liar(tmp_path / "a", script):
        with pytest.raises(ControlSocketError, match="closed the connection at once"):
            async with connect_control(tmp_path / "a"):
                pytest.fail("it was connected")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"nonsense", "sent invalid JSON"),
        (b"[]", "not a JSON object"),
        (b'{"event": "link"}', "sent an invalid LinkEvent: time is missing"),
        (b'{"id": null, "error": {"code": "x", "message": "because"}}', "because"),
        (None, "the program has closed the connection"),
    ],
    ids=str,
)
async def test_whoever_waits_is_told_how_the_connection_was_lost(
    tmp_path: Path, line: bytes | None, said: str
) -> None:
    async def script(server: RawClient) -> None:
        await server.send(HELLO)
        for _ in range(3):
            await server.receive()
        if line is not None:
            await server.send(line)

    messages: list[str] = []

    async def expect(call: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(trio.BrokenResourceError, match=said) as caught:
            await call()
        messages.append(str(caught.value))

    async with open_liar(tmp_path / "a", script), connect_control(tmp_path / "a") as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, client.status)
            nursery.start_soon(expect, client.explain)
            nursery.start_soon(expect, lambda: client.request("later"))
        await expect(client.status)
        await expect(lambda: client.ping(1))
    assert len(messages) == 5


async def test_events_end_with_the_program(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        ended = trio.Event()

        async def listen(path: Path, task_status: trio.TaskStatus[None]) -> None:
            async with connect_control(path) as client, client.events() as events:
                task_status.started()
                with pytest.raises(trio.BrokenResourceError, match="closed the connection"):
                    async for _ in events:
                        pytest.fail("nothing happens")
            ended.set()

        async with open_served(tmp_path) as served:
            await nursery.start(listen, served.path)
        with trio.fail_after(PATIENCE):
            await ended.wait()


async def test_what_the_client_does_not_know_is_ignored(tmp_path: Path) -> None:
    async def script(server: RawClient) -> None:
        await server.send({**HELLO, "later": [1]})
        request = await server.receive()
        await server.send(
            {"event": "later", "x": 1},
            {"id": 99, "result": 0},
            {"id": request["id"], "result": {"text": "so", "later": 1}, "later": 1},
        )
        await server.receive()

    async with open_liar(tmp_path / "a", script), connect_control(tmp_path / "a") as client:
        assert client.hello.host_id == 5
        assert await client.explain() == "so"


async def test_an_answer_of_another_kind_is_an_error(tmp_path: Path) -> None:
    async def script(server: RawClient) -> None:
        await server.send(HELLO)
        request = await server.receive()
        await server.send({"id": request["id"], "result": {"txt": "so"}})
        await server.receive()

    async with open_liar(tmp_path / "a", script), connect_control(tmp_path / "a") as client:
        with pytest.raises(ControlProtocolError, match="an invalid Explanation: text is missing"):
            await client.explain()


async def test_many_tasks_may_ask_at_once_and_get_their_own_answers(tmp_path: Path) -> None:
    async def rekey(parameters: dict[str, Json]) -> Json:
        # The later ones first.
        for _ in range(10 - int(str(parameters["n"])) % 10):
            await trio.lowlevel.checkpoint()
        return parameters["n"]

    async with open_client(tmp_path, rekey=rekey) as (_, client):
        answers: dict[int, Json] = {}

        async def ask(number: int) -> None:
            answers[number] = await client.rekey(n=number)

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(ask, number)
        assert answers == {number: number for number in range(100)}


async def test_a_call_that_is_cancelled_leaves_the_others_alone(tmp_path: Path) -> None:
    async def rekey(parameters: dict[str, Json]) -> Json:
        await trio.sleep_forever()

    async with open_client(tmp_path, rekey=rekey) as (_, client):
        for _ in range(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.rekey)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        assert (await client.status()).host_id == 1


async def test_cancelled_at_any_moment_a_line_goes_out_whole(tmp_path: Path) -> None:
    lines: list[dict[str, object]] = []

    async def script(server: RawClient) -> None:
        await server.send(HELLO)
        while (line := await server.receive()) is not None:
            lines.append(line)

    async with open_liar(tmp_path / "a", script), connect_control(tmp_path / "a") as client:
        for size in range(0, 60_000, 2_000):
            with trio.move_on_after(0):
                await client.set("name", "x" * size)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.set, "name", "y" * size)
                    await trio.lowlevel.checkpoint()
                    scope.cancel()
        await wait_all_tasks_blocked(0.01)
    assert lines
    assert all(line["method"] == "set" for line in lines)
