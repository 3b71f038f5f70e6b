"""How many function calls a message there and back takes, all in one process."""

from __future__ import annotations

import cProfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from knet_trio import Channel, CryptoConfig, Host, Link, open_handle
from knet_trio.cli.bench.peer.commands import Answer, Arguments

Trip = Callable[[], Awaitable[object]]

_TRIPS: Final = 500
_WARM_UP: Final = 100
_SIZE: Final = 64
_HERE: Final = "127.0.0.1"
# Until the path MTU is known, and nothing else goes on.
_SETTLE: Final = 1.0
_QUEUE: Final = 64
_DATAGRAM: Final = 65536


async def count_ours(arguments: Arguments) -> Answer:
    """Command ``calls`` of knet_trio's peer."""
    cipher = arguments.text("cipher")
    key = bytes.fromhex(arguments.text("key"))
    crypto = CryptoConfig(key, cipher, arguments.text("hash")) if cipher else None
    async with _two_hosts(crypto) as (out, back):

        async def trip() -> None:
            await out.send(bytes(_SIZE))
            await back.send((await back.receive()).data)
            await out.receive()

        return await _count(trip, "/knet_trio/")


async def count_bare(arguments: Arguments) -> Answer:
    """Command ``calls`` of bare Trio's peer: the least that a protocol of this shape takes.

    Two UDP sockets, each with a task that receives, a queue to who waits for messages, and a
    checkpoint for each send.
    """
    async with trio.open_nursery() as nursery:
        out, back = await _socket(), await _socket()
        arrived_out, arrived_back = _queue(), _queue()
        nursery.start_soon(_receive, out, arrived_out[0])
        nursery.start_soon(_receive, back, arrived_back[0])
        to_out, to_back = out.getsockname(), back.getsockname()

        async def trip() -> None:
            await out.sendto(bytes(_SIZE), to_back)
            await back.sendto(await arrived_back[1].receive(), to_out)
            await arrived_out[1].receive()

        answer = await _count(trip, __file__)
        nursery.cancel_scope.cancel()
        out.close()
        back.close()
    return answer


@asynccontextmanager
async def _two_hosts(crypto: CryptoConfig | None) -> AsyncGenerator[tuple[Channel, Channel]]:
    async with open_handle(1, crypto=crypto) as one, open_handle(2, crypto=crypto) as two:
        first, second = one.add_host(2), two.add_host(1)
        free = await _socket()
        port = free.getsockname()[1]
        free.close()
        link = await _link(first, 0, (_HERE, port))
        await _link(second, port, link.config.src)
        await first.wait_reachable()
        await second.wait_reachable()
        await trio.sleep(_SETTLE)
        yield one.open_channel(0), two.open_channel(0)


async def _link(host: Host, port: int, there: tuple[str, int]) -> Link:
    # No ping falls into what is counted but by chance.
    return await host.add_link(
        0, (_HERE, port), there, ping_interval=5.0, pong_timeout=20.0, pong_count=1
    )


async def _count(trip: Trip, own: str) -> Answer:
    for _ in range(_WARM_UP):
        await trip()
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(_TRIPS):
        await trip()
    profile.disable()
    calls: dict[str, int] = {}
    for entry in profile.getstats():
        # What is written in C has a name only.
        file = "" if isinstance(entry.code, str) else entry.code.co_filename
        calls[file] = calls.get(file, 0) + entry.callcount
    before = time.process_time()
    for _ in range(_TRIPS):
        await trip()
    cpu = time.process_time() - before
    return {
        "calls": sum(calls.values()) / _TRIPS,
        "own": sum(times for file, times in calls.items() if own in file) / _TRIPS,
        "trio": sum(times for file, times in calls.items() if "/trio/" in file) / _TRIPS,
        "cpu": cpu / _TRIPS,
    }


async def _socket() -> trio.socket.SocketType:
    sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await sock.bind((_HERE, 0))
    return sock


def _queue() -> tuple[trio.MemorySendChannel[bytes], trio.MemoryReceiveChannel[bytes]]:
    return trio.open_memory_channel[bytes](_QUEUE)


async def _receive(sock: trio.socket.SocketType, queue: trio.MemorySendChannel[bytes]) -> None:
    while True:
        data, _ = await sock.recvfrom(_DATAGRAM)
        await queue.send(data)
