from __future__ import annotations

import errno

import pytest
import trio
from trio.testing import MockClock

from knet_trio._core.onwire import Ping, PmtudReply
from knet_trio._state.explain import explain
from knet_trio._state.network_link import NetworkLinkState
from knet_trio.address import Address
from knet_trio.errors import DropCause
from tests.state.fakes import HEADERS, World, address, refusal

STAMP = bytes(16)


def make() -> tuple[World, NetworkLinkState]:
    world = World()
    return world, world.add_link(world.add_host(), 3, dst=address(2), pong_count=2)


class TestUp:
    async def test_while_the_mtu_is_searched(self) -> None:
        world, link = make()
        world.bring_up(link)
        (line,) = explain(link).splitlines()
        assert line.startswith("link 3 to host 2 (192.0.2.1:5405 -> 198.51.100.2:5405) is up: ")
        assert "the peer answers pings" in line
        assert "searching for the path MTU" in line

    async def test_with_the_mtu_known(self, autojump_clock: MockClock) -> None:
        world, link = make()
        world.context.fixed_mtu = 1500
        world.bring_up(link)
        line = explain(link)
        assert f"{1500 - HEADERS - 26} bytes a packet (path MTU known)" in line
        assert "round trip 0.00 ms" in line

    async def test_old_trouble_is_over(self) -> None:
        world, link = make()
        link.counters.note("something", trio.current_time())
        world.bring_up(link)
        assert "something" not in explain(link)

    async def test_but_fit_for_no_data(self) -> None:
        world, link = make()
        world.context.fixed_mtu = 50
        world.bring_up(link)
        assert not link.usable
        text = explain(link)
        assert "is up but carries no data" in text
        assert "firewall or tunnel" in text


class TestDown:
    async def test_disabled(self) -> None:
        _, link = make()
        link.set_enabled(False)
        assert "is down: " in explain(link)
        assert "set enabled = True" in explain(link)
        link.set_enabled(True)
        assert "set enabled = True" not in explain(link)

    async def test_nobody_answers(self, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
        world, link = make()
        nursery.start_soon(world.context.heartbeats.run)
        await trio.sleep(4.5)
        text = explain(link)
        assert "is down: enabled, and no pong has come yet" in text
        assert "5 pings sent in 4.5 s, not one answered" in text
        assert "is the peer running" in text
        assert "pings do arrive" not in text
        world.receive(Ping(2, 3, STAMP, 0, True), address(2))
        assert "its pings do arrive here" in explain(link)
        nursery.cancel_scope.cancel()

    async def test_no_ping_gets_out(self, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
        world, link = make()

        def refuse(*_: object) -> None:
            raise refusal(errno.ENETUNREACH)

        world.endpoint.refuse = refuse
        nursery.start_soon(world.context.heartbeats.run)
        await trio.sleep(3.25)
        text = explain(link)
        assert "no ping has left this machine" in text
        assert "0.2 s ago: this machine refuses to send: Network is unreachable" in text
        nursery.cancel_scope.cancel()

    async def test_on_its_way_up(self) -> None:
        world, link = make()
        world.pong(link)
        assert "1 of the 3 pongs in a row that take it up came" in explain(link)

    async def test_silence(self, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
        world, link = make()
        world.bring_up(link)
        nursery.start_soon(world.context.heartbeats.run)
        await link.connected.wait(False)
        await trio.sleep(2)
        text = explain(link)
        assert f"is down: {link.reason}" in text
        assert f"the last pong came {trio.current_time():.1f} s ago" in text
        nursery.cancel_scope.cancel()

    async def test_enabled_again_and_no_pong_since(self) -> None:
        world, link = make()
        world.bring_up(link)
        link.set_enabled(False)
        link.set_enabled(True)
        assert len(explain(link).splitlines()) == 1

    async def test_dynamic_and_nobody_has_spoken(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=None)
        text = explain(link)
        assert "-> a peer that has not spoken yet" in text
        assert "it stays silent until the peer's first ping arrives" in text

    async def test_dynamic_and_who_pings_does_not_answer(self) -> None:
        world = World(access_lists=False)
        link = world.add_link(world.add_host(), dst=None)
        for number in range(3):
            world.receive(Ping(2, 0, number.to_bytes(16, "big"), 5, timed=True), address(7))
        text = explain(link)
        assert f"pings come from {address(7)}, which has not answered the ping sent there" in text
        assert "rate_limited x 2: more pings came from elsewhere than can be looked into" in text
        world.prove(link, address(7))
        assert "has not answered" not in explain(link)

    @pytest.mark.parametrize(
        ("source", "told"),
        [
            (address(3), "unknown_address x 1: packets came from elsewhere than where it leads to"),
            (Address("224.0.0.1", 5405), "impossible_source x 1: packets came from an address"),
        ],
    )
    async def test_packets_from_elsewhere(self, source: Address, told: str) -> None:
        world = World(access_lists=False)
        link = world.add_link(world.add_host(), dst=address(2))
        world.receive(PmtudReply(2, 0, 1000), source)
        assert told in explain(link)

    async def test_the_peer_is_another_host_or_has_another_link(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        world.receive(Ping(3, 0, bytes(16), 0, True), address(2))
        world.receive(Ping(2, 1, bytes(16), 0, True), address(2))
        text = explain(link)
        assert "unknown_host x 1: packets from its address are of a host" in text
        assert "unknown_link x 1: packets from its address are for a link id" in text
        # From elsewhere it says nothing of this link.
        world.receive(Ping(3, 0, bytes(16), 0, True), address(5))
        assert explain(link) == text

    async def test_the_network_says_why(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world, link = make()
        world.trouble(address(2), errno.ECONNREFUSED)
        await trio.sleep(1.5)
        assert "1.5 s ago: the network says of 198.51.100.2:5405: Connection refused" in explain(
            link
        )


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        (DropCause.NOT_AUTHENTIC, "compare key, cipher and hash"),
        (DropCause.CLEAR_TRAFFIC, "allow_clear_traffic"),
        (DropCause.MALFORMED, "crypto that the other does not have"),
        (DropCause.WRONG_VERSION, "encrypted while there is no crypto here"),
        (DropCause.ACCESS_LIST, "the link's access list rejects"),
        (DropCause.LINK_DISABLED, "the peer is trying to reach it"),
        (DropCause.SEND_FAILED, "could not be sent"),
        (DropCause.SEND_QUEUE_FULL, "slower than what is sent"),
    ],
)
async def test_what_was_dropped_is_told_with_advice(cause: DropCause, advice: str) -> None:
    _, link = make()
    assert advice not in explain(link)
    link.counters.drop(cause, 3)
    line = next(line for line in explain(link).splitlines() if advice in line)
    assert line.startswith(f"  {cause.value} x 3: ")


async def test_what_says_nothing_of_the_link_is_left_out() -> None:
    _, link = make()
    link.counters.drop(DropCause.DUPLICATE)
    assert "duplicate" not in explain(link)
