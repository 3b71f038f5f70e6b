"""Two handles with streams, on the simulated network."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import attrs
import trio

from knet_trio import CryptoConfig, Handle, LinkPolicy, open_handle
from knet_trio.streams import HostStream, Streams, open_streams
from knet_trio.streams._host_pump import HostPump
from knet_trio.testing import Conditions, Interface, SimulatedNetwork, run
from tests.cluster import KEY

T = TypeVar("T")

CHANNEL = 7
# Seconds of simulated time that no test needs.
LIMIT = 3600.0


@attrs.frozen
class StreamPair:
    """Handles 1 and 2, the streams of each, and the network between them."""

    a: Handle
    b: Handle
    alpha: Streams
    beta: Streams


async def join(a: Handle, b: Handle, *, links: int = 1, policy: LinkPolicy) -> None:
    """Give two handles links to each other, and wait until they are up."""
    to_b = a.add_host(b.host_id, policy=policy)
    to_a = b.add_host(a.host_id, policy=policy)
    for link in range(links):
        here, there = (f"10.{link}.0.{a.host_id}", 5405), (f"10.{link}.0.{b.host_id}", 5405)
        await to_b.add_link(link, here, there, ping_interval=0.2, pong_timeout=1.0, pong_count=1)
        await to_a.add_link(link, there, here, ping_interval=0.2, pong_timeout=1.0, pong_count=1)
    await to_a.wait_reachable()
    await to_b.wait_reachable()


@asynccontextmanager
async def open_handles(
    *,
    links: int = 1,
    policy: LinkPolicy = LinkPolicy.PASSIVE,
    encrypted: bool = False,
) -> AsyncGenerator[tuple[Handle, Handle]]:
    """Two handles that reach each other."""
    crypto = CryptoConfig(KEY) if encrypted else None
    async with open_handle(1, crypto=crypto) as a, open_handle(2, crypto=crypto) as b:
        await join(a, b, links=links, policy=policy)
        yield a, b


@asynccontextmanager
async def open_stream_pair(
    *,
    links: int = 1,
    policy: LinkPolicy = LinkPolicy.PASSIVE,
    encrypted: bool = False,
    **options: Any,
) -> AsyncGenerator[StreamPair]:
    """Two handles with streams between them."""
    async with (
        open_handles(links=links, policy=policy, encrypted=encrypted) as (a, b),
        open_streams(a, channel=CHANNEL, **options) as alpha,
        open_streams(b, channel=CHANNEL, **options) as beta,
    ):
        yield StreamPair(a, b, alpha, beta)


async def connect(pair: StreamPair) -> tuple[HostStream, HostStream]:
    """Both ends of a stream."""
    async with pair.beta.listener() as listener:
        here = await pair.alpha.connect(2)
        return here, await listener.accept()


def pumps_of(streams: Streams) -> list[HostPump]:
    """What is behind streams, for each host that there was anything with."""
    return streams._state.pumps  # pyright: ignore[reportPrivateUsage]


def simulate(
    main: Callable[[SimulatedNetwork], Awaitable[T]],
    *,
    seed: int = 1,
    conditions: Conditions = Conditions(),  # noqa: B008  # frozen
    interface: Interface = Interface(),  # noqa: B008  # frozen
) -> T:
    """Run ``main`` on a simulated network, for an hour of its time at most."""

    async def limited(network: SimulatedNetwork) -> T:
        with trio.fail_after(LIMIT):
            return await main(network)

    return run(limited, seed=seed, conditions=conditions, interface=interface)
