from __future__ import annotations

import pytest
import trio

from knet_trio._core.onwire import Ping, PmtudProbe, PmtudReply, Pong
from knet_trio._state.control import Control
from knet_trio._state.network_link import NetworkLinkState
from knet_trio.address import Address
from knet_trio.errors import DropCause
from tests.state.fakes import LOCAL, World, address, reply_to_last_probe

STAMP = bytes(16)


def control(link: int = 0, node: int = 2) -> list[Control]:
    return [
        Ping(node, link, STAMP, 5, True),
        Pong(node, link, STAMP, 5, True),
        PmtudProbe(node, link, 1000, 900),
        PmtudReply(node, link, 1000),
    ]


class TestImpossibleSources:
    @pytest.mark.parametrize("dst", [address(2), None], ids=["static", "dynamic"])
    @pytest.mark.parametrize("up", [False, True])
    @pytest.mark.parametrize(
        "source",
        [
            Address("198.51.100.2", 0),
            Address("224.0.0.1", 5405),
            Address("255.255.255.255", 5405),
            Address("0.0.0.0", 5405),
            LOCAL,
        ],
        ids=str,
    )
    async def test_get_nothing(self, dst: Address | None, up: bool, source: Address) -> None:
        # Whatever the access list says.
        world = World(access_lists=False)
        link = world.add_link(world.add_host(), dst=dst)
        if up:
            if dst is None:
                world.prove(link, address(2))
            world.bring_up(link)
            world.endpoint.sent.clear()
        before = link.destination
        for packet in control():
            world.receive(packet, source)
        assert link.counters.drops == {DropCause.IMPOSSIBLE_SOURCE: 4}
        assert world.endpoint.sent == []
        assert link.destination == before
        assert f"a packet from {source} is refused" in link.explain()


class TestReplies:
    """The coming libknet replies over the first link that has the peer's address, by any port."""

    def searching(
        self, *, access_lists: bool = True
    ) -> tuple[World, NetworkLinkState, NetworkLinkState]:
        """Two links to one host that are up, the second of which looks for its path MTU."""
        world = World(access_lists=access_lists)
        host = world.add_host()
        links = [
            world.add_link(host, number, dst=address(2)._replace(port=5405 + number))
            for number in range(2)
        ]
        for link in links:
            world.bring_up(link)
        first, second = links
        second.path_mtu.discover(trio.current_time())
        assert second.path_mtu.search.searching
        return world, first, second

    async def test_from_another_link_of_the_host_is_taken(self) -> None:
        world, first, second = self.searching()
        assert first.destination is not None
        world.receive(reply_to_last_probe(second), first.destination)
        assert second.path_mtu.search.onwire == 65535
        assert second.status().stats.rx_pmtu_packets == 1
        assert second.counters.drops == {}

    async def test_but_only_with_the_number_of_the_probe(self) -> None:
        world, first, second = self.searching()
        assert first.destination is not None
        reply = reply_to_last_probe(second)
        world.receive(reply._replace(size=reply.size ^ 1), first.destination)
        assert second.path_mtu.search.onwire is None
        assert second.counters.drops == {DropCause.UNEXPECTED_PMTUD_REPLY: 1}

    @pytest.mark.parametrize("how", ["down", "disabled"])
    async def test_not_from_one_that_is_not_up(self, how: str) -> None:
        world, first, second = self.searching(access_lists=False)
        assert first.destination is not None
        if how == "down":
            first.take_down(trio.current_time(), "for the test")
        else:
            first.set_enabled(False)
        world.receive(reply_to_last_probe(second), first.destination)
        assert second.path_mtu.search.onwire is None
        assert second.counters.drops == {DropCause.UNKNOWN_ADDRESS: 1}

    async def test_not_from_one_whose_list_does_not_accept_it(self) -> None:
        world, first, second = self.searching()
        assert first.destination is not None
        first.acl.clear()
        world.receive(reply_to_last_probe(second), first.destination)
        assert second.counters.drops == {DropCause.ACCESS_LIST: 1}

    async def test_not_from_a_link_of_another_host(self) -> None:
        world, _, second = self.searching(access_lists=False)
        other = world.add_link(world.add_host(3), dst=address(3))
        world.bring_up(other)
        world.receive(reply_to_last_probe(second), address(3))
        assert second.counters.drops == {DropCause.UNKNOWN_ADDRESS: 1}

    async def test_nothing_else_may_come_from_there(self) -> None:
        world, first, second = self.searching()
        assert first.destination is not None
        sent = second.heartbeat.liveness.ping_time(trio.current_time())
        world.forge(second, world.stamp(second, sent, first.destination), first.destination)
        assert second.counters.drops == {DropCause.UNKNOWN_ADDRESS: 1}
