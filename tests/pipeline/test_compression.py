from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from typing import Any, cast

import pytest
import trio

from knet_trio._core.onwire import MAX_MESSAGE, encode_message
from knet_trio._pipeline.receiver import Receiver
from knet_trio._pipeline.transmitter import Transmitter
from knet_trio._state.context import Compression
from knet_trio._state.turns import TURN, CountedClock
from knet_trio._state.workers import Worker
from knet_trio.abc import Compressor
from knet_trio.errors import DropCause, PacketError
from knet_trio.message import Message
from tests.pipeline.sending import Outgoing, data, drops, make, message, running, send
from tests.pipeline.test_receiver import HOME, PEER, receiving
from tests.state.fakes import World
from tests.state.test_workers import no_thread_left

THRESHOLD = 100


class Halver(Compressor):
    """Keeps every second byte. It notes the threads it is called in."""

    wire_id = 77

    def __init__(self, *, slow: bool = False) -> None:
        self.slow = slow
        self.threads: set[int] = set()

    def compress(self, message: bytes) -> bytes:
        self.threads.add(threading.get_ident())
        # Noise gets no shorter.
        return message if message.startswith(b"noise") else message[::2]

    def decompress_untrusted(self, data: bytes, limit: int) -> bytes:
        self.threads.add(threading.get_ident())
        if len(data) * 2 > limit:
            raise PacketError(DropCause.BAD_COMPRESSION, "too long")
        return bytes(byte for byte in data for _ in range(2))


class Picky(Compressor):
    """Opens what is no multiple of three."""

    wire_id = 77

    def compress(self, message: bytes) -> bytes:
        return message

    def decompress_untrusted(self, data: bytes, limit: int) -> bytes:
        if int(data) % 3 == 0:
            raise PacketError(DropCause.BAD_COMPRESSION, "not to its liking")
        return data


slow_or_not = pytest.mark.parametrize("slow", [False, True])


class TestSending:
    def compressing(self, *, slow: bool = False) -> tuple[World, Halver]:
        world, halver = make(2), Halver(slow=slow)
        world.context.compression = Compression(halver, THRESHOLD)
        return world, halver

    @slow_or_not
    async def test_messages_over_the_threshold_are_made_smaller(self, slow: bool) -> None:
        world, halver = self.compressing(slow=slow)
        await send(world, message(b"a" * THRESHOLD), message(b"b" * (THRESHOLD + 1)))
        assert [(packet.compress, packet.payload) for packet in data(world)] == [
            (0, b"a" * THRESHOLD),
            (77, b"b" * 51),
        ]
        shown = world.context.counters.snapshot()
        assert shown.tx_uncompressed_packets == 1
        # Nobody tried to make it smaller.
        assert shown.tx_unable_to_compress == shown.tx_failed_to_compress == 0
        assert shown.tx_compressed_packets == 1
        assert shown.tx_compressed_original_bytes == 101
        assert shown.tx_compressed_size_bytes == 51
        assert (halver.threads != {threading.get_ident()}) is slow

    async def test_the_programs_own_threads_hold_nothing_up(self) -> None:
        world, halver = self.compressing(slow=True)
        with no_thread_left():
            await send(world, message(b"a" * 200))
            async with running(world) as transmitter:
                with trio.fail_after(5):
                    await transmitter.send_sync(b"b" * 200, 0, (2,))
        assert [packet.payload for packet in data(world)] == [b"a" * 100, b"b" * 100]
        assert threading.get_ident() not in halver.threads

    async def test_what_gets_no_smaller_goes_as_it_is(self) -> None:
        world, _ = self.compressing()
        await send(world, message(b"noise" * 50))
        assert [(packet.compress, packet.payload) for packet in data(world)] == [(0, b"noise" * 50)]
        shown = world.context.counters.snapshot()
        assert (shown.tx_uncompressed_packets, shown.tx_unable_to_compress) == (1, 1)
        assert shown.tx_failed_to_compress == 0

    async def test_before_fragmenting(self) -> None:
        world, _ = self.compressing()
        await send(world, message(bytes(1000)))
        assert [len(packet.payload) for packet in data(world)] == [250, 250]
        assert {packet.compress for packet in data(world)} == {77}

    @slow_or_not
    async def test_the_order_is_kept(self, slow: bool) -> None:
        world, _ = self.compressing(slow=slow)
        await send(world, *[message(bytes([i]) * (60 + i)) for i in range(200)])
        assert [packet.payload[0] for packet in data(world)] == list(range(200))

    @slow_or_not
    @pytest.mark.parametrize("size", [120, 2 * MAX_MESSAGE // 30])
    async def test_many_at_once(self, slow: bool, size: int) -> None:
        world, halver = self.compressing(slow=slow)
        world.context.fixed_mtu = 65535
        world.handle.restart_discovery()
        # What gets smaller, what does not, and what is left alone, side by side.
        kinds = (bytes([1]) * size, bytes([2]) * size, b"noise" * 30, b"short")
        messages = [kinds[i * 7 % 11 % 4] for i in range(30)]
        await send(world, Outgoing(messages, 5, (2,)))
        assert [(packet.compress, packet.payload) for packet in data(world)] == [
            (77, message[::2]) if message[0] < 3 else (0, message) for message in messages
        ]
        assert [packet.seq for packet in data(world)] == list(range(1, 31))
        assert {(packet.channel, packet.broadcast) for packet in data(world)} == {(5, False)}
        smaller = sum(message[0] < 3 for message in messages)
        shown = world.context.counters.snapshot()
        noise = sum(message == kinds[2] for message in messages)
        assert shown.tx_compressed_packets == smaller + noise
        assert shown.tx_compressed_original_bytes == smaller * size + noise * len(kinds[2])
        assert shown.tx_uncompressed_packets == 30 - smaller
        assert shown.tx_unable_to_compress == noise > 0
        assert (halver.threads != {threading.get_ident()}) is slow

    async def test_others_get_a_turn_while_much_is_compressed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world, _ = self.compressing()
        monkeypatch.setattr(world.context.turns, "_clock", CountedClock(2 * TURN))
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with running(world) as transmitter, trio.open_nursery() as nursery:
            await trio.lowlevel.checkpoint()
            flushed = trio.Event()

            async def flush() -> None:
                await transmitter.flush()
                flushed.set()

            await transmitter.send([bytes(MAX_MESSAGE // 16)] * 32, 0)
            nursery.start_soon(count)
            nursery.start_soon(flush)
            with trio.fail_after(5):
                await flushed.wait()
            nursery.cancel_scope.cancel()
        # One after each, as if it took as long as a turn.
        assert turns >= 30

    async def test_sync_too(self) -> None:
        world, _ = self.compressing()
        await Transmitter(world.handle).send_sync(bytes(200), 0, (2,))
        assert [(packet.compress, len(packet.payload)) for packet in data(world)] == [(77, 100)]

    async def test_without_compression_none_is_counted(self) -> None:
        world = make(2)
        await send(world, *[message(bytes(200))] * 3)
        assert world.context.counters.snapshot().tx_uncompressed_packets == 0


class Noting(Halver):
    """A slow one that notes which messages it gets, in their order."""

    def __init__(self) -> None:
        super().__init__(slow=True)
        self.begun: list[bytes] = []
        self.go_on = threading.Event()

    def compress(self, message: bytes) -> bytes:
        self.begun.append(message[:1])
        assert self.go_on.wait(20)
        return super().compress(message)


async def test_slow_messages_of_others_do_not_wait_for_all_of_a_batch() -> None:
    world, noting = make(2, 3, 4), Noting()
    world.context.compression = Compression(noting, THRESHOLD)
    batches = {2: b"aaa", 3: b"bbb", 4: b"c"}
    # Threads begin when they like.
    handed: list[bytes] = []
    worker = world.context.worker

    async def note(work: Callable[..., Any], *args: Any) -> Any:
        handed.append(args[1][:1])
        return await worker(work, *args)

    world.context.worker = cast("Worker", note)
    with trio.fail_after(20):
        async with running(world) as transmitter:
            for host, names in batches.items():
                await transmitter.send([name.to_bytes() * 300 for name in names], 0, (host,))
            noting.go_on.set()
            await transmitter.flush()
    # It is third, but two tasks take turns in any order.
    assert b"c" in handed[:4]
    assert sorted(noting.begun) == sorted(name.to_bytes() for name in b"aaabbbc")
    assert drops(world) == {}


class TestReceiving:
    def install(self, monkeypatch: pytest.MonkeyPatch, *, slow: bool = False) -> Halver:
        halver = Halver(slow=slow)

        def find(_: object, wire_id: int) -> Compressor:
            if wire_id != 77:
                raise PacketError(DropCause.UNKNOWN_COMPRESSION, "not known")
            return halver

        monkeypatch.setattr("knet_trio._compress.Decompressors.find_untrusted", find)
        return halver

    def packets(
        self, payload: bytes, *, seq: int = 1, compress: int = 77, size: int = 1000
    ) -> list[bytes]:
        return encode_message(
            payload,
            node=PEER,
            seq=seq,
            compress=compress,
            broadcast=True,
            channel=0,
            fragment_size=size,
        )

    async def test_nothing_is_no_message(self) -> None:
        world = World()
        async with receiving(world) as rx:
            nothing = encode_message(
                zlib.compress(b""),
                node=PEER,
                seq=1,
                compress=1,
                broadcast=True,
                channel=0,
                fragment_size=1000,
            )
            await rx.arrive(*nothing)
            assert rx.got() == []
            assert rx.drops == {DropCause.BAD_COMPRESSION: 1}

    @slow_or_not
    async def test_messages_become_what_they_were(
        self, slow: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        halver = self.install(monkeypatch, slow=slow)
        async with receiving(World()) as rx:
            rx.world.endpoint.arrive(
                *[(packet, HOME) for packet in self.packets(b"x" * 3000)],
                *[(packet, HOME) for packet in self.packets(b"plain", seq=2, compress=0)],
            )
            queue = rx.receiver.channels[0]
            got = [await queue.take(), await queue.take()]
            assert got == [Message(b"x" * 6000, PEER, 0), Message(b"plain", PEER, 0)]
            shown = rx.world.context.counters.snapshot()
            assert shown.rx_compressed_packets == 1
            assert shown.rx_compressed_original_bytes == 6000
            assert shown.rx_compressed_size_bytes == 3000
        assert (halver.threads != {threading.get_ident()}) is slow

    async def test_the_programs_own_threads_hold_nothing_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.install(monkeypatch, slow=True)
        with no_thread_left():
            async with receiving(World()) as rx:
                rx.world.endpoint.arrive(*[(packet, HOME) for packet in self.packets(b"x")])
                with trio.fail_after(5):
                    got = await rx.receiver.channels[0].take()
                assert got == Message(b"xx", PEER, 0)

    @slow_or_not
    async def test_many_at_once(self, slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        halver = self.install(monkeypatch, slow=slow)
        world = World()
        world.endpoint.coalesces = True
        async with receiving(world) as rx:
            # One of them would be too long.
            payloads = [bytes([i]) * (MAX_MESSAGE // 2 + (i == 7)) for i in range(20)]
            datagrams = [
                datagram
                for seq, payload in enumerate(payloads, start=1)
                for datagram in self.packets(payload, seq=seq, size=len(payload))
            ]
            queue = rx.receiver.channels[0]
            # A train each, and what is too long.
            for start, end in ((0, 7), (7, 8), (8, 20)):
                world.endpoint.arrive(*[(datagram, HOME) for datagram in datagrams[start:end]])
            with trio.fail_after(5):
                got = [await queue.take() for _ in range(19)]
            assert [message.data for message in got] == [
                bytes([i]) * MAX_MESSAGE for i in range(20) if i != 7
            ]
            assert drops(world) == {DropCause.BAD_COMPRESSION: 1}
            shown = world.context.counters.snapshot()
            assert shown.rx_compressed_packets == 19
            assert shown.rx_compressed_original_bytes == 19 * MAX_MESSAGE
        assert (halver.threads != {threading.get_ident()}) is slow

    async def test_those_among_many_that_cannot_be_are_left_out(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def find(_: object, wire_id: int) -> Compressor:
            return Picky()

        monkeypatch.setattr("knet_trio._compress.Decompressors.find_untrusted", find)
        world = World()
        world.endpoint.coalesces = True
        async with receiving(world) as rx:
            await rx.arrive(
                *[
                    datagram
                    for seq in range(1, 41)
                    for datagram in self.packets(b"%02d" % seq, seq=seq)
                ]
            )
            wanted = [b"%02d" % seq for seq in range(1, 41) if seq % 3]
            assert [message.data for message in rx.got()] == wanted
            assert drops(world) == {DropCause.BAD_COMPRESSION: 40 - len(wanted)}
            failed = world.context.counters.snapshot().rx_failed_to_decompress
            assert failed == 40 - len(wanted)
            assert world.context.counters.snapshot().rx_compressed_packets == len(wanted)

    @pytest.mark.parametrize(
        ("size", "compress", "cause"),
        [
            (MAX_MESSAGE // 2 + 1, 77, DropCause.BAD_COMPRESSION),
            (10, 99, DropCause.UNKNOWN_COMPRESSION),
        ],
    )
    async def test_what_cannot_be_is_dropped(
        self, size: int, compress: int, cause: DropCause, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.install(monkeypatch)
        async with receiving(World()) as rx:
            await rx.arrive(*self.packets(bytes(size), compress=compress))
            await rx.arrive(*self.packets(b"after", seq=2, compress=0))
            assert drops(rx.world) == {cause: 1}
            assert rx.got() == [Message(b"after", PEER, 0)]
            assert isinstance(rx.receiver, Receiver)
