"""What concerns one link costs the same with many hosts; what concerns all is cut up."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from types import FrameType

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio._core.onwire import Ping, PmtudProbe
from knet_trio._core.pmtud import ATTEMPTS
from knet_trio._core.policy import LinkPolicy
from knet_trio._state.chores import AT_ONCE
from knet_trio._state.control import receive_troubles
from knet_trio._state.handle import FORCED_PING_EVERY
from knet_trio._state.network_link import NetworkLinkState
from knet_trio._state.turns import counted_turns
from knet_trio.abc import PathTrouble
from knet_trio.address import Address
from knet_trio.config import CryptoConfig, DefragBuffers
from knet_trio.events import DataMtuChanged
from tests.state.fakes import HEADERS, KEY, World, address

FEW = 3
MANY = 150


def make(
    hosts: int, *, up: bool = True, ports: bool = False
) -> tuple[World, list[NetworkLinkState]]:
    """A world with a link to each host; its turns end after so many pieces of work.

    With ``ports`` the hosts have the same address, and ports of their own.
    """
    with counted_turns():
        world = World(fixed_mtu=1500)
    links = [
        world.add_link(
            world.add_host(number),
            dst=address(2)._replace(port=5000 + number) if ports else address(number),
        )
        for number in range(2, 2 + hosts)
    ]
    if up:
        for link in links:
            world.bring_up(link)
    world.events()
    world.endpoint.sent.clear()
    return world, links


def calls(action: Callable[[], object]) -> int:
    """How many calls of functions ``action`` makes, those of built-in ones too."""
    made = 0

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(before)
    return made


def go_down(world: World, link: NetworkLinkState) -> None:
    assert link.connected.is_on
    world.trouble(address(2), errno.ECONNREFUSED, local=True)
    assert not link.connected.is_on


def be_doubted(world: World, link: NetworkLinkState) -> None:
    world.trouble(address(2), errno.ECONNREFUSED)
    assert link.heartbeat.doubt_reason is not None


def stay_down(world: World, link: NetworkLinkState) -> None:
    link.set_enabled(False)
    world.trouble(address(2), errno.ECONNREFUSED)


def go_up(world: World, link: NetworkLinkState) -> None:
    link.set_enabled(False)
    link.set_enabled(True)
    world.bring_up(link)


def narrow(world: World, link: NetworkLinkState) -> None:
    world.context.fixed_mtu = 1400
    link.path_mtu.restart(world.context.now())


def follow(_: World, link: NetworkLinkState) -> None:
    link.follow(address(250))


def remove(world: World, link: NetworkLinkState) -> None:
    host = world.handle.hosts[2]
    world.handle.remove(host)
    link.close()
    host.remove(link)


def add(world: World, _: NetworkLinkState) -> None:
    world.add_link(world.add_host(300), dst=address(251))


def rename(world: World, _: NetworkLinkState) -> None:
    world.handle.rename(world.handle.hosts[2], "another")
    assert world.handle.find("another") is world.handle.hosts[2]
    assert world.handle.find("host2") is None


@pytest.mark.parametrize(
    "change", [go_down, be_doubted, stay_down, go_up, narrow, follow, remove, add, rename]
)
async def test_one_link_costs_the_same_among_many(
    change: Callable[[World, NetworkLinkState], None],
) -> None:
    made: list[int] = []
    for hosts in (FEW, FEW, MANY):
        world, links = make(hosts)
        made.append(calls(lambda w=world, link=links[0]: change(w, link)))  # type: ignore[misc]
    # The first time, something may be imported or cached.
    assert made[2] <= made[1] + 10


class TestTroubles:
    async def test_they_concern_all_links_that_lead_there_and_no_other(self) -> None:
        world = World()
        hosts = [world.add_host(number) for number in (2, 3, 4)]
        places = address(7), address(7), address(8)
        links = [world.add_link(host, dst=place) for host, place in zip(hosts, places, strict=True)]
        for link in links:
            world.bring_up(link)
        world.trouble(address(7), errno.ECONNREFUSED, local=True)
        assert [link.connected.is_on for link in links] == [False, False, True]

    async def test_a_socket_tells_only_of_its_own_links(self) -> None:
        world = World()
        here = world.add_link(world.add_host(2), dst=address(7))
        outbox = world.make_send_socket(type(world.endpoint)())
        there = world.add_link(world.add_host(3), dst=address(7), send_socket=outbox)
        for link in (here, there):
            world.bring_up(link)
        world.trouble(address(7), errno.ECONNREFUSED, local=True)
        assert (here.connected.is_on, there.connected.is_on) == (False, True)

    async def test_an_address_that_several_have_stays_with_the_others(self) -> None:
        world = World()
        first, second = (world.add_host(number) for number in (2, 3))
        one, two = (world.add_link(host, dst=address(7)) for host in (first, second))
        assert world.handle.by_address.get(address(7)) is two
        two.close()
        second.remove(two)
        assert world.handle.by_address.get(address(7)) is one

    async def test_many_at_once_are_acted_on_in_turns(self, nursery: trio.Nursery) -> None:
        world, links = make(MANY)
        receive_troubles(world.handle, world.endpoint, trouble_all(links, local=True))
        assert sum(not link.connected.is_on for link in links) == AT_ONCE
        await work_off(world, nursery)
        assert not any(link.connected.is_on for link in links)

    async def test_a_flood_waits_as_one(self, nursery: trio.Nursery) -> None:
        world, links = make(MANY)
        for _ in range(50):
            for number in (errno.ECONNREFUSED, errno.EHOSTUNREACH):
                reports = trouble_all(links, number, local=True)
                receive_troubles(world.handle, world.endpoint, reports)
        assert len(world.handle.troubles) <= 2 * MANY
        await work_off(world, nursery)
        assert not any(link.connected.is_on for link in links)
        assert world.handle.troubles == {}

    async def test_what_concerns_no_link_does_not_wait(self) -> None:
        world, links = make(MANY)
        nowhere = [Address(f"203.0.113.{number}", 7) for number in range(250)]
        receive_troubles(world.handle, world.endpoint, trouble_all(links))
        waiting = len(world.handle.troubles)
        reports = [PathTrouble(place, errno.ECONNREFUSED, None, False) for place in nowhere]
        # Neither do errors that mean nothing, and sizes that nobody knows or that no path has.
        reports += trouble_all(links, errno.EACCES)
        reports += trouble_all(links, errno.EMSGSIZE)
        reports += trouble_all(links, errno.EMSGSIZE, 300)
        receive_troubles(world.handle, world.endpoint, reports)
        assert len(world.handle.troubles) == waiting

    async def test_no_flood_makes_more_wait_than_the_links_allow(
        self, nursery: trio.Nursery
    ) -> None:
        world, links = make(FEW)
        reports = [
            PathTrouble(to, number, mtu, local)
            for place in (link.destination for link in links)
            if place is not None
            for to in (place, place._replace(port=0), place._replace(port=1))
            for number in range(1, 134)
            for mtu in (None, *range(500, 1500, 50))
            for local in (False, True)
        ]
        for _ in range(2):
            receive_troubles(world.handle, world.endpoint, reports)
        # Eight kinds of errors from here or elsewhere, with and without the port.
        assert len(world.handle.troubles) == 8 * 2 * 2 * FEW
        nursery.start_soon(world.context.chores.run)
        await wait_all_tasks_blocked()
        assert world.handle.troubles == {}
        nursery.cancel_scope.cancel()

    async def test_the_smallest_mtu_counts(self, nursery: trio.Nursery) -> None:
        world, links = make_searched(MANY)
        for mtu in (1400, 1300, 1350):
            receive_troubles(
                world.handle, world.endpoint, trouble_all(links, errno.EMSGSIZE, mtu, local=True)
            )
        assert len(world.handle.troubles) == MANY
        await work_off(world, nursery)
        assert {link.path_mtu.search.onwire for link in links} == {1300}

    async def test_nonsense_takes_the_place_of_no_true_size(self, nursery: trio.Nursery) -> None:
        world, links = make_searched(MANY)
        last = links[-1]
        for mtu in (1400, 300, None):
            receive_troubles(world.handle, world.endpoint, trouble_all(links, errno.EMSGSIZE, mtu))
        await work_off(world, nursery)
        assert last.destination is not None
        # What it has found itself is asked for first, and then what was said.
        search = last.path_mtu.search
        for _ in range(ATTEMPTS):
            last.path_mtu.discover(search.deadline)
        assert onwire_sizes(world, last.destination) == [1500] * ATTEMPTS + [1400]

    async def test_what_the_network_says_does_not_hide_what_this_machine_says(
        self, nursery: trio.Nursery
    ) -> None:
        world, links = make_searched(MANY)
        for local, mtu in ((True, 1400), (False, 1000)):
            receive_troubles(
                world.handle, world.endpoint, trouble_all(links, errno.EMSGSIZE, mtu, local=local)
            )
        await work_off(world, nursery)
        assert {link.path_mtu.search.onwire for link in links} == {1400}

    async def test_one_that_concerns_many_links_is_cut_up(self, nursery: trio.Nursery) -> None:
        world, links = make(MANY, ports=True)
        trouble = PathTrouble(address(2)._replace(port=0), errno.ECONNREFUSED, None, True)
        receive_troubles(world.handle, world.endpoint, [trouble])
        assert sum(not link.connected.is_on for link in links) == AT_ONCE
        # What leads elsewhere by the time it is its turn is left alone.
        links[-1].follow(address(250))
        await work_off(world, nursery)
        assert [link.connected.is_on for link in links] == [False] * (MANY - 1) + [True]


def trouble_all(
    links: list[NetworkLinkState],
    number: int = errno.ECONNREFUSED,
    mtu: int | None = None,
    *,
    local: bool = False,
) -> list[PathTrouble]:
    """The same trouble with every link."""
    return [
        PathTrouble(link.destination, number, mtu, local)
        for link in links
        if link.destination is not None
    ]


def make_searched(hosts: int) -> tuple[World, list[NetworkLinkState]]:
    """As ``make``, with links that hold 1500 bytes to be what they have found themselves."""
    world, links = make(hosts)
    for link in links:
        link.path_mtu.search.fixed = None
    return world, links


def onwire_sizes(world: World, destination: Address) -> list[int]:
    """The sizes of the probes that were sent there."""
    return [
        packet.length + HEADERS
        for packet in world.endpoint.packets(destination)
        if isinstance(packet, PmtudProbe)
    ]


async def work_off(world: World, nursery: trio.Nursery) -> None:
    """Do what waits, and hold that others had their turns meanwhile."""
    chores = world.context.chores
    assert len(chores) == 1
    nursery.start_soon(chores.run)
    turns = 0
    while len(chores):
        await trio.lowlevel.checkpoint()
        turns += 1
    assert turns >= MANY // 66
    await wait_all_tasks_blocked()
    nursery.cancel_scope.cancel()


class TestSettings:
    async def test_the_mtu(self, nursery: trio.Nursery) -> None:
        world, links = make(MANY)
        assert world.handle.data_mtu == 1446
        world.context.fixed_mtu = 1400
        world.handle.restart_discovery()
        # The links that have it already hold the others to it.
        assert world.handle.data_mtu == 1346
        assert sum(link.path_mtu.search.onwire == 1400 for link in links) == AT_ONCE
        await work_off(world, nursery)
        assert all(link.path_mtu.search.onwire == 1400 for link in links)
        assert world.handle.data_mtu == 1346

    async def test_a_larger_mtu_holds_once_all_have_it(self, nursery: trio.Nursery) -> None:
        world, _ = make(MANY)
        world.context.fixed_mtu = 9000
        world.handle.restart_discovery()
        assert world.handle.data_mtu == 1446
        await work_off(world, nursery)
        assert world.handle.data_mtu == 8946

    async def test_another_envelope(self, nursery: trio.Nursery) -> None:
        world, links = make(MANY)
        world.context.crypto.set(CryptoConfig(KEY), 1)
        world.context.crypto.use(1)
        world.handle.restart_discovery()
        # At once: what the links have found is not true any more.
        minimum = 448 - 1 - 26
        assert world.handle.data_mtu == minimum
        assert world.events() == [DataMtuChanged(minimum)]
        # That one of them changes meanwhile does not make it true again.
        links[-1].set_priority(7)
        links[-2].set_enabled(False)
        assert world.handle.data_mtu == minimum
        await work_off(world, nursery)
        envelopes = {link.path_mtu.search.sizes.envelope for link in links}
        assert envelopes == {world.context.envelope}
        (event,) = (event for event in world.events() if isinstance(event, DataMtuChanged))
        assert event.data_mtu == world.handle.data_mtu > minimum

    async def test_the_last_mtu_holds(self, nursery: trio.Nursery) -> None:
        world, links = make(MANY)
        for mtu in (1400, 1300, 1350):
            world.context.fixed_mtu = mtu
            world.handle.restart_discovery()
        await work_off(world, nursery)
        assert {link.path_mtu.search.onwire for link in links} == {1350}
        assert world.handle.data_mtu == 1296

    async def test_the_interval_of_searches(self, nursery: trio.Nursery) -> None:
        world, links = make(MANY)
        world.handle.set_pmtud_interval(5.0)
        assert world.context.pmtud_interval == 5.0
        assert sum(link.path_mtu.search.interval == 5.0 for link in links) == AT_ONCE
        await work_off(world, nursery)
        assert {link.path_mtu.search.interval for link in links} == {5.0}

    async def test_the_counters(self, nursery: trio.Nursery) -> None:
        world, links = make(MANY)

        def cleared() -> int:
            return sum(link.status().stats.rx_pong_packets == 0 for link in links)

        assert cleared() == 0
        world.handle.clear_link_statistics()
        assert cleared() == AT_ONCE
        await work_off(world, nursery)
        assert cleared() == MANY

    async def test_hosts_with_several_links(self, nursery: trio.Nursery) -> None:
        world, links = make(MANY)
        for number in range(2, 12):
            links += [
                world.add_link(world.handle.hosts[number], link_id, dst=address(number))
                for link_id in range(1, 8)
            ]
        world.handle.set_pmtud_interval(5.0)
        assert sum(link.path_mtu.search.interval == 5.0 for link in links) == AT_ONCE
        await work_off(world, nursery)
        assert {link.path_mtu.search.interval for link in links} == {5.0}

    async def test_the_buffers_of_hosts(
        self, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world, _ = make(MANY)
        done: list[int] = []
        for host in world.handle.hosts.values():
            monkeypatch.setattr(host.inbound, "set_buffers", done.append)
        world.handle.set_defrag_buffers(DefragBuffers(4, 8))
        assert world.context.defrag_buffers == DefragBuffers(4, 8)
        assert done == [8] * AT_ONCE
        await work_off(world, nursery)
        assert done == [8] * MANY

    async def test_what_is_removed_meanwhile_is_left_alone(self, nursery: trio.Nursery) -> None:
        world, links = make(MANY)
        world.context.fixed_mtu = 1400
        world.handle.restart_discovery()
        last = links.pop()
        remove_host = world.handle.hosts[last.host_id]
        world.handle.remove(remove_host)
        last.close()
        remove_host.remove(last)
        await work_off(world, nursery)
        assert not last.usable
        assert world.handle.data_mtu == 1346


class TestForcedPings:
    async def test_they_go_out_in_turns(self, nursery: trio.Nursery) -> None:
        world, _ = make(MANY)
        world.context.seq = FORCED_PING_EVERY - 1
        world.handle.next_seqs(1)
        assert len(world.endpoint.sent) == AT_ONCE
        await work_off(world, nursery)
        pings = forced_pings(world)
        assert len(pings) == MANY
        assert {ping.seq for ping in pings} == {FORCED_PING_EVERY}

    async def test_they_do_not_pile_up(self, nursery: trio.Nursery) -> None:
        world, _ = make(MANY)
        for _ in range(7):
            world.handle.next_seqs(FORCED_PING_EVERY)
        assert len(world.context.chores) == 1
        await work_off(world, nursery)
        # Those that went out at once are told again what was sent since.
        pings = forced_pings(world)
        assert len(pings) == MANY + AT_ONCE
        assert {ping.seq for ping in pings[AT_ONCE:]} == {7 * FORCED_PING_EVERY}
        assert len({ping.time for ping in pings[AT_ONCE:]}) == MANY

    async def test_every_link_has_its_turn_however_many_messages_there_are(
        self, nursery: trio.Nursery
    ) -> None:
        world, links = make(MANY)
        nursery.start_soon(world.context.chores.run)
        for _ in range(20):
            world.handle.next_seqs(FORCED_PING_EVERY)
            await trio.lowlevel.checkpoint()
        reached = {sent.destination for sent in world.endpoint.sent}
        assert reached == {link.destination for link in links}
        nursery.cancel_scope.cancel()

    async def test_a_setting_does_not_wait_for_them(self, nursery: trio.Nursery) -> None:
        world, links = make(MANY)
        nursery.start_soon(world.context.chores.run)
        for _ in range(7):
            world.handle.next_seqs(FORCED_PING_EVERY)
        world.handle.set_pmtud_interval(5.0)
        for _ in range(20):
            # A fast sender all the time.
            world.handle.next_seqs(FORCED_PING_EVERY)
            await trio.lowlevel.checkpoint()
            if links[-1].path_mtu.search.interval == 5.0:
                break
        assert links[-1].path_mtu.search.interval == 5.0
        assert len(forced_pings(world)) <= MANY + 66
        nursery.cancel_scope.cancel()

    async def test_what_is_disabled_meanwhile_sends_none(self, nursery: trio.Nursery) -> None:
        world, links = make(MANY)
        world.handle.next_seqs(FORCED_PING_EVERY)
        links[-1].set_enabled(False)
        await work_off(world, nursery)
        assert len(forced_pings(world)) == MANY - 1


def forced_pings(world: World) -> list[Ping]:
    """What was sent of them."""
    return [
        packet
        for packet in world.endpoint.packets()
        if isinstance(packet, Ping) and not packet.timed
    ]


async def test_names_are_found() -> None:
    world = World()
    host = world.handle.add(7, "seven", LinkPolicy.PASSIVE)
    assert world.handle.find("seven") is host
    world.handle.remove(host)
    assert world.handle.find("seven") is None
