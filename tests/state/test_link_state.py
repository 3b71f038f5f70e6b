from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio._core.admission import LinkPhase
from knet_trio._core.inquiry import PATIENCE
from knet_trio._core.onwire import Ping, PmtudProbe, Pong
from knet_trio._state.link import HISTORY
from knet_trio._state.network_link import NetworkLinkState
from knet_trio.address import Address
from knet_trio.config import CryptoConfig
from knet_trio.errors import DropCause
from knet_trio.events import LinkStatusChanged
from knet_trio.status import LinkCause
from tests.state.fakes import HEADERS, KEY, ME, World, address, refusal, start

STAMP = bytes(16)


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


def causes(link: NetworkLinkState) -> dict[LinkCause, int]:
    """How often it went up and down, without what never happened."""
    counted = link.status().stats.transitions
    assert list(counted) == list(LinkCause)
    return {cause: count for cause, count in counted.items() if count}


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
        await trio.sleep(0.03)
        world.add_link(
            world.add_host(), dst=address(2), ping_interval=interval, pong_timeout=20.0
        )  # fmt: skip
        await trio.sleep_until(interval * 20.5)
        # The first at once; then at the moments that all links of that interval share.
        first, *others = ping_times(world)
        assert first == pytest.approx(0.03)
        assert others == pytest.approx([i * interval for i in range(1, 21)])
        nursery.cancel_scope.cancel()

    async def test_a_ping_says_who_and_where_and_how_far(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        world.context.seq = 17
        start(world, nursery).alive = False
        link = world.add_link(world.add_host(), 3, dst=address(2))
        await trio.sleep(0.5)
        (sent,) = world.endpoint.sent
        (ping,) = world.endpoint.packets()
        assert isinstance(ping, Ping)
        assert ping._replace(time=b"") == Ping(ME, 3, b"", 17, timed=True)
        assert sent.destination == address(2)
        statistics = link.status().stats
        assert (statistics.tx_ping_packets, statistics.tx_ping_bytes) == (1, 26)
        nursery.cancel_scope.cancel()

    @pytest.mark.parametrize("pong_count", [1, 2, 5])
    async def test_comes_up_with_the_pong_after_pong_count(
        self, pong_count: int, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        start(world, nursery)
        link = world.add_link(world.add_host(), dst=address(2), pong_count=pong_count)
        await link.connected.wait(True)
        # The first ping goes out at 0, and an answer takes 0.01.
        assert trio.current_time() == pytest.approx(pong_count + 0.01)
        assert link.status().stats.rx_pong_packets == pong_count + 1
        assert reasons(world) == [(True, "the peer answers pings")]
        status = link.status()
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
        link = world.add_link(world.add_host(), dst=address(2), pong_timeout=1.5)
        await trio.sleep(30.5)
        answerer.alive = False
        await link.connected.wait(False)
        # The last pong came at 30.01; backoff has long fallen to 1.
        assert trio.current_time() == pytest.approx(30.01 + 1.5 + 2 * 0.01)
        (_, (connected, reason)) = reasons(world)
        assert not connected
        assert reason == "no pong for 1.520 s"
        stats = link.status().stats
        assert (stats.up_count, stats.down_count) == (1, 1)
        assert causes(link) == {LinkCause.ANSWERED: 1, LinkCause.NO_PONG: 1}
        assert len(stats.last_down_times) == 1
        assert not link.usable
        # It keeps its rhythm while it is down.
        await trio.sleep_until(40.5)
        assert ping_times(world) == pytest.approx(range(41))
        answerer.alive = True
        await link.connected.wait(True)
        assert trio.current_time() == pytest.approx(42.01)
        nursery.cancel_scope.cancel()

    async def test_new_timers_hold_from_now_on(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        start(world, nursery)
        link = world.add_link(world.add_host(), dst=address(2), ping_interval=10.0)
        await trio.sleep(0.5)
        link.set_timers(0.25, 1.0, 16)
        await trio.sleep(1.1)
        assert ping_times(world) == pytest.approx([0, 0.75, 1.0, 1.25, 1.5])
        link.set_enabled(False)
        link.set_timers(1.0, 1.0, 16)
        await trio.sleep(5)
        assert len(ping_times(world)) == 5
        nursery.cancel_scope.cancel()

    async def test_a_process_that_was_stopped_looks_first_at_what_came_meanwhile(
        self, autojump_clock: MockClock
    ) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2), ping_interval=0.5)
        world.bring_up(link)
        await trio.sleep(59.5)
        sent = link.heartbeat.liveness.ping_time(trio.current_time())
        # Nothing has run for a minute: neither the heartbeat nor the receiving of pongs.
        await trio.sleep(0.5)
        link.heartbeat.beat(trio.current_time())
        assert link.connected.is_on
        world.pong(link, sent)
        await trio.sleep(1.5)
        link.heartbeat.beat(trio.current_time())
        assert reasons(world) == [(True, "the peer answers pings")]

    async def test_but_not_for_long(self, autojump_clock: MockClock) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        world.bring_up(link)
        await trio.sleep(60)
        link.heartbeat.beat(trio.current_time())
        assert len(reasons(world)) == 1
        # As long as the pong timeout once more.
        for _ in range(2):
            assert link.connected.is_on
            await trio.sleep_until(link.heartbeat.liveness.deadline)
            link.heartbeat.beat(trio.current_time())
        ((connected, reason),) = reasons(world)
        assert not connected
        assert reason.startswith("no pong for 62.")

    async def test_a_late_or_strange_pong_is_not_counted(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2), pong_timeout=2.0)
        sent = link.heartbeat.liveness.ping_time(0.0)
        await trio.sleep(2.5)
        world.pong(link, sent)
        world.forge(link, b"\xff" * 16, address(2))
        assert link.counters.drops[DropCause.UNEXPECTED_PONG] == 2
        assert world.context.counters.drops[DropCause.UNEXPECTED_PONG] == 2
        assert not link.connected.is_on

    async def test_a_ping_is_answered_with_its_own_fields(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), 4, dst=address(2))
        world.receive(Ping(2, 4, b"0123456789abcdef", 99, timed=False), address(2))
        assert world.endpoint.packets() == [Pong(ME, 4, b"0123456789abcdef", 99, timed=False)]
        stats = link.status().stats
        assert (stats.rx_ping_packets, stats.rx_ping_bytes) == (1, 26)
        assert (stats.tx_pong_packets, stats.tx_pong_bytes) == (1, 26)


class TestEnabling:
    async def test_disabled_it_is_silent_and_down(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        start(world, nursery)
        link = world.add_link(world.add_host(), dst=address(2))
        await link.connected.wait(True)
        link.set_enabled(True)
        link.set_enabled(False)
        link.set_enabled(False)
        assert reasons(world) == [
            (True, "the peer answers pings"),
            (False, "it was disabled here"),
        ]
        before = len(world.endpoint.sent)
        await trio.sleep(30)
        assert len(world.endpoint.sent) == before
        # A timer that fires all the same finds nothing to do.
        link.heartbeat.beat(trio.current_time())
        link.path_mtu.discover(trio.current_time())
        assert len(world.endpoint.sent) == before
        nursery.cancel_scope.cancel()

    async def test_enabled_again_it_begins_anew(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        start(world, nursery)
        link = world.add_link(world.add_host(), dst=address(2), pong_count=3)
        await link.connected.wait(True)
        link.set_enabled(False)
        await trio.sleep_until(10.3)
        link.set_enabled(True)
        assert link.reason == "it is enabled and has not come up yet"
        await link.connected.wait(True)
        assert trio.current_time() == pytest.approx(13.01)
        nursery.cancel_scope.cancel()

    async def test_closing_ends_all_of_it(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        start(world, nursery)
        host = world.add_host()
        link = world.add_link(host, dst=address(2))
        await link.connected.wait(True)
        await wait_all_tasks_blocked()
        link.close()
        host.remove(link)
        with pytest.raises(trio.ClosedResourceError):
            await link.connected.wait(True)
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
    async def test_the_network_takes_it_down_if_it_does_not_answer(
        self, number: int, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        world.bring_up(link)
        nursery.start_soon(world.context.heartbeats.run)
        world.events()
        world.trouble(address(2), number)
        began = trio.current_time()
        assert link.connected.is_on
        await link.connected.wait(False)
        assert trio.current_time() - began == pytest.approx(PATIENCE, abs=0.01)
        nursery.cancel_scope.cancel()
        ((connected, reason),) = reasons(world)
        assert not connected
        assert reason == (
            f"the network reports for {address(2)}: {os.strerror(number)}, and the peer has not"
            f" answered a ping for 0.200 s"
        )
        assert causes(link) == {LinkCause.ANSWERED: 1, LinkCause.UNREACHABLE: 1}

    async def test_another_error_only_passes_by(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        world.bring_up(link)
        world.trouble(address(2), errno.EPROTO)
        world.trouble(address(3), errno.ECONNREFUSED)
        assert link.connected.is_on
        assert link.counters.trouble is None

    async def test_a_link_that_is_down_remembers_it(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        world.trouble(address(2), errno.ECONNREFUSED)
        assert link.counters.trouble is not None
        assert "refused" in link.counters.trouble.what
        assert link.reason == "it is enabled and has not come up yet"

    async def test_a_ping_the_system_refuses(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        start(world, nursery)
        world.endpoint.refuse = refuse_all(errno.ENETUNREACH)
        link = world.add_link(world.add_host(), dst=address(2))
        await trio.sleep(1.5)
        stats = link.status().stats
        # What was tried counts as sent.
        assert (stats.tx_ping_packets, stats.tx_ping_errors) == (2, 2)
        assert "no ping has left this machine" in link.explain()
        assert link.counters.trouble is not None
        assert "this machine refuses to send: Network is unreachable" in link.counters.trouble.what
        nursery.cancel_scope.cancel()

    async def test_a_ping_there_is_no_room_for_is_lost(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        start(world, nursery)
        world.endpoint.room = 0
        link = world.add_link(world.add_host(), dst=address(2))
        await trio.sleep(1.5)
        world.endpoint.give_room(10)
        await trio.sleep(1)
        stats = link.status().stats
        assert (stats.tx_ping_packets, stats.tx_ping_retries) == (1, 2)
        assert ping_times(world) == [2.0]
        nursery.cancel_scope.cancel()


class TestData:
    async def test_what_the_socket_says_is_counted(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        sender = link.sender
        sender.send_data([bytes(100)] * 3)
        world.endpoint.room = 1
        assert sender.send_data([b"x"] * 3) == (1, [])

        def refuse(_: bytes, __: object) -> None:
            raise refusal(errno.EPERM)

        world.endpoint.refuse = refuse
        world.endpoint.give_room(10)
        sender.send_socket.full = False
        (done, refusals) = sender.send_data([b"y"])
        assert (done, refusals[0].place, refusals[0].error.errno) == (1, 0, errno.EPERM)
        stats = link.status().stats
        assert (stats.tx_data_packets, stats.tx_data_bytes) == (5, 302)
        assert (stats.tx_data_retries, stats.tx_data_errors) == (2, 1)
        assert link.counters.trouble is not None

    async def test_too_large_a_datagram_starts_a_search(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2), pong_count=1)
        world.bring_up(link)
        link.path_mtu.discover(trio.current_time())
        world.reply(link)
        assert link.path_mtu.search.onwire == 65535
        world.endpoint.limit_mtu(1400)
        link.sender.send_data([bytes(2000)])
        assert link.path_mtu.search.searching
        last = world.endpoint.packets()[-1]
        assert isinstance(last, PmtudProbe)
        assert last.length == 1400 - HEADERS

    async def test_nothing_is_searched_while_it_is_down(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        world.endpoint.limit_mtu(1400)
        link.sender.send_data([bytes(2000)])
        assert world.endpoint.sent == []

    @pytest.mark.parametrize(("number", "suspect"), [(errno.EPERM, True), (errno.EMSGSIZE, False)])
    async def test_a_refusal_makes_the_link_suspect(self, number: int, suspect: bool) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))

        def refuse(_: bytes, __: object) -> None:
            raise refusal(number)

        world.endpoint.refuse = refuse
        link.sender.send_data([b"x"])
        assert link.heartbeat.liveness.suspect(trio.current_time()) is suspect


class TestLapse:
    """A peer that begins to answer, and then does not any more."""

    async def test_it_is_not_on_its_way_up_any_more(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2), pong_count=3)
        nursery.start_soon(world.context.heartbeats.run)
        await trio.sleep(0.5)
        world.pong(link, link.heartbeat.liveness.next_ping - 1)
        assert link.heartbeat.counted == 1
        # Young links have ten times the patience.
        await trio.sleep(15)
        assert link.heartbeat.counted == 0
        assert link.phase is LinkPhase.SILENT
        assert link.reason == "no pong came in time after the last one"
        nursery.cancel_scope.cancel()

    async def test_a_dynamic_link_forgets_where_it_was(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World(access_lists=False)
        link = world.add_link(world.add_host(), dst=None, pong_count=3)
        nursery.start_soon(world.context.heartbeats.run)
        world.prove(link, address(7))
        assert link.heartbeat.counted == 1
        await trio.sleep(30)
        assert link.phase is LinkPhase.SILENT
        assert link.destination is None
        pings = link.status().stats.tx_ping_packets
        await trio.sleep(10)
        assert link.status().stats.tx_ping_packets == pings
        nursery.cancel_scope.cancel()


class TestRefusals:
    """What this machine refuses to send."""

    @pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EPERM, errno.EINVAL])
    async def test_it_goes_down_while_that_lasts(
        self, number: int, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2), pong_timeout=60.0)
        world.bring_up(link)
        nursery.start_soon(world.context.heartbeats.run)
        world.endpoint.refuse = refuse_all(number)
        link.sender.send_data([b"data"])
        assert f"in doubt: this machine refuses to send: {os.strerror(number)}" in link.explain()
        began = trio.current_time()
        await link.connected.wait(False)
        assert trio.current_time() - began == pytest.approx(PATIENCE)
        assert link.reason.startswith(
            f"this machine refuses to send: {os.strerror(number)}, and no"
        )
        nursery.cancel_scope.cancel()

    @pytest.mark.parametrize("seconds", [0.01, 0.06, 0.15])
    async def test_a_moment_of_it_takes_nothing_down(
        self, seconds: float, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        """Refused pings have asked nobody, and use up none of those that are to ask."""
        world = World()
        link = world.add_link(world.add_host(), dst=address(2), pong_timeout=60.0)
        world.bring_up(link)
        nursery.start_soon(world.context.heartbeats.run)
        world.endpoint.refuse = refuse_all(errno.EPERM)
        # Until its own ping is refused too, within which that is questioned.
        await trio.sleep(seconds)
        link.sender.send_data([b"data"])
        world.endpoint.refuse = None
        world.endpoint.sent.clear()
        await trio.sleep(0.05)
        assert len(ping_times(world)) >= 1
        world.pong(link)
        await trio.sleep(1)
        assert link.status().stats.down_count == 0
        nursery.cancel_scope.cancel()

    async def test_what_is_said_of_it(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        world.bring_up(link)
        nursery.start_soon(world.context.heartbeats.run)
        world.endpoint.refuse = refuse_all(errno.EPERM)
        await link.connected.wait(False)
        assert link.reason.endswith("Operation not permitted, and no ping has left it for 0.200 s")
        assert causes(link) == {LinkCause.ANSWERED: 1, LinkCause.REFUSED: 1}
        world.receive(Ping(2, 0, STAMP, 5, timed=True), address(2))
        assert "pings of the peer arrive here (last 0.0 s ago): ours do not leave" in link.explain()
        nursery.cancel_scope.cancel()

    async def test_one_of_them_is_forgotten_when_the_peer_answers(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2), pong_timeout=60.0)
        world.bring_up(link)
        nursery.start_soon(world.context.heartbeats.run)
        world.endpoint.refuse = refuse_all(errno.EPERM)
        link.sender.send_data([b"data"])
        world.endpoint.refuse = None
        await trio.sleep(0.1)
        world.pong(link)
        await trio.sleep(1)
        assert link.connected.is_on
        nursery.cancel_scope.cancel()

    async def test_a_challenge_to_elsewhere_is_no_trouble_of_the_link(self) -> None:
        world = World(access_lists=False)
        link = world.add_link(world.add_host(), dst=None)
        world.prove(link, address(7))
        world.bring_up(link)
        world.endpoint.refuse = refuse_all(errno.ENETUNREACH)
        world.receive(Ping(2, 0, bytes(15) + b"1", 5, timed=True), address(8))
        assert link.connected.is_on
        assert not link.heartbeat.suspect(trio.current_time())
        assert link.counters.trouble is None


class TestReasons:
    """Why it is as it is, since when, and what was before."""

    async def test_of_a_link_that_goes_up_and_down(self, autojump_clock: MockClock) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        link.set_enabled(False)
        await trio.sleep(1)
        link.set_enabled(True)
        status = link.status()
        assert (status.reason, status.since) == ("it is enabled and has not come up yet", 1.0)
        await trio.sleep(1)
        world.bring_up(link)
        status = link.status()
        assert (status.reason, status.since) == ("the peer answers pings", 2.0)
        await trio.sleep(1)
        link.take_down(trio.current_time(), "it has to be")
        status = link.status()
        assert (status.reason, status.since) == ("it has to be", 3.0)
        await trio.sleep(1)
        # Down already, it is so for another reason now.
        link.set_enabled(False)
        status = link.status()
        assert (status.reason, status.since) == ("it was disabled here", 4.0)
        assert LinkCause.DISABLED not in causes(link)
        link.set_enabled(True)
        world.bring_up(link)
        link.set_enabled(False)
        assert causes(link)[LinkCause.DISABLED] == 1
        link.clear_statistics()
        assert causes(link) == {}
        assert list(link.history) == [
            (2.0, True, "the peer answers pings"),
            (3.0, False, "it has to be"),
            (4.0, True, "the peer answers pings"),
            (4.0, False, "it was disabled here"),
        ]

    async def test_is_bounded(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2), pong_count=1)
        for _ in range(HISTORY):
            world.bring_up(link)
            link.take_down(trio.current_time(), "again")
        assert len(link.history) == HISTORY
        assert not link.history[-1].connected

    @pytest.mark.parametrize("up", [True, False])
    async def test_a_link_that_is_removed_says_so(self, up: bool) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        if up:
            world.bring_up(link)
        link.close()
        assert link.status().reason == "it was removed"
        assert [reason for _, _, reason in link.history][1:] == ["it was removed"] * up

    async def test_the_end_of_the_handle_is_the_last(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        world.bring_up(link)
        link.end()
        assert link.history[-1][1:] == (False, "the handle has ended")


async def test_a_link_that_is_up_may_carry_no_data() -> None:
    world = World()
    world.context.fixed_mtu = 50
    link = world.add_link(world.add_host(), dst=address(2))
    world.bring_up(link)
    status = link.status()
    assert status.connected
    assert not status.carries_data


async def test_status_shows_both_ends() -> None:
    world = World()
    link = world.add_link(world.add_host(), dst=Address("198.51.100.2", 777))
    status = link.status()
    assert (status.src_ipaddr, status.src_port) == ("192.0.2.1", 5405)
    assert (status.dst_ipaddr, status.dst_port) == ("198.51.100.2", 777)
    assert status.enabled
    assert not status.connected
    assert not status.dynconnected
    assert status.pong_last is None


class TestControl:
    async def test_a_packet_that_cannot_be_sealed_is_counted(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = World(crypto=CryptoConfig(KEY))
        link = world.add_link(world.add_host(), dst=address(2))

        def fail(_: object) -> list[bytes]:
            raise OSError(errno.EIO, "no random bytes")

        monkeypatch.setattr(world.context.crypto.sealer, "seal", fail)
        link.heartbeat.ping(trio.current_time(), timed=True)
        assert world.endpoint.sent == []
        assert link.status().stats.tx_ping_errors == 1
        assert link.counters.trouble is not None

    async def test_the_last_fault_since_is_beside_it(self, autojump_clock: MockClock) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        link.counters.note("an old one", link.since - 1)
        reason = link.reason
        assert link.status().reason == reason
        link.counters.note("something", trio.current_time())
        assert link.status().reason == f"{reason}; last fault: something"
        await trio.sleep(1)
        world.context.refuse(DropCause.REPLAYED, address(2), link=link)
        assert link.status().reason == (
            f"{reason}; last fault: a copy of an earlier ping from {address(2)} is refused"
        )
        # That is no fault, but follows from the state of the link.
        world.context.refuse(DropCause.PEER_UNREACHABLE, link=link)
        assert link.status().reason.endswith("is refused")
        world.bring_up(link)
        assert link.status().reason == "the peer answers pings"
        await trio.sleep(1)
        link.counters.note("it has to be", trio.current_time())
        link.take_down(trio.current_time(), "it has to be")
        assert link.status().reason == "it has to be"
        link.set_enabled(False)
        link.counters.note("something", trio.current_time())
        assert link.status().reason == link.reason
