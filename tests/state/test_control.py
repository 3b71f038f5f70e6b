from __future__ import annotations

import errno

import trio

from knet_trio._core.acl import AclEntry
from knet_trio._core.onwire import Data, Ping, PmtudProbe, PmtudReply, Pong
from knet_trio._state.control import Control, receive_control
from knet_trio._state.host import HostState
from knet_trio._state.network_link import NetworkLinkState
from knet_trio.errors import DropCause
from knet_trio.status import LinkCause
from tests.state.fakes import FakeEndpoint, World, address

STAMP = bytes(16)
OTHER = bytes([1]) * 16


def control(link: int, node: int = 2) -> list[Control]:
    return [
        Ping(node, link, STAMP, 5, True),
        Pong(node, link, STAMP, 5, True),
        PmtudProbe(node, link, 1000, 900),
        PmtudReply(node, link, 1000),
    ]


def rx_counts(link: NetworkLinkState) -> tuple[int, int, int, int]:
    stats = link.status().stats
    return (
        stats.rx_ping_packets,
        stats.rx_pong_packets,
        stats.rx_pmtu_packets,
        stats.rx_total_bytes,
    )


class TestRejected:
    async def test_a_host_that_is_not_known(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        for packet in control(0, node=9):
            world.receive(packet, address(2))
        assert world.context.counters.drops == {DropCause.UNKNOWN_HOST: 4}
        assert rx_counts(link) == (0, 0, 0, 0)

    async def test_a_link_that_is_not_there(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        for packet in control(3):
            world.receive(packet, address(2))
        assert world.context.counters.drops == {DropCause.UNKNOWN_LINK: 4}
        assert rx_counts(link) == (0, 0, 0, 0)

    async def test_one_that_names_a_link_it_may_not_speak_on(self) -> None:
        # CVE-2026-15812: who is accepted on link 0 must not act on link 1 by naming it.
        world = World()
        host = world.add_host()
        world.add_link(host, 0, dst=address(10))
        other = world.add_link(host, 1, dst=address(11))
        for packet in control(1):
            world.receive(packet, address(10))
        assert other.counters.drops == {DropCause.ACCESS_LIST: 4}
        assert world.context.counters.drops == {DropCause.ACCESS_LIST: 4}
        assert rx_counts(other) == (0, 0, 0, 0)
        assert world.endpoint.sent == []
        assert f"a packet from {address(10)} is refused by the access list" in other.explain()

    async def test_a_dynamic_link_is_not_taken_over_from_another_address(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=None)
        link.acl.append(AclEntry.address("198.51.100.7"))
        world.receive(Ping(2, 0, STAMP, 0, True), address(8))
        assert link.status().dst_ipaddr is None
        assert world.endpoint.sent == []
        world.prove(link, address(7))
        world.receive(Ping(2, 0, OTHER, 0, True), address(8))
        # Not even with a stamp that was sent there.
        sent = link.heartbeat.liveness.challenge_time(world.context.now())
        world.forge(link, world.stamp(link, sent, address(8)), address(8))
        assert link.destination == address(7)
        assert link.counters.drops == {DropCause.ACCESS_LIST: 3}

    async def test_without_access_lists_every_address_may_speak(self) -> None:
        world = World(access_lists=False)
        link = world.add_link(world.add_host(), dst=None)
        world.prove(link, address(8))

    async def test_a_disabled_link_stays_silent(self) -> None:
        world = World(access_lists=False)
        link = world.add_link(world.add_host(), dst=None)
        link.set_enabled(False)
        for packet in control(0):
            world.receive(packet, address(2))
        assert link.counters.drops == {DropCause.LINK_DISABLED: 4}
        assert world.endpoint.sent == []
        assert link.destination is None

    async def test_another_port_of_the_peer_does_not_answer_for_it(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        elsewhere = address(2)._replace(port=9999)
        sent = link.heartbeat.liveness.ping_time(world.context.now())
        world.forge(link, world.stamp(link, sent, elsewhere), elsewhere)
        world.receive(PmtudReply(2, 0, 1000), elsewhere)
        assert link.counters.drops == {DropCause.UNKNOWN_ADDRESS: 2}
        assert link.heartbeat.liveness.counted == 0


async def test_what_is_accepted_is_counted_with_its_size() -> None:
    world = World()
    link = world.add_link(world.add_host(), dst=address(2))
    for packet, size in zip(control(0), (26, 26, 900, 9), strict=True):
        receive_control(world.handle, packet, size, address(2))
    assert rx_counts(link) == (1, 1, 2, 961)


def newest(host: HostState) -> int | None:
    return host.inbound.newest


class TestPings:
    def source(self, world: World) -> HostState:
        host = world.add_host()
        world.add_link(host, dst=address(2))
        host.inbound.receive(Data(2, 500, 0, True, 1, 0, 0, b"x"))
        return host

    async def test_a_timed_one_with_number_0_starts_the_source_afresh(self) -> None:
        world = World()
        host = self.source(world)
        world.receive(Ping(2, 0, STAMP, 500, True), address(2))
        assert newest(host) == 500
        world.receive(Ping(2, 0, STAMP, 0, True), address(2))
        assert newest(host) is None
        # Once for each such number: data that came since stays.
        host.inbound.receive(Data(2, 1, 0, True, 1, 0, 0, b"x"))
        world.receive(Ping(2, 0, STAMP, 0, True), address(2))
        assert newest(host) == 1

    async def test_a_forced_one_only_if_no_data_came_in_between(self) -> None:
        world = World()
        host = self.source(world)
        world.receive(Ping(2, 0, STAMP, 8191, False), address(2))
        assert newest(host) == 500
        world.receive(Ping(2, 0, OTHER, 16382, False), address(2))
        assert newest(host) is None

    async def test_a_copy_of_one_that_could_is_refused(self) -> None:
        world = World()
        host = self.source(world)
        for ping in (Ping(2, 0, STAMP, 0, True), Ping(2, 0, OTHER, 8191, False)):
            world.receive(ping, address(2))
            host.inbound.receive(Data(2, 500, 0, True, 1, 0, 0, b"x"))
            world.receive(Ping(2, 0, b"one in between  ", 500, True), address(2))
            before = len(world.endpoint.sent)
            world.receive(ping, address(2))
            assert newest(host) == 500
            assert len(world.endpoint.sent) == before
        assert host.network_links[0].counters.drops == {DropCause.REPLAYED: 2}
        # Another link has pings of its own.
        world.add_link(host, 1, dst=address(3))
        world.receive(Ping(2, 1, STAMP, 0, True), address(3))
        assert host.network_links[1].counters.drops == {}

    async def test_one_from_another_port_starts_nothing_afresh(self) -> None:
        world = World()
        host = self.source(world)
        world.receive(Ping(2, 0, STAMP, 0, True), address(2)._replace(port=9999))
        assert newest(host) == 500


class TestTrouble:
    async def test_what_this_machine_says_takes_a_link_down_at_once(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        world.bring_up(link)
        world.trouble(address(2), errno.EHOSTUNREACH, local=True)
        assert not link.connected.is_on
        assert link.reason == "this machine reports for 198.51.100.2:5405: No route to host"
        assert link.counters.transitions[LinkCause.REFUSED] == 1

    async def test_what_the_network_says_is_a_reason_to_ask(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        world.bring_up(link)
        reason = link.reason
        world.trouble(address(2), errno.EHOSTUNREACH)
        assert link.connected.is_on
        assert link.reason == reason
        said = "the network reports for 198.51.100.2:5405: No route to host"
        assert link.heartbeat.doubt_reason == said
        assert f"  in doubt: {said}; pings are being sent to the peer" in link.explain()
        assert [type(packet) for packet in world.endpoint.packets()] == [Ping]
        world.pong(link)
        assert "in doubt" not in link.explain()

    async def test_concerns_the_links_of_that_endpoint_and_destination_only(self) -> None:
        world = World()
        elsewhere = FakeEndpoint()
        one = world.add_link(world.add_host(2), dst=address(2))
        two = world.add_link(world.add_host(3), dst=address(3))
        three = world.add_link(
            world.add_host(4), dst=address(2), send_socket=world.make_send_socket(elsewhere)
        )
        for link in (one, two, three):
            world.bring_up(link)
        world.trouble(address(2), errno.ECONNREFUSED, local=True)
        assert [link.connected.is_on for link in (one, two, three)] == [False, True, True]

    async def test_a_dynamic_link_that_forgets_its_peer_in_the_midst(self) -> None:
        world = World(access_lists=False)
        host = world.add_host()
        link = world.add_link(host, dst=None)
        world.prove(link, address(7))
        world.bring_up(link)
        world.trouble(address(7), errno.ECONNREFUSED, local=True)
        world.trouble(address(7), errno.ECONNREFUSED, local=True)
        assert link.destination is None
        assert not host.reachable.is_on


async def test_time_is_trios() -> None:
    world = World()
    assert abs(world.context.now() - trio.current_time()) < 1
