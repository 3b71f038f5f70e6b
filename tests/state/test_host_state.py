from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio._core.onwire import Data, Ping
from knet_trio._core.policy import LinkPolicy
from knet_trio._state.host import HostState
from knet_trio._state.network_link import NetworkLinkState
from knet_trio._state.receive_lane import WaitingMessage
from knet_trio.errors import DropCause
from knet_trio.events import HostStatusChanged
from tests.drops import counted
from tests.state.fakes import World, address


def make(policy: LinkPolicy, *priorities: int) -> tuple[World, HostState, list[NetworkLinkState]]:
    world = World()
    host = world.add_host(policy=policy)
    links = [
        world.add_link(host, link_id, dst=address(10 + link_id), priority=priority)
        for link_id, priority in enumerate(priorities)
    ]
    return world, host, links


def host_events(world: World) -> list[bool]:
    return [event.reachable for event in world.events() if isinstance(event, HostStatusChanged)]


def reachable(host: HostState) -> bool:
    return host.reachable.is_on


class TestReachable:
    async def test_with_the_first_link_up_and_until_the_last_is_down(self) -> None:
        world, host, (one, two) = make(LinkPolicy.PASSIVE, 0, 0)
        assert not reachable(host)
        world.bring_up(two)
        assert reachable(host)
        world.bring_up(one)
        two.take_down(0.0, "for the test")
        assert reachable(host)
        assert host_events(world) == [True]
        one.take_down(0.0, "for the test")
        assert not reachable(host)
        assert host_events(world) == [False]

    async def test_disabling_and_removing_count_as_down(self) -> None:
        world, host, (one, two) = make(LinkPolicy.PASSIVE, 0, 0)
        world.bring_up(one)
        one.set_enabled(False)
        world.bring_up(two)
        two.close()
        host.remove(two)
        assert host_events(world) == [True, False, True, False]
        assert set(host.network_links) == {0}
        assert set(host.by_address) == {address(10)}

    @pytest.mark.parametrize(("number", "same"), [(78, True), (3, False)])
    async def test_once_it_was_lost_its_numbers_say_if_it_is_still_the_same(
        self, number: int, same: bool
    ) -> None:
        world, host, (one, two) = make(LinkPolicy.PASSIVE, 0, 0)
        for link in (one, two):
            world.bring_up(link)
        host.inbound.receive(Data(2, 77, 0, True, 1, 0, 0, b"x"))
        one.take_down(0.0, "for the test")
        two.take_down(0.0, "for the test")
        world.receive(Ping(2, 0, bytes(16), number, True), address(10))
        assert host.inbound.receive(Data(2, number + 1, 0, True, 1, 0, 0, b"y")) == b"y"
        copy = host.inbound.receive(Data(2, 77, 0, True, 1, 0, 0, b"x"))
        assert (copy is None) == same

    async def test_while_a_link_is_left_nothing_is_in_doubt(self) -> None:
        world, host, (one, two) = make(LinkPolicy.PASSIVE, 0, 0)
        for link in (one, two):
            world.bring_up(link)
        host.inbound.receive(Data(2, 77, 0, True, 1, 0, 0, b"x"))
        one.take_down(0.0, "for the test")
        world.receive(Ping(2, 1, bytes(16), 3, True), address(11))
        assert host.inbound.newest == 77

    async def test_can_be_waited_for_until_it_is_removed(self) -> None:
        world, host, (link,) = make(LinkPolicy.PASSIVE, 0)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(host.reachable.wait, True)
                await wait_all_tasks_blocked()
                world.bring_up(link)
        world.handle.remove(host)
        assert world.handle.hosts == {}
        with pytest.raises(trio.ClosedResourceError):
            await host.reachable.wait(False)


class TestWhatWaitsToBeDecompressed:
    """It is lost with the host, and with the handle: under causes that tell these apart."""

    def wait(self, host: HostState) -> None:
        for _ in range(3):
            assert host.receive_lane.offer(WaitingMessage(b"x", 0, None))

    async def test_when_the_host_is_removed(self, caplog: pytest.LogCaptureFixture) -> None:
        world, host, _ = make(LinkPolicy.PASSIVE)
        self.wait(host)
        with caplog.at_level("INFO"):
            world.handle.remove(host)
        assert counted(world.context.counters.drops) == {DropCause.UNKNOWN_HOST: 3}
        assert "3 messages of host 2 are lost, it was removed before" in caplog.text

    async def test_when_the_handle_ends(self, caplog: pytest.LogCaptureFixture) -> None:
        world, host, _ = make(LinkPolicy.PASSIVE)
        self.wait(host)
        with caplog.at_level("INFO"):
            host.end()
        assert counted(world.context.counters.drops) == {DropCause.NO_CHANNEL: 3}
        assert "3 messages of host 2 are lost, the handle ended before" in caplog.text
        assert "removed" not in caplog.text


class TestPolicies:
    def up(self, policy: LinkPolicy, *priorities: int) -> tuple[HostState, list[NetworkLinkState]]:
        world, host, links = make(policy, *priorities)
        for link in links:
            world.bring_up(link)
        return host, links

    def chosen(self, host: HostState, times: int) -> list[list[int]]:
        return [[link.link_id for link in host.links_of_turn(turn)] for turn in range(times)]

    async def test_passive_takes_the_highest_priority(self) -> None:
        host, links = self.up(LinkPolicy.PASSIVE, 1, 5, 5)
        assert self.chosen(host, 3) == [[1], [1], [1]]
        links[1].take_down(0.0, "for the test")
        assert self.chosen(host, 2) == [[2], [2]]
        links[2].take_down(0.0, "for the test")
        assert self.chosen(host, 1) == [[0]]

    async def test_active_takes_all(self) -> None:
        host, links = self.up(LinkPolicy.ACTIVE, 0, 0, 0)
        assert sorted(*self.chosen(host, 1)) == [0, 1, 2]
        links[1].set_enabled(False)
        assert sorted(*self.chosen(host, 1)) == [0, 2]

    async def test_round_robin_takes_turns(self) -> None:
        host, links = self.up(LinkPolicy.ROUND_ROBIN, 0, 0, 0)
        turns = [number for (number,) in self.chosen(host, 6)]
        assert turns[:3] == turns[3:]
        assert sorted(turns[:3]) == [0, 1, 2]
        links[0].set_enabled(False)
        assert sorted(number for (number,) in self.chosen(host, 4)) == [1, 1, 2, 2]

    async def test_none_without_a_link(self) -> None:
        _, host, _ = make(LinkPolicy.ACTIVE, 0, 0)
        assert list(host.next_links) == []
