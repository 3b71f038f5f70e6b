from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from knet_trio._core.onwire import Ping
from knet_trio._core.sizes import minimum_data_mtu
from knet_trio._state.handle import FORCED_PING_EVERY
from knet_trio._state.network_link import NetworkLinkState
from knet_trio.config import CryptoConfig
from knet_trio.events import DataMtuChanged
from tests.state.fakes import HEADERS, KEY, ME, World, address


def mtu_events(world: World) -> list[int]:
    return [event.data_mtu for event in world.events() if isinstance(event, DataMtuChanged)]


def payload(onwire: int) -> int:
    return onwire - HEADERS - 26


def search(world: World, link: NetworkLinkState, onwire: int) -> None:
    """Let the path find out that it carries ``onwire`` bytes."""
    world.endpoint.limit_mtu(onwire)
    link.path_mtu.narrowed(None, world.context.now())
    link.path_mtu.discover(world.context.now())
    world.reply(link)
    # A search that began with what was known tries one step more.
    link.path_mtu.discover(world.context.now())
    assert link.path_mtu.search.onwire == onwire


class TestDataMtu:
    async def test_before_anything_is_known(self) -> None:
        world = World()
        assert world.handle.data_mtu == minimum_data_mtu(world.context.envelope) == 482

    async def test_in_an_envelope(self) -> None:
        world = World(crypto=CryptoConfig(KEY))
        # 508 bytes less 48 of salt and hash are 28 blocks, of which padding takes a byte.
        assert world.handle.data_mtu == 448 - 1 - 26

    async def test_is_the_smallest_in_use(self) -> None:
        world = World()
        one = world.add_link(world.add_host(2), dst=address(2))
        two = world.add_link(world.add_host(3), dst=address(3))
        for link, onwire in ((one, 9000), (two, 1500)):
            world.bring_up(link)
            search(world, link, onwire)
        assert world.handle.data_mtu == payload(1500)
        two.take_down(0.0, "for the test")
        assert world.handle.data_mtu == payload(9000)
        one.take_down(0.0, "for the test")
        assert world.handle.data_mtu == 482

    async def test_a_change_is_told_once(self) -> None:
        world = World()
        one = world.add_link(world.add_host(2), dst=address(2))
        two = world.add_link(world.add_host(3), dst=address(3))
        for link in (one, two):
            world.bring_up(link)
        for link in (one, two):
            search(world, link, 1500)
        assert mtu_events(world) == [payload(1500)]
        world.handle.update(world.handle.hosts[2])
        search(world, one, 1500)
        two.take_down(0.0, "for the test")
        assert mtu_events(world) == []
        search(world, one, 1400)
        one.take_down(0.0, "for the test")
        assert mtu_events(world) == [payload(1400), 482]

    async def test_the_smallest_path_there_is_ends_the_waiting_too(self) -> None:
        world = World()
        link = world.add_link(world.add_host(2), dst=address(2))
        world.bring_up(link)
        assert world.handle.data_mtu == 482
        search(world, link, 576)
        assert mtu_events(world) == [payload(576)]


async def test_a_removed_peer_holds_nobody_back() -> None:
    world = World()
    host = world.add_host(2)
    link = world.add_link(host, dst=address(2))
    world.bring_up(link)
    assert world.handle.by_address.get(address(2)) is link
    world.handle.remove(host)
    link.close()
    host.remove(link)
    assert len(world.handle.by_address) == 0
    assert list(world.handle.network_links()) == []
    assert world.handle.data_mtu == 482


class TestForcedPings:
    async def test_every_8191_messages_on_every_enabled_link(self) -> None:
        world = World()
        host = world.add_host()
        links = [world.add_link(host, link_id, dst=address(link_id)) for link_id in range(3)]
        links[1].set_enabled(False)
        for number in range(1, FORCED_PING_EVERY):
            assert world.handle.next_seqs(1)[0] == number
        assert world.endpoint.sent == []
        assert world.handle.next_seqs(1)[0] == FORCED_PING_EVERY
        pings = world.endpoint.packets()
        assert [(ping.link, ping.seq, ping.timed) for ping in pings if isinstance(ping, Ping)] == [
            (0, 8191, False),
            (2, 8191, False),
        ]
        assert {packet.node for packet in pings} == {ME}

    async def test_the_number_wraps_past_zero(self) -> None:
        world = World()
        world.add_link(world.add_host(), dst=address(2))
        world.context.seq = 0xFFFF - 1
        assert [world.handle.next_seqs(1)[0] for _ in range(3)] == [0xFFFF, 1, 2]
        # 65535 is no multiple of 8191.
        assert world.endpoint.sent == []

    async def test_all_eight_of_a_round(self) -> None:
        world = World()
        world.add_link(world.add_host(), dst=address(2))
        for _ in range(0xFFFF):
            world.handle.next_seqs(1)[0]
        assert [ping.seq for ping in world.endpoint.packets() if isinstance(ping, Ping)] == [
            8191 * i for i in range(1, 9)
        ]


class TestNumbersOfSeveral:
    def pings(self, world: World) -> list[int]:
        return [ping.seq for ping in world.endpoint.packets() if isinstance(ping, Ping)]

    def make(self, seq: int) -> World:
        """A world whose last message had that number."""
        world = World()
        world.add_link(world.add_host(), dst=address(2))
        world.context.seq = seq
        return world

    @pytest.mark.parametrize("before", [0, 1, 8000, 0x7000])
    async def test_they_count_up(self, before: int) -> None:
        world = self.make(before)
        assert list(world.handle.next_seqs(64)) == list(range(before + 1, before + 65))
        assert world.context.seq == before + 64
        assert self.pings(world) == []

    async def test_as_far_as_numbers_go(self) -> None:
        world = self.make(0xFFFF - 6)
        assert list(world.handle.next_seqs(6)) == list(range(0xFFFF - 5, 0x10000))
        assert list(world.handle.next_seqs(1)) == [1]
        assert self.pings(world) == []

    async def test_they_wrap_past_zero(self) -> None:
        world = self.make(0xFFFF - 2)
        assert list(world.handle.next_seqs(5)) == [0xFFFE, 0xFFFF, 1, 2, 3]
        assert list(world.handle.next_seqs(2)) == [4, 5]
        # Neither 65535 nor 0 is one of them.
        assert self.pings(world) == []

    @pytest.mark.parametrize("first", [-1, -32, -64])
    async def test_a_ping_is_forced_by_one_of_them(self, first: int) -> None:
        world = self.make(FORCED_PING_EVERY + first)
        world.handle.next_seqs(64)
        (ping,) = world.endpoint.packets()
        assert isinstance(ping, Ping)
        assert not ping.timed
        # It tells how far the host has got, which is past what forced it.
        assert FORCED_PING_EVERY <= ping.seq == world.context.seq

    @pytest.mark.parametrize("before", [FORCED_PING_EVERY - 65, FORCED_PING_EVERY])
    async def test_none_is_by_those_around_it(self, before: int) -> None:
        world = self.make(before)
        world.handle.next_seqs(64)
        assert self.pings(world) == []

    async def test_one_is_forced_by_what_wraps(self) -> None:
        world = self.make(0xFFFF - 8)
        world.handle.next_seqs(0x2000)
        assert len(self.pings(world)) == 1

    @pytest.mark.parametrize("count", [1, 7, 64, 1000])
    async def test_eight_pings_in_every_round(self, count: int) -> None:
        world = self.make(0)
        numbers: list[int] = []
        while len(numbers) < 0xFFFF + count:
            numbers += world.handle.next_seqs(count)
        assert numbers == [(i % 0xFFFF) + 1 for i in range(len(numbers))]
        assert len(self.pings(world)) == 8
        assert len(set(self.pings(world))) == 8


async def test_the_forced_pings_leave_the_scheduled_ones_alone(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world = World()
    world.add_link(world.add_host(), dst=address(2))
    nursery.start_soon(world.context.heartbeats.run)
    await trio.sleep(0.5)
    world.context.seq = FORCED_PING_EVERY - 1
    world.handle.next_seqs(1)[0]
    await trio.sleep(1)
    pings = [packet for packet in world.endpoint.packets() if isinstance(packet, Ping)]
    assert [sent.time for sent in world.endpoint.sent] == pytest.approx([0, 0.5, 1.0])
    assert [ping.timed for ping in pings] == [True, False, True]
    nursery.cancel_scope.cancel()
