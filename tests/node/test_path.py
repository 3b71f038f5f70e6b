from __future__ import annotations

import errno
import math
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio.abc import PathTrouble
from knet_trio.address import Address
from knet_trio.config import CryptoConfig
from knet_trio.core.onwire import Ping, PmtudProbe, PmtudReply, Pong
from knet_trio.errors import DropCause
from knet_trio.events import DataMtuChanged, HostStatusChanged, LinkStatusChanged
from knet_trio.node.path import Path
from tests.node.fakes import HEADERS, KEY, ME, Answerer, Sent, World, address, refusal

STAMP = bytes(16)


def start(world: World, nursery: trio.Nursery) -> Answerer:
    """The tasks of a handle, and a peer that answers."""
    answerer = Answerer(world)
    nursery.start_soon(world.context.heartbeats.run)
    nursery.start_soon(world.context.discoveries.run)
    nursery.start_soon(answerer.run)
    return answerer


def ping_times(world: World) -> list[float]:
    return [
        sent.time
        for sent, packet in zip(world.endpoint.sent, world.endpoint.packets(), strict=True)
        if isinstance(packet, Ping)
    ]


def reasons(world: World) -> list[tuple[bool, str]]:
    return [
        (event.connected, event.reason)
        for event in world.events()
        if isinstance(event, LinkStatusChanged)
    ]


def refuse_all(number: int) -> Callable[[bytes, Address], None]:
    def refuse(_datagram: bytes, _destination: Address) -> None:
        raise refusal(number)

    return refuse


class TestHeartbeat:
    @pytest.mark.parametrize("interval", [0.1, 1.0, 7.5])
    async def test_pings_go_out_exactly_every_interval(
        self, interval: float, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        start(world, nursery)
        await trio.sleep(0.05)
        world.add_path(
            world.add_peer(), dst=address(2), ping_interval=interval, pong_timeout=20.0
        )  # fmt: skip
        await trio.sleep(interval * 20.5)
        assert ping_times(world) == pytest.approx([0.05 + i * interval for i in range(21)])
        nursery.cancel_scope.cancel()

    async def test_a_ping_says_who_and_where_and_how_far(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        world.context.seq = 17
        start(world, nursery).alive = False
        path = world.add_path(world.add_peer(), 3, dst=address(2))
        await trio.sleep(0.5)
        (sent,) = world.endpoint.sent
        (ping,) = world.endpoint.packets()
        assert isinstance(ping, Ping)
        assert ping._replace(time=b"") == Ping(ME, 3, b"", 17, timed=True)
        assert sent.destination == address(2)
        statistics = path.status().stats
        assert (statistics.tx_ping_packets, statistics.tx_ping_bytes) == (1, 26)
        nursery.cancel_scope.cancel()

    @pytest.mark.parametrize("pong_count", [1, 2, 5])
    async def test_comes_up_with_the_pong_after_pong_count(
        self, pong_count: int, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        start(world, nursery)
        path = world.add_path(world.add_peer(), dst=address(2), pong_count=pong_count)
        await path.connected.wait(True)
        # The first ping goes out at 0, and an answer takes 0.01.
        assert trio.current_time() == pytest.approx(pong_count + 0.01)
        assert path.status().stats.rx_pong_packets == pong_count + 1
        assert reasons(world) == [(True, "the peer answers pings")]
        status = path.status()
        assert status.connected
        assert status.latency == pytest.approx(0.01)
        assert status.pong_last == pytest.approx(trio.current_time())
        assert status.stats.up_count == 1
        assert len(status.stats.last_up_times) == 1
        nursery.cancel_scope.cancel()

    async def test_silence_takes_it_down_and_answers_up_again(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        answerer = start(world, nursery)
        path = world.add_path(world.add_peer(), dst=address(2), pong_timeout=1.5)
        await trio.sleep(30.5)
        answerer.alive = False
        await path.connected.wait(False)
        # The last pong came at 30.01; backoff has long fallen to 1.
        assert trio.current_time() == pytest.approx(30.01 + 1.5 + 2 * 0.01)
        (_, (connected, reason)) = reasons(world)
        assert not connected
        assert reason == "no pong for 1.520 s"
        stats = path.status().stats
        assert (stats.up_count, stats.down_count) == (1, 1)
        assert len(stats.last_down_times) == 1
        assert not path.usable
        # It keeps its rhythm while it is down.
        await trio.sleep_until(40.5)
        assert ping_times(world) == pytest.approx(range(41))
        answerer.alive = True
        await path.connected.wait(True)
        assert trio.current_time() == pytest.approx(42.01)
        nursery.cancel_scope.cancel()

    async def test_new_timers_hold_from_now_on(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        start(world, nursery)
        path = world.add_path(world.add_peer(), dst=address(2), ping_interval=10.0)
        await trio.sleep(0.5)
        path.set_timers(0.25, 1.0, 16)
        await trio.sleep(1.1)
        assert ping_times(world) == pytest.approx([0, 0.75, 1.0, 1.25, 1.5])
        path.set_enabled(False)
        path.set_timers(1.0, 1.0, 16)
        await trio.sleep(5)
        assert len(ping_times(world)) == 5
        nursery.cancel_scope.cancel()

    async def test_a_late_or_strange_pong_is_not_counted(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        path = world.add_path(world.add_peer(), dst=address(2), pong_timeout=2.0)
        stamp = path.liveness.stamp(0.0)
        await trio.sleep(2.5)
        world.pong(path, stamp)
        world.pong(path, b"\xff" * 16)
        assert path.drops[DropCause.UNEXPECTED_PONG] == 2
        assert world.context.counters.drops[DropCause.UNEXPECTED_PONG] == 2
        assert not path.connected.is_on

    async def test_a_ping_is_answered_with_its_own_fields(self) -> None:
        world = World()
        path = world.add_path(world.add_peer(), 4, dst=address(2))
        world.receive(Ping(2, 4, b"0123456789abcdef", 99, timed=False), address(2))
        assert world.endpoint.packets() == [Pong(ME, 4, b"0123456789abcdef", 99, timed=False)]
        stats = path.status().stats
        assert (stats.rx_ping_packets, stats.rx_ping_bytes) == (1, 26)
        assert (stats.tx_pong_packets, stats.tx_pong_bytes) == (1, 26)


class TestEnabling:
    async def test_disabled_it_is_silent_and_down(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        start(world, nursery)
        path = world.add_path(world.add_peer(), dst=address(2))
        await path.connected.wait(True)
        path.set_enabled(True)
        path.set_enabled(False)
        path.set_enabled(False)
        assert reasons(world) == [
            (True, "the peer answers pings"),
            (False, "it was disabled here"),
        ]
        before = len(world.endpoint.sent)
        await trio.sleep(30)
        assert len(world.endpoint.sent) == before
        # A timer that fires all the same finds nothing to do.
        path.heartbeat(trio.current_time())
        path.discover(trio.current_time())
        assert len(world.endpoint.sent) == before
        nursery.cancel_scope.cancel()

    async def test_enabled_again_it_begins_anew(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        start(world, nursery)
        path = world.add_path(world.add_peer(), dst=address(2), pong_count=3)
        await path.connected.wait(True)
        path.set_enabled(False)
        await trio.sleep_until(10.3)
        path.set_enabled(True)
        assert path.reason == "enabled, and no pong has come yet"
        await path.connected.wait(True)
        assert trio.current_time() == pytest.approx(13.31)
        nursery.cancel_scope.cancel()

    async def test_closing_ends_all_of_it(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        start(world, nursery)
        peer = world.add_peer()
        path = world.add_path(peer, dst=address(2))
        await path.connected.wait(True)
        await wait_all_tasks_blocked()
        world.endpoint.room = 0
        world.outbox.send(path, [b"a", b"b"])
        path.close()
        peer.remove(path)
        assert world.context.counters.drops[DropCause.SEND_FAILED] == 2
        with pytest.raises(trio.ClosedResourceError):
            await path.connected.wait(True)
        before = len(world.endpoint.sent)
        world.endpoint.give_room(100)
        await trio.sleep(100)
        assert len(world.endpoint.sent) == before
        nursery.cancel_scope.cancel()


class TestTrouble:
    @pytest.mark.parametrize(
        "number",
        [
            errno.ECONNREFUSED,
            errno.ECONNABORTED,
            errno.ENONET,
            errno.ENETUNREACH,
            errno.EHOSTUNREACH,
            errno.EHOSTDOWN,
            errno.ENETDOWN,
        ],
    )
    async def test_the_network_takes_it_down_at_once(self, number: int) -> None:
        world = World()
        path = world.add_path(world.add_peer(), dst=address(2))
        world.bring_up(path)
        world.events()
        world.trouble(address(2), number)
        assert not path.connected.is_on
        ((connected, reason),) = reasons(world)
        assert not connected
        assert "the network says" in reason
        assert str(address(2)) in reason

    async def test_another_error_only_passes_by(self) -> None:
        world = World()
        path = world.add_path(world.add_peer(), dst=address(2))
        world.bring_up(path)
        world.trouble(address(2), errno.EPROTO)
        world.trouble(address(3), errno.ECONNREFUSED)
        assert path.connected.is_on
        assert path.trouble is None

    async def test_a_link_that_is_down_remembers_it(self) -> None:
        world = World()
        path = world.add_path(world.add_peer(), dst=address(2))
        world.trouble(address(2), errno.ECONNREFUSED)
        assert path.trouble is not None
        assert "refused" in path.trouble.what
        assert path.reason == "enabled, and no pong has come yet"

    async def test_a_ping_the_system_refuses(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        start(world, nursery)
        world.endpoint.refuse = refuse_all(errno.ENETUNREACH)
        path = world.add_path(world.add_peer(), dst=address(2))
        await trio.sleep(1.5)
        stats = path.status().stats
        assert (stats.tx_ping_packets, stats.tx_ping_errors) == (0, 2)
        assert path.trouble is not None
        assert "this machine refuses to send: Network is unreachable" in path.trouble.what
        nursery.cancel_scope.cancel()

    async def test_a_ping_there_is_no_room_for_is_lost(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        start(world, nursery)
        world.endpoint.room = 0
        path = world.add_path(world.add_peer(), dst=address(2))
        await trio.sleep(1.5)
        world.endpoint.give_room(10)
        await trio.sleep(1)
        stats = path.status().stats
        assert (stats.tx_ping_packets, stats.tx_ping_retries) == (1, 2)
        assert ping_times(world) == [2.0]
        nursery.cancel_scope.cancel()


class TestData:
    async def test_what_the_socket_says_is_counted(self) -> None:
        world = World()
        path = world.add_path(world.add_peer(), dst=address(2))
        path.data_sent(3, 300)
        path.data_delayed(2)
        path.data_refused(refusal(errno.EPERM))
        assert path.drops == {}
        path.data_lost([refusal(errno.EPERM), refusal(errno.EAGAIN)])
        stats = path.status().stats
        assert (stats.tx_data_packets, stats.tx_data_bytes) == (3, 300)
        assert (stats.tx_data_retries, stats.tx_data_errors) == (2, 1)
        assert path.drops == {DropCause.SEND_FAILED: 1, DropCause.SEND_QUEUE_FULL: 1}
        assert path.trouble is not None

    async def test_too_large_a_datagram_starts_a_search(self) -> None:
        world = World()
        path = world.add_path(world.add_peer(), dst=address(2), pong_count=1)
        world.bring_up(path)
        path.discover(trio.current_time())
        world.receive(PmtudReply(2, 0, 65535), address(2))
        assert path.pmtud.onwire == 65535
        world.endpoint.limit_mtu(1400)
        path.data_refused(refusal(errno.EMSGSIZE))
        assert path.pmtud.searching
        last = world.endpoint.packets()[-1]
        assert isinstance(last, PmtudProbe)
        assert last.size == 1400

    async def test_nothing_is_searched_while_it_is_down(self) -> None:
        world = World()
        path = world.add_path(world.add_peer(), dst=address(2))
        path.data_refused(refusal(errno.EMSGSIZE))
        assert world.endpoint.sent == []

    @pytest.mark.parametrize(("number", "suspect"), [(errno.EPERM, True), (errno.EMSGSIZE, False)])
    async def test_a_refusal_makes_the_link_suspect(self, number: int, suspect: bool) -> None:
        world = World()
        path = world.add_path(world.add_peer(), dst=address(2))
        path.data_refused(refusal(number))
        assert path.liveness.suspect(trio.current_time()) is suspect


class TestPathMtu:
    async def discovered(self, world: World, nursery: trio.Nursery) -> tuple[Path, Answerer]:
        answerer = start(world, nursery)
        path = world.add_path(world.add_peer(), dst=address(2))
        await path.connected.wait(True)
        return path, answerer

    @pytest.mark.parametrize("mtu", [576, 1280, 1500, 9000, 65535])
    @pytest.mark.parametrize("tells", [True, False])
    async def test_is_what_the_kernel_takes(
        self, mtu: int, tells: bool, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        world.endpoint.limit_mtu(mtu, tells=tells)
        path, _ = await self.discovered(world, nursery)
        await trio.sleep(5)
        assert path.pmtud.onwire == mtu
        assert path.status().mtu == mtu - HEADERS - 26
        assert path.status().proto_overhead == HEADERS + 26
        assert world.node.data_mtu == mtu - HEADERS - 26
        stats = path.status().stats
        if tells and mtu < 65535:
            # It is refused once, told the size, and asks for that.
            assert (stats.tx_pmtu_errors, stats.tx_pmtu_packets) == (1, 1)
        assert path.trouble is None
        nursery.cancel_scope.cancel()

    @pytest.mark.parametrize("mtu", [576, 1000, 1473])
    async def test_is_what_the_path_takes_when_nobody_tells(
        self, mtu: int, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        world.endpoint.limit_mtu(1500)
        answerer = Answerer(world)
        answerer.mtu = mtu
        nursery.start_soon(world.context.heartbeats.run)
        nursery.start_soon(world.context.discoveries.run)
        nursery.start_soon(answerer.run)
        path = world.add_path(world.add_peer(), dst=address(2))
        await trio.sleep(30)
        assert path.pmtud.onwire == mtu
        assert answerer.lost
        nursery.cancel_scope.cancel()

    async def test_in_an_envelope_it_is_the_last_whole_block(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World(crypto=CryptoConfig(KEY))
        world.endpoint.limit_mtu(1500)
        path = world.add_path(world.add_peer(), dst=address(2))
        world.bring_up(path)
        nursery.start_soon(world.context.discoveries.run)
        await wait_all_tasks_blocked()
        # The peer cannot read clear probes here, so the test answers for it.
        with trio.fail_after(100):
            while path.pmtud.searching:
                for size in (1500, 1499, 1498):
                    path.reply_received(PmtudReply(2, 0, size), trio.current_time())
                await trio.sleep(0.1)
        # 1472 less salt and hash is 1424, 89 blocks; one byte at least is padding.
        assert path.status().mtu == 1424 - 1 - 26
        assert max(len(sent.datagram) for sent in world.endpoint.sent) == 1472
        nursery.cancel_scope.cancel()

    async def test_is_searched_again_every_interval(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World(pmtud_interval=30.0)
        world.endpoint.limit_mtu(1500)
        path, _ = await self.discovered(world, nursery)
        await trio.sleep(10)
        world.endpoint.limit_mtu(9000)
        await trio.sleep(10)
        assert path.pmtud.onwire == 1500
        await trio.sleep(20)
        assert path.pmtud.onwire == 9000
        nursery.cancel_scope.cancel()

    async def test_a_shorter_interval_counts_from_now(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World(pmtud_interval=3600.0)
        world.endpoint.limit_mtu(1500)
        path, _ = await self.discovered(world, nursery)
        await trio.sleep(10)
        world.endpoint.limit_mtu(9000)
        world.node.set_pmtud_interval(5.0)
        await trio.sleep(4.9)
        assert path.pmtud.onwire == 1500
        await trio.sleep(0.2)
        assert path.pmtud.onwire == 9000
        assert world.context.pmtud_interval == 5.0
        nursery.cancel_scope.cancel()

    async def test_the_interval_of_a_link_that_is_down_or_fixed(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World(fixed_mtu=1400)
        path = world.add_path(world.add_peer(), dst=address(2))
        path.set_pmtud_interval(5.0)
        assert path.pmtud.deadline == math.inf
        world.bring_up(path)
        path.set_pmtud_interval(6.0)
        assert path.pmtud.deadline == math.inf
        assert path.pmtud.interval == 6.0

    async def test_a_fixed_one_is_not_probed(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World(fixed_mtu=1400)
        path, _ = await self.discovered(world, nursery)
        await trio.sleep(200)
        assert path.status().mtu == 1400 - HEADERS - 26
        assert path.status().stats.tx_pmtu_packets == 0
        path.rediscover(trio.current_time())
        assert path.status().stats.tx_pmtu_packets == 0
        world.context.fixed_mtu = None
        world.node.restart_discovery()
        await trio.sleep(1)
        assert path.pmtud.onwire == 65535
        nursery.cancel_scope.cancel()

    async def test_a_narrower_path_the_network_tells_of_is_found_at_once(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World(pmtud_interval=3600.0)
        world.endpoint.limit_mtu(1500)
        path, answerer = await self.discovered(world, nursery)
        await trio.sleep(10)
        world.events()
        answerer.mtu = 1400

        # Each packet that is too large makes a router complain, the probes too.
        def relay(sent: Sent) -> None:
            answerer.take(sent)
            if len(sent.datagram) + HEADERS > 1400:
                nursery.start_soon(complain)

        async def complain() -> None:
            await trio.sleep(0.001)
            world.trouble(address(2), errno.EMSGSIZE, 1400)

        world.endpoint.on_sent = relay
        nursery.start_soon(complain)
        await trio.sleep(10)
        assert path.pmtud.onwire == 1400
        assert world.events() == [DataMtuChanged(1400 - HEADERS - 26)]
        nursery.cancel_scope.cancel()

    @pytest.mark.parametrize("mtu", [None, 1500, 9000])
    async def test_news_that_is_none_starts_no_search(
        self, mtu: int | None, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        world.endpoint.limit_mtu(1500)
        path, _ = await self.discovered(world, nursery)
        world.trouble(address(2), errno.EMSGSIZE, 1400)
        await trio.sleep(5)
        before = path.status().stats.tx_pmtu_packets
        world.trouble(address(2), errno.EMSGSIZE, mtu)
        assert not path.pmtud.searching
        assert path.status().stats.tx_pmtu_packets == before
        nursery.cancel_scope.cancel()

    async def test_what_else_is_on_the_error_queue_reaches_those_it_concerns(self) -> None:
        world = World()
        peer = world.add_peer()
        other = world.add_path(peer, 0, dst=address(3))
        world.bring_up(other)
        path = world.add_path(peer, 1, dst=address(2))
        world.bring_up(path)
        world.endpoint.limit_mtu(1500)
        world.endpoint.queue_trouble(PathTrouble(address(3), errno.ECONNREFUSED, None, False))
        # Not the size of this path.
        world.endpoint.queue_trouble(PathTrouble(address(4), errno.EMSGSIZE, 600, True))
        path.discover(trio.current_time())
        assert not other.connected.is_on
        last = world.endpoint.packets()[-1]
        assert isinstance(last, PmtudProbe)
        assert last.size == 1500

    async def test_trouble_of_its_own_ends_the_search(self) -> None:
        world = World()
        path = world.add_path(world.add_peer(), dst=address(2))
        world.bring_up(path)
        world.endpoint.limit_mtu(1500)
        world.endpoint.queue_trouble(PathTrouble(address(2), errno.ECONNREFUSED, None, False))
        path.discover(trio.current_time())
        assert not path.connected.is_on
        assert not path.pmtud.searching
        assert world.endpoint.packets() == []

    async def test_a_path_too_narrow_for_any_data(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        world.endpoint.limit_mtu(500)
        path, _ = await self.discovered(world, nursery)
        assert HostStatusChanged(2, True) in world.events()
        await trio.sleep(10)
        assert path.connected.is_on
        assert not path.usable
        assert path.status().mtu == 0
        assert HostStatusChanged(2, False) in world.events()
        nursery.cancel_scope.cancel()

    async def test_goes_back_to_the_minimum_when_it_goes_down(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        path, _ = await self.discovered(world, nursery)
        await trio.sleep(5)
        assert path.status().mtu == 65535 - HEADERS - 26
        path.take_down(trio.current_time(), "for the test")
        assert path.pmtud.onwire is None
        assert path.status().mtu == 576 - HEADERS - 26
        assert path.status().proto_overhead == 0
        nursery.cancel_scope.cancel()

    async def test_a_probe_is_answered_by_its_size_field(self) -> None:
        world = World()
        world.add_path(world.add_peer(), 2, dst=address(2))
        world.receive(PmtudProbe(2, 2, 0xBEEF, 1000), address(2))
        assert world.endpoint.packets() == [PmtudReply(ME, 2, 0xBEEF)]

    async def test_an_answer_nobody_asked_for(self) -> None:
        world = World()
        path = world.add_path(world.add_peer(), dst=address(2))
        world.bring_up(path)
        world.receive(PmtudReply(2, 0, 9000), address(2))
        assert path.drops[DropCause.UNEXPECTED_PMTUD_REPLY] == 1
        assert path.pmtud.onwire is None


class TestDynamic:
    async def test_is_silent_until_the_peer_speaks(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World(access_lists=False)
        start(world, nursery)
        path = world.add_path(world.add_peer(), dst=None)
        assert path.dynamic
        await trio.sleep(10)
        assert world.endpoint.sent == []
        assert path.status().dst_ipaddr is None
        assert not path.status().dynconnected
        world.receive(Ping(2, 0, STAMP, 0, True), address(7))
        assert path.destination == address(7)
        assert (path.status().dst_ipaddr, path.status().dst_port) == address(7)
        assert path.status().dynconnected
        await path.connected.wait(True)
        assert {sent.destination for sent in world.endpoint.sent} == {address(7)}
        nursery.cancel_scope.cancel()

    async def test_follows_the_peer(self) -> None:
        world = World(access_lists=False)
        peer = world.add_peer()
        path = world.add_path(peer, dst=None)
        for where in (address(7), address(8), address(8)):
            world.receive(Ping(2, 0, STAMP, 0, True), where)
            assert peer.by_address == {where: path}
            assert world.node.by_address == {where: path}

    async def test_forgets_the_peer_when_it_goes_down(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World(access_lists=False)
        answerer = start(world, nursery)
        peer = world.add_peer()
        path = world.add_path(peer, dst=None)
        world.receive(Ping(2, 0, STAMP, 0, True), address(7))
        await path.connected.wait(True)
        answerer.alive = False
        await path.connected.wait(False)
        assert path.destination is None
        assert peer.by_address == {}
        assert world.node.by_address == {}
        before = len(world.endpoint.sent)
        await trio.sleep(10)
        assert len(world.endpoint.sent) == before
        nursery.cancel_scope.cancel()

    async def test_a_static_link_stays_where_it_is(self) -> None:
        world = World(access_lists=False)
        path = world.add_path(world.add_peer(), dst=address(2))
        world.receive(Ping(2, 0, STAMP, 0, True), address(7))
        assert path.destination == address(2)
        assert not path.dynamic
        assert world.endpoint.sent[-1].destination == address(2)


async def test_status_shows_both_ends() -> None:
    world = World()
    path = world.add_path(world.add_peer(), dst=Address("198.51.100.2", 777))
    status = path.status()
    assert (status.src_ipaddr, status.src_port) == ("192.0.2.1", 5405)
    assert (status.dst_ipaddr, status.dst_port) == ("198.51.100.2", 777)
    assert status.enabled
    assert not status.connected
    assert not status.dynconnected
    assert status.pong_last is None


async def test_changing_the_envelope_searches_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world = World()
    start(world, nursery)
    path = world.add_path(world.add_peer(), dst=address(2))
    await path.connected.wait(True)
    await trio.sleep(5)
    world.events()
    world.context.crypto.set(CryptoConfig(KEY), 1)
    world.context.crypto.use(1)
    nursery.cancel_scope.cancel()
    world.endpoint.on_sent = None
    world.node.restart_discovery()
    assert path.pmtud.searching
    assert path.pmtud.sizes.envelope == world.context.envelope
    assert [type(event) for event in world.events()] == [DataMtuChanged]
