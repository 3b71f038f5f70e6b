"""What the tests of the lanes on the way in share."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from knet_trio._compress import Decompressors
from knet_trio._core.onwire import Data, Ping, Pong, encode_data, encode_ping
from knet_trio._pipeline.receiver import Receiver
from knet_trio._state.channel_queue import ChannelQueue
from knet_trio._state.receive_lane import WaitingMessage
from knet_trio._state.turns import counted_turns
from knet_trio.abc import Compressor
from knet_trio.errors import DropCause, PacketError
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
