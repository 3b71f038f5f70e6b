"""A process that sends a file over a stream, or receives one, and tells what happens.

`python -m tests.network.stream_process '{"host_id": 1, ...}'`, see `Plan`. It writes JSON to
stdout, a line each: links that come and go, how many bytes there are, and what the file was.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import trio

from knet_trio import Handle, LinkPolicy, LinkStatusChanged, open_handle
from knet_trio.streams import HostStream, Streams, open_streams

CHANNEL: Final = 4
STEP: Final = 500_000
"""Bytes after which the receiver tells how many there are."""
_PIECE: Final = 100_000


@attrs.frozen
class Plan:
    """What a process is to do.

    `here` and `there` have the addresses of each link. The file has `size` bytes, that follow from
    `seed`; who has none receives it.
    """

    host_id: int
    peer_id: int
    here: list[tuple[str, int]]
    there: list[tuple[str, int]]
    policy: str
    ping_interval: float
    pong_timeout: float
    size: int = 0
    seed: int = 0


def make_file(size: int, seed: int) -> bytes:
    """The bytes of a file."""
    return random.Random(seed).randbytes(size)


def write_line(**facts: Any) -> None:
    """Write a line."""
    print(json.dumps(facts), flush=True)


async def watch(handle: Handle, task_status: trio.TaskStatus[None]) -> None:
    """Tell of links that come and go."""
    async with handle.events() as events:
        task_status.started()
        async for event in events:
            if isinstance(event, LinkStatusChanged):
                write_line(event="link", link=event.link_id, connected=event.connected)


@asynccontextmanager
async def streams_of(plan: Plan) -> AsyncGenerator[Streams]:
    """Streams to the peer, once it can be reached."""
    async with open_handle(plan.host_id) as handle, trio.open_nursery() as nursery:
        await nursery.start(watch, handle)
        host = handle.add_host(plan.peer_id, policy=LinkPolicy(plan.policy))
        for number, (here, there) in enumerate(zip(plan.here, plan.there, strict=True)):
            await host.add_link(
                number,
                here,
                there,
                ping_interval=plan.ping_interval,
                pong_timeout=plan.pong_timeout,
                pong_count=2,
            )
        async with open_streams(handle, channel=CHANNEL) as streams:
            yield streams
        nursery.cancel_scope.cancel()


async def send(plan: Plan, stream: HostStream) -> None:
    """Send the file, and tell what the receiver says of it."""
    data = make_file(plan.size, plan.seed)
    for start in range(0, plan.size, _PIECE):
        await stream.send_all(data[start : start + _PIECE])
    await stream.send_eof()
    answer = b""
    async for part in stream:
        answer += part
    write_line(event="answer", digest=answer.decode())


async def receive(stream: HostStream) -> None:
    """Receive the file, and say what it was."""
    digest, size, reported = hashlib.sha256(), 0, 0
    async for part in stream:
        digest.update(part)
        size += len(part)
        if size // STEP > reported:
            reported = size // STEP
            write_line(event="progress", bytes=size)
    await stream.send_all(digest.hexdigest().encode())
    write_line(event="file", digest=digest.hexdigest(), bytes=size)


async def run(plan: Plan) -> None:
    """Do one or the other."""
    async with streams_of(plan) as streams:
        if plan.size:
            async with await streams.connect(plan.peer_id) as stream:
                await send(plan, stream)
        else:
            async with streams.listener() as listener, await listener.accept() as stream:
                await receive(stream)


if __name__ == "__main__":
    trio.run(run, Plan(**json.loads(sys.argv[1])))
