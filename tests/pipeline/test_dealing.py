"""What each link carries of messages that are sent together, with each policy."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio._core.policy import LinkPolicy
from tests.pipeline.sending import Outgoing, data, drops, make, running, send
from tests.state.fakes import World, address

# More than go into a packet at the MTU before any search.
LONG = 500


class Dealing:
    """Messages to host 2, and over which of its links they went."""

    def __init__(self, policy: LinkPolicy, links: int) -> None:
        self.world: World = make(2, policy=policy, links=links)
        self.links = links

    async def send(self, count: int, *, size: int = 1) -> dict[int, list[int]]:
        """Send messages together; the numbers, from 0, of those that each link carried."""
        self.world.endpoint.sent.clear()
        before = self.world.context.seq
        await send(self.world, Outgoing([bytes(size)] * count))
        return self.shares(before)

    def shares(self, before: int = 0) -> dict[int, list[int]]:
        shares: dict[int, list[int]] = {}
        for link_id in range(self.links):
            packets = data(self.world, address(20 + link_id))
            if packets:
                shares[link_id] = [packet.seq - before - 1 for packet in packets]
        return shares


async def test_passive_gives_all_to_one() -> None:
    assert await Dealing(LinkPolicy.PASSIVE, 3).send(5) == {0: [0, 1, 2, 3, 4]}


@pytest.mark.parametrize(("size", "packets"), [(1, 1), (LONG, 2)])
async def test_active_gives_all_to_each(size: int, packets: int) -> None:
    everything = [number for number in range(5) for _ in range(packets)]
    dealing = Dealing(LinkPolicy.ACTIVE, 3)
    assert await dealing.send(5, size=size) == dict.fromkeys(range(3), everything)


async def test_round_robin_deals_whole_messages() -> None:
    dealing = Dealing(LinkPolicy.ROUND_ROBIN, 3)
    assert await dealing.send(7) == {0: [0, 3, 6], 1: [1, 4], 2: [2, 5]}
    # And goes on where it was.
    assert await dealing.send(4) == {1: [0, 3], 2: [1], 0: [2]}
    assert await dealing.send(1) == {2: [0]}
    assert await dealing.send(2, size=LONG) == {0: [0, 0], 1: [1, 1]}


@pytest.mark.parametrize("links", [1, 2, 3, 8])
async def test_round_robin_is_what_it_is_one_by_one(links: int) -> None:
    together = Dealing(LinkPolicy.ROUND_ROBIN, links)
    alone = Dealing(LinkPolicy.ROUND_ROBIN, links)
    for count in (1, 2, 3, 7, 8, 9, 64):
        dealt: dict[int, list[int]] = {}
        for number in range(count):
            ((link_id, _),) = (await alone.send(1)).items()
            dealt.setdefault(link_id, []).append(number)
        assert await together.send(count) == dealt


async def suspect(policy: LinkPolicy) -> Dealing:
    """The first of three links has not answered for longer than it ever took."""
    dealing = Dealing(policy, 3)
    dealing.world.handle.hosts[2].network_links[0].heartbeat.ping(trio.current_time(), timed=True)
    await trio.sleep(0.5)
    return dealing


async def test_what_is_hedged_goes_over_two(autojump_clock: MockClock) -> None:
    dealing = await suspect(LinkPolicy.PASSIVE)
    assert await dealing.send(3) == {0: [0, 1, 2], 1: [0, 1, 2]}


async def test_round_robin_hedges_what_the_suspect_link_is_dealt(
    autojump_clock: MockClock,
) -> None:
    dealing = await suspect(LinkPolicy.ROUND_ROBIN)
    shares = await dealing.send(6)
    assert {link_id: sorted(share) for link_id, share in shares.items()} == {
        0: [0, 3],
        1: [0, 1, 3, 4],
        2: [2, 5],
    }
    # A message in fragments is hedged whole, and only in the turn of that link.
    assert await dealing.send(1, size=LONG) == {0: [0, 0], 1: [0, 0]}


@pytest.mark.parametrize("size", [1, LONG])
async def test_round_robin_sends_each_once_where_there_is_little_room(
    size: int, autojump_clock: MockClock
) -> None:
    dealing = Dealing(LinkPolicy.ROUND_ROBIN, 3)
    world = dealing.world
    async with running(world) as transmitter, trio.open_nursery() as nursery:
        nursery.start_soon(world.send_socket.run)
        world.endpoint.room = 0
        await transmitter.send([bytes(size)] * 20, 0)
        for _ in range(50):
            world.endpoint.give_room(1)
            await wait_all_tasks_blocked()
        world.endpoint.give_room(math.inf)
        await transmitter.flush()
        nursery.cancel_scope.cancel()
    packets = [(packet.seq, packet.frag_seq) for packet in data(world)]
    assert len(packets) == len(set(packets))
    whole = {seq for seq, _ in packets}
    assert len(packets) == 20 * (1 if size == 1 else 2)
    assert len(whole) == 20
    assert drops(world) == {}
