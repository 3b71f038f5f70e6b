"""The number of function calls of a message there and back, all in one process."""

from __future__ import annotations

import cProfile
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Final

import trio

import knet_trio
from knet_trio import Channel, CryptoConfig, Host, Link, open_handle
from knet_trio.cli.bench.peer.commands import Answer, Arguments
from knet_trio.cli.bench.peer.handles import read_crypto

Trip = Callable[[], Awaitable[object]]

_TRIPS: Final = 500
_WARM_UP: Final = 100
_SIZE: Final = 64
_HERE: Final = "127.0.0.1"
# Seconds until the path MTU is known and only heartbeats are sent.
_SETTLE: Final = 1.0
_QUEUE: Final = 64
_DATAGRAM: Final = 65536


async def count_ours(arguments: Arguments) -> Answer:
    """Carry out ``calls`` for knet_trio's peer."""
    async with _two_hosts(read_crypto(arguments)) as (out, back):

        async def trip() -> None:
            await out.send(bytes(_SIZE))
            await back.send((await back.receive()).data)
            await out.receive()

        return await _count(trip)


async def count_bare(arguments: Arguments) -> Answer:
    """Carry out ``calls`` for bare Trio's peer: the fewest calls of a protocol of this shape.

    Two plain UDP sockets, each with a task that receives, a queue to the task that waits for
    messages, and a checkpoint for each send.
    """
    with _open_socket() as out, _open_socket() as back:
        async with trio.open_nursery() as nursery:
            arrived_out, arrived_back = (trio.open_memory_channel[bytes](_QUEUE) for _ in range(2))
            nursery.start_soon(_receive, out, arrived_out[0])
            nursery.start_soon(_receive, back, arrived_back[0])
            to_out, to_back = out.getsockname(), back.getsockname()

            async def trip() -> None:
                await trio.lowlevel.checkpoint()
                out.sendto(bytes(_SIZE), to_back)
                data = await arrived_back[1].receive()
                await trio.lowlevel.checkpoint()
                back.sendto(data, to_out)
                await arrived_out[1].receive()

            answer = await _count(trip)
            nursery.cancel_scope.cancel()
    return answer


@asynccontextmanager
async def _two_hosts(crypto: CryptoConfig | None) -> AsyncGenerator[tuple[Channel, Channel]]:
    async with open_handle(1, crypto=crypto) as one, open_handle(2, crypto=crypto) as two:
        first, second = one.add_host(2), two.add_host(1)
        with _open_socket() as free:
            port = free.getsockname()[1]
        link = await _link(first, 0, (_HERE, port))
        await _link(second, port, link.config.src)
        await first.wait_reachable()
        await second.wait_reachable()
        await trio.sleep(_SETTLE)
        yield one.open_channel(0), two.open_channel(0)


async def _link(host: Host, port: int, there: tuple[str, int]) -> Link:
    # With long intervals, a ping is rarely counted.
    return await host.add_link(
        0, (_HERE, port), there, ping_interval=5.0, pong_timeout=20.0, pong_count=1
    )


async def _count(trip: Trip) -> Answer:
    profile = cProfile.Profile()
    used = 0.0

    async def count() -> None:
        nonlocal used
        for _ in range(_WARM_UP):
            await trip()
        profile.enable()
        for _ in range(_TRIPS):
            await trip()
        profile.disable()
        before = time.process_time()
        for _ in range(_TRIPS):
            await trip()
        used = time.process_time() - before

    # In a task of its own: each resumption counts as a call of all coroutines that await it.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
    calls: dict[str, int] = {}
    for entry in profile.getstats():
        # A function written in C has only a name.
        file = "" if isinstance(entry.code, str) else entry.code.co_filename
        calls[file] = calls.get(file, 0) + entry.callcount
    return {
        "calls": sum(calls.values()) / _TRIPS,
        "own": _sum(calls, knet_trio) / _TRIPS,
        "trio": _sum(calls, trio) / _TRIPS,
        "cpu": used / _TRIPS,
    }


def _sum(calls: Mapping[str, int], package: ModuleType) -> int:
    # The whole path, because a folder above may have the name of a package.
    folders = tuple(f"{folder}/" for folder in package.__path__)
    # The calls of this module itself do not count.
    return sum(
        times for file, times in calls.items() if file.startswith(folders) and file != __file__
    )


def _open_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((_HERE, 0))
    return sock


async def _receive(sock: socket.socket, queue: trio.MemorySendChannel[bytes]) -> None:
    while True:
        await trio.lowlevel.wait_readable(sock)
        data, _ = sock.recvfrom(_DATAGRAM)
        queue.send_nowait(data)
