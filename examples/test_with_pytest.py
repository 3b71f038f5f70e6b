"""Tests of a cluster program with pytest: the fixture `knet_network`, over several seeds.

`pytest examples/test_with_pytest.py` runs them, where pytest-trio is installed.

The program is a request that is sent until it is answered. Its tests lose packets and cut the
network, and run in simulated time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio

from knet_trio import Channel, Handle, open_handle
from knet_trio.testing import SimulatedNetwork

ALPHA, BETA = "10.0.0.1", "10.0.0.2"

# The program. Nothing in it knows of tests.


async def ask(channel: Channel, question: bytes) -> bytes:
    """Send a question every second until there is an answer."""
    while True:
        await channel.send(question)
        with trio.move_on_after(1):
            return (await channel.receive()).data


async def answer(channel: Channel) -> None:
    """Answer every question, until cancelled."""
    async for message in channel:
        await channel.send(message.data.upper(), to=message.source)


# Its tests.

pytestmark = pytest.mark.trio


@asynccontextmanager
async def open_host(me: int, here: str, other: int, there: str) -> AsyncGenerator[Handle, None]:
    """A host with one link to another."""
    async with open_handle(me) as handle:
        await handle.add_host(other).add_link(0, (here, 5405), (there, 5405))
        yield handle


@pytest.fixture
async def hosts(knet_network: SimulatedNetwork) -> AsyncGenerator[tuple[Handle, Handle], None]:
    """Two hosts on the network, the second of which answers."""
    async with (
        open_host(1, ALPHA, 2, BETA) as alpha,
        open_host(2, BETA, 1, ALPHA) as beta,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(answer, beta.open_channel(0))
        yield alpha, beta
        nursery.cancel_scope.cancel()


@pytest.mark.knet(loss=0.3, latency=0.02, seeds=5)
async def test_there_is_an_answer_though_packets_are_lost(hosts: tuple[Handle, Handle]) -> None:
    """Five times, and each time the network loses others."""
    alpha, _ = hosts
    with trio.fail_after(600):
        assert await ask(alpha.open_channel(0), b"hello") == b"HELLO"


async def test_there_is_an_answer_when_the_network_is_back(
    knet_network: SimulatedNetwork, hosts: tuple[Handle, Handle]
) -> None:
    """The hosts are cut from each other for an hour, which takes no time."""
    alpha, _ = hosts
    channel = alpha.open_channel(0)
    await alpha.get_host(2).wait_reachable()
    knet_network.cut(ALPHA, BETA)
    with trio.move_on_after(3600) as hour:
        await ask(channel, b"hello")
    assert hour.cancelled_caught
    knet_network.mend(ALPHA, BETA)
    with trio.fail_after(60):
        assert await ask(channel, b"hello") == b"HELLO"
