"""Hosts that stand still hold up nobody else, whoever else waits for them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import pytest
import trio

from knet_trio import Channel, DropCause, Handle, open_handle
from knet_trio.testing import Interface, Route, SimulatedNetwork, run

SEND_BUFFER = 100_000
SIZE = 1400
FREE = 4


class Hub(NamedTuple):
    """Host 1, the channel it sends on, and what the free host has received."""

    handle: Handle
    channel: Channel
    received: list[bytes]


def source(host_id: int, *, shared: bool) -> str:
    """The address from which host 1 sends to a host."""
    return "10.0.9.1" if shared else f"10.0.{host_id}.1"


@asynccontextmanager
async def open_hub(*, shared: bool) -> AsyncGenerator[Hub, None]:
    """Host 1 with links to hosts 2 to 4, from one address or from one each."""
    timers: dict[str, Any] = {"ping_interval": 0.2, "pong_timeout": 50.0, "pong_count": 1}
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        others = {host_id: await enter(open_handle(host_id)) for host_id in (2, 3, FREE)}
        hub = await enter(open_handle(1))
        for host_id, other in others.items():
            here, there = (source(host_id, shared=shared), 5), (f"10.0.{host_id}.2", 5)
            await other.add_host(1).add_link(0, there, here, **timers)
            await hub.add_host(host_id).add_link(0, here, there, **timers)
        for host in hub.hosts.values():
            await host.wait_reachable()
        received: list[bytes] = []
        inbox = others[FREE].open_channel(0)

        async def read() -> None:
            while True:
                received.extend(message.data for message in await inbox.receive_many())

        nursery = await enter(trio.open_nursery())
        nursery.start_soon(read)
        await trio.sleep(2)
        yield Hub(hub, hub.open_channel(0), received)
        nursery.cancel_scope.cancel()


async def keep_sending(
    channel: Channel, data: bytes, to: Sequence[int] | None, gap: float = 0.0
) -> None:
    """Send the same again and again."""
    while True:
        await channel.send(data, to=to)
        await trio.sleep(gap)


def check(main: Callable[[SimulatedNetwork], Awaitable[None]]) -> None:
    """Run ``main`` on a network whose sockets have small buffers."""
    run(main, seed=1, interface=Interface(send_buffer=SEND_BUFFER))


def test_what_fills_a_shared_socket_may_be_for_another_host() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_hub(shared=True) as hub, trio.open_nursery() as nursery:
            here = source(2, shared=True)
            # More than half of the socket's buffer, and not all of it.
            network.hold(here, "10.0.2.2", one_way=True)
            for _ in range(43):
                await hub.channel.send(bytes(SIZE), to=[2])
            # Its queue is short, so its packets stay in its lane.
            network.set_route(here, "10.0.3.2", Route(queue=5000))
            network.hold(here, "10.0.3.2", one_way=True)
            nursery.start_soon(keep_sending, hub.channel, bytes(SIZE), [3])
            await trio.sleep(2)
            nursery.start_soon(keep_sending, hub.channel, b"both", [3, FREE], 0.1)
            nursery.start_soon(keep_sending, hub.channel, b"alone", [FREE], 0.1)
            await trio.sleep(10)
            assert hub.received.count(b"alone") >= 98
            assert hub.received.count(b"both") >= 98
            assert hub.handle.statistics().drops[DropCause.SEND_QUEUE_FULL] >= 98
            nursery.cancel_scope.cancel()

    check(main)


@pytest.mark.parametrize("everybody", [False, True])
def test_who_waits_for_those_that_stand_still(everybody: bool) -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_hub(shared=False) as hub, trio.open_nursery() as nursery:
            for host_id in (2, 3):
                network.hold(source(host_id, shared=False), f"10.0.{host_id}.2", one_way=True)
            nursery.start_soon(keep_sending, hub.channel, bytes(SIZE), [3])
            await trio.sleep(1)
            nursery.start_soon(keep_sending, hub.channel, bytes(SIZE), [2, 3])
            await trio.sleep(1)
            if everybody:
                nursery.start_soon(keep_sending, hub.channel, b"everybody", None, 0.1)
                await trio.sleep(1)
            nursery.start_soon(keep_sending, hub.channel, b"alone", [FREE], 0.1)
            await trio.sleep(10)
            assert hub.received.count(b"alone") >= 98
            assert hub.received.count(b"everybody") >= 98 * everybody
            nursery.cancel_scope.cancel()

    check(main)
