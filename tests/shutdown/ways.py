"""The ways out of the block of a handle, and the states that it may be in."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio import CompressConfig, CryptoConfig, DropCause, open_handle
from knet_trio._state.workers import threads_at_work
from knet_trio.testing import Conditions, Interface, open_network
from tests.cancelling import kinds
from tests.cluster import (
    KEY,
    LOCALHOST,
    PATIENCE,
    Pair,
    add_quick_link,
    open_pair,
    wait_dropped,
    wait_for,
)

# Ways out.

Leave = Callable[[trio.CancelScope], Awaitable[None]]


async def by_its_end(_: trio.CancelScope) -> None:
    pass


async def by_an_error(_: trio.CancelScope) -> None:
    raise ZeroDivisionError


async def by_an_interrupt(_: trio.CancelScope) -> None:
    raise KeyboardInterrupt


async def by_cancellation(scope: trio.CancelScope) -> None:
    scope.cancel()
    await trio.sleep_forever()


async def by_its_end_when_cancelled(scope: trio.CancelScope) -> None:
    scope.cancel()


async def beside_a_task_that_fails(_: trio.CancelScope) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(by_an_error, trio.CancelScope())
        await trio.sleep_forever()


WAYS: Final[list[Leave]] = [
    by_its_end,
    by_an_error,
    by_an_interrupt,
    by_cancellation,
    by_its_end_when_cancelled,
    beside_a_task_that_fails,
]
every_way = pytest.mark.parametrize("leave", WAYS, ids=lambda leave: leave.__name__)

# What a way may bring out of the block.
RAISED: Final[dict[Leave, type[BaseException]]] = {
    by_an_error: ZeroDivisionError,
    by_an_interrupt: KeyboardInterrupt,
    beside_a_task_that_fails: ZeroDivisionError,
}


@asynccontextmanager
async def left_by(leave: Leave) -> AsyncGenerator[trio.CancelScope]:
    """Around a handle's block, which has to be left that way: what comes out is what went in."""
    with trio.fail_after(PATIENCE), trio.CancelScope() as scope:
        raised: list[type[BaseException]] = []
        try:
            yield scope
        except* (ZeroDivisionError, KeyboardInterrupt) as group:
            raised = kinds(group)
        assert raised == ([RAISED[leave]] if leave in RAISED else [])


# States.

State = Callable[[], AbstractAsyncContextManager[Pair]]
# Next to nothing goes out.
SLOW: Final = Interface(rate=100, send_buffer=4000)
LATENCY: Final = Conditions(latency=0.05)
LARGE: Final = os.urandom(60_000)


@asynccontextmanager
async def coming_up() -> AsyncGenerator[Pair]:
    async with open_handle(1) as a, open_handle(2) as b:
        link = await add_quick_link(a.add_host(2), 0, (LOCALHOST, 0), (LOCALHOST, 1))
        await add_quick_link(b.add_host(1), 0, (LOCALHOST, 0), link.config.src)
        yield Pair(a, b)


@asynccontextmanager
async def up() -> AsyncGenerator[Pair]:
    async with open_pair(links=2) as pair:
        yield pair


@asynccontextmanager
async def down() -> AsyncGenerator[Pair]:
    async with open_pair(links=2) as pair:
        for link in list(pair.b.get_host(1).links.values()):
            await link.remove()
        await pair.a.get_host(2).wait_unreachable()
        yield pair


@asynccontextmanager
async def disabled() -> AsyncGenerator[Pair]:
    async with open_pair() as pair:
        pair.a.get_host(2).links[0].enabled = False
        yield pair


@asynccontextmanager
async def open_far_pair(interface: Interface = Interface()) -> AsyncGenerator[Pair]:  # noqa: B008  # frozen
    """Two handles that are 0.05 s apart; once they are up, the first gets that interface."""
    async with (
        open_network(1, conditions=LATENCY) as network,
        open_handle(1) as a,
        open_handle(2) as b,
    ):
        for handle, me, other in ((a, 1, 2), (b, 2, 1)):
            await add_quick_link(
                handle.add_host(other), 0, (f"10.0.0.{me}", 5405), (f"10.0.0.{other}", 5405)
            )
        await a.get_host(2).wait_reachable()
        network.set_interface("10.0.0.1", interface)
        yield Pair(a, b)


@asynccontextmanager
async def searching_for_the_path_mtu() -> AsyncGenerator[Pair]:
    async with open_far_pair() as pair:
        link = pair.a.get_host(2).links[0]
        await wait_for(lambda: link.status.stats.tx_pmtu_packets > 0)
        assert pair.a.data_mtu == 482
        yield pair


@asynccontextmanager
async def with_a_full_socket() -> AsyncGenerator[Pair]:
    async with open_far_pair(SLOW) as pair:
        await fill(pair)
        assert pair.a.get_host(2).links[0].status.stats.tx_data_retries > 0
        yield pair


@asynccontextmanager
async def with_a_slow_compressor() -> AsyncGenerator[Pair]:
    async with open_pair() as pair:
        pair.a.set_compress(CompressConfig("lzma", level=9))
        await fill(pair)
        await wait_for(lambda: threads_at_work() > 0)
        yield pair


async def fill(pair: Pair) -> None:
    """Send until there is no room."""
    channel = pair.a.open_channel(0)

    async def send() -> None:
        while True:
            await channel.send(LARGE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def with_a_full_channel() -> AsyncGenerator[Pair]:
    async with open_pair() as pair:
        pair.b.open_channel(0, receive_buffer=1)
        await pair.a.open_channel(0).send_many([b"x"] * 10)
        await wait_dropped(pair.b, DropCause.CHANNEL_FULL, 9)
        yield pair


@asynccontextmanager
async def with_fragments_missing() -> AsyncGenerator[Pair]:
    async with open_far_pair() as pair:
        await pair.a.open_channel(0).send(LARGE)
        rx = pair.b.get_host(1).links[0]
        await wait_for(lambda: rx.status.stats.rx_data_packets > 0)
        yield pair


@asynccontextmanager
async def in_a_change_of_keys() -> AsyncGenerator[Pair]:
    async with open_pair(crypto=CryptoConfig(key=KEY)) as pair:
        for handle in (pair.a, pair.b):
            handle.set_crypto(CryptoConfig(key=KEY[::-1], cipher="aes128"), 2)
        pair.a.use_crypto(2)
        pair.a.set_crypto(None, 1)
        await pair.a.open_channel(0).send(b"x")
        yield pair


@asynccontextmanager
async def with_data_fds() -> AsyncGenerator[Pair]:
    async with open_pair() as pair:
        made = pair.a.add_datafd()
        pair.b.add_datafd(channel=made.channel)
        os.write(made.fd, b"x")
        yield pair


@asynccontextmanager
async def with_closed_channels() -> AsyncGenerator[Pair]:
    async with open_pair() as pair:
        for handle in (pair.a, pair.b):
            channel = handle.open_channel(0)
            channel.close()
            channel.close()
            await channel.aclose()
        yield pair


STATES: Final[list[State]] = [
    coming_up,
    up,
    down,
    disabled,
    searching_for_the_path_mtu,
    with_a_full_socket,
    with_a_slow_compressor,
    with_a_full_channel,
    with_fragments_missing,
    in_a_change_of_keys,
    with_data_fds,
    with_closed_channels,
]
every_state = pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
