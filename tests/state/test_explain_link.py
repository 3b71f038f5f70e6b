from __future__ import annotations

import errno

import pytest
import trio
from trio.testing import MockClock

from knet_trio._core.acl import AclEntry
from knet_trio._core.onwire import Ping, PmtudReply
from knet_trio._state.explain_link import explain_link
from knet_trio._state.network_link import NetworkLinkState
from knet_trio._state.send_socket import Connections, SendSocket
from knet_trio._transport.sctp import SctpTransport
from knet_trio.abc import ConnectionChange
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
        (line,) = explain_link(link).splitlines()
        assert line.startswith("link 3 to host 2 (192.0.2.1:5405 -> 198.51.100.2:5405) is up: ")
        assert "the peer answers pings" in line
        assert "searching for the path MTU" in line

    async def test_with_the_mtu_known(self, autojump_clock: MockClock) -> None:
        world, link = make()
        world.context.fixed_mtu = 1500
        world.bring_up(link)
        line = explain_link(link)
        assert f"{1500 - HEADERS - 26} bytes a packet (mtu = 1500 is set, set None to" in line
        assert "round trip 0.00 ms" in line

    async def test_old_trouble_is_over(self) -> None:
        world, link = make()
        link.counters.note("something", trio.current_time())
        world.bring_up(link)
        assert "something" not in explain_link(link)

    async def test_pings_that_were_lost(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world, link = make()
        nursery.start_soon(world.context.heartbeats.run)
        await trio.sleep(0.5)
        # Nobody is there yet.
        await trio.sleep(1)
        for _ in range(link.config.pong_count + 1):
            world.pong(link, link.heartbeat.liveness.next_ping - 1)
            await trio.sleep(1)
        assert link.connected.is_on
        assert link.status().loss == 0.25
        assert "not answered" not in explain_link(link)
        world.pong(link, link.heartbeat.liveness.next_ping - 1)
        # Of the pings that nobody answers, those that are older than the pong timeout are lost.
        await trio.sleep(4)
        assert "  50% of the last pings were not answered: the path loses" in explain_link(link)
        nursery.cancel_scope.cancel()

    async def test_how_often_it_went_down(self, autojump_clock: MockClock) -> None:
        world, link = make()
        world.bring_up(link)
        assert "went down" not in explain_link(link)
        link.take_down(trio.current_time(), "a first time")
        await trio.sleep(2)
        world.bring_up(link)
        assert "it went down once in 2.0 s, last because: a first time" in explain_link(link)
        link.take_down(trio.current_time(), "another time")
        world.bring_up(link)
        assert "it went down 2 times in 2.0 s, last because: another time" in explain_link(link)

    async def test_what_this_machine_refuses(self) -> None:
        world, link = make()
        link.counters.note("something", link.since - 1)
        world.bring_up(link)
        assert "something" not in explain_link(link)
        link.counters.note("something", trio.current_time() + 0.001)
        assert "something" in explain_link(link)

    async def test_timers_that_do_not_go_together(self) -> None:
        world, link = make()
        assert "pong_timeout" not in explain_link(link)
        link.set_timers(0.5, 0.5, 10)
        assert "pong_timeout" not in explain_link(link)
        link.set_timers(2.0, 0.5, 10)
        fault = (
            "  pong_timeout (0.5 s) is shorter than ping_interval (2 s), so the link goes down"
            " between two pings, or never comes up: change them with set_ping_timers"
        )
        assert fault in explain_link(link).splitlines()
        world.bring_up(link)
        assert fault in explain_link(link).splitlines()

    @pytest.mark.parametrize(
        ("interval", "longest", "name"),
        [(200, 1000, "ping_interval is 200 s"), (1, 3000, "pong_timeout is 3000 s")],
    )
    async def test_timers_in_milliseconds(self, interval: float, longest: float, name: str) -> None:
        _, link = make()
        link.set_timers(interval, longest, 10)
        fault = f"  {name}: give seconds, not milliseconds as in corosync.conf"
        assert fault in explain_link(link).splitlines()
        link.set_timers(99, 99, 10)
        assert "milliseconds" not in explain_link(link)

    async def test_but_fit_for_no_data(self) -> None:
        world, link = make()
        world.context.fixed_mtu = 50
        world.bring_up(link)
        assert not link.usable
        text = explain_link(link)
        assert "is up but carries no data" in text
        assert "firewalls and tunnels" in text


class TestDown:
    async def test_disabled(self) -> None:
        _, link = make()
        link.set_enabled(False)
        assert "is down: " in explain_link(link)
        assert "set enabled = True" in explain_link(link)
        link.set_enabled(True)
        assert "set enabled = True" not in explain_link(link)

    async def test_nobody_answers(self, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
        world, link = make()
        nursery.start_soon(world.context.heartbeats.run)
        await trio.sleep(0.5)
        assert "1 ping sent in 0.5 s, none answered" in explain_link(link)
        await trio.sleep(4.0)
        text = explain_link(link)
        assert "is down: it is enabled and has not come up yet" in text
        assert "5 pings sent in 4.5 s, none answered" in text
        assert "is the peer running" in text
        assert "pings of the peer arrive" not in text
        world.receive(Ping(2, 3, STAMP, 0, True), address(2))
        text = explain_link(link)
        assert "pings of the peer arrive here" in text
        assert "is the peer running" not in text
        nursery.cancel_scope.cancel()

    async def test_the_packets_of_the_peer_are_refused(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world, link = make()
        nursery.start_soon(world.context.heartbeats.run)
        await trio.sleep(1.5)
        for _ in range(2):
            refused = DropCause.NOT_AUTHENTIC, address(2), "no key opens it"
            world.context.refuse(*refused, link=link)
        lines = explain_link(link).splitlines()
        none = "  2 pings sent in 1.5 s, none answered"
        assert lines[1] == f"{none}; 2 packets of the peer arrived and were refused:"
        assert lines[2].startswith("  not_authentic x 2: ")
        await trio.sleep(10)
        # It may be gone since, or be cut off.
        assert "is the peer running" in explain_link(link)
        nursery.cancel_scope.cancel()

    async def test_no_ping_gets_out(self, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
        world, link = make()

        def refuse(*_: object) -> None:
            raise refusal(errno.ENETUNREACH)

        world.endpoint.refuse = refuse
        nursery.start_soon(world.context.heartbeats.run)
        await trio.sleep(3.25)
        text = explain_link(link)
        assert "no ping has left this machine" in text
        assert "0.2 s ago: this machine refuses to send: Network is unreachable" in text
        nursery.cancel_scope.cancel()

    async def test_on_its_way_up(self) -> None:
        world, link = make()
        world.pong(link)
        assert "1 of the 3 pongs in a row that it needs arrived" in explain_link(link)

    async def test_silence(self, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
        world, link = make()
        world.bring_up(link)
        nursery.start_soon(world.context.heartbeats.run)
        await link.connected.wait(False)
        await trio.sleep(2)
        text = explain_link(link)
        assert f"is down: {link.reason}" in text
        assert f"the last pong came {trio.current_time():.1f} s ago" in text
        nursery.cancel_scope.cancel()

    async def test_only_one_way_is_broken(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world, link = make()
        world.bring_up(link)
        nursery.start_soon(world.context.heartbeats.run)
        await link.connected.wait(False)
        assert "pings of the peer arrive" not in explain_link(link)
        world.receive(Ping(2, 3, STAMP, 0, True), address(2))
        assert (
            "pings of the peer arrive here (last 0.0 s ago): ours or its pongs are lost on"
            in explain_link(link)
        )
        nursery.cancel_scope.cancel()

    async def test_enabled_again_and_no_pong_since(self) -> None:
        world, link = make()
        world.bring_up(link)
        link.set_enabled(False)
        link.set_enabled(True)
        assert len(explain_link(link).splitlines()) == 1

    async def test_dynamic_and_nobody_has_spoken(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=None)
        text = explain_link(link)
        assert "-> no peer yet" in text
        assert "it sends nothing until a ping of its peer arrives; the peer's end must not" in text
        assert "its access list is empty: accept the peer with link.acl.append" in text
        link.acl.append(AclEntry.address("198.51.100.7"))
        assert "access list" not in explain_link(link)

    async def test_dynamic_and_who_pings_does_not_answer(self) -> None:
        world = World(access_lists=False)
        link = world.add_link(world.add_host(), dst=None)
        for number in range(3):
            world.receive(Ping(2, 0, number.to_bytes(16, "big"), 5, timed=True), address(7))
        text = explain_link(link)
        assert f"pings come from {address(7)}, which has not answered the ping sent there" in text
        assert "rate_limited x 2: a ping from 198.51.100.7:5405 is refused" in text
        assert "access list" not in text
        world.prove(link, address(7))
        assert "has not answered" not in explain_link(link)

    @pytest.mark.parametrize(
        ("source", "told"),
        [
            (
                address(3),
                "it has to come from 198.51.100.2:5405; compare addresses and ports on both sides",
            ),
            (
                Address("224.0.0.1", 5405),
                "a packet from 224.0.0.1:5405 is refused: a peer cannot have that address",
            ),
        ],
    )
    async def test_packets_from_elsewhere(self, source: Address, told: str) -> None:
        world = World(access_lists=False)
        link = world.add_link(world.add_host(), dst=address(2))
        world.receive(PmtudReply(2, 0, 1000), source)
        assert told in explain_link(link)

    async def test_what_the_access_list_says_of_it_now(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        world.receive(Ping(2, 0, bytes(16), 0, True), address(7))
        assert "access list: no entry matches that address;" in explain_link(link)
        entry = AclEntry.address("198.51.100.7")
        link.acl.append(AclEntry.network("198.51.100.4/30", accept=False))
        said = "entry 1, 198.51.100.4 to 198.51.100.7, rejects that address;"
        assert said in explain_link(link)
        link.acl.insert(0, entry)
        assert "entry 0, 198.51.100.7, now accepts that address;" in explain_link(link)

    async def test_the_peer_is_another_host_or_has_another_link(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        world.receive(Ping(3, 0, bytes(16), 0, True), address(2))
        world.receive(Ping(2, 1, bytes(16), 0, True), address(2))
        text = explain_link(link)
        assert (
            "unknown_host x 1: a packet from 198.51.100.2:5405 names host 3 as its sender, which"
            " the handle does not have: that should be host 2; compare the host ids on both sides"
            " (last 0.0 s ago)"
        ) in text
        assert (
            "unknown_link x 1: a packet from 198.51.100.2:5405 is for link 1 to host 2, which the"
            " handle does not have: that should be link 0; give the link the same id on both sides"
        ) in text
        # From elsewhere it says nothing of this link.
        world.receive(Ping(3, 0, bytes(16), 0, True), address(5))
        assert explain_link(link) == text

    async def test_its_pings_come_from_elsewhere(self) -> None:
        world, link = make()
        elsewhere = address(2)._replace(port=5406)
        world.receive(Ping(2, 3, STAMP, 0, True), elsewhere)
        assert (
            "pings that name its peer as sender come from 198.51.100.2:5406, but the link leads to"
            " 198.51.100.2:5405: compare addresses and ports on both sides (last 0.0 s ago)"
        ) in explain_link(link)
        world.receive(Ping(2, 3, STAMP, 0, True), address(2))
        assert "compare addresses" not in explain_link(link)
        world.receive(Ping(2, 3, STAMP, 0, True), elsewhere)
        world.bring_up(link)
        link.take_down(trio.current_time(), "it has to be")
        assert "compare addresses" not in explain_link(link)

    async def test_the_network_says_why(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world, link = make()
        world.trouble(address(2), errno.ECONNREFUSED)
        await trio.sleep(1.5)
        assert (
            "1.5 s ago: the network reports for 198.51.100.2:5405: Connection refused"
            in explain_link(link)
        )


class TestOverConnections:
    def make(self) -> tuple[World, NetworkLinkState]:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2), transport=SctpTransport())
        world.context.reconnect_interval = 0.5
        return world, link

    def lose(self, world: World, link: NetworkLinkState, words: str, number: int = 0) -> str:
        """There is no connection, and the link is told; what it explains then."""
        world.endpoint.fault = words
        link.connection_changed(ConnectionChange(address(2), False, words, number))
        return explain_link(link)

    def have_peer_connected(self, world: World) -> None:
        class FromEverywhere(Connections):
            def is_connected_from(self, send_socket: SendSocket, host: str) -> bool:
                return (send_socket, host) == (world.send_socket, address(2).host)

        world.context.connections = FromEverywhere()

    async def test_up(self) -> None:
        world, link = self.make()
        world.bring_up(link)
        text = explain_link(link)
        assert "(192.0.2.1:5405 -> 198.51.100.2:5405 over SCTP) is up" in text
        assert "65461 bytes a packet (SCTP fragments packets to fit the path)" in text
        assert (link.status().mtu, link.status().proto_overhead) == (65461, 74)
        world.context.fixed_mtu = 1500
        link.path_mtu.restart(trio.current_time())
        assert (link.status().mtu, link.status().proto_overhead) == (1426, 0)

    async def test_not_connected_yet(self) -> None:
        world, link = self.make()
        world.endpoint.fault = "198.51.100.2:5405 has not answered yet"
        text = explain_link(link)
        assert (
            "  there is no connection to the peer: 198.51.100.2:5405 has not answered yet; the"
            " connection is tried every 0.5 s"
        ) in text.splitlines()
        assert "does a firewall or address translation (NAT) on the path drop SCTP" in text
        assert "pings" not in text

    @pytest.mark.parametrize(
        ("number", "advice"),
        [
            (errno.ECONNREFUSED, 'the other way round, and transport="sctp" too?'),
            (errno.ENOPROTOOPT, "does not support SCTP: load it there (`modprobe sctp`)"),
            (errno.ETIMEDOUT, "is that machine up, or does a firewall"),
            (0, "is that machine up, or does a firewall"),
        ],
    )
    async def test_it_was_lost(self, number: int, advice: str) -> None:
        world, link = self.make()
        world.bring_up(link)
        text = self.lose(world, link, "it is gone", number)
        assert text.splitlines()[0].endswith(" is down: it is gone")
        assert "  the connection is tried every 0.5 s" in text.splitlines()
        assert advice in text
        # Nothing is said twice.
        assert text.count("it is gone") == 1

    async def test_this_machine_cannot_try(self) -> None:
        world, link = self.make()
        world.endpoint.fault = words = "cannot connect: Network is unreachable"
        change = ConnectionChange(address(2), False, words, errno.ENETUNREACH, True)
        link.connection_changed(change)
        self.have_peer_connected(world)
        text = explain_link(link)
        assert "  is 192.0.2.1 one of this machine's addresses, is the interface up" in text
        assert "on the path" not in text

    async def test_only_the_peer_has_connected(self) -> None:
        world, link = self.make()
        self.have_peer_connected(world)
        link.address.heard_peer_at = trio.current_time() - 0.5
        text = self.lose(world, link, "no answer", errno.ETIMEDOUT)
        assert (
            "  the peer has connected to 192.0.2.1:5405, and its pings arrive (last 0.5 s ago):"
            " packets the other way are dropped; allow SCTP to 198.51.100.2:5405 in firewalls"
        ) in text.splitlines()
        # Of pings of this host, and what became of them, nobody can say anything.
        assert text.count("pings") == 1

    async def test_it_was_just_lost(self) -> None:
        world, link = self.make()
        self.have_peer_connected(world)
        link.address.heard_peer_at = trio.current_time()
        text = self.lose(world, link, "it was reset", errno.ECONNRESET)
        assert "firewall" not in text

    async def test_what_the_peer_had_connected_is_silent(self) -> None:
        world, link = self.make()
        self.have_peer_connected(world)
        link.address.heard_peer_at = trio.current_time() - 10
        text = self.lose(world, link, "no answer", errno.ETIMEDOUT)
        assert "  the peer had connected to 192.0.2.1:5405, but no pings come over that" in text
        assert "is that machine up, or does a firewall or address translation" in text

    async def test_the_peer_has_fallen_silent(self, autojump_clock: MockClock) -> None:
        world, link = self.make()
        self.have_peer_connected(world)
        world.bring_up(link)
        await trio.sleep(3)
        link.take_down(trio.current_time(), "no pong")
        assert "does its program hang" in explain_link(link)
        link.address.heard_peer_at = trio.current_time()
        assert "does its program hang" not in explain_link(link)

    async def test_only_this_host_has_connected(self) -> None:
        world, link = self.make()
        assert "but none from it to 192.0.2.1:5405, over which it answers" in explain_link(link)
        self.have_peer_connected(world)
        text = explain_link(link)
        assert "none from it" not in text
        assert "none answered" in text


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        (DropCause.NOT_AUTHENTIC, "compare key, cipher, hash and model"),
        (DropCause.CLEAR_TRAFFIC, "allow_clear_traffic"),
        (DropCause.MALFORMED, "compare the crypto settings of both hosts"),
        (DropCause.WRONG_VERSION, "compare the crypto settings and the protocol versions"),
        (DropCause.ACCESS_LIST, "add an entry to link.acl that accepts it"),
        (DropCause.LINK_DISABLED, "set enabled = True"),
        (DropCause.SEND_FAILED, "the interface and the routes of this machine"),
        (DropCause.SEND_QUEUE_FULL, "too slow for the data"),
    ],
)
async def test_what_was_dropped_is_told_with_advice(cause: DropCause, advice: str) -> None:
    _, link = make()
    assert advice not in explain_link(link)
    link.counters.drop(cause, 3)
    line = next(line for line in explain_link(link).splitlines() if advice in line)
    assert line.startswith(f"  {cause.value} x 3: ")


async def test_what_says_nothing_of_the_link_is_left_out() -> None:
    _, link = make()
    link.counters.drop(DropCause.DUPLICATE)
    assert "duplicate" not in explain_link(link)
