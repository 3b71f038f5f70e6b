"""Links of which the network says that their peer cannot be reached, which anybody can make it say.

The peer is really gone, held up, somewhere else, or there all the time.
"""

from __future__ import annotations

import errno
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio._core.inquiry import PATIENCE, PAUSE, PINGS
from knet_trio._core.onwire import Ping, PmtudProbe
from knet_trio._core.pmtud import ATTEMPTS
from knet_trio._state.network_link import NetworkLinkState
from knet_trio.config import LinkConfig
from knet_trio.status import LinkCause
from tests.state.fakes import HEADERS, Answerer, World, address, refusal, start

HOME: Final = address(2)
AWAY: Final = address(3)
SAID: Final = f"the network reports for {HOME}: Connection refused"
# One that the test has to wait for.
INTERVAL: Final = 10.0


class Scene(NamedTuple):
    """A link that is up and whose path MTU is known, and its peer. It pings seldom."""

    world: World
    link: NetworkLinkState
    answerer: Answerer


@asynccontextmanager
async def open_scene(*, dynamic: bool = False) -> AsyncGenerator[Scene]:
    world = World(access_lists=not dynamic)
    world.context.fixed_mtu = 1500
    async with trio.open_nursery() as nursery:
        answerer = start(world, nursery)
        dst = None if dynamic else HOME
        link = world.add_link(world.add_host(), dst=dst, ping_interval=INTERVAL, pong_timeout=60.0)
        if dynamic:
            world.prove(link, HOME)
        world.bring_up(link)
        await trio.sleep(1)
        world.endpoint.sent.clear()
        yield Scene(world, link, answerer)
        nursery.cancel_scope.cancel()


def pings(world: World) -> int:
    return sum(isinstance(packet, Ping) for packet in world.endpoint.packets())


class TestPeerIsThere:
    async def test_one_error_costs_a_ping_and_some_doubt(self, autojump_clock: MockClock) -> None:
        async with open_scene() as (world, link, answerer):
            assert not link.heartbeat.suspect(trio.current_time())
            world.trouble(HOME, errno.ECONNREFUSED)
            assert link.heartbeat.suspect(trio.current_time())
            assert pings(world) == 1
            await trio.sleep(2 * answerer.latency)
            assert not link.heartbeat.suspect(trio.current_time())
            await trio.sleep(5)
            assert pings(world) == 1
            assert link.status().stats.down_count == 0

    async def test_a_flood_makes_few_pings(self, autojump_clock: MockClock) -> None:
        async with open_scene() as (world, link, _):
            for number in range(2000):
                world.trouble(HOME, (errno.ECONNREFUSED, errno.EHOSTUNREACH)[number % 2])
                await trio.sleep(0.001)
            assert 2 / PAUSE - 1 <= pings(world) <= 2 / PAUSE + 1
            assert link.status().stats.down_count == 0

    async def test_its_loop_is_held_for_60_milliseconds(self, autojump_clock: MockClock) -> None:
        async with open_scene() as (world, link, answerer):
            answerer.latency = 0.06
            for _ in range(20):
                world.trouble(HOME, errno.ECONNREFUSED)
                await trio.sleep(0.1)
            assert link.status().stats.down_count == 0

    async def test_two_of_three_pings_are_lost(self, autojump_clock: MockClock) -> None:
        async with open_scene() as (world, link, answerer):
            answerer.alive = False
            world.trouble(HOME, errno.ECONNREFUSED)
            await trio.sleep(PATIENCE / 2 - 0.001)
            assert pings(world) == PINGS - 1
            answerer.alive = True
            await trio.sleep(1)
            assert link.status().stats.down_count == 0

    async def test_the_pings_find_no_room(self, autojump_clock: MockClock) -> None:
        """Nobody has been asked, so nobody is to blame."""
        async with open_scene() as (world, link, _):
            world.endpoint.room = 0
            world.trouble(HOME, errno.ECONNREFUSED)
            await trio.sleep(10 * PATIENCE)
            assert link.connected.is_on
            world.endpoint.give_room(1000)
            await trio.sleep(10 * PATIENCE)
            assert link.heartbeat.doubt_reason is None
            assert link.status().stats.down_count == 0

    async def test_its_answer_waits_in_the_socket(self, autojump_clock: MockClock) -> None:
        async with open_scene() as (world, link, answerer):
            answerer.alive = False
            world.trouble(HOME, errno.ECONNREFUSED)
            world.endpoint.unread = True
            await trio.sleep(10 * PATIENCE)
            assert link.connected.is_on
            world.pong(link)
            world.endpoint.unread = False
            await trio.sleep(10 * PATIENCE)
            assert link.status().stats.down_count == 0

    async def test_this_process_was_stopped(self, mock_clock: MockClock) -> None:
        """The time begins when the loop runs, and another ping goes out if it was under way."""
        clock = mock_clock
        clock.autojump_threshold = 0
        async with open_scene() as (world, link, answerer):
            clock.autojump_threshold = math.inf
            world.trouble(HOME, errno.ECONNREFUSED)
            answerer.alive = False
            for _ in range(PINGS):
                await wait_all_tasks_blocked()
                clock.jump(PATIENCE / 4)
            await wait_all_tasks_blocked()
            answerer.alive = True
            before = pings(world)
            clock.jump(30)
            await wait_all_tasks_blocked()
            assert pings(world) > before
            clock.jump(answerer.latency)
            await wait_all_tasks_blocked()
            assert link.heartbeat.doubt_reason is None
            assert link.status().stats.down_count == 0

    async def test_a_size_that_is_forged_is_not_believed(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        world = World()
        answerer = start(world, nursery)
        answerer.mtu = 1500
        link = world.add_link(world.add_host(), dst=HOME)
        world.bring_up(link)
        await trio.sleep(10)
        world.endpoint.sent.clear()
        before = link.status()
        for _ in range(100):
            world.trouble(HOME, errno.EMSGSIZE, 600)
            await trio.sleep(0.01)
        after = link.status()
        assert (after.mtu, after.proto_overhead) == (before.mtu, before.proto_overhead)
        assert world.handle.data_mtu == before.mtu
        sizes = [p.length + HEADERS for p in world.endpoint.packets() if isinstance(p, PmtudProbe)]
        assert sizes == [1500]
        # A true one is.
        await trio.sleep(1)
        answerer.mtu = 1400
        world.trouble(HOME, errno.EMSGSIZE, 1400)
        await trio.sleep(ATTEMPTS * 0.1 + 0.1)
        assert link.path_mtu.search.onwire == 1400
        nursery.cancel_scope.cancel()


class TestPeerIsGone:
    async def test_is_noticed_in_that_time(self, autojump_clock: MockClock) -> None:
        async with open_scene() as (world, link, answerer):
            answerer.alive = False
            began = trio.current_time()
            # Each ping is answered by an error, which prolongs nothing.
            while link.connected.is_on:
                world.trouble(HOME, errno.ECONNREFUSED)
                await trio.sleep(0.01)
            assert trio.current_time() - began < PATIENCE + 0.02
            assert pings(world) == PINGS
            assert link.reason == f"{SAID}, and the peer has not answered a ping for 0.200 s"
            assert link.reason in link.explain()
            assert link.status().stats.transitions[LinkCause.UNREACHABLE] == 1

    async def test_has_three_round_trips_if_that_is_more(self, autojump_clock: MockClock) -> None:
        async with open_scene() as (world, link, answerer):
            answerer.latency = 0.5
            await trio.sleep(20 * INTERVAL)
            answerer.alive = False
            world.trouble(HOME, errno.ECONNREFUSED)
            began = trio.current_time()
            await link.connected.wait(False)
            assert 1.2 < trio.current_time() - began <= 1.51

    async def test_the_machine_refuses_the_pings_too(self, autojump_clock: MockClock) -> None:
        async with open_scene() as (world, link, _):

            def refuse(*_: object) -> None:
                raise refusal(errno.EPERM)

            world.endpoint.refuse = refuse
            world.trouble(HOME, errno.ECONNREFUSED)
            began = trio.current_time()
            await link.connected.wait(False)
            assert trio.current_time() - began == pytest.approx(PATIENCE, abs=0.01)
            assert SAID in link.reason

    async def test_silence_names_the_error_too(self, autojump_clock: MockClock) -> None:
        async with open_scene() as (world, link, answerer):
            config: LinkConfig = link.config
            link.set_timers(config.ping_interval, 0.05, config.latency_samples)
            await trio.sleep(20)
            world.bring_up(link)
            await trio.sleep(10)
            world.bring_up(link)
            answerer.alive = False
            world.trouble(HOME, errno.ECONNREFUSED)
            began = trio.current_time()
            await link.connected.wait(False)
            assert trio.current_time() - began < PATIENCE
            assert link.reason.startswith(f"{SAID}, and the peer has not answered a ping for 0.")

    async def test_an_error_after_it_has_answered_is_looked_into_when_the_pause_is_over(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_scene() as (world, link, answerer):
            world.trouble(HOME, errno.ECONNREFUSED)
            await trio.sleep(0.05)
            assert link.heartbeat.doubt_reason is None
            answerer.alive = False
            world.trouble(HOME, errno.EHOSTUNREACH)
            began = trio.current_time()
            assert link.heartbeat.suspect(began)
            await link.connected.wait(False)
            assert trio.current_time() - began < PAUSE + PATIENCE
            assert "No route to host" in link.reason


class TestPeerHasMoved:
    """The NAT in front of it gave it another port, and the old one refuses."""

    async def test_its_next_ping_is_waited_for(self, autojump_clock: MockClock) -> None:
        async with open_scene(dynamic=True) as (world, link, answerer):
            answerer.alive = False
            world.trouble(HOME, errno.ECONNREFUSED)
            await trio.sleep(INTERVAL - 0.01)
            assert link.connected.is_on
            world.receive(Ping(2, 0, bytes(16), 5, timed=True), AWAY)
            (challenge,) = world.endpoint.packets(AWAY)
            assert isinstance(challenge, Ping)
            world.forge(link, challenge.time, AWAY)
            assert link.destination == AWAY
            # What was said of the old place is nothing to the new one.
            assert link.heartbeat.doubt_reason is None
            assert not link.heartbeat.suspect(trio.current_time())
            world.trouble(HOME, errno.ECONNREFUSED)
            assert link.heartbeat.doubt_reason is None
            answerer.alive = True
            await trio.sleep(3 * INTERVAL)
            assert link.status().stats.down_count == 0

    async def test_it_was_asked_before_the_old_port_refused(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_scene(dynamic=True) as (world, link, answerer):
            answerer.alive = False
            world.receive(Ping(2, 0, bytes(16), 5, timed=True), AWAY)
            (challenge,) = world.endpoint.packets(AWAY)
            assert isinstance(challenge, Ping)
            world.trouble(HOME, errno.ECONNREFUSED)
            world.forge(link, challenge.time, AWAY)
            assert link.destination == AWAY
            assert link.heartbeat.doubt_reason is None

    async def test_one_that_is_gone_is_missed_after_an_interval(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_scene(dynamic=True) as (world, link, answerer):
            answerer.alive = False
            world.trouble(HOME, errno.ECONNREFUSED)
            began = trio.current_time()
            await link.connected.wait(False)
            assert trio.current_time() - began == pytest.approx(INTERVAL + PATIENCE, abs=0.05)
            assert link.destination is None
