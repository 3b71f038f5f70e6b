"""From where data is taken."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio._core.onwire import Ping, encode_message
from knet_trio._pipeline.receiver import Receiver
from knet_trio._state.channel_queue import ChannelQueue
from knet_trio.address import Address
from knet_trio.errors import DropCause
from tests.state.fakes import World, address

PEER = 2


class Inbox:
    """What comes through to channel 0."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seq = 0
        self.receiver = Receiver(world.handle)
        self._queue = ChannelQueue(1000, world.context.turns)
        self.receiver.channels[0] = self._queue

    async def takes(self, source: Address) -> bool:
        """Whether a message from there is delivered."""
        self._seq += 1
        (datagram,) = encode_message(
            b"x",
            node=PEER,
            seq=self._seq,
            compress=0,
            broadcast=True,
            channel=0,
            fragment_size=1000,
        )
        self._world.endpoint.arrive((datagram, source))
        await wait_all_tasks_blocked()
        if not len(self._queue):
            return False
        assert self._queue.take_nowait().data == b"x"
        return True


@asynccontextmanager
async def open_inbox(world: World) -> AsyncGenerator[Inbox]:
    inbox = Inbox(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.receiver.receive_from, world.endpoint)
        yield inbox
        nursery.cancel_scope.cancel()


class TestDisabledLinks:
    async def test_take_nothing_while_another_is_up(self) -> None:
        world = World()
        host = world.add_host()
        first, second = (world.add_link(host, i, dst=address(20 + i)) for i in range(2))
        world.bring_up(first)
        async with open_inbox(world) as inbox:
            # Down here, it may be up there.
            assert await inbox.takes(address(21))
            second.set_enabled(False)
            assert not await inbox.takes(address(21))
            assert second.counters.drops == {DropCause.LINK_DISABLED: 1}
            assert await inbox.takes(address(20))
            second.set_enabled(True)
            assert await inbox.takes(address(21))

    async def test_do_not_hide_another_that_leads_to_the_same_address(self) -> None:
        world = World()
        host = world.add_host()
        links = [world.add_link(host, i, dst=address(20)) for i in range(2)]
        for link in links:
            world.bring_up(link)
        async with open_inbox(world) as inbox:
            for link in links:
                link.set_enabled(False)
                assert await inbox.takes(address(20))
                assert link.counters.drops == {}
                link.set_enabled(True)
                world.bring_up(link)
            for link in links:
                link.set_enabled(False)
            assert not await inbox.takes(address(20))


class TestDynamicLinks:
    async def test_take_data_from_where_the_peer_has_answered_and_only_there(self) -> None:
        world = World(access_lists=False)
        host = world.add_host()
        world.bring_up(world.add_link(host, 0, dst=address(20)))
        link = world.add_link(host, 1, dst=None)
        async with open_inbox(world) as inbox:
            # Recorded pings bring nobody in, though the host is reachable.
            world.receive(Ping(PEER, 1, bytes(16), 5, True), address(7))
            assert not await inbox.takes(address(7))
            assert world.context.counters.drops == {DropCause.UNKNOWN_ADDRESS: 1}
            world.prove(link, address(7))
            assert await inbox.takes(address(7))
            world.bring_up(link)
            assert await inbox.takes(address(7))
            assert not await inbox.takes(address(8))
            world.prove(link, address(8))
            assert await inbox.takes(address(8))
            assert not await inbox.takes(address(7))
            link.take_down(trio.current_time(), "for the test")
            assert not await inbox.takes(address(8))

    async def test_the_first_messages_of_a_peer_that_has_answered_are_not_lost(self) -> None:
        world = World(access_lists=False)
        link = world.add_link(world.add_host(), 0, dst=None)
        async with open_inbox(world) as inbox:
            assert not await inbox.takes(address(7))
            world.prove(link, address(7))
            assert not link.connected.is_on
            assert await inbox.takes(address(7))


@pytest.mark.parametrize("source", [Address("224.0.0.1", 5405), Address("198.51.100.20", 0)])
async def test_an_address_that_no_peer_has_is_called_that(source: Address) -> None:
    world = World(access_lists=False)
    world.bring_up(world.add_link(world.add_host(), dst=address(20)))
    async with open_inbox(world) as inbox:
        assert not await inbox.takes(source)
        assert world.context.counters.drops == {DropCause.IMPOSSIBLE_SOURCE: 1}


async def test_an_access_list_that_changes_is_obeyed_at_once() -> None:
    world = World()
    link = world.add_link(world.add_host(), dst=address(20))
    world.bring_up(link)
    async with open_inbox(world) as inbox:
        assert await inbox.takes(address(20))
        link.acl.clear()
        assert not await inbox.takes(address(20))
        assert link.counters.drops == {DropCause.ACCESS_LIST: 1}
