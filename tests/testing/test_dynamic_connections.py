"""Links without ``dst`` over connections: they take what their peers connect."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio

from knet_trio import AclEntry, Handle, Link, LinkCause, open_handle
from knet_trio.testing import SimulatedNetwork
from tests.testing.connected import A, both_down, both_up, delivered, link_of, play_alone
from tests.testing.nodes import at

ROAMING = AclEntry.network("0.0.0.0/0")


async def await_peer(home: Handle, host_id: int = 2) -> Link:
    """A link that waits for a peer from anywhere."""
    host = home.hosts.get(host_id) or home.add_host(host_id)
    link = await host.add_link(0, A, transport="sctp")
    link.acl.append(ROAMING)
    return link


@asynccontextmanager
async def roaming(where: int, host_id: int = 2) -> AsyncGenerator[Handle]:
    """A host that has a link to host 1, from wherever it is."""
    async with open_handle(host_id) as roamer:
        source = (at(where), 5405)
        await roamer.add_host(1).add_link(0, source, A, transport="sctp")
        yield roamer


async def serve_both(home: Handle, roamer: Handle) -> None:
    assert await delivered(home, roamer, b"found you")
    assert await delivered(roamer, home, b"and I you")


@pytest.mark.parametrize("seed", range(2))
def test_a_peer_comes_back_from_everywhere(seed: int) -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_handle(1) as home:
            waiting = await await_peer(home)
            assert "it sends nothing until a ping" in waiting.explain()
            ports = set[int | None]()
            for where in (2, 2, 3, 4, 2):
                async with roaming(where) as roamer:
                    assert await both_up(home, roamer) < 8
                    assert waiting.status.dst_ipaddr == at(where)
                    ports.add(waiting.status.dst_port)
                    await serve_both(home, roamer)
            assert len(ports) == 5

    play_alone(main, seed=seed)


def test_breaks_cuts_and_moves() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_handle(1) as home, roaming(2) as roamer:
            waiting = await await_peer(home)
            await both_up(home, roamer)
            await trio.sleep(30)
            assert network.break_connections(at(1), at(2)) == 2
            await both_down(home, roamer)
            for handle in (home, roamer):
                transitions = link_of(handle).status.stats.transitions
                assert transitions[LinkCause.DISCONNECTED] == 1
                assert "the association is lost" in link_of(handle).explain()
            assert await both_up(home, roamer) < 8
            for one_way, source, destination in ((False, 1, 2), (True, 1, 2), (True, 2, 1)):
                network.cut(at(source), at(destination), one_way=one_way)
                await both_down(home, roamer)
                await trio.sleep(50)
                network.heal()
                assert await both_up(home, roamer) < 8
                await serve_both(home, roamer)
            # A NAT maps it anew, and the connection is of no use.
            network.move(at(2), "192.0.2.77")
            await roamer.hosts[1].wait_unreachable()
            assert await both_up(home, roamer) < 8
            assert waiting.status.dst_ipaddr == "192.0.2.77"
            await serve_both(home, roamer)

    play_alone(main)


def test_a_peer_that_moves_is_answered_before_its_old_connection_is_given_up() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_handle(1) as home, roaming(2) as roamer:
            waiting = await await_peer(home)
            # Longer than anything here: only another place takes it elsewhere.
            waiting.set_ping_timers(1.0, 300.0, 64)
            await both_up(home, roamer)
            await serve_both(home, roamer)
            network.move(at(2), "192.0.2.77")
            await roamer.hosts[1].wait_unreachable()
            assert await both_up(roamer) < 8
            assert waiting.status.stats.down_count == 0
            assert waiting.status.dst_ipaddr == "192.0.2.77"
            await serve_both(home, roamer)

    play_alone(main)


def test_a_link_is_removed_while_its_peer_is_connected() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_handle(1) as home, roaming(2) as roamer:
            for _ in range(3):
                waiting = await await_peer(home)
                await both_up(home, roamer)
                await serve_both(home, roamer)
                await waiting.remove()
                await roamer.hosts[1].wait_unreachable()

    play_alone(main)


def test_two_peers_at_one_listener() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_handle(1) as home, roaming(2) as two, roaming(3, 3) as three:
            first, second = await await_peer(home, 2), await await_peer(home, 3)
            await both_up(home, two, three)
            assert await delivered(home, two, b"2")
            assert await delivered(home, three, b"3")
            await first.remove()
            await two.hosts[1].wait_unreachable()
            assert second.status.connected
            await serve_both(home, three)
            await await_peer(home, 2)
            assert await both_up(home, two, three) < 8

    play_alone(main)


def test_a_link_that_is_disabled_and_enabled() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_handle(1) as home, roaming(2) as roamer:
            waiting = await await_peer(home)
            await both_up(home, roamer)
            for link in (waiting, link_of(roamer)):
                link.enabled = False
                await both_down(home, roamer)
                await trio.sleep(20)
                link.enabled = True
                assert await both_up(home, roamer) < 12
                await serve_both(home, roamer)

    play_alone(main)
