"""Channels whose readers are behind: who waits for them on the way in, and who does not."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio._core.onwire import Data, encode_data
from knet_trio._pipeline.receiver import READERS_FIRST
from knet_trio._state.channel_queue import HIGH_WATER, ChannelQueue
from knet_trio._state.turns import TURN
from knet_trio.errors import DropCause
from knet_trio.message import Message
from tests.pipeline.receiving import Way, open_way, remove
from tests.state.fakes import address


def arrive_in_trains(way: Way, messages: int, *, each: int) -> None:
    """Let so many messages of host 2 come in, ``each`` of them together."""
    way.world.endpoint.coalesces = True
    packets = [encode_data(Data(2, seq, 0, False, 1, 0, 0, b"x")) for seq in range(1, messages + 1)]
    for start in range(0, messages, each):
        train = [(packet, address(2)) for packet in packets[start : start + each]]
        way.world.endpoint.arrive(*train)


class TestReaders:
    async def test_get_their_turns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.queue = way.open_channel(0, 256)
            got: list[Message] = []

            async def read() -> None:
                while True:
                    got.append(await way.queue.take())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await wait_all_tasks_blocked()
                # Four times what there is room for. A reader takes 32 in a turn.
                arrive_in_trains(way, 960, each=64)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            assert len(got) == 960
            assert way.drops == {}

    async def test_also_where_the_queue_has_room_for_more(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_way(monkeypatch) as way:
            way.queue = way.open_channel(0, 65536)
            sizes: list[int] = []

            async def read() -> None:
                while True:
                    await way.queue.take()
                    sizes.append(len(way.queue))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await wait_all_tasks_blocked()
                arrive_in_trains(way, 4000, each=125)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            assert len(sizes) == 4000
            assert HIGH_WATER < max(sizes) < 2 * HIGH_WATER

    async def test_but_not_all_turns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.queue = way.open_channel(0, 64)

            async def read_slowly() -> None:
                while True:
                    await way.queue.take()
                    await trio.lowlevel.checkpoint()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_slowly)
                rounds = 0
                for _ in range(100):
                    way.send(2, *[b"x"] * 128)
                way.ping(3)
                while way.pongs() != [0, 1, 0]:
                    await trio.lowlevel.checkpoint()
                    rounds += 1
                nursery.cancel_scope.cancel()
            # Each round has two looks at the clock or more, of a 32nd of a turn each.
            assert 100 < rounds < 100 * (READERS_FIRST / TURN * 16 + 2)
            assert way.drops[DropCause.CHANNEL_FULL] > 0


class TestLanes:
    """Those that lead to a crowded channel wait for its reader, and no others do."""

    async def test_hold_up_no_lane_of_another_channel(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_way(monkeypatch) as way:
            way.queue = way.open_channel(0, 64)
            other = way.open_channel(1, 64)
            got: list[bytes] = []
            way.queue.put(2, [Message(b"before", 2, 0)] * 33)
            way.put(2, *[b"%d" % number for number in range(200)])
            way.put(3, *[b"%d" % number for number in range(20)], channel=1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_slowly, way.queue, got)
                rounds = 0
                while len(other) < 20:
                    await trio.lowlevel.checkpoint()
                    rounds += 1
                # All in one turn, while the other host's lane waits.
                assert rounds < 5
                assert len(got) < 5
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            assert got == [b"before"] * 33 + [b"%d" % number for number in range(200)]
            assert [other.take_nowait().data for _ in range(20)] == [b"%d" % n for n in range(20)]
            assert way.drops == {}

    @pytest.mark.parametrize("hosts", [1, 3])
    async def test_lose_nothing_to_a_reader_that_gets_on(
        self, hosts: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_way(monkeypatch) as way:
            way.queue = way.open_channel(0, 64)
            got: list[bytes] = []
            senders = (2, 3, 4)[:hosts]
            for host_id in senders:
                way.put(host_id, *[b"%d" % number for number in range(1000)])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_slowly, way.queue, got)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            assert way.drops == {}
            assert sorted(got) == sorted([b"%d" % number for number in range(1000)] * hosts)

    async def test_go_on_where_nobody_reads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.queue = way.open_channel(0, 64)
            for host_id in (2, 3):
                way.put(host_id, *[b"x"] * 100)
            await wait_all_tasks_blocked()
            assert len(way.got()) == 64
            assert way.drops == {DropCause.CHANNEL_FULL: 200 - 64}

    async def test_of_a_host_that_is_removed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.queue = way.open_channel(0, 64)
            way.queue.put(3, [Message(b"before", 3, 0)] * 33)
            way.put(2, *[b"x"] * 10)
            way.put(3, b"x", b"x")
            lane = way.world.handle.hosts[2].receive_lane
            while lane.count == 10:
                await trio.lowlevel.checkpoint()
            left = lane.count
            remove(way, 2)
            await wait_all_tasks_blocked()
            got = way.got()
            assert (got.count(b"2x"), got.count(b"3x")) == (10 - left, 2)
            assert way.drops == {DropCause.UNKNOWN_HOST: left}


async def read_slowly(queue: ChannelQueue, got: list[bytes]) -> None:
    """Take a message in each round of the loop."""
    while True:
        got.append((await queue.take()).data)
        await trio.lowlevel.checkpoint()
