"""A handle that is served, for tests that look into it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from knet_trio import Handle, Link, open_handle
from knet_trio.control import ControlClient, connect_control, serve_control
from knet_trio.control.lines import LineReader
from tests.cluster import LOCALHOST, PATIENCE


@attrs.frozen
class Served:
    """A handle that is served.

    Attributes:
        handle: Host 1, which has a link to itself: it goes up and down as it is told, and at once.
        path: The socket.
    """

    handle: Handle
    path: Path

    @property
    def link(self) -> Link:
        """The link of the host to itself."""
        return self.handle.hosts[1].links[0]


@asynccontextmanager
async def open_served(directory: Path, **options: Any) -> AsyncGenerator[Served]:
    """Serve a handle. ``options`` are those of ``serve_control``."""
    path = directory / "node.sock"
    async with open_handle(1) as handle:
        await handle.add_host(1, name="me").add_link(0, (LOCALHOST, 0), transport="loopback")
        async with serve_control(handle, path, **options):
            with trio.fail_after(PATIENCE):
                yield Served(handle, path)


@asynccontextmanager
async def open_client(
    directory: Path, **options: Any
) -> AsyncGenerator[tuple[Served, ControlClient]]:
    """Serve a handle, and connect to it."""
    async with open_served(directory, **options) as served, connect_control(served.path) as client:
        yield served, client


class RawClient:
    """A connection on which a test sends what it likes."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._reader = LineReader(stream, 1 << 24)

    async def send(self, *lines: object) -> None:
        """Send lines: bytes as they are, other values as JSON."""
        for line in lines:
            data = line if isinstance(line, bytes) else json.dumps(line).encode()
            await self.stream.send_all(data + b"\n")

    async def receive(self) -> Any:
        """The next line, None at the end."""
        line = await self._reader.read()
        return None if line is None else json.loads(line)

    async def ask(self, line: object) -> Any:
        """Send a line and return the next one."""
        await self.send(line)
        return await self.receive()


@asynccontextmanager
async def open_raw(path: Path, *, greeted: bool = True) -> AsyncGenerator[RawClient]:
    """Connect, and read the hello line."""
    async with await trio.open_unix_socket(str(path)) as stream:
        client = RawClient(stream)
        if greeted:
            hello = await client.receive()
            assert hello["knet_trio_control"] == 1
        yield client
