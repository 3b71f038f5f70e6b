"""Nobody waits for somebody else on the way in: told in pieces of work, not in time."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio._compress import Decompressors
from knet_trio._core.onwire import Data, Ping, Pong, encode_data, encode_ping
from knet_trio._pipeline.receiver import READERS_FIRST, Receiver
from knet_trio._state.channel_queue import HIGH_WATER, ChannelQueue
from knet_trio._state.receive_lane import MOST_BYTES, MOST_MESSAGES, ReceiveLane, WaitingMessage
from knet_trio._state.turns import TURN, counted_turns
from knet_trio.abc import Compressor
from knet_trio.errors import DropCause, PacketError
from knet_trio.message import Message
from tests.state.fakes import World, address

# Wire ids that the compressors here have.
FAST, SLOW, BROKEN = 201, 202, 203


class Recorded(Compressor):
    """Opens a message by taking its first byte away, and tells ``on_open`` before."""

    def __init__(self, wire_id: int, on_open: Callable[[bytes], None], *, slow: bool) -> None:
        self.wire_id = wire_id
        self.slow = slow
        self._on_open = on_open

    def compress(self, message: bytes) -> bytes:
        return b"c" + message

    def decompress_untrusted(self, data: bytes, limit: int) -> bytes:
        self._on_open(data)
        return data[1:]


class Way:
    """The way in of a handle with hosts 2, 3 and 4, which sends to it are recorded of.

    ``opened`` is what was decompressed, in that order. With ``held`` a slow message stays in its
    thread until ``release``.
    """

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.opened: list[bytes] = []
        self.held = False
        self._seqs: dict[int, int] = dict.fromkeys((2, 3, 4), 0)
        self._released = threading.Semaphore(0)
        self._at_work = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        compressors = {
            FAST: Recorded(FAST, self.opened.append, slow=False),
            SLOW: Recorded(SLOW, self._open_slowly, slow=True),
            BROKEN: Recorded(BROKEN, self._fail, slow=False),
        }

        def find(_: object, wire_id: int) -> Compressor:
            if wire_id not in compressors:
                raise PacketError(DropCause.UNKNOWN_COMPRESSION, "not known")
            return compressors[wire_id]

        monkeypatch.setattr("knet_trio._compress.Decompressors.find_untrusted", find)
        for host_id in self._seqs:
            link = world.add_link(world.add_host(host_id), dst=address(host_id))
            world.bring_up(link)
        self.receiver = Receiver(world.handle)
        self.queue = self.open_channel(0, 100_000)

    def open_channel(self, channel: int, limit: int) -> ChannelQueue:
        queue = ChannelQueue(limit, self.world.context.turns)
        self.receiver.channels[channel] = queue
        return queue

    def send(self, host_id: int, *datas: bytes, compress: int = 0, channel: int = 0) -> None:
        """Let messages of a host come in together."""
        datagrams: list[bytes] = []
        for data in datas:
            self._seqs[host_id] += 1
            payload = b"c" + data if compress else data
            packet = Data(host_id, self._seqs[host_id], compress, False, 1, 0, channel, payload)
            datagrams.append(encode_data(packet))
        self.world.endpoint.arrive(*[(datagram, address(host_id)) for datagram in datagrams])

    def put(self, host_id: int, *datas: bytes, channel: int = 0) -> None:
        """Have compressed messages of a host wait in its lane."""
        lane = self.world.handle.hosts[host_id].receive_lane
        compressor = Decompressors().find_untrusted(FAST)
        for data in datas:
            message = WaitingMessage(b"c" + data, channel, compressor)
            self.receiver._lanes.put(lane, message)  # pyright: ignore[reportPrivateUsage]

    def ping(self, host_id: int, seq: int = 1) -> None:
        """Let a ping come in."""
        ping = Ping(host_id, 0, bytes(16), seq, True)
        self.world.endpoint.arrive((encode_ping(ping), address(host_id)))

    def pongs(self) -> list[int]:
        """How many pings of hosts 2, 3 and 4 were answered."""
        return [
            sum(isinstance(packet, Pong) for packet in self.world.endpoint.packets(address(host)))
            for host in (2, 3, 4)
        ]

    def got(self) -> list[bytes]:
        """What was delivered, with the number of its host in front."""
        taken = [self.queue.take_nowait() for _ in range(len(self.queue))]
        return [b"%d%s" % (message.source, message.data) for message in taken]

    @property
    def drops(self) -> dict[DropCause, int]:
        return {cause: count for cause, count in self.world.context.counters.drops.items() if count}

    # In the thread.

    def _open_slowly(self, data: bytes) -> None:
        assert threading.current_thread() is not threading.main_thread()
        self.opened.append(data)
        if self.held:
            trio.from_thread.run_sync(self._enter, trio_token=self._token)
            self._released.acquire()

    def _fail(self, data: bytes) -> None:
        raise MemoryError(len(data))

    def _enter(self) -> None:
        self._at_work.set()

    async def wait_in_thread(self) -> None:
        """Wait until a thread works on a message that is held."""
        with trio.fail_after(5):
            await self._at_work.wait()
        self._at_work = trio.Event()

    def release(self) -> None:
        """Let the thread finish its message."""
        self._released.release()

    async def receive(self, count: int) -> list[bytes]:
        """Wait for so many messages; what else is there by then is left."""
        with trio.fail_after(5):
            taken = [await self.queue.take() for _ in range(count)]
        return [b"%d%s" % (message.source, message.data) for message in taken]


@asynccontextmanager
async def open_way(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Way]:
    with counted_turns():
        world = World()
    way = Way(world, monkeypatch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(way.receiver.run)
        nursery.start_soon(way.receiver.receive_from, world.endpoint)
        try:
            yield way
        finally:
            way.held = False
            way.release()
            nursery.cancel_scope.cancel()


class TestOneHostHoldsUpNoOther:
    async def test_a_slow_message_waits_in_its_own_lane(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_way(monkeypatch) as way:
            way.held = True
            way.send(2, b"slow", compress=SLOW)
            way.send(2, b"after it")
            await way.wait_in_thread()
            way.send(3, b"plain")
            way.send(4, b"fast", compress=FAST)
            way.ping(2)
            way.ping(3)
            await wait_all_tasks_blocked()
            # Others go on, and control packets act, the slow host's own too.
            assert way.got() == [b"3plain", b"4fast"]
            assert way.pongs() == [1, 1, 0]
            way.release()
            assert await way.receive(2) == [b"2slow", b"2after it"]

    async def test_hosts_take_turns_at_the_worker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.held = True
            way.send(2, *[b"2" for _ in range(50)], compress=SLOW)
            await way.wait_in_thread()
            way.send(3, b"3", b"3", compress=SLOW)
            way.send(4, b"4", compress=SLOW)
            await wait_all_tasks_blocked()
            way.held = False
            way.release()
            await way.receive(53)
            assert way.opened[:7] == [b"c2", b"c3", b"c4", b"c2", b"c3", b"c2", b"c2"]

    async def test_fast_ones_take_turns_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.send(2, *[b"%d" % number for number in range(1000)], compress=FAST)
            way.send(3, b"here", compress=FAST)
            way.send(4, b"plain")
            await wait_all_tasks_blocked()
            got = way.got()
            assert len(got) == 1002
            # One turn of work, and one piece more for each of two tasks: then it is their turn.
            assert got.index(b"3here") < 200
            assert got.index(b"4plain") < 200
            assert [one for one in got if one.startswith(b"2")] == [b"2%d" % n for n in range(1000)]

    async def test_pings_are_answered_while_lanes_are_full(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_way(monkeypatch) as way:
            way.held = True
            way.send(2, *[b"x"] * (MOST_MESSAGES + 100), compress=SLOW)
            way.ping(2)
            way.ping(4)
            await way.wait_in_thread()
            await wait_all_tasks_blocked()
            assert way.pongs() == [1, 0, 1]
            assert way.drops == {DropCause.RECEIVE_QUEUE_FULL: 100}

    async def test_others_run_between_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.send(2, *[b"x"] * 2000, compress=FAST)
            rounds: list[int] = []
            while len(way.opened) < 2000:
                before = len(way.opened)
                await trio.lowlevel.checkpoint()
                rounds.append(len(way.opened) - before)
            # 32 looks at the clock are a turn. Two tasks do the work, so there is a piece more, and
            # two turns may pass from one moment of this task to its next.
            assert max(rounds) <= 2 * 33
            assert len(rounds) > 2000 // 66


class TestReadersOfCrowdedChannels:
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
                way.world.endpoint.coalesces = True
                # Four times what there is room for. A reader takes 32 in a turn.
                packets = [
                    encode_data(Data(2, seq, 0, False, 1, 0, 0, b"x")) for seq in range(1, 961)
                ]
                for start in range(0, 960, 64):
                    train = [(packet, address(2)) for packet in packets[start : start + 64]]
                    way.world.endpoint.arrive(*train)
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
                way.world.endpoint.coalesces = True
                packets = [
                    encode_data(Data(2, seq, 0, False, 1, 0, 0, b"x")) for seq in range(1, 4001)
                ]
                for start in range(0, 4000, 125):
                    train = [(packet, address(2)) for packet in packets[start : start + 125]]
                    way.world.endpoint.arrive(*train)
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


class TestLanesOfCrowdedChannels:
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


def remove(way: Way, host_id: int) -> None:
    """Remove a host with its link."""
    host = way.world.handle.hosts[host_id]
    link = host.network_links[0]
    link.close()
    host.remove(link)
    way.world.handle.remove(host)


def end(way: Way) -> None:
    """End all hosts, as the handle does when it ends."""
    for host in way.world.handle.hosts.values():
        host.end()


class TestOrder:
    async def test_nothing_overtakes_what_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.held = True
            way.send(2, b"0", compress=SLOW)
            await way.wait_in_thread()
            way.send(2, b"1")
            way.send(2, b"2", compress=FAST)
            way.send(2, b"3", b"4", b"5")
            way.send(2, b"6", compress=SLOW)
            way.send(2, b"7")
            await wait_all_tasks_blocked()
            way.held = False
            way.release()
            assert await way.receive(8) == [b"2%d" % number for number in range(8)]
            assert way.drops == {}
            # It is as it was: what comes next goes through at once.
            way.send(2, b"8")
            await wait_all_tasks_blocked()
            assert way.got() == [b"28"]

    async def test_a_host_that_starts_again_never_passes_older_data(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_way(monkeypatch) as way:
            way.held = True
            way.ping(2, seq=1)
            way.send(2, b"old", compress=SLOW)
            await way.wait_in_thread()
            way.ping(2, seq=0)
            await wait_all_tasks_blocked()
            way._seqs[2] = 0  # pyright: ignore[reportPrivateUsage]
            way.send(2, b"new")
            await wait_all_tasks_blocked()
            way.release()
            assert await way.receive(2) == [b"2old", b"2new"]
            assert way.drops == {}


class TestLosses:
    async def test_no_memory_is_a_drop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.send(2, b"x", compress=BROKEN)
            way.send(2, b"after")
            await wait_all_tasks_blocked()
            assert way.got() == [b"2after"]
            assert way.drops == {DropCause.BAD_COMPRESSION: 1}

    @pytest.mark.parametrize("accepted", [[], [SLOW]])
    async def test_algorithms_that_are_not_accepted(
        self, accepted: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_way(monkeypatch) as way:
            way.world.context.accept_compression = frozenset(accepted)
            way.send(2, b"1", b"2", compress=FAST)
            way.send(2, b"3", compress=99)
            way.send(2, b"4")
            await wait_all_tasks_blocked()
            assert way.got() == [b"24"]
            assert way.drops == {DropCause.COMPRESSION_REFUSED: 3}
            assert way.opened == []
            way.send(2, b"5", compress=SLOW)
            if accepted:
                assert await way.receive(1) == [b"25"]

    async def test_a_host_that_is_removed_meanwhile(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.held = True
            way.send(2, b"in the thread", b"behind it", compress=SLOW)
            way.send(2, b"and this")
            await way.wait_in_thread()
            remove(way, 2)
            assert way.drops == {DropCause.UNKNOWN_HOST: 3}
            # Another host takes its name and place.
            way.world.bring_up(way.world.add_link(way.world.add_host(2), dst=address(2)))
            way.held = False
            way.send(2, b"new")
            way.send(2, b"slow", compress=SLOW)
            way.release()
            assert await way.receive(2) == [b"2new", b"2slow"]
            assert way.drops == {DropCause.UNKNOWN_HOST: 3}

    async def test_the_end_acts_on_no_result(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.held = True
            way.send(2, b"1", b"2", compress=SLOW)
            way.send(3, b"3", compress=SLOW)
            await way.wait_in_thread()
            end(way)
            # What a socket gives in the same round of the loop.
            way.put(2, b"4")
            way.put(3, b"5")
        assert way.got() == []
        assert way.drops == {DropCause.NO_CHANNEL: 5}

    async def test_nor_on_what_waits_for_a_reader(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.queue = way.open_channel(0, 64)
            way.queue.put(2, [Message(b"before", 2, 0)] * 33)
            way.put(2, *[b"x"] * 10)
            lane = way.world.handle.hosts[2].receive_lane
            while lane.count == 10:
                await trio.lowlevel.checkpoint()
            left = lane.count
            end(way)
        assert len(way.got()) == 33 + 10 - left
        assert way.drops == {DropCause.NO_CHANNEL: left}

    async def test_a_flood_takes_no_message_of_others_from_a_channel(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_way(monkeypatch) as way:
            way.queue = way.open_channel(0, 64)
            for number in range(20):
                way.send(2, *[b"flood"] * 64)
                way.send(3, b"%d" % number)
                way.send(2, *[b"flood"] * 64, compress=FAST)
            await wait_all_tasks_blocked()
            got = way.got()
            assert [one for one in got if one.startswith(b"3")] == [b"3%d" % n for n in range(20)]
            assert len(got) == 64
            assert way.drops == {DropCause.CHANNEL_FULL: 20 * 129 - 64}


class TestBounds:
    def test_messages(self) -> None:
        lane = ReceiveLane(2)
        message = WaitingMessage(b"x", 0, None)
        assert all(lane.offer(message) for _ in range(MOST_MESSAGES))
        assert not lane.offer(message)
        lane.done()
        assert lane.offer(message)
        assert lane.close() == MOST_MESSAGES
        assert lane.count == 0

    def test_bytes(self) -> None:
        lane = ReceiveLane(2)
        message = WaitingMessage(bytes(65536), 0, None)
        assert sum(lane.offer(message) for _ in range(100)) == MOST_BYTES // 65536
        assert not lane.offer(WaitingMessage(b"x", 0, None))
        lane.done()
        assert lane.offer(message)


class TestSlowness:
    @pytest.mark.parametrize(("size", "slow"), [(8191, False), (8192, True)])
    def test_a_fast_algorithm_is_slow_for_what_was_made_to_be(self, size: int, slow: bool) -> None:
        zlib = Decompressors().find_untrusted(1)
        assert WaitingMessage(bytes(size), 0, zlib).is_slow is slow
        assert not WaitingMessage(bytes(size), 0, None).is_slow
