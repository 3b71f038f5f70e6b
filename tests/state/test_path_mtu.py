from __future__ import annotations

import errno
import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio._core.onwire import PmtudProbe, PmtudReply
from knet_trio._state.network_link import NetworkLinkState
from knet_trio.abc import PathTrouble
from knet_trio.config import CryptoConfig
from knet_trio.errors import DropCause
from knet_trio.events import DataMtuChanged, HostStatusChanged
from tests.state.fakes import HEADERS, KEY, ME, Answerer, Sent, World, address, start


class TestPathMtu:
    async def discovered(
        self, world: World, nursery: trio.Nursery
    ) -> tuple[NetworkLinkState, Answerer]:
        answerer = start(world, nursery)
        link = world.add_link(world.add_host(), dst=address(2))
        await link.connected.wait(True)
        return link, answerer

    @pytest.mark.parametrize("mtu", [576, 1280, 1500, 9000, 65535])
    @pytest.mark.parametrize("tells", [True, False])
    async def test_is_what_the_kernel_takes(
        self, mtu: int, tells: bool, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        world.endpoint.limit_mtu(mtu, tells=tells)
        link, _ = await self.discovered(world, nursery)
        await trio.sleep(5)
        assert link.path_mtu.search.onwire == mtu
        assert link.status().mtu == mtu - HEADERS - 26
        assert link.status().proto_overhead == HEADERS + 26
        assert world.handle.data_mtu == mtu - HEADERS - 26
        stats = link.status().stats
        if tells and mtu < 65535:
            # It is refused once, told the size, and asks for that. The refusal is no error.
            assert (stats.tx_pmtu_packets, stats.tx_pmtu_bytes) == (1, mtu - HEADERS)
        assert stats.tx_pmtu_errors == 0
        assert link.counters.trouble is None
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
        link = world.add_link(world.add_host(), dst=address(2))
        await trio.sleep(30)
        assert link.path_mtu.search.onwire == mtu
        assert answerer.lost
        nursery.cancel_scope.cancel()

    async def test_in_an_envelope_it_is_the_last_whole_block(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World(crypto=CryptoConfig(KEY))
        world.endpoint.limit_mtu(1500)
        link = world.add_link(world.add_host(), dst=address(2))
        world.bring_up(link)
        nursery.start_soon(world.context.discoveries.run)
        await wait_all_tasks_blocked()
        # The peer cannot read clear probes here, so the test answers for it.
        with trio.fail_after(100):
            while link.path_mtu.search.searching:
                world.reply(link)
                await trio.sleep(0.1)
        # 1472 less salt and hash is 1424, 89 blocks; one byte at least is padding.
        assert link.status().mtu == 1424 - 1 - 26
        assert max(len(sent.datagram) for sent in world.endpoint.sent) == 1472
        nursery.cancel_scope.cancel()

    async def test_is_searched_again_every_interval(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World(pmtud_interval=30.0)
        world.endpoint.limit_mtu(1500)
        link, _ = await self.discovered(world, nursery)
        await trio.sleep(10)
        world.endpoint.limit_mtu(9000)
        await trio.sleep(10)
        assert link.path_mtu.search.onwire == 1500
        await trio.sleep(20)
        assert link.path_mtu.search.onwire == 9000
        nursery.cancel_scope.cancel()

    async def test_a_shorter_interval_counts_from_now(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World(pmtud_interval=3600.0)
        world.endpoint.limit_mtu(1500)
        link, _ = await self.discovered(world, nursery)
        await trio.sleep(10)
        world.endpoint.limit_mtu(9000)
        world.handle.set_pmtud_interval(5.0)
        await trio.sleep(4.9)
        assert link.path_mtu.search.onwire == 1500
        await trio.sleep(0.2)
        assert link.path_mtu.search.onwire == 9000
        assert world.context.pmtud_interval == 5.0
        nursery.cancel_scope.cancel()

    async def test_the_interval_of_a_link_that_is_down_or_fixed(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World(fixed_mtu=1400)
        link = world.add_link(world.add_host(), dst=address(2))
        world.handle.set_pmtud_interval(5.0)
        assert link.path_mtu.search.deadline == math.inf
        world.bring_up(link)
        world.handle.set_pmtud_interval(6.0)
        assert link.path_mtu.search.deadline == math.inf
        assert link.path_mtu.search.interval == 6.0

    async def test_a_fixed_one_is_not_probed(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World(fixed_mtu=1400)
        link, _ = await self.discovered(world, nursery)
        await trio.sleep(200)
        assert link.status().mtu == 1400 - HEADERS - 26
        assert link.status().stats.tx_pmtu_packets == 0
        link.path_mtu.narrowed(1300, trio.current_time())
        link.path_mtu.hinted(1300, trio.current_time())
        assert link.status().stats.tx_pmtu_packets == 0
        world.context.fixed_mtu = None
        world.handle.restart_discovery()
        await trio.sleep(1)
        assert link.path_mtu.search.onwire == 65535
        nursery.cancel_scope.cancel()

    async def test_a_narrower_path_the_network_tells_of_is_found_at_once(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World(pmtud_interval=3600.0)
        world.endpoint.limit_mtu(1500)
        link, answerer = await self.discovered(world, nursery)
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
        assert link.path_mtu.search.onwire == 1400
        assert world.events() == [DataMtuChanged(1400 - HEADERS - 26)]
        nursery.cancel_scope.cancel()

    @pytest.mark.parametrize("mtu", [None, 1500, 9000])
    async def test_news_that_is_none_starts_no_search(
        self, mtu: int | None, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        world.endpoint.limit_mtu(1500)
        link, _ = await self.discovered(world, nursery)
        world.trouble(address(2), errno.EMSGSIZE, 1400)
        await trio.sleep(5)
        before = link.status().stats.tx_pmtu_packets
        world.trouble(address(2), errno.EMSGSIZE, mtu)
        assert not link.path_mtu.search.searching
        assert link.status().stats.tx_pmtu_packets == before
        nursery.cancel_scope.cancel()

    async def test_what_else_is_on_the_error_queue_reaches_those_it_concerns(self) -> None:
        world = World()
        host = world.add_host()
        other = world.add_link(host, 0, dst=address(3))
        world.bring_up(other)
        link = world.add_link(host, 1, dst=address(2))
        world.bring_up(link)
        world.endpoint.limit_mtu(1500)
        world.endpoint.queue_trouble(PathTrouble(address(3), errno.ECONNREFUSED, None, True))
        # Not the size of this path.
        world.endpoint.queue_trouble(PathTrouble(address(4), errno.EMSGSIZE, 600, True))
        link.path_mtu.discover(trio.current_time())
        assert not other.connected.is_on
        last = world.endpoint.packets()[-1]
        assert isinstance(last, PmtudProbe)
        assert last.length == 1500 - HEADERS

    async def test_trouble_of_its_own_ends_the_search(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        world.bring_up(link)
        world.endpoint.limit_mtu(1500)
        world.endpoint.queue_trouble(PathTrouble(address(2), errno.ECONNREFUSED, None, True))
        link.path_mtu.discover(trio.current_time())
        assert not link.connected.is_on
        assert not link.path_mtu.search.searching
        assert world.endpoint.packets() == []

    async def test_a_path_too_narrow_for_any_data(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        world.endpoint.limit_mtu(500)
        link, _ = await self.discovered(world, nursery)
        assert HostStatusChanged(2, True) in world.events()
        await trio.sleep(10)
        assert link.connected.is_on
        assert not link.usable
        assert link.status().mtu == 0
        assert HostStatusChanged(2, False) in world.events()
        nursery.cancel_scope.cancel()

    async def test_is_searched_again_when_the_peer_is_somewhere_else(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World(access_lists=False)
        start(world, nursery)
        link = world.add_link(world.add_host(), dst=None)
        world.prove(link, address(1))
        world.endpoint.limit_mtu(1500)
        await link.connected.wait(True)
        await trio.sleep(10)
        assert link.path_mtu.search.onwire == 1500
        world.endpoint.limit_mtu(1400)
        # The way back to where it was is another one again.
        for place in (2, 1):
            world.prove(link, address(place))
            assert link.path_mtu.search.searching
            assert link.path_mtu.search.onwire is None
        await trio.sleep(10)
        assert link.path_mtu.search.onwire == 1400
        nursery.cancel_scope.cancel()

    async def test_goes_back_to_the_minimum_when_it_goes_down(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        link, _ = await self.discovered(world, nursery)
        await trio.sleep(5)
        assert link.status().mtu == 65535 - HEADERS - 26
        link.take_down(trio.current_time(), "for the test")
        assert link.path_mtu.search.onwire is None
        assert link.status().mtu == 576 - HEADERS - 26
        assert link.status().proto_overhead == 0
        nursery.cancel_scope.cancel()

    async def test_a_probe_is_answered_by_its_size_field(self) -> None:
        world = World()
        world.add_link(world.add_host(), 2, dst=address(2))
        world.receive(PmtudProbe(2, 2, 0xBEEF, 1000), address(2))
        assert world.endpoint.packets() == [PmtudReply(ME, 2, 0xBEEF)]

    async def test_an_answer_nobody_asked_for(self) -> None:
        world = World()
        link = world.add_link(world.add_host(), dst=address(2))
        world.bring_up(link)
        world.receive(PmtudReply(2, 0, 9000), address(2))
        assert link.counters.drops[DropCause.UNEXPECTED_PMTUD_REPLY] == 1
        assert link.path_mtu.search.onwire is None


async def test_changing_the_envelope_searches_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world = World()
    start(world, nursery)
    link = world.add_link(world.add_host(), dst=address(2))
    await link.connected.wait(True)
    await trio.sleep(5)
    world.events()
    world.context.crypto.set(CryptoConfig(KEY), 1)
    world.context.crypto.use(1)
    nursery.cancel_scope.cancel()
    world.endpoint.on_sent = None
    world.handle.restart_discovery()
    assert link.path_mtu.search.searching
    assert link.path_mtu.search.sizes.envelope == world.context.envelope
    assert [type(event) for event in world.events()] == [DataMtuChanged]
