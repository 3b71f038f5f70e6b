"""Pings that a program asks for."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio

from knet_trio import Link, UnknownLinkError, open_handle
from knet_trio.testing import Conditions, SimulatedNetwork, run
from tests.cluster import LOCALHOST

LATENCY = 0.03
HERE, THERE = "10.0.0.1", "10.0.0.2"


@asynccontextmanager
async def open_link() -> AsyncGenerator[Link]:
    """A link that is up, on a network where everything takes ``LATENCY`` each way."""
    async with open_handle(1) as alpha, open_handle(2) as beta:
        host = alpha.add_host(2)
        link = await host.add_link(0, (HERE, 5405), (THERE, 5405))
        await beta.add_host(1).add_link(0, (THERE, 5405), (HERE, 5405))
        await link.wait_connected()
        # Its backoff is over: from now on silence is noticed in the usual time.
        await trio.sleep(20.25)
        yield link


def test_a_ping_is_answered_at_once_between_those_of_the_heartbeat() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_link() as link:
            pings = link.status.stats.tx_ping_packets
            began = trio.current_time()
            assert await link.ping() == pytest.approx(2 * LATENCY)
            assert trio.current_time() - began == pytest.approx(2 * LATENCY)
            assert link.status.stats.tx_ping_packets == pings + 1
            assert link.status.loss == 0

    run(main, conditions=Conditions(latency=LATENCY))


def test_several_at_once_have_their_own_answers() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_link() as link:
            trips: list[float | None] = []

            async def ask() -> None:
                trips.append(await link.ping())

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(ask)
            assert trips == [pytest.approx(2 * LATENCY)] * 3

    run(main, conditions=Conditions(latency=LATENCY))


def test_one_that_is_lost_is_waited_for_no_longer_than_the_pong_timeout() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_link() as link:
            network.set_wire(HERE, THERE, Conditions(loss=1))
            began = trio.current_time()
            with trio.move_on_after(5) as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(mend, network)
                    assert await link.ping() is None
            assert not scope.cancelled_caught
            assert trio.current_time() - began == pytest.approx(link.config.pong_timeout)
            assert link.status.connected
            assert link.status.loss == pytest.approx(1 / 100, abs=0.05)

    async def mend(network: SimulatedNetwork) -> None:
        await trio.sleep(0.5)
        network.set_wire(HERE, THERE, Conditions(latency=LATENCY))

    run(main, conditions=Conditions(latency=LATENCY))


def test_a_link_that_goes_down_ends_the_waiting() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_link() as link, trio.open_nursery() as nursery:
            network.cut(HERE, THERE)
            began = trio.current_time()

            async def disable() -> None:
                await trio.sleep(0.5)
                link.enabled = False

            nursery.start_soon(disable)
            assert await link.ping() is None
            assert trio.current_time() - began == pytest.approx(0.5)
            pings = link.status.stats.tx_ping_packets
            # Down, it has none to send.
            assert await link.ping() is None
            assert link.status.stats.tx_ping_packets == pings

    run(main, conditions=Conditions(latency=LATENCY))


def test_the_end_of_the_handle_ends_the_waiting() -> None:
    async def main(network: SimulatedNetwork) -> None:
        trips: list[float | None] = []

        async def ask(link: Link) -> None:
            trips.append(await link.ping())

        async with trio.open_nursery() as nursery, open_link() as link:
            network.cut(HERE, THERE)
            nursery.start_soon(ask, link)
            await trio.sleep(0.1)
        assert trips == [None]

    run(main, conditions=Conditions(latency=LATENCY))


async def test_to_itself_it_takes_no_time() -> None:
    async with open_handle(1) as handle:
        link = await handle.add_host(1).add_link(0, (LOCALHOST, 0), transport="loopback")
        assert await link.ping() == 0.0
        link.enabled = False
        assert await link.ping() is None
        await link.remove()
        with pytest.raises(UnknownLinkError, match="removed"):
            await link.ping()
