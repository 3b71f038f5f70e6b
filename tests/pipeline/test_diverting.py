from __future__ import annotations

import errno

import pytest
import trio
from trio.testing import MockClock

from knet_trio._core.policy import LinkPolicy
from knet_trio._pipeline.transmitter import Transmitter
from knet_trio.errors import DropCause, NoProgressError
from tests.pipeline.sending import data, drops, make, message, refusing, send
from tests.state.fakes import FakeEndpoint, World, address, refusal

SINGLE = pytest.mark.parametrize("policy", [LinkPolicy.PASSIVE, LinkPolicy.ROUND_ROBIN])


def over(world: World, link_id: int) -> list[int]:
    """The numbers of the messages that went to host 2 over a link."""
    return [packet.seq for packet in data(world, address(20 + link_id))]


class TestRefused:
    @SINGLE
    async def test_it_goes_over_another_link(self, policy: LinkPolicy) -> None:
        world = make(2, policy=policy, links=3)
        world.endpoint.refuse = refusing(address(20))
        await send(world, *[message(b"%d" % i) for i in range(6)])
        assert {packet.seq for packet in data(world)} == set(range(1, 7))
        assert drops(world) == {}
        assert world.handle.hosts[2].network_links[0].status().stats.tx_data_errors > 0

    async def test_the_best_that_takes_it(self) -> None:
        world = make(2, links=3)
        world.endpoint.refuse = refusing(address(20), address(21))
        await send(world, message())
        assert [over(world, link_id) for link_id in range(3)] == [[], [], [1]]

    @SINGLE
    async def test_it_is_lost_when_none_takes_it(self, policy: LinkPolicy) -> None:
        world = make(2, policy=policy, links=2)
        world.endpoint.refuse = refusing(address(20), address(21))
        await send(world, message(), message())
        assert drops(world) == {DropCause.SEND_FAILED: 2}

    @SINGLE
    async def test_messages_are_counted_and_not_their_fragments(self, policy: LinkPolicy) -> None:
        world = make(2, policy=policy, links=2)
        world.endpoint.refuse = refusing(address(20), address(21))
        await send(world, message(bytes(1000)), message(bytes(2000)), message())
        assert drops(world) == {DropCause.SEND_FAILED: 3}

    async def test_a_fragment_that_is_refused_goes_over_the_other_link(self) -> None:
        world = make(2, links=2)
        first = True

        def refuse(_: bytes, destination: object) -> None:
            nonlocal first
            if destination == address(20) and first:
                first = False
                raise refusal(errno.EPERM)

        world.endpoint.refuse = refuse
        await send(world, message(bytes(1000)))
        assert [packet.frag_seq for packet in data(world, address(21))] == [1]
        assert [packet.frag_seq for packet in data(world, address(20))] == [2, 3]
        assert drops(world) == {}

    async def test_with_the_active_policy_one_is_enough(self) -> None:
        world = make(2, policy=LinkPolicy.ACTIVE, links=3)
        world.endpoint.refuse = refusing(address(20), address(22))
        await send(world, message())
        assert [over(world, link_id) for link_id in range(3)] == [[], [1], []]
        assert drops(world) == {}
        world.endpoint.refuse = refusing(*map(address, (20, 21, 22)))
        await send(world, message())
        # One message, however many links have refused it.
        assert drops(world) == {DropCause.SEND_FAILED: 1}

    async def test_a_link_that_is_full_diverts_too(self) -> None:
        world = make(2)
        other = FakeEndpoint()
        host = world.handle.hosts[2]
        world.bring_up(
            world.add_link(host, 1, dst=address(21), send_socket=world.make_send_socket(other))
        )
        world.endpoint.room = 0
        await send(world, message(), message())
        assert [sent.destination for sent in other.sent] == [address(21)] * 2
        assert drops(world) == {}
        assert host.network_links[0].status().stats.tx_data_retries == 2

    async def test_sync_raises_only_when_none_takes_it(self) -> None:
        world = make(2, links=2)
        transmitter = Transmitter(world.handle)
        world.endpoint.refuse = refusing(address(20))
        await transmitter.send_sync(b"hello", 0, (2,))
        assert over(world, 1) == [1]
        world.endpoint.refuse = refusing(address(20), address(21))
        with pytest.raises(NoProgressError) as caught:
            await transmitter.send_sync(b"hello", 0, (2,))
        assert caught.value.errno == errno.EPERM
        assert drops(world) == {DropCause.SEND_FAILED: 1}


class TestHedging:
    async def overdue(
        self, *, hedge: bool = True, policy: LinkPolicy = LinkPolicy.PASSIVE
    ) -> World:
        """Three links are up, and the best has not answered for longer than it ever took."""
        world = make(2, policy=policy, links=3)
        world.context.hedge = hedge
        link = world.handle.hosts[2].network_links[0]
        link.heartbeat.ping(trio.current_time(), timed=True)
        await trio.sleep(0.5)
        world.endpoint.sent.clear()
        return world

    async def test_an_overdue_pong_sends_over_a_second_link_too(
        self, autojump_clock: MockClock
    ) -> None:
        world = await self.overdue()
        await send(world, message(), message())
        assert [over(world, link_id) for link_id in range(3)] == [[1, 2], [1, 2], []]

    async def test_an_answer_ends_the_doubt(self, autojump_clock: MockClock) -> None:
        world = await self.overdue()
        link = world.handle.hosts[2].network_links[0]
        world.pong(link)
        await send(world, message())
        assert [over(world, link_id) for link_id in range(3)] == [[1], [], []]

    async def test_an_error_of_the_network_sends_over_a_second_link_until_the_peer_answers(
        self, autojump_clock: MockClock
    ) -> None:
        world = make(2, links=3)
        link = world.handle.hosts[2].network_links[0]
        assert link.destination is not None
        world.trouble(link.destination, errno.ECONNREFUSED)
        world.endpoint.sent.clear()
        await send(world, message())
        world.pong(link)
        await send(world, message())
        assert [over(world, link_id) for link_id in range(3)] == [[1, 2], [1], []]

    async def test_can_be_turned_off(self, autojump_clock: MockClock) -> None:
        world = await self.overdue(hedge=False)
        await send(world, message())
        assert [over(world, link_id) for link_id in range(3)] == [[1], [], []]

    async def test_round_robin_hedges_the_turns_of_the_suspect_link(
        self, autojump_clock: MockClock
    ) -> None:
        world = await self.overdue(policy=LinkPolicy.ROUND_ROBIN)
        await send(world, *[message() for _ in range(6)])
        suspect = set(over(world, 0))
        assert len(suspect) == 2
        assert suspect <= {*over(world, 1), *over(world, 2)}

    async def test_what_was_hedged_is_not_diverted_as_well(self, autojump_clock: MockClock) -> None:
        world = await self.overdue()
        world.endpoint.refuse = refusing(address(20))
        await send(world, message(), message())
        assert [over(world, link_id) for link_id in range(3)] == [[], [1, 2], []]
        assert drops(world) == {}

    async def test_a_hedge_that_is_refused_loses_nothing(self, autojump_clock: MockClock) -> None:
        world = await self.overdue()
        world.endpoint.refuse = refusing(address(21))
        await send(world, message())
        assert over(world, 0) == [1]
        assert drops(world) == {}
