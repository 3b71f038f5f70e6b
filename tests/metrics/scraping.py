"""A handle whose metrics are served, and what is needed to read them."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http.client import HTTPResponse
from io import BytesIO
from pathlib import Path
from shutil import which
from socket import socket
from typing import cast

import attrs
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from knet_trio import Handle, Link, open_handle
from knet_trio.address import Address
from knet_trio.metrics import serve_metrics
from tests.cluster import LOCALHOST, PATIENCE

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""The values of samples by their names and labels."""


@attrs.frozen
class Scraped:
    """A handle whose metrics are served.

    Attributes:
        handle: Host 1, which has a link to itself: it goes up and down as it is told, and at once.
        address: Where its metrics are.
    """

    handle: Handle
    address: Address

    @property
    def link(self) -> Link:
        """The link of the host to itself."""
        return self.handle.hosts[1].links[0]


@attrs.frozen
class Answer:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body."""
        return self.body.decode()


@asynccontextmanager
async def open_scraped() -> AsyncGenerator[Scraped]:
    async with open_handle(1) as handle:
        await handle.add_host(1, name="me").add_link(0, (LOCALHOST, 0), transport="loopback")
        async with serve_metrics(handle, (LOCALHOST, 0)) as address:
            with trio.fail_after(PATIENCE):
                yield Scraped(handle, address)


async def ask(address: Address, request: bytes) -> Answer:
    """Send a request as it is and read the answer to its end."""
    async with await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(request)
        return await read_answer(stream, request.partition(b" ")[0].decode("latin-1"))


async def read_answer(stream: trio.SocketStream, method: str = "GET") -> Answer:
    return parse_answer(b"".join([part async for part in stream]), method)


async def get(
    address: Address, *headers: str, method: str = "GET", path: str = "/metrics"
) -> Answer:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address}", *headers, "", ""]
    return await ask(address, "\r\n".join(lines).encode())


class _Socket:
    """As much of a socket as HTTPResponse wants."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> BytesIO:
        """The answer."""
        assert mode == "rb"
        return BytesIO(self._data)


def parse_answer(data: bytes, method: str) -> Answer:
    response = HTTPResponse(cast(socket, _Socket(data)), method=method)
    response.begin()
    with response:
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())


def samples(text: str) -> Samples:
    """All samples of a classic text."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float:
    """The value of one sample, by all its labels."""
    return samples(text)[name, frozenset(labels.items())]


def find_tool(name: str) -> str:
    """The path of a program of Debian's package prometheus; skip the test if it is not there."""
    found = which(name)
    if found is None:
        pytest.skip(f"{name} is not there: apt-get install --no-install-recommends prometheus")
    return found


def promtool(*arguments: str | Path, text: bytes = b"") -> None:
    """Run promtool and have it find nothing wrong: it complains on either output, and by status."""
    command = [find_tool("promtool"), *map(str, arguments)]
    done = subprocess.run(command, input=text, capture_output=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, ""), done.stdout.decode()
