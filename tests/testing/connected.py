"""Hosts with links over connections, on the simulated network."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from knet_trio import CryptoConfig, Handle, Link
from knet_trio.testing import Conditions, SimulatedNetwork, run
from tests.testing.nodes import PATIENCE, at, open_nodes

TestBody = Callable[[SimulatedNetwork, Handle, Handle], Awaitable[None]]
A, B = (at(1), 5405), (at(2), 5405)


def play(
    body: TestBody,
    *,
    conditions: Conditions = Conditions(),  # noqa: B008  # frozen
    crypto: CryptoConfig | None = None,
    seed: int = 1,
    patience: float = PATIENCE,
) -> None:
    """Have two hosts that reach each other, and no more time than anybody needs."""

    async def main(network: SimulatedNetwork) -> None:
        async with open_nodes(2, transport="sctp", crypto=crypto) as (a, b):
            with trio.fail_after(patience):
                await body(network, a, b)

    run(main, seed=seed, conditions=conditions)


def play_alone(main: Callable[[SimulatedNetwork], Awaitable[None]], *, seed: int = 1) -> None:
    """The same, where the test opens its hosts."""

    async def within(network: SimulatedNetwork) -> None:
        with trio.fail_after(PATIENCE):
            await main(network)

    run(within, seed=seed)


def link_of(handle: Handle) -> Link:
    """The first link to the only other host."""
    (host,) = handle.hosts.values()
    link = host.links[0]
    assert isinstance(link, Link)
    return link


async def both_up(*handles: Handle) -> float:
    """Wait until all reach all, and return how long that took."""
    began = trio.current_time()
    for handle in handles:
        for host in handle.hosts.values():
            await host.wait_reachable()
    return trio.current_time() - began


async def both_down(*handles: Handle) -> None:
    for handle in handles:
        for host in handle.hosts.values():
            await host.wait_unreachable()


async def delivered(sender: Handle, receiver: Handle, data: bytes) -> bool:
    """Whether a message arrives."""
    inbox = receiver.open_channel(7)
    outbox = sender.open_channel(7)
    try:
        await outbox.send(data, to=[receiver.host_id])
        return (await inbox.receive()).data == data
    finally:
        await inbox.aclose()
        await outbox.aclose()
