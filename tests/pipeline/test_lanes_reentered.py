"""What the system says of a message takes a host down while others are let in, or the handle ends.

Each batch enters once, nothing stays in the lane of a host that is lost, and all is counted once.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio._state.context import Compression
from knet_trio._state.send_lane import LANE_MESSAGES
from knet_trio.address import Address
from knet_trio.errors import DropCause
from knet_trio.message import Unicast
from tests.pipeline.lanes import Senders, Slow, lose, make_room, work_here
from tests.pipeline.sending import drops
from tests.pipeline.test_send_lanes import Sockets, fill
from tests.state.fakes import HEADERS

# More than chores do before they return.
MANY = 40


class TestTheSendOfItsOwnBatch:
    """A batch is let in, and sending it takes the last link of one of its hosts down."""

    @pytest.mark.parametrize("how", ["it is taken down", "it is too narrow for data"])
    @pytest.mark.parametrize("order", [(2, 3), (3, 2)])
    async def test_goes_to_the_others_once(
        self, how: str, order: tuple[int, int], nursery: trio.Nursery, mock_clock: MockClock
    ) -> None:
        sockets = Sockets(*order)
        frail, slow = 2, 3
        last = b"last" + bytes(300)
        host = sockets.world.handle.hosts[frail]
        (link,) = host.network_links.values()
        async with sockets.running() as transmitter:
            senders = Senders(transmitter, nursery)
            sockets.hold(frail, slow)
            for number in range(LANE_MESSAGES - 1):
                transmitter.send_nowait((b"%d" % number,), 0)
            # It holds more than one message more than makes it full.
            transmitter.send_nowait([b"more"] * 64, 0)
            senders.start(last)
            await wait_all_tasks_blocked()
            # The slow one moves on, so that the other one has to wait for it.
            sockets.endpoints[slow].give_room(1)
            await wait_all_tasks_blocked()
            sockets.release(frail)
            await wait_all_tasks_blocked()
            assert not host.lane.items
            assert senders.returned == 0

            def take_down(datagram: bytes, _: Address) -> None:
                if b"last" in datagram and link.connected.is_on:
                    lose(sockets.world, frail)

            if how == "it is taken down":
                sockets.endpoints[frail].refuse = take_down
            else:
                sockets.endpoints[frail].limit_mtu(HEADERS + 20)
            sockets.release(slow)
            await wait_all_tasks_blocked()
            assert not host.ranked
            assert senders.returned == 1
            payloads = sockets.payloads(slow)
            assert payloads.count(last) == 1
            assert len(payloads) == LANE_MESSAGES + 64
            # It was counted, or it was taken a moment before.
            assert sockets.payloads(frail).count(last) + sum(drops(sockets.world).values()) == 1
            for one in sockets.world.handle.hosts.values():
                assert not one.lane.waiters
                assert one.lane.messages == one.lane.size == 0
        nursery.cancel_scope.cancel()


class TestAHostThatIsLost:
    """Those who wait for it are told in turns, and may be let in before."""

    async def test_keeps_nothing_that_is_not_compressed(
        self, nursery: trio.Nursery, mock_clock: MockClock
    ) -> None:
        sockets = Sockets(2, 3)
        context = sockets.world.context
        context.worker = work_here
        lost = sockets.world.handle.hosts[2]
        async with sockets.running() as transmitter:
            senders = Senders(transmitter, nursery)
            sockets.hold(2, 3)
            # As batches, so that room comes before all who wait are told.
            for _ in range(LANE_MESSAGES // 64):
                transmitter.send_nowait([b"x"] * 64, 0)
            context.compression = Compression(Slow(), 100)
            for number in range(MANY):
                senders.start(b"%03d" % number + bytes(200))
            await wait_all_tasks_blocked()
            make_room(sockets, 3)
            lose(sockets.world, 2)
            transmitter._transport.wake(3)  # pyright: ignore[reportPrivateUsage]
            await wait_all_tasks_blocked()
            nursery.start_soon(context.chores.run)
            await wait_all_tasks_blocked()
            assert not lost.lane.items
            assert lost.lane.messages == lost.lane.size == 0
            with trio.fail_after(5):
                await transmitter.flush()
            assert senders.returned == MANY
            assert len(sockets.payloads(3)) == LANE_MESSAGES + MANY
            assert drops(sockets.world) == {DropCause.HOST_DOWN: LANE_MESSAGES + MANY}
        nursery.cancel_scope.cancel()


class TestTheEnd:
    async def test_nothing_enters_a_lane_after_it(self, nursery: trio.Nursery) -> None:
        sockets = Sockets(2, 3, 4)
        world = sockets.world
        async with sockets.running() as transmitter:
            senders = Senders(transmitter, nursery)
            sockets.hold(2, 3, 4)
            await fill(transmitter, 2)
            world.context.filter = lambda packet: Unicast((int(packet.data[:1]),))
            senders.start(b"2 waits", b"3 comes after it", b"4 too")
            await wait_all_tasks_blocked()
            make_room(sockets, 2)
            while world.handle.hosts[2].lane.waiters:
                await transmitter._transport.work(2)  # pyright: ignore[reportPrivateUsage]
            # The first one is in, and its task has not run yet.
            transmitter.close()
            await wait_all_tasks_blocked()
            assert (senders.returned, senders.closed) == (0, 1)
            assert [host.lane.messages for host in world.handle.hosts.values()] == [0, 0, 0]
        nursery.cancel_scope.cancel()
