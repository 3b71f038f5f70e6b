"""What was in full lanes is given up in turns, and at the end of the handle at the latest."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio._pipeline.leftovers import Leftovers
from knet_trio._state.send_lane import LANE_MESSAGES, Batch, LaneItem
from knet_trio._state.turns import counted_turns
from knet_trio.errors import DropCause
from knet_trio.message import Broadcast
from tests.pipeline.lanes import Senders, lose
from tests.pipeline.sending import drops, use_up
from tests.pipeline.test_send_lanes import Sockets, fill
from tests.state.fakes import World

HOSTS = range(2, 25)
ALL = len(HOSTS) * LANE_MESSAGES
# Messages that are counted in one turn, and a few more for each host.
ONE_TURN = 3000


def full_lanes() -> Sockets:
    """Make a handle whose turns are counted."""
    with counted_turns():
        return Sockets(*HOSTS)


@pytest.mark.parametrize("how", ["forwarding is turned off", "hosts are lost"])
@pytest.mark.parametrize("then", ["in turns", "the handle ends"])
async def test_full_lanes_are_given_up_in_turns(
    how: str, then: str, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    sockets = full_lanes()
    context = sockets.world.context
    async with sockets.running() as transmitter:
        sockets.hold(*HOSTS)
        # Each message by itself.
        context.filter = lambda _: Broadcast()
        await fill(transmitter)
        flushed: list[str] = []

        async def flush() -> None:
            try:
                await transmitter.flush()
            except trio.ClosedResourceError:
                flushed.append("closed")
            else:
                flushed.append("flushed")

        nursery.start_soon(flush)
        await wait_all_tasks_blocked()
        if how == "forwarding is turned off":
            context.forwarding = False
            transmitter.stop()
            cause = DropCause.FORWARDING_DISABLED
        else:
            for host_id in HOSTS:
                lose(sockets.world, host_id)
            cause = DropCause.HOST_DOWN
        # All at once they leave their lanes, but they are counted in turns.
        for host in sockets.world.handle.hosts.values():
            assert not host.lane.items
            assert host.lane.messages == host.lane.size == 0
        assert drops(sockets.world)[cause] < ONE_TURN
        if then == "in turns":
            nursery.start_soon(context.chores.run)
            await wait_all_tasks_blocked()
            assert flushed == ["flushed"]
        else:
            transmitter.close()
            assert drops(sockets.world) == {cause: ALL}
            await wait_all_tasks_blocked()
            assert flushed == ["closed"]
            # What was to be done in turns is done already.
            nursery.start_soon(context.chores.run)
            await wait_all_tasks_blocked()
        assert drops(sockets.world) == {cause: ALL}
    nursery.cancel_scope.cancel()


async def test_the_end_of_the_handle_counts_all_of_them_at_once() -> None:
    sockets = full_lanes()
    async with sockets.running() as transmitter:
        sockets.hold(*HOSTS)
        await fill(transmitter)
        use_up(sockets.world.context.turns)
        transmitter.close()
        assert drops(sockets.world) == {DropCause.SEND_FAILED: ALL}


async def test_who_waits_is_told_of_those_given_up_before_the_end(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    sockets = full_lanes()
    async with sockets.running() as transmitter:
        senders = Senders(transmitter, nursery)
        sockets.hold(*HOSTS)
        await fill(transmitter)
        for number in range(100):
            senders.start(b"%d" % number)
        await wait_all_tasks_blocked()
        sockets.world.context.forwarding = False
        transmitter.stop()
        transmitter.close()
        await wait_all_tasks_blocked()
        assert senders.returned + senders.closed == 100
        waited = senders.returned * len(HOSTS)
        assert drops(sockets.world) == {DropCause.FORWARDING_DISABLED: ALL + waited}
    nursery.cancel_scope.cancel()


def exhaust(pieces: Iterator[None]) -> None:
    for _ in pieces:
        pass


class TestLeftovers:
    def make(self, *, urgent: bool = False) -> LaneItem:
        item = LaneItem(Batch((b"x",), 0, broadcast=True), urgent=urgent)
        item.batch.lanes = 1
        return item

    async def test_are_given_up_in_their_order_a_few_at_a_time(
        self, nursery: trio.Nursery, mock_clock: MockClock
    ) -> None:
        world = World()
        nursery.start_soon(world.context.chores.run)
        pieces: list[Sequence[LaneItem]] = []
        items = [self.make() for _ in range(1000)]
        use_up(world.context.turns)
        Leftovers(world.context).add(deque(items), pieces.append)
        # A chore does a few pieces at once, whatever the time is.
        at_once = sum(map(len, pieces))
        assert 0 < at_once < len(items)
        await wait_all_tasks_blocked()
        assert [item for piece in pieces for item in piece] == items
        assert len(pieces) > 10
        nursery.cancel_scope.cancel()

    async def test_drop_their_batches_once_but_for_those_that_are_urgent(self) -> None:
        dropped: list[int] = []
        items = [self.make(urgent=number == 0) for number in range(3)]
        for number, item in enumerate(items):
            item.batch.on_dropped = partial(dropped.append, number)
        leftovers = Leftovers(World().context)
        leftovers.add(deque(items), lambda _: None)
        exhaust(leftovers.finish_in_pieces())
        assert dropped == [1, 2]

    async def test_nothing_is_given_up_twice_at_the_end(
        self, nursery: trio.Nursery, mock_clock: MockClock
    ) -> None:
        world = World()
        ended: list[LaneItem] = []
        leftovers = Leftovers(world.context)
        use_up(world.context.turns)
        items = [self.make() for _ in range(3000)]
        for start in range(0, 3000, 1000):
            leftovers.add(deque(items[start : start + 1000]), ended.extend)
        assert len(ended) < 3000
        exhaust(leftovers.finish_in_pieces())
        assert len(ended) == 3000
        nursery.start_soon(world.context.chores.run)
        await wait_all_tasks_blocked()
        exhaust(leftovers.finish_in_pieces())
        assert len(ended) == 3000
        assert set(ended) == set(items)
        nursery.cancel_scope.cancel()
