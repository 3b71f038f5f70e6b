from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from knet_trio._core.policy import LinkPolicy
from knet_trio._state.explain_host import explain_host
from knet_trio._state.host import HostState
from knet_trio._state.send_lane import NOTICED, Batch, LaneItem
from tests.state.fakes import World, address


def make(links: int) -> tuple[World, HostState]:
    world = World()
    host = world.add_host()
    world.handle.rename(host, "2")
    for link_id in range(links):
        world.add_link(host, link_id, dst=address(2 + link_id))
    return world, host


def first_line(host: HostState) -> str:
    return explain_host(host).splitlines()[0]


class TestUnreachable:
    async def test_without_links(self) -> None:
        _, host = make(0)
        assert explain_host(host) == "host 2 is unreachable: it has no links; add one with add_link"

    async def test_whose_links_are_disabled(self) -> None:
        _, host = make(2)
        for link in host.links.values():
            link.set_enabled(False)
        assert first_line(host) == "host 2 is unreachable: its links are disabled"

    async def test_whose_links_are_down(self) -> None:
        _, host = make(2)
        assert first_line(host) == "host 2 is unreachable: none of its 2 links carries data"

    async def test_with_one_link_and_a_name(self) -> None:
        world, host = make(1)
        world.handle.rename(host, "beta")
        assert first_line(host) == "host 2 (beta) is unreachable: its link carries no data"


class TestWaitingMessages:
    async def test_only_those_that_wait_for_long_are_shown(self, autojump_clock: MockClock) -> None:
        world, host = make(1)
        world.bring_up(host.network_links[0])
        lane = host.lane
        lane.append(LaneItem(Batch([b"one"], 0, broadcast=True)))
        assert "waiting" not in explain_host(host)
        lane.note_no_room(trio.current_time())
        await trio.sleep(NOTICED / 2)
        assert "waiting" not in explain_host(host)
        await trio.sleep(2)
        line = explain_host(host).splitlines()[1]
        assert line == (
            "  1 message waiting: for 2.0 s its links have had more to send than they can"
        )

    async def test_a_slow_link_stays_behind_while_it_sends(self, autojump_clock: MockClock) -> None:
        _, host = make(1)
        since = trio.current_time()
        host.lane.note_no_room(since)
        for _ in range(10):
            await trio.sleep(NOTICED / 2)
            host.lane.note_room(trio.current_time())
            await trio.sleep(NOTICED / 2)
            host.lane.note_no_room(trio.current_time())
        assert host.lane.blocked_at == since
        host.lane.note_room(trio.current_time())
        await trio.sleep(2 * NOTICED)
        host.lane.note_no_room(trio.current_time())
        assert host.lane.blocked_at == trio.current_time()


class TestReachable:
    async def test_over_its_only_link(self) -> None:
        world, host = make(1)
        world.bring_up(host.network_links[0])
        assert first_line(host) == "host 2 is reachable: messages go over link 0"

    @pytest.mark.parametrize(
        ("policy", "use"),
        [
            (LinkPolicy.PASSIVE, "messages go over link 0, link 1 in reserve"),
            (LinkPolicy.ACTIVE, "each message goes over links 0, 1"),
            (LinkPolicy.ROUND_ROBIN, "messages take turns over links 0, 1"),
        ],
    )
    async def test_over_several(self, policy: LinkPolicy, use: str) -> None:
        world, host = make(3)
        host.set_policy(policy)
        for link_id in (0, 1):
            world.bring_up(host.network_links[link_id])
        assert first_line(host) == (f"host 2 is reachable: {use}; 1 of its 3 links carries no data")

    async def test_over_one_of_several(self) -> None:
        world, host = make(2)
        world.bring_up(host.network_links[1])
        assert first_line(host) == (
            "host 2 is reachable: messages go over link 1; 1 of its 2 links carries no data"
        )


async def test_one_that_is_gone_says_why() -> None:
    world, host = make(0)
    host.end()
    assert explain_host(host) == "host 2 is unreachable: the handle has ended"
    world.handle.remove(host)
    assert explain_host(host) == "host 2 is unreachable: it was removed"


async def test_its_links_explain_themselves() -> None:
    _, host = make(2)
    lines = explain_host(host).splitlines()
    for link in host.links.values():
        for line in link.explain().splitlines():
            assert f"  {line}" in lines
