"""Nobody waits for what is compressed for somebody else, or for nobody any more.

Nothing here needs a real thread: a message is "in a thread" until the test lets it go.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, TypeVarTuple, Unpack

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio._pipeline.transmitter import Transmitter
from knet_trio._state.context import Compression
from knet_trio._state.host import HostState
from knet_trio._state.send_lane import LANE_MESSAGES, Batch, LaneItem, SendLane
from knet_trio._state.workers import COMPRESSING
from knet_trio.abc import Compressor
from knet_trio.errors import DropCause
from tests.pipeline.sending import data, drops, make
from tests.state.fakes import address

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Bytes of messages that need no thread, and that do.
SMALL, LARGE = 200, 2000


class Halver(Compressor):
    """Keeps every second byte. Only small messages are quick."""

    wire_id = 77
    compress_at_once = SMALL

    def __init__(self) -> None:
        self.compressed: list[bytes] = []

    def compress(self, message: bytes) -> bytes:
        self.compressed.append(message[:1])
        return message[::2]

    def decompress_untrusted(self, data: bytes, limit: int) -> bytes:
        raise NotImplementedError


class Way:
    """The way out of a handle with hosts that are up.

    Attributes:
        begun: The first bytes of the messages that were given to a thread, in order.
        held: Whether threads do not finish.
    """

    def __init__(self, *hosts: int) -> None:
        self.world = make(*hosts)
        self.halver = Halver()
        self.world.context.compression = Compression(self.halver, 100)
        self.world.context.fixed_mtu = 65535
        self.world.handle.restart_discovery()
        self.world.context.worker = self._work
        self.transmitter = Transmitter(self.world.handle)
        self.begun: list[bytes] = []
        self.held = True
        self._released: list[trio.Event] = []

    async def _work(self, work: Callable[[Unpack[Ts]], T], /, *args: *Ts) -> T:
        released = trio.Event()
        self._released.append(released)
        before = len(self.halver.compressed)
        made = work(*args)
        self.begun += self.halver.compressed[before:]
        if self.held:
            with trio.CancelScope(shield=True):
                await released.wait()
        return made

    def release(self) -> None:
        """Let the threads finish the messages they have."""
        released, self._released = self._released, []
        for one in released:
            one.set()

    async def send(self, host_id: int, names: bytes, size: int = LARGE) -> None:
        """Send a message for each byte of ``names``, as a batch."""
        await self.transmitter.send([bytes([name]) * size for name in names], 0, (host_id,))

    def got(self, host_id: int) -> bytes:
        """The first bytes of the messages that a host was sent."""
        return b"".join(packet.payload[:1] for packet in data(self.world, address(10 * host_id)))

    def host(self, host_id: int) -> HostState:
        return self.world.handle.hosts[host_id]

    def lose(self, host_id: int) -> None:
        """Take the link of a host down."""
        self.host(host_id).network_links[0].set_enabled(False)

    def find(self, host_id: int) -> None:
        """Bring it up again."""
        link = self.host(host_id).network_links[0]
        link.set_enabled(True)
        self.world.bring_up(link)

    def replace(self, host_id: int) -> None:
        """Remove a host, and add another one with the same id."""
        host = self.host(host_id)
        link = host.network_links[0]
        link.close()
        host.remove(link)
        self.world.handle.remove(host)
        host = self.world.add_host(host_id)
        self.world.bring_up(self.world.add_link(host, dst=address(10 * host_id)))


@asynccontextmanager
async def open_way(*hosts: int) -> AsyncGenerator[Way]:
    way = Way(*hosts)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(way.world.context.chores.run)
        nursery.start_soon(way.transmitter.run)
        await wait_all_tasks_blocked()
        try:
            yield way
        finally:
            way.held = False
            way.release()
            nursery.cancel_scope.cancel()


class TestWhatIsDropped:
    @pytest.mark.parametrize("how", ["lost", "replaced", "forwarding"])
    async def test_is_not_compressed(self, how: str) -> None:
        async with open_way(2) as way:
            for _ in range(LANE_MESSAGES):
                await way.send(2, b"o")
            await wait_all_tasks_blocked()
            assert way.begun == [b"o"]
            if how == "lost":
                way.lose(2)
                way.find(2)
            elif how == "replaced":
                way.replace(2)
            else:
                way.transmitter.stop()
            await way.send(2, b"new")
            await wait_all_tasks_blocked()
            # It does not even wait for the message that a thread has.
            assert way.begun == [b"o", b"n"]
            way.held = False
            way.release()
            await wait_all_tasks_blocked()
            assert way.begun == [b"o", b"n", b"e", b"w"]
            assert way.got(2) == b"new"
            assert sum(drops(way.world).values()) == LANE_MESSAGES

    async def test_nor_is_the_rest_of_its_batch(self) -> None:
        async with open_way(2) as way:
            await way.send(2, b"abc")
            await wait_all_tasks_blocked()
            way.lose(2)
            way.held = False
            way.release()
            await wait_all_tasks_blocked()
            assert way.begun == [b"a"]
            assert drops(way.world) == {DropCause.HOST_DOWN: 3}

    async def test_small_messages_too(self) -> None:
        async with open_way(2) as way:
            await way.send(2, b"old", SMALL)
            way.lose(2)
            await wait_all_tasks_blocked()
            assert way.halver.compressed == []

    async def test_however_often_a_host_goes_and_comes(self) -> None:
        async with open_way(2, 3) as way:
            await way.send(2, b"a")
            await way.transmitter.send([b"b" * LARGE], 0)
            await wait_all_tasks_blocked()
            # Nobody is free to look at what waits for host 3.
            assert len(way.begun) == COMPRESSING
            for _ in range(5):
                for _ in range(LANE_MESSAGES // 64 - 1):
                    await way.send(3, b"o" * 64)
                way.lose(3)
                way.find(3)
            await way.send(3, b"n")
            way.held = False
            way.release()
            await wait_all_tasks_blocked()
            assert sorted(way.begun) == [b"a", b"b", b"n"]
            assert way.got(2) == b"ab"
            assert way.got(3) == b"n"

    async def test_for_one_of_its_hosts_goes_to_the_others(self) -> None:
        async with open_way(2, 3) as way:
            for name in b"ab":
                await way.transmitter.send([bytes([name]) * LARGE], 0)
            await wait_all_tasks_blocked()
            way.lose(2)
            way.held = False
            way.release()
            await wait_all_tasks_blocked()
            assert way.got(2) == b""
            assert way.got(3) == b"ab"

    async def test_for_all_of_its_hosts_one_after_the_other(self) -> None:
        async with open_way(2, 3) as way:
            for name in b"ab":
                await way.transmitter.send([bytes([name]) * LARGE], 0)
            await wait_all_tasks_blocked()
            way.lose(2)
            way.find(2)
            await way.transmitter.send([b"c" * LARGE], 0)
            await wait_all_tasks_blocked()
            assert way.begun == [b"a"]
            way.lose(3)
            await wait_all_tasks_blocked()
            # What is left of the third one is for host 2, which nothing else waits for.
            assert way.begun == [b"a", b"c"]
            way.release()
            await wait_all_tasks_blocked()
            assert way.got(2) == b"c"


class TestLanesOfOthers:
    async def test_small_messages_wait_for_no_thread(self) -> None:
        async with open_way(*range(2, 12)) as way:
            for host_id in range(2, 11):
                await way.send(host_id, b"large")
            await wait_all_tasks_blocked()
            assert len(way.begun) == COMPRESSING
            await way.send(11, b"small", SMALL)
            await wait_all_tasks_blocked()
            assert way.got(11) == b"small"

    async def test_not_even_where_large_ones_waited_before(self) -> None:
        async with open_way(2, 3, 4) as way:
            for host_id in (2, 3, 4):
                await way.send(host_id, b"large")
            await wait_all_tasks_blocked()
            way.lose(4)
            way.find(4)
            await way.send(4, b"small", SMALL)
            await wait_all_tasks_blocked()
            assert len(way.begun) == COMPRESSING
            assert way.got(4) == b"small"

    async def test_threads_go_round_the_hosts(self) -> None:
        async with open_way(2, 3, 4) as way:
            await way.send(2, b"aaaa")
            await way.send(3, b"bbbb")
            await way.send(4, b"c")
            await wait_all_tasks_blocked()
            way.held = False
            way.release()
            await wait_all_tasks_blocked()
            # It is third, but of two that begin at once either may be the first.
            assert b"c" in way.begun[: 2 * COMPRESSING]
            assert [way.got(host_id) for host_id in (2, 3, 4)] == [b"aaaa", b"bbbb", b"c"]

    async def test_large_and_small_ones_to_the_same_host_keep_their_order(self) -> None:
        async with open_way(2) as way:
            way.held = False
            sizes = [SMALL, LARGE, SMALL, SMALL, LARGE, LARGE, 50, SMALL]
            messages = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
            await way.transmitter.send(messages, 0, (2,))
            await way.send(2, b"after", SMALL)
            await way.transmitter.flush()
            assert way.got(2) == b"ABCDEFGHafter"


class TestSync:
    async def test_it_goes_round_the_hosts_too(self) -> None:
        async with open_way(2, 3) as way, trio.open_nursery() as nursery:
            for name in b"aaaaaa":
                nursery.start_soon(way.transmitter.send_sync, bytes([name]) * LARGE, 0, (2,))
            await wait_all_tasks_blocked()
            await way.send(3, b"b")
            await wait_all_tasks_blocked()
            assert way.begun == [b"a", b"b"]
            way.held = False
            way.release()
            await wait_all_tasks_blocked()
            assert way.got(2) == b"aaaaaa"

    async def test_it_does_not_wait_for_what_waits_in_the_lane(self) -> None:
        async with open_way(2) as way, trio.open_nursery() as nursery:
            await way.send(2, b"old")
            await wait_all_tasks_blocked()
            nursery.start_soon(way.transmitter.send_sync, b"s" * LARGE, 0, (2,))
            await wait_all_tasks_blocked()
            assert way.begun == [b"o", b"s"]
            way.held = False
            way.release()
            await wait_all_tasks_blocked()

    async def test_cancelled_it_waits_for_no_thread_and_is_not_compressed(self) -> None:
        async with open_way(2) as way, trio.open_nursery() as nursery:
            for name in b"abc":
                nursery.start_soon(way.transmitter.send_sync, bytes([name]) * LARGE, 0, (2,))
            await wait_all_tasks_blocked()
            assert len(way.begun) == 1
            nursery.cancel_scope.cancel()
            with trio.fail_after(5, shield=True):
                while nursery.child_tasks:
                    await trio.lowlevel.checkpoint()
                way.held = False
                way.release()
                await wait_all_tasks_blocked()
            assert len(way.begun) == 1
            assert way.got(2) == b""
            assert drops(way.world) == {}

    async def test_the_end_of_the_handle_wakes_it(self) -> None:
        ended: list[bytes] = []
        way = Way(2)

        async def send_sync() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await way.transmitter.send_sync(b"x" * LARGE, 0, (2,))
            ended.append(b"x")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_sync)
            await wait_all_tasks_blocked()
            assert not ended
            way.transmitter.close()
            with trio.fail_after(5):
                await wait_all_tasks_blocked()
            assert ended == [b"x"]


class TestBatches:
    def test_know_in_how_many_lanes_they_are(self) -> None:
        lanes = [SendLane(0), SendLane(0), SendLane(0)]
        batch = Batch([b"x"], 0, broadcast=True)
        dropped: list[int] = []
        batch.on_dropped = lambda: dropped.append(batch.lanes)
        for lane in lanes:
            lane.append(LaneItem(batch))
        assert batch.lanes == 3
        item = lanes[0].take()
        assert item is not None
        assert batch.lanes == 2
        lanes[0].put_back(item)
        assert batch.lanes == 3
        for lane in lanes:
            assert dropped == []
            for one in lane.take_all():
                one.batch.drop()
        assert dropped == [0]
        assert batch.on_dropped is None
