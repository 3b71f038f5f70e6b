"""Links that learn where their peer is: from its pongs, and from nothing else."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from knet_trio._core.acl import AclEntry
from knet_trio._core.admission import LinkPhase
from knet_trio._core.challenges import EVERY, RATE
from knet_trio._core.onwire import Packet, Ping, PmtudProbe, PmtudReply, Pong
from knet_trio._state.network_link import NetworkLinkState
from knet_trio.address import Address
from knet_trio.errors import DropCause
from tests.state.fakes import ME, Answerer, World, address, start

STAMP = bytes(16)
HOME, AWAY = address(7), address(8)


def stamp(number: int) -> bytes:
    """What the peer's pings carry."""
    return number.to_bytes(16, "big")


def ping(number: int, seq: int = 5, *, timed: bool = True) -> Ping:
    return Ping(2, 0, stamp(number), seq, timed)


def pong(number: int, seq: int = 5) -> Pong:
    """What ``ping`` is answered with."""
    return Pong(ME, 0, stamp(number), seq, timed=True)


def make(pong_count: int = 1) -> tuple[World, NetworkLinkState]:
    world = World(access_lists=False)
    return world, world.add_link(world.add_host(), dst=None, pong_count=pong_count)


def make_up() -> tuple[World, NetworkLinkState]:
    """One whose peer is at home, and whose path MTU is known."""
    world, link = make()
    world.prove(link, HOME)
    world.bring_up(link)
    link.path_mtu.discover(trio.current_time())
    world.reply(link)
    world.endpoint.sent.clear()
    return world, link


def sent_to(world: World, place: Address) -> list[Packet]:
    """What went there since the last call with any place."""
    packets = world.endpoint.packets(place)
    world.endpoint.sent.clear()
    return packets


def challenge(packets: list[Packet]) -> Ping:
    """The ping among them, of which there is one."""
    (only,) = [packet for packet in packets if isinstance(packet, Ping)]
    return only


def answer(world: World, link: NetworkLinkState, asked: Ping, source: Address) -> None:
    world.forge(link, asked.time, source)


class TestDown:
    async def test_is_silent_until_the_peer_speaks(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world, link = make()
        start(world, nursery)
        assert link.address.dynamic
        await trio.sleep(10)
        assert world.endpoint.sent == []
        assert link.status().dst_ipaddr is None
        assert not link.status().dynconnected
        world.receive(ping(1, 0), HOME)
        assert not link.status().dynconnected
        await link.connected.wait(True)
        assert link.destination == HOME
        assert (link.status().dst_ipaddr, link.status().dst_port) == HOME
        assert link.status().dynconnected
        assert {sent.destination for sent in world.endpoint.sent} == {HOME}
        nursery.cancel_scope.cancel()

    async def test_greets_a_ping_and_asks_whether_the_peer_is_there(self) -> None:
        world, link = make()
        world.receive(ping(1), HOME)
        greeting, question = world.endpoint.packets(HOME)
        assert greeting == pong(1)
        assert isinstance(question, Ping)
        assert question.timed
        assert (link.destination, link.heartbeat.counted) == (None, 0)
        assert world.handle.hosts[2].by_address == {}
        assert link.status().stats.rx_ping_packets == 1

    @pytest.mark.parametrize("pong_count", [1, 3])
    async def test_the_proof_counts_towards_pong_count(self, pong_count: int) -> None:
        world, link = make(pong_count)
        host = world.handle.hosts[2]
        world.receive(ping(1), HOME)
        answer(world, link, challenge(sent_to(world, HOME)), HOME)
        assert link.destination == HOME
        assert host.by_address == {HOME: link}
        assert world.handle.by_address.find(HOME) == (link,)
        assert (link.phase, link.heartbeat.counted) == (LinkPhase.ANSWERED, 1)
        # The ping was answered when it came.
        assert sent_to(world, HOME) == []
        for _ in range(pong_count - 1):
            world.pong(link)
            assert not link.connected.is_on
        world.pong(link)
        assert link.connected.is_on
        assert link.status().stats.rx_pong_packets == pong_count + 1

    async def test_goes_on_counting_where_the_peer_goes_meanwhile(self) -> None:
        world, link = make(pong_count=2)
        host = world.handle.hosts[2]
        world.prove(link, HOME)
        world.receive(ping(1), AWAY)
        assert link.destination == HOME
        answer(world, link, challenge(sent_to(world, AWAY)), AWAY)
        assert link.destination == AWAY
        assert host.by_address == {AWAY: link}
        assert world.handle.by_address.find(HOME) == ()
        assert link.heartbeat.counted == 2
        world.pong(link)
        assert link.connected.is_on

    async def test_the_numbers_of_the_peer_begin_anew_with_the_ping_that_was_answered(self) -> None:
        world, link = make()
        inbound = world.handle.hosts[2].inbound
        inbound.ping_received(500, timed=True, link=0)
        assert inbound.receive_whole(500)
        world.receive(ping(1, seq=0), HOME)
        asked = challenge(sent_to(world, HOME))
        assert inbound.newest == 500
        answer(world, link, asked, HOME)
        assert inbound.newest is None

    async def test_forgets_the_peer_when_it_goes_down(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world, link = make()
        answerer = start(world, nursery)
        host = world.handle.hosts[2]
        world.receive(ping(1, 0), HOME)
        await link.connected.wait(True)
        answerer.alive = False
        await link.connected.wait(False)
        assert link.destination is None
        assert host.by_address == host.admitted == {}
        assert len(world.handle.by_address) == 0
        before = len(world.endpoint.sent)
        await trio.sleep(10)
        assert len(world.endpoint.sent) == before
        nursery.cancel_scope.cancel()

    async def test_forgets_it_when_it_is_disabled_before_it_was_up(self) -> None:
        world, link = make(pong_count=3)
        host = world.handle.hosts[2]
        world.prove(link, HOME)
        link.set_enabled(False)
        assert link.destination is None
        assert host.by_address == {}
        assert len(world.handle.by_address) == 0
        link.set_enabled(True)
        assert link.phase is LinkPhase.SILENT

    async def test_a_static_link_stays_where_it_is(self) -> None:
        world = World(access_lists=False)
        link = world.add_link(world.add_host(), dst=HOME)
        world.receive(ping(1), AWAY)
        sent = link.heartbeat.liveness.challenge_time(trio.current_time())
        world.forge(link, world.stamp(link, sent, AWAY), AWAY)
        assert link.destination == HOME
        assert not link.address.dynamic
        assert world.endpoint.packets(HOME) == [pong(1)]
        assert world.endpoint.packets(AWAY) == []
        assert link.counters.drops == {DropCause.UNKNOWN_ADDRESS: 1}


class TestMoves:
    """The peer of a dynamic link that is up may have moved, or somebody has recorded its pings."""

    async def test_is_asked_where_it_seems_to_be_and_followed_when_it_answers(self) -> None:
        world, link = make_up()
        before = link.status().stats
        world.receive(ping(1), AWAY)
        assert link.destination == HOME
        (question,) = sent_to(world, AWAY)
        assert isinstance(question, Ping)
        answer(world, link, question, AWAY)
        assert link.destination == AWAY
        # What was asked from there is answered now, and the way there is searched.
        assert sent_to(world, AWAY) == [pong(1)]
        assert link.path_mtu.search.searching
        stats = link.status().stats
        assert stats.rx_ping_packets == before.rx_ping_packets + 1
        assert stats.rx_pong_packets == before.rx_pong_packets + 1
        assert link.connected.is_on

    async def test_may_ping_again_before_it_can_answer(self, autojump_clock: MockClock) -> None:
        world, link = make_up()
        world.receive(ping(1), AWAY)
        await trio.sleep(1)
        world.receive(ping(2), AWAY)
        first, second = sent_to(world, AWAY)
        assert isinstance(first, Ping)
        assert isinstance(second, Ping)
        answer(world, link, first, AWAY)
        assert link.destination == AWAY
        assert sent_to(world, AWAY) == [pong(2)]
        answer(world, link, second, AWAY)
        assert link.counters.drops == {}

    async def test_a_ping_from_elsewhere_changes_nothing(self) -> None:
        world, link = make_up()
        before = link.status()
        for number in range(8, 20):
            world.receive(ping(number, seq=0), address(number))
            world.receive(PmtudProbe(2, 0, 9000, 900), address(number))
        after = link.status()
        assert (after.dst_ipaddr, after.mtu) == (before.dst_ipaddr, before.mtu)
        assert not link.path_mtu.search.searching
        assert not link.heartbeat.liveness.suspect(trio.current_time() + 1)
        assert link.counters.drops == {DropCause.UNKNOWN_ADDRESS: 12}

    async def test_only_the_pong_to_that_question_from_there_counts(self) -> None:
        world, link = make_up()
        world.receive(ping(1), AWAY)
        question = challenge(sent_to(world, AWAY))
        now = trio.current_time()
        for proof, source in (
            # From another place, to a ping of the heartbeat, and to none.
            (question.time, address(9)),
            (world.stamp(link, link.heartbeat.liveness.ping_time(now), HOME), AWAY),
            (STAMP, AWAY),
            # Where the peer is known to be it says nothing.
            (question.time, HOME),
        ):
            world.forge(link, proof, source)
            assert link.destination == HOME
        causes = {DropCause.UNKNOWN_ADDRESS: 3, DropCause.UNEXPECTED_PONG: 1}
        assert link.counters.drops == causes

    async def test_a_proof_is_good_once(self) -> None:
        world, link = make_up()
        world.receive(ping(1), AWAY)
        question = challenge(sent_to(world, AWAY))
        answer(world, link, question, AWAY)
        world.receive(ping(2), HOME)
        answer(world, link, challenge(sent_to(world, HOME)), HOME)
        answer(world, link, question, AWAY)
        assert link.destination == HOME
        assert link.counters.drops == {DropCause.UNEXPECTED_PONG: 1}

    @pytest.mark.parametrize("up", [False, True])
    async def test_a_proof_that_is_late_moves_nothing(
        self, up: bool, autojump_clock: MockClock
    ) -> None:
        world, link = make_up() if up else make()
        world.receive(ping(1), AWAY)
        question = challenge(sent_to(world, AWAY))
        await trio.sleep(link.heartbeat.liveness.timeout + 0.01)
        answer(world, link, question, AWAY)
        assert link.destination == (HOME if up else None)
        assert link.counters.drops == {DropCause.UNEXPECTED_PONG: 1}

    async def test_an_answer_alone_moves_nothing(self) -> None:
        world, link = make()
        world.forge(link, STAMP, AWAY)
        world.receive(PmtudReply(2, 0, 1500), AWAY)
        assert link.destination is None
        assert link.counters.drops == {DropCause.UNKNOWN_ADDRESS: 2}

    async def test_the_ping_by_which_it_moved_may_be_a_copy(self) -> None:
        world, link = make_up()
        inbound = world.handle.hosts[2].inbound
        world.receive(ping(1, seq=0), HOME)
        inbound.ping_received(500, timed=True, link=0)
        assert inbound.receive_whole(500)
        world.endpoint.sent.clear()
        world.receive(ping(1, seq=0), AWAY)
        answer(world, link, challenge(sent_to(world, AWAY)), AWAY)
        assert link.destination == AWAY
        # It says nothing of the numbers, and is not answered.
        assert inbound.newest == 500
        assert [one for one in sent_to(world, AWAY) if not isinstance(one, PmtudProbe)] == []

    async def test_what_was_asked_before_it_went_down_is_still_a_proof(self) -> None:
        world, link = make_up()
        world.receive(ping(1), AWAY)
        question = challenge(sent_to(world, AWAY))
        link.take_down(trio.current_time(), "for the test")
        answer(world, link, question, AWAY)
        assert (link.destination, link.heartbeat.counted) == (AWAY, 1)

    async def test_but_not_what_was_asked_before_it_was_disabled(self) -> None:
        world, link = make_up()
        world.receive(ping(1), AWAY)
        question = challenge(sent_to(world, AWAY))
        link.set_enabled(False)
        link.set_enabled(True)
        answer(world, link, question, AWAY)
        assert link.destination is None
        assert link.counters.drops == {DropCause.UNEXPECTED_PONG: 1}

    async def test_a_pong_of_another_life_of_this_host_proves_nothing(self) -> None:
        before, link = make()
        before.receive(ping(1), HOME)
        recorded = challenge(sent_to(before, HOME))
        world, link = make()
        # The clock may be anywhere, so the time fits.
        link.heartbeat.liveness.challenge_time(trio.current_time() + 1)
        answer(world, link, recorded, HOME)
        assert (link.destination, link.heartbeat.counted) == (None, 0)
        static = world.add_link(world.add_host(3), dst=address(3))
        static.heartbeat.liveness.ping_time(trio.current_time() + 1)
        world.forge(static, recorded.time, address(3))
        assert static.heartbeat.counted == 0
        assert static.counters.drops == {DropCause.UNEXPECTED_PONG: 1}


class TestRecorded:
    """Pings that somebody has recorded, and sends again from elsewhere."""

    async def test_20_copies_a_second_do_not_hold_it_down(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world, link = make()
        peer = Answerer(world)
        # Only the peer's own address answers.
        world.endpoint.on_sent = lambda sent: peer.take(sent) if sent.destination == HOME else None
        nursery.start_soon(world.context.heartbeats.run)
        nursery.start_soon(peer.run)
        for tick in range(100):
            world.receive(ping(1), AWAY)
            if tick % 20 == 0:
                world.receive(ping(100 + tick), HOME)
            await trio.sleep(0.05)
        assert link.connected.is_on
        assert link.destination == HOME
        assert link.counters.drops == {DropCause.REPLAYED: 99}
        stats = link.status().stats
        assert (stats.up_count, stats.down_count) == (1, 0)
        # The first copy was taken for a ping, and no other.
        assert [type(one) for one in world.endpoint.packets(AWAY)] == [Pong, Ping]
        nursery.cancel_scope.cancel()

    @pytest.mark.parametrize("up", [False, True])
    async def test_a_copy_gets_nothing(self, up: bool, autojump_clock: MockClock) -> None:
        world, link = make_up() if up else make()
        world.receive(ping(1), AWAY)
        assert len(sent_to(world, AWAY)) == (1 if up else 2)
        for number in range(20, 120):
            await trio.sleep(1)
            world.receive(ping(1), address(number))
        assert world.endpoint.sent == []
        assert link.counters.drops == {DropCause.REPLAYED: 100}

    async def test_copies_that_come_first_do_not_keep_the_peer_out(
        self, autojump_clock: MockClock
    ) -> None:
        world, link = make_up()
        link.take_down(trio.current_time(), "for the test")
        for number in range(5):
            await trio.sleep(1)
            world.receive(ping(number), AWAY)
            world.endpoint.sent.clear()
            world.receive(ping(number), HOME)
            answer(world, link, challenge(sent_to(world, HOME)), HOME)
            assert link.destination == HOME
            link.take_down(trio.current_time(), "for the test")

    async def test_pings_from_elsewhere_do_not_make_those_of_the_peer_forgotten(
        self, autojump_clock: MockClock
    ) -> None:
        world, link = make_up()
        inbound = world.handle.hosts[2].inbound
        world.receive(ping(1, seq=0), HOME)
        inbound.ping_received(500, timed=True, link=0)
        assert inbound.receive_whole(500)
        for number in range(2, 2000):
            await trio.sleep(1)
            world.receive(ping(number, seq=0), AWAY)
        assert link.counters.drops == {}
        world.receive(ping(1, seq=0), HOME)
        assert link.counters.drops == {DropCause.REPLAYED: 1}
        assert inbound.newest == 500


class TestRate:
    @pytest.mark.parametrize("up", [False, True])
    async def test_is_bounded_for_all_places_together(
        self, up: bool, autojump_clock: MockClock
    ) -> None:
        world, link = make_up() if up else make()
        for number in range(200):
            world.receive(ping(number), Address("198.51.100.9", 1024 + number))
        each = 1 if up else 2
        assert len(world.endpoint.sent) == RATE * each
        assert link.counters.drops == {DropCause.RATE_LIMITED: 200 - RATE}
        assert link.status().stats.rx_ping_packets == RATE
        await trio.sleep(1)
        for number in range(200, 400):
            world.receive(ping(number), Address("198.51.100.9", 1024 + number))
        assert len(world.endpoint.sent) == 2 * RATE * each

    async def test_one_place_does_not_use_it_up(self) -> None:
        world, _ = make()
        for number in range(200):
            world.receive(ping(number), AWAY)
        assert len(sent_to(world, AWAY)) == 2
        world.receive(ping(200), HOME)
        assert len(sent_to(world, HOME)) == 2

    async def test_a_flood_does_not_keep_out_the_peer_that_comes_back(
        self, autojump_clock: MockClock
    ) -> None:
        world, link = make_up()
        link.take_down(trio.current_time(), "for the test")
        await trio.sleep(EVERY)
        for number in range(200):
            world.receive(ping(number), Address("198.51.100.9", 1024 + number))
        world.endpoint.sent.clear()
        world.receive(ping(200), HOME)
        answer(world, link, challenge(sent_to(world, HOME)), HOME)
        assert link.destination == HOME

    async def test_what_was_refused_for_it_is_no_copy_later(
        self, autojump_clock: MockClock
    ) -> None:
        world, link = make()
        world.receive(ping(1), HOME)
        world.receive(ping(2), HOME)
        assert link.counters.drops == {DropCause.RATE_LIMITED: 1}
        await trio.sleep(EVERY)
        world.endpoint.sent.clear()
        world.receive(ping(2), HOME)
        assert sent_to(world, HOME)[0] == pong(2)


class TestAccessLists:
    async def test_who_is_not_accepted_is_not_asked(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=None)
        world.receive(ping(1), HOME)
        assert world.endpoint.sent == []
        link.acl.append(AclEntry.address(HOME.host))
        world.receive(ping(1), HOME)
        assert [type(one) for one in world.endpoint.packets(HOME)] == [Pong, Ping]
        assert link.counters.drops == {DropCause.ACCESS_LIST: 1}

    async def test_who_is_not_accepted_any_more_does_not_prove_anything(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=None)
        link.acl.append(AclEntry.network("198.51.100.0/24"))
        world.receive(ping(1), HOME)
        question = challenge(sent_to(world, HOME))
        link.acl.clear()
        answer(world, link, question, HOME)
        assert link.destination is None
        assert link.counters.drops == {DropCause.ACCESS_LIST: 1}
