"""How a ``send_sync`` that waits for room ends, and what it leaves behind."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio._pipeline.transmitter import ChannelState, Transmitter
from knet_trio._state.send_lane import LANE_MESSAGES
from knet_trio._state.turns import counted_turns
from knet_trio.errors import DropCause, ForwardingDisabledError
from tests.pipeline.lanes import lose, make_room
from tests.pipeline.sending import drops, use_up
from tests.pipeline.test_send_lanes import Sockets, fill


class Sync:
    """A ``send_sync`` to host 2, whose socket has no room.

    Attributes:
        channel: The channel that it is sent on.
        outcome: What came of it: nothing yet, "sent" or "closed".
    """

    def __init__(self, sockets: Sockets, transmitter: Transmitter) -> None:
        self.sockets = sockets
        self.transmitter = transmitter
        self.channel = ChannelState()
        self.outcome = ""
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        with self._scope:
            try:
                await self.transmitter.send_sync(b"now", 0, (2,), self.channel)
            except trio.ClosedResourceError:
                self.outcome = "closed"
            else:
                self.outcome = "sent"

    def close_channel(self) -> None:
        self.channel.closed = True
        self.transmitter.close_channel(self.channel)

    def cancel(self) -> None:
        self._scope.cancel()


@asynccontextmanager
async def waiting() -> AsyncGenerator[Sync]:
    """A ``send_sync`` waits for room."""
    sockets = Sockets(2, 3)
    async with sockets.running() as transmitter, trio.open_nursery() as nursery:
        await wait_all_tasks_blocked()
        sockets.hold(2)
        sync = Sync(sockets, transmitter)
        nursery.start_soon(sync.run)
        await wait_all_tasks_blocked()
        assert sync.outcome == ""
        yield sync
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["its channel is closed", "the handle ends"])
async def test_one_that_was_sent_whole_returns_whatever_ends_then(
    how: str, mock_clock: MockClock
) -> None:
    async with waiting() as sync:
        make_room(sync.sockets, 2)
        await sync.transmitter._transport.work(2)  # pyright: ignore[reportPrivateUsage]
        assert sync.sockets.payloads(2) == [b"now"]
        # Its task has not run yet.
        assert sync.outcome == ""
        if how == "the handle ends":
            sync.transmitter.close()
        else:
            sync.close_channel()
        await wait_all_tasks_blocked()
        assert sync.outcome == "sent"


@pytest.mark.parametrize("how", ["its channel is closed", "the handle ends"])
async def test_one_that_was_given_up_says_so(how: str, mock_clock: MockClock) -> None:
    async with waiting() as sync:
        if how == "the handle ends":
            sync.transmitter.close()
        else:
            sync.close_channel()
        sync.sockets.release(2)
        await wait_all_tasks_blocked()
        assert sync.outcome == "closed"
        assert sync.sockets.payloads(2) == []
        assert drops(sync.sockets.world) == {}


@pytest.mark.parametrize("sends_before", [True, False])
async def test_one_that_is_cancelled_drops_nothing_later(
    sends_before: bool, mock_clock: MockClock
) -> None:
    async with waiting() as sync:
        sync.cancel()
        await wait_all_tasks_blocked()
        await check_that_nothing_is_dropped(sync, sends_before=sends_before)


async def check_that_nothing_is_dropped(sync: Sync, *, sends_before: bool) -> None:
    """There is room again, so a broadcast has to wait for a lane that this program has filled."""
    transmitter = sync.transmitter
    sync.sockets.release(2)
    await wait_all_tasks_blocked()
    if sends_before:
        await transmitter.send((b"before",), 0, (2,))
        await transmitter.flush()
    check_that_a_broadcast_waits(sync.sockets, transmitter)


def check_that_a_broadcast_waits(sockets: Sockets, transmitter: Transmitter) -> None:
    """Fill the lane of host 2 in one turn: then a broadcast is not dropped for that host."""
    before = drops(sockets.world)
    lane = sockets.world.handle.hosts[2].lane
    # What comes after the first one in a turn is not sent at once.
    transmitter.send_nowait((b"first",), 0, (3,))
    while lane.messages < LANE_MESSAGES:
        transmitter.send_nowait((b"after",), 0, (2,))
    with pytest.raises(trio.WouldBlock):
        transmitter.send_nowait((b"to both",), 0)
    assert drops(sockets.world) == before


async def test_one_whose_host_is_lost_and_which_is_cancelled_is_counted_once(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    sockets = Sockets(2, 3)
    context = sockets.world.context
    async with sockets.running() as transmitter:
        await wait_all_tasks_blocked()
        sockets.hold(2, 3)
        waiting = await fill(transmitter, 3)
        async with trio.open_nursery() as sending:
            sending.start_soon(transmitter.send_sync, bytes(60000), 0, (2,))
            await wait_all_tasks_blocked()
            sockets.endpoints[2].give_room(5)
            await wait_all_tasks_blocked()
            # Both lanes are given up in turns, so it is not yet when it is cancelled.
            use_up(context.turns)
            lose(sockets.world, 3)
            lose(sockets.world, 2)
            sending.cancel_scope.cancel()
        nursery.start_soon(context.chores.run)
        await wait_all_tasks_blocked()
        assert drops(sockets.world) == {DropCause.HOST_DOWN: waiting + 1}
    nursery.cancel_scope.cancel()


async def test_one_that_is_tried_again_and_again_lets_others_run(mock_clock: MockClock) -> None:
    with counted_turns():
        sockets = Sockets(2)
    rounds = 0

    async def count() -> None:
        nonlocal rounds
        while True:
            await trio.lowlevel.checkpoint()
            rounds += 1

    async with sockets.running() as transmitter, trio.open_nursery() as nursery:
        sockets.world.context.forwarding = False
        nursery.start_soon(count)
        for _ in range(1000):
            with pytest.raises(ForwardingDisabledError):
                await transmitter.send_sync(b"now", 0, (2,))
        assert rounds > 10
        nursery.cancel_scope.cancel()
