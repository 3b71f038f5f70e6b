"""Messages that are sent one by one, and go together where several are sent in one turn."""

from __future__ import annotations

import pytest
from trio.testing import wait_all_tasks_blocked

from knet_trio.errors import DropCause
from tests.pipeline.sending import drops
from tests.pipeline.test_send_lanes import Sockets


@pytest.fixture
async def sockets(monkeypatch: pytest.MonkeyPatch) -> Sockets:
    """Hosts 2 and 3, and a turn that time does not end."""
    sockets = Sockets(2, 3)
    monkeypatch.setattr(sockets.world.context.turns, "_clock", lambda: 0.0)
    return sockets


def numbers(*of: int) -> list[bytes]:
    return [b"%d" % number for number in range(*of)]


async def test_nothing_is_added_to_what_has_been_sealed(sockets: Sockets) -> None:
    async with sockets.running() as transmitter:
        # The first pings have gone.
        await wait_all_tasks_blocked()
        # One goes at once, so that those behind it are the first of what waits.
        sockets.endpoints[2].room = 1
        for data in numbers(3):
            await transmitter.send((data,), 0, (2,))
        # It is tried, and sealed for that, and there is no room.
        await wait_all_tasks_blocked()
        for data in numbers(3, 10):
            await transmitter.send((data,), 0, (2,))
        sockets.release(2)
        await wait_all_tasks_blocked()
        assert sockets.payloads(2) == numbers(10)


async def test_a_broadcast_goes_to_a_host_that_came_up_meanwhile(sockets: Sockets) -> None:
    world = sockets.world
    link = world.handle.hosts[3].network_links[0]
    link.take_down(world.context.now(), "the test says so")
    async with sockets.running() as transmitter:
        sockets.hold(2)
        for data in numbers(3):
            await transmitter.send((data,), 0)
        world.bring_up(link)
        for data in numbers(3, 10):
            await transmitter.send((data,), 0)
        sockets.release(2)
        await wait_all_tasks_blocked()
        assert sockets.payloads(2) == numbers(10)
        assert sockets.payloads(3) == numbers(3, 10)


async def test_each_message_counts_for_a_host_that_is_named_and_down(sockets: Sockets) -> None:
    world = sockets.world
    world.handle.hosts[3].network_links[0].take_down(world.context.now(), "the test says so")
    async with sockets.running() as transmitter:
        for data in numbers(10):
            await transmitter.send((data,), 0, (2, 3))
        await wait_all_tasks_blocked()
        assert sockets.payloads(2) == numbers(10)
        assert drops(world) == {DropCause.HOST_DOWN: 10}
