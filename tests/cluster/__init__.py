"""Handles of ours joined by real sockets on the loopback, for tests of what a program sees."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import trio

from knet_trio import (
    CryptoConfig,
    DropCause,
    Filter,
    Handle,
    Host,
    Link,
    LinkPolicy,
    Message,
    open_handle,
)
from tests.ports import free_udp_port

KEY = bytes(range(256)) * 4

LOCALHOST = "127.0.0.1"
# Quick enough for a test, slow enough for a loaded machine.
PING_INTERVAL = 0.05
PONG_TIMEOUT = 1.0
# What no test may need. It is there for when something is wrong.
PATIENCE = 60.0


@attrs.frozen
class Pair:
    """Two handles, 1 and 2, that reach each other over ``links`` links."""

    a: Handle
    b: Handle


@asynccontextmanager
async def open_pair(
    *,
    links: int = 1,
    policy: LinkPolicy = LinkPolicy.PASSIVE,
    crypto: CryptoConfig | None = None,
    filter: Filter | None = None,
    forwarding: bool = True,
) -> AsyncGenerator[Pair]:
    """Open two handles and wait until they reach each other. ``filter`` is that of handle 1."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        a = await enter(open_handle(1, crypto=crypto, filter=filter, forwarding=forwarding))
        b = await enter(open_handle(2, crypto=crypto))
        await connect(a, b, links=links, policy=policy)
        yield Pair(a, b)


async def connect(
    a: Handle, b: Handle, *, links: int = 1, policy: LinkPolicy = LinkPolicy.PASSIVE
) -> None:
    """Give two handles links to each other and wait until they are up."""
    to_b = a.add_host(b.host_id, policy=policy)
    to_a = b.add_host(a.host_id, policy=policy)
    for link_id in range(links):
        await join(to_b, to_a, link_id)
    with trio.fail_after(PATIENCE):
        for host in (to_a, to_b):
            for link in host.links.values():
                await link.wait_connected()
            await host.wait_reachable()


async def join(to_b: Host, to_a: Host, link_id: int) -> None:
    """Add a link between two handles, each of which has the other as a host."""
    # A link of one side must know the port of the other's before there is one.
    src = LOCALHOST, free_udp_port()
    mirror = await add_quick_link(to_a, link_id, (LOCALHOST, 0), src)
    await add_quick_link(to_b, link_id, src, mirror.config.src)


async def add_quick_link(
    host: Host, link_id: int, src: tuple[str, int], dst: tuple[str, int]
) -> Link:
    """Add a link that comes up soon."""
    return await host.add_link(
        link_id,
        src,
        dst,
        ping_interval=PING_INTERVAL,
        pong_timeout=PONG_TIMEOUT,
        pong_count=1,
    )


async def receive(handle_channel: trio.abc.ReceiveChannel[Message], count: int) -> list[bytes]:
    """The data of the next ``count`` messages."""
    with trio.fail_after(PATIENCE):
        return [(await handle_channel.receive()).data for _ in range(count)]


async def wait_for(condition: Callable[[], bool]) -> None:
    """Return once ``condition`` holds: for what no event tells of."""
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110  # no event tells of it
            await trio.sleep(0.002)


async def wait_dropped(handle: Handle, cause: DropCause, count: int = 1) -> None:
    """Return once the handle has counted ``count`` drops of that cause."""
    await wait_for(lambda: handle.statistics().drops.get(cause, 0) >= count)
