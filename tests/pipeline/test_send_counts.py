"""What is counted of messages that had to wait: what has happened, for each host, and once."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio import CompressConfig
from knet_trio._compress import make_compressor
from knet_trio._pipeline.transmitter import Transmitter
from knet_trio._state.context import Compression
from knet_trio._state.send_lane import LANE_MESSAGES
from knet_trio.errors import DropCause
from tests.pipeline.lanes import Senders, lose
from tests.pipeline.sending import drops
from tests.pipeline.test_send_lanes import Sockets, fill
from tests.state.fakes import World, address

THRESHOLD = 100
SMALL, LARGE = bytes(THRESHOLD), bytes(THRESHOLD + 1)


class Waiting(NamedTuple):
    """A handle whose lanes are full."""

    sockets: Sockets
    transmitter: Transmitter
    senders: Senders

    @property
    def world(self) -> World:
        return self.sockets.world

    async def wait(self, count: int, *datas: bytes, to: tuple[int, ...] | None = None) -> None:
        """Have ``count`` tasks wait to send."""
        for _ in range(count):
            self.senders.start(*datas, to=to)
        await wait_all_tasks_blocked()

    async def cancel(self) -> None:
        """Cancel all that wait."""
        self.senders.cancel()
        await wait_all_tasks_blocked()

    async def let_go(self) -> None:
        """Have room in all sockets."""
        self.sockets.release(*self.sockets.endpoints)
        await wait_all_tasks_blocked()


@asynccontextmanager
async def full_lanes(*hosts: int) -> AsyncGenerator[Waiting]:
    """Open a handle whose lanes to ``hosts`` are full."""
    sockets = Sockets(*hosts)
    async with sockets.running() as transmitter, trio.open_nursery() as nursery:
        nursery.start_soon(sockets.world.context.chores.run)
        sockets.hold(*hosts)
        assert await fill(transmitter) == LANE_MESSAGES
        yield Waiting(sockets, transmitter, Senders(transmitter, nursery))
        nursery.cancel_scope.cancel()


class TestALostHost:
    @pytest.mark.parametrize("messages", [1, 3])
    async def test_does_not_count_for_sends_that_are_cancelled(
        self, messages: int, mock_clock: MockClock
    ) -> None:
        async with full_lanes(2, 3) as waiting:
            await waiting.wait(5, *[b"x"] * messages, to=(2, 3))
            lose(waiting.world, 2)
            await wait_all_tasks_blocked()
            await waiting.cancel()
            assert waiting.senders.returned == 0
            assert drops(waiting.world) == {DropCause.HOST_DOWN: LANE_MESSAGES}

    async def test_counts_once_for_those_that_enter_later(self, mock_clock: MockClock) -> None:
        async with full_lanes(2, 3) as waiting:
            await waiting.wait(5, b"x", b"y", to=(2, 3))
            lose(waiting.world, 2)
            await wait_all_tasks_blocked()
            assert drops(waiting.world) == {DropCause.HOST_DOWN: LANE_MESSAGES}
            await waiting.let_go()
            assert waiting.senders.returned == 5
            assert drops(waiting.world) == {DropCause.HOST_DOWN: LANE_MESSAGES + 10}
            assert len(waiting.sockets.payloads(3)) == LANE_MESSAGES + 10


class TestCompression:
    def counts(self, world: World) -> tuple[int, int]:
        """How many messages were compressed, and how many were not."""
        counters = world.context.counters.snapshot()
        return counters.tx_compressed_packets, counters.tx_uncompressed_packets

    def compress(self, world: World) -> None:
        compressor = make_compressor(CompressConfig("zlib", 1))
        world.context.compression = Compression(compressor, THRESHOLD)

    @pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
    async def test_a_send_that_would_block_does_not_count(self, data: bytes) -> None:
        async with full_lanes(2, 3) as waiting:
            self.compress(waiting.world)
            compressed, not_compressed = self.counts(waiting.world)
            for _ in range(10):
                with pytest.raises(trio.WouldBlock):
                    waiting.transmitter.send_nowait((data,), 0)
            assert self.counts(waiting.world) == (compressed, not_compressed)
            await waiting.let_go()
            waiting.transmitter.send_nowait((data,), 0)
            is_large = data == LARGE
            expected = compressed + is_large, not_compressed + (not is_large)
            assert self.counts(waiting.world) == expected

    @pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
    async def test_nor_does_one_that_is_cancelled(self, data: bytes) -> None:
        async with full_lanes(2, 3) as waiting:
            self.compress(waiting.world)
            before = self.counts(waiting.world)
            await waiting.wait(5, data)
            await waiting.cancel()
            assert self.counts(waiting.world) == before

    @pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
    async def test_one_that_waited_counts_when_it_enters(
        self, data: bytes, mock_clock: MockClock
    ) -> None:
        async with full_lanes(2, 3) as waiting:
            self.compress(waiting.world)
            compressed, not_compressed = self.counts(waiting.world)
            await waiting.wait(5, data)
            assert self.counts(waiting.world) == (compressed, not_compressed)
            await waiting.let_go()
            large = 5 * (data == LARGE)
            assert self.counts(waiting.world) == (compressed + large, not_compressed + 5 - large)


class TestForwardingIsTurnedOff:
    """Messages that wait then are counted for each host, as those in the lanes are."""

    def turn_off(self, waiting: Waiting) -> None:
        waiting.world.context.forwarding = False
        waiting.transmitter.stop()

    async def test_for_each_host_that_they_waited_for(self, mock_clock: MockClock) -> None:
        async with full_lanes(2, 3) as waiting:
            await waiting.wait(5, b"x", b"y", to=(2, 3))
            self.turn_off(waiting)
            await wait_all_tasks_blocked()
            assert waiting.senders.returned == 5
            expected = 2 * LANE_MESSAGES + 5 * 2 * 2
            assert drops(waiting.world) == {DropCause.FORWARDING_DISABLED: expected}

    async def test_and_those_that_were_missing(self, mock_clock: MockClock) -> None:
        async with full_lanes(2, 3) as waiting:
            down = waiting.world.add_host(4)
            waiting.world.add_link(down, dst=address(40))
            await waiting.wait(1, b"x", b"y", to=(2, 3, 4, 9))
            assert drops(waiting.world) == {}
            self.turn_off(waiting)
            await wait_all_tasks_blocked()
            assert drops(waiting.world) == {
                DropCause.FORWARDING_DISABLED: 2 * LANE_MESSAGES + 4,
                DropCause.HOST_DOWN: 2,
                DropCause.UNKNOWN_DESTINATION: 2,
            }

    async def test_and_those_that_were_lost_meanwhile(self, mock_clock: MockClock) -> None:
        async with full_lanes(2, 3) as waiting:
            await waiting.wait(1, b"x", b"y", to=(2, 3))
            lose(waiting.world, 2)
            self.turn_off(waiting)
            await wait_all_tasks_blocked()
            assert drops(waiting.world) == {
                DropCause.HOST_DOWN: LANE_MESSAGES + 2,
                DropCause.FORWARDING_DISABLED: LANE_MESSAGES + 2,
            }
