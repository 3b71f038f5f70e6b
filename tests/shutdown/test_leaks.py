"""A thousand handles leave as much behind as a hundred: nothing."""

from __future__ import annotations

import gc
import os
import tracemalloc
from typing import Final, NamedTuple

import pytest
import trio

from knet_trio import CompressConfig, CryptoConfig, open_handle
from tests.cluster import KEY, PATIENCE
from tests.datafds import living_tasks, open_fds

HANDLES: Final = 1000
# How many are open at a time.
TOGETHER: Final = 20
WARM_UP: Final = 100
# What interpreter and libraries keep for later use varies by so many objects, and bytes. One
# object for every second handle would be more, and so would be 150 bytes for each
# (Trio's heap of deadlines, of which it keeps up to a thousand that have passed, varies most).
SOME_OBJECTS: Final = 400
SOME_BYTES: Final = 150_000
DATA: Final = b"over and over " * 400


class Held(NamedTuple):
    """What the process has at a time."""

    fds: set[int]
    tasks: int
    objects: int
    memory: int


def look() -> Held:
    gc.collect()
    return Held(
        open_fds(), living_tasks(), len(gc.get_objects()), tracemalloc.get_traced_memory()[0]
    )


async def live(number: int) -> None:
    """Two handles that get to know each other, and tell each other something in several ways."""
    crypto, compress = CryptoConfig(key=KEY), CompressConfig("zlib")
    async with (
        # What it would tell of links that go down, pytest would keep.
        open_handle(1, crypto=crypto, compress=compress, mtu=1500, log_level="error") as a,
        open_handle(2, crypto=crypto, compress=compress, mtu=1500, log_level="error") as b,
        a.events() as events,
    ):
        # Nobody else has these.
        high, low = divmod(number, 256)
        at_a, at_b = (f"127.1.{high}.{low}", 5405), (f"127.2.{high}.{low}", 5405)
        for handle, src, dst in ((a, at_a, at_b), (b, at_b, at_a)):
            host = handle.add_host(3 - handle.host_id)
            await host.add_link(0, src, dst, ping_interval=0.01, pong_count=1)
        await a.hosts[2].wait_reachable()
        await b.hosts[1].wait_reachable()
        await events.receive()
        channel = b.open_channel(0)
        datafd = a.add_datafd(channel=0)
        os.write(datafd.fd, DATA)
        assert (await channel.receive()).data == DATA
        await b.open_channel(1).send(os.urandom(5000))
        assert a.statistics().tx_compressed_packets == 1
        assert b.statistics().rx_crypt_packets > 0


async def live_many(handles: int) -> None:
    for first in range(0, handles // 2, TOGETHER // 2):
        async with trio.open_nursery() as nursery:
            for number in range(first, first + TOGETHER // 2):
                nursery.start_soon(live, number)


# The tracing of memory makes it slow.
@pytest.mark.timeout(PATIENCE * 6)
async def test_a_thousand_handles_leave_no_more_than_a_hundred() -> None:
    tracemalloc.start()
    try:
        with trio.fail_after(PATIENCE * 5):
            await live_many(WARM_UP)
            before = look()
            await live_many(HANDLES - WARM_UP)
            after = look()
    finally:
        tracemalloc.stop()
    assert after.fds == before.fds
    assert after.tasks == before.tasks
    assert after.objects - before.objects < SOME_OBJECTS
    assert after.memory - before.memory < SOME_BYTES
