"""What a link makes of its connection: made, lost, of no use."""

from __future__ import annotations

import errno
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from knet_trio._core.acl import AclEntry
from knet_trio._core.onwire import Ping
from knet_trio._state.network_link import NetworkLinkState
from knet_trio._state.send_socket import Connections, SendSocket
from knet_trio._transport.sctp import SctpTransport
from knet_trio.abc import ConnectionChange
from knet_trio.address import ANY_PORT, Address
from knet_trio.status import LinkCause
from tests.state.fakes import FakeEndpoint, World, address, refusal

PEER: Final = address(2)
# Where what the peer has connected comes from.
SOURCE: Final = PEER._replace(port=ANY_PORT)
STAMP: Final = bytes(16)


class FakeConnection(FakeEndpoint):
    """A connection that is there when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.fault = "it is not connected yet"
        self.resets: list[str] = []

    def reset(self, reason: str) -> None:
        self.resets.append(reason)
        self.fault = reason


class FakeConnections(Connections):
    """Makes one connection for each place."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.made: dict[Address, FakeConnection] = {}

    def connect(self, send_socket: SendSocket, destination: Address) -> SendSocket:
        connection = self.made.setdefault(destination, FakeConnection())
        return self._world.make_send_socket(connection)

    def disconnect(self, send_socket: SendSocket) -> None:
        send_socket.endpoint.close()


class Connected:
    """A handle with one link over a connection."""

    def __init__(self, dst: Address | None = PEER) -> None:
        self.world = World()
        self.connections = FakeConnections(self.world)
        self.world.context.connections = self.connections
        self.host = self.world.add_host()
        self.link = self.world.add_link(self.host, dst=dst, pong_count=2, transport=SctpTransport())
        self.link.sender.connect()

    @property
    def connection(self) -> FakeConnection:
        endpoint = self.link.sender.send_socket.endpoint
        assert isinstance(endpoint, FakeConnection)
        return endpoint

    def change(self, is_up: bool, reason: str = "as the test wants it") -> None:
        """The connection is made, or lost."""
        self.connection.fault = None if is_up else reason
        self.report(is_up, reason)

    def report(self, is_up: bool, reason: str = "as the test wants it") -> None:
        self.link.connection_changed(ConnectionChange(PEER, is_up, reason))

    def pong(self, link: NetworkLinkState) -> None:
        """The peer answers, from the port that it has connected from."""
        sent = link.heartbeat.liveness.ping_time(self.world.context.now())
        self.world.forge(link, self.world.stamp(link, sent, SOURCE), SOURCE)

    def bring_up(self) -> None:
        self.change(True)
        for _ in range(3):
            self.pong(self.link)
        assert self.link.connected.is_on


class TestHeartbeat:
    async def test_pings_wait_for_the_connection_and_go_with_it(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        one = Connected()
        nursery.start_soon(one.world.context.heartbeats.run)
        await trio.sleep(5.3)
        assert not one.connection.sent
        assert not one.world.endpoint.sent
        assert one.link.status().stats.tx_ping_errors == 0
        one.change(True)
        await trio.sleep(0.01)
        assert len(one.connection.packets()) == 1
        assert isinstance(one.connection.packets()[0], Ping)

    async def test_one_over_which_nothing_is_answered_is_reset_in_time(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        one = Connected()
        nursery.start_soon(one.world.context.heartbeats.run)
        one.change(True)
        # A young link is given more time.
        await trio.sleep(4.5)
        assert not one.connection.resets
        await trio.sleep(3)
        (reason,) = one.connection.resets
        assert "no pong has come over it for" in reason
        assert reason in one.link.explain()

    async def test_one_that_has_just_been_made_is_not_taken_for_the_one_before(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        one = Connected()
        nursery.start_soon(one.world.context.heartbeats.run)
        one.bring_up()
        await one.link.connected.wait(False)
        assert len(one.connection.resets) == 1
        assert one.link.status().stats.transitions[LinkCause.NO_PONG]
        await trio.sleep(10)
        # There is another one, and whoever receives has not said so yet.
        one.connection.fault = None
        await trio.sleep(1.2)
        assert len(one.connection.resets) == 1
        one.report(True)
        await trio.sleep(0.1)
        assert len(one.connection.resets) == 1

    async def test_nor_after_it_was_lost(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        one = Connected()
        nursery.start_soon(one.world.context.heartbeats.run)
        one.bring_up()
        one.change(False)
        await trio.sleep(10)
        one.connection.fault = None
        await trio.sleep(1.2)
        assert not one.connection.resets


class TestChanges:
    async def test_a_link_that_is_up_goes_down_with_it(self) -> None:
        one = Connected()
        one.bring_up()
        one.change(False, "the peer has hung up")
        assert not one.link.connected.is_on
        assert one.link.reason == "the peer has hung up"
        stats = one.link.status().stats
        assert stats.transitions[LinkCause.DISCONNECTED] == 1
        assert (
            "down: the peer has hung up\n  the connection is tried every 1 s" in one.link.explain()
        )

    async def test_one_that_is_down_says_why_it_is_not_connected(self) -> None:
        one = Connected()
        one.change(False, "cannot connect")
        assert one.link.reason == "cannot connect"
        since = one.link.since
        one.change(False, "cannot connect")
        assert one.link.since == since
        stats = one.link.status().stats
        assert not any(stats.transitions.values())

    async def test_pongs_over_one_that_is_lost_count_no_more_whatever_it_is_lost_for(self) -> None:
        one = Connected()
        for _ in range(3):
            one.change(True)
            one.pong(one.link)
            one.pong(one.link)
            assert one.link.heartbeat.counted == 2
            one.change(False, "always the same")
            assert not one.link.heartbeat.counted

    @pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOTCONN, errno.ECONNRESET])
    async def test_what_is_sent_before_it_is_known_to_be_lost(
        self, number: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        one = Connected()
        one.bring_up()

        def refuse(datagram: bytes, destination: Address) -> None:
            raise refusal(number)

        one.connection.refuse = refuse
        result = one.link.sender.send_data([b"data"])
        assert [place for place, _ in result.refusals] == [0]
        assert one.link.status().stats.tx_data_errors == 1
        # Data may go over another link too meanwhile.
        assert one.link.heartbeat.suspect(one.world.context.now())
        assert "refuses" not in caplog.text
        one.change(False, "the peer has hung up")
        assert one.link.reason == "the peer has hung up"

    async def test_what_this_machine_refuses_otherwise(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        one = Connected()
        one.bring_up()

        def refuse(datagram: bytes, destination: Address) -> None:
            raise refusal(errno.ENOMEM)

        one.connection.refuse = refuse
        one.link.sender.send_data([b"data"])
        assert "this machine refuses to send: Cannot allocate memory" in caplog.text

    async def test_one_that_is_disabled_keeps_its_reason(self) -> None:
        one = Connected()
        one.link.set_enabled(False)
        reason = one.link.reason
        one.change(False, "cannot connect")
        assert one.link.reason == reason

    async def test_the_new_one_counts_for_nothing_until_pongs_come(self) -> None:
        one = Connected()
        one.bring_up()
        one.change(False)
        one.change(True)
        assert not one.link.connected.is_on
        one.bring_up()


class TestDynamic:
    async def test_who_asks_elsewhere_is_answered_there(self) -> None:
        one = Connected(dst=None)
        first, second = address(7), address(8)
        world, link = one.world, one.link
        link.acl.append(AclEntry.network("198.51.100.0/24"))
        assert link.sender.send_socket is link.sender.shared
        world.receive(Ping(link.host_id, link.link_id, STAMP, 0, True), first)
        # It goes to the listener, which knows who has connected from where.
        assert Ping in map(type, world.endpoint.packets(first))
        world.prove(link, first)
        assert one.connection is one.connections.made[first]
        one.connection.fault = None
        later = bytes([1]) * 16
        world.receive(Ping(link.host_id, link.link_id, later, 1, True), second)
        assert Ping in map(type, world.endpoint.packets(second))
        assert not one.connection.packets(second)
        world.prove(link, second)
        assert one.connections.made[first].closed
        assert one.connection is one.connections.made[second]
