"""What stays behind in a lane where it does no harm at once, and must not."""

from __future__ import annotations

import errno

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio._state.send_lane import LANE_MESSAGES
from knet_trio.address import Address
from knet_trio.errors import DropCause
from tests.pipeline.lanes import Senders, lose
from tests.pipeline.sending import drops, use_up
from tests.pipeline.test_send_lanes import Sockets, fill
from tests.pipeline.test_send_sync_ends import (
    check_that_a_broadcast_waits,
    check_that_nothing_is_dropped,
    waiting,
)
from tests.state.fakes import refusal

# More than chores do before they return.
MANY = 40


async def test_nothing_enters_the_lane_of_a_lost_host_when_the_turn_is_over(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    sockets = Sockets(2, 3)
    context = sockets.world.context
    stuck, lost = sockets.world.handle.hosts.values()
    async with sockets.running() as transmitter:
        senders = Senders(transmitter, nursery)
        sockets.hold(2, 3)
        await fill(transmitter)
        for number in range(MANY):
            senders.start(b"%d" % number)
        await wait_all_tasks_blocked()
        # They are told of it in turns, and some are let in before.
        lose(sockets.world, lost.host_id)
        use_up(context.turns)
        transmitter._lanes.blocked(stuck)  # pyright: ignore[reportPrivateUsage]
        nursery.start_soon(context.chores.run)
        sockets.release(2)
        await wait_all_tasks_blocked()
        assert senders.returned == MANY
        assert lost.lane.messages == 0
        with trio.fail_after(5):
            await transmitter.flush()
    nursery.cancel_scope.cancel()


async def test_a_send_sync_whose_channel_is_closed_drops_nothing_later(
    mock_clock: MockClock,
) -> None:
    async with waiting() as sync:
        sync.close_channel()
        await wait_all_tasks_blocked()
        await check_that_nothing_is_dropped(sync, sends_before=False)


async def test_a_host_that_was_lost_and_comes_back_is_not_behind(mock_clock: MockClock) -> None:
    sockets = Sockets(2, 3)
    world = sockets.world
    lost = world.handle.hosts[2]
    endpoint = sockets.endpoints[2]
    async with sockets.running() as transmitter:
        await wait_all_tasks_blocked()

        def refuse(_: bytes, __: Address) -> None:
            # For the second datagram there is no room.
            endpoint.room = 0
            lose(world, 2)
            raise refusal(errno.ENETUNREACH)

        endpoint.refuse = refuse
        await transmitter.send((b"x", b"y"), 0, (2,))
        assert drops(world) == {DropCause.SEND_FAILED: 1, DropCause.HOST_DOWN: 1}
        endpoint.refuse = None
        sockets.release(2)
        world.bring_up(lost.network_links[0])
        await wait_all_tasks_blocked()
        check_that_a_broadcast_waits(sockets, transmitter)


async def test_nothing_is_sent_once_forwarding_is_off(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    sockets = Sockets(2, 3)
    context = sockets.world.context
    async with sockets.running() as transmitter:
        senders = Senders(transmitter, nursery)
        sockets.hold(2, 3)
        await fill(transmitter)
        for number in range(MANY):
            senders.start(b"%d" % number)
        await wait_all_tasks_blocked()
        context.forwarding = False
        transmitter.stop()
        # Time passes before all are told.
        transmitter._lanes._look_again(0.0)  # pyright: ignore[reportPrivateUsage]
        nursery.start_soon(context.chores.run)
        sockets.release(2, 3)
        await wait_all_tasks_blocked()
        assert senders.returned == MANY
        assert (sockets.payloads(2), sockets.payloads(3)) == ([], [])
        expected = 2 * (LANE_MESSAGES + MANY)
        assert drops(sockets.world) == {DropCause.FORWARDING_DISABLED: expected}
    nursery.cancel_scope.cancel()
