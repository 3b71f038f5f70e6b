from __future__ import annotations

import threading

import pytest

from knet_trio.abc import Compressor
from knet_trio.core.onwire import MAX_MESSAGE, encode_message
from knet_trio.errors import DropCause, PacketError
from knet_trio.message import Message
from knet_trio.node.context import Compression
from knet_trio.pipeline.rx import Receiver
from knet_trio.pipeline.tx import Transmitter
from tests.node.fakes import World
from tests.pipeline.sending import data, drops, make, message, send
from tests.pipeline.test_rx import HOME, PEER, receiving

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
        assert shown.tx_compressed_packets == 1
        assert shown.tx_compressed_original_bytes == 101
        assert shown.tx_compressed_size_bytes == 51
        assert (halver.threads != {threading.get_ident()}) is slow

    async def test_what_gets_no_smaller_goes_as_it_is(self) -> None:
        world, _ = self.compressing()
        await send(world, message(b"noise" * 50))
        assert [(packet.compress, packet.payload) for packet in data(world)] == [(0, b"noise" * 50)]
        assert world.context.counters.snapshot().tx_uncompressed_packets == 1

    async def test_before_fragmenting(self) -> None:
        world, _ = self.compressing()
        await send(world, message(bytes(1000)))
        assert [len(packet.payload) for packet in data(world)] == [482, 18]
        assert {packet.compress for packet in data(world)} == {77}

    @slow_or_not
    async def test_the_order_is_kept(self, slow: bool) -> None:
        world, _ = self.compressing(slow=slow)
        await send(world, *[message(bytes([i]) * (60 + i)) for i in range(200)])
        assert [packet.payload[0] for packet in data(world)] == list(range(200))

    async def test_sync_too(self) -> None:
        world, _ = self.compressing()
        await Transmitter(world.node).send_sync(message(bytes(200), to=[2]))
        assert [(packet.compress, len(packet.payload)) for packet in data(world)] == [(77, 100)]

    async def test_without_compression_all_are_counted(self) -> None:
        world = make(2)
        await send(world, *[message(bytes(200))] * 3)
        assert world.context.counters.snapshot().tx_uncompressed_packets == 3


class TestReceiving:
    def install(self, monkeypatch: pytest.MonkeyPatch, *, slow: bool = False) -> Halver:
        halver = Halver(slow=slow)

        def find(_: object, wire_id: int) -> Compressor:
            if wire_id != 77:
                raise PacketError(DropCause.UNKNOWN_COMPRESSION, "not known")
            return halver

        monkeypatch.setattr("knet_trio.compress.Decompressors.find_untrusted", find)
        return halver

    def packets(self, payload: bytes, *, seq: int = 1, compress: int = 77) -> list[bytes]:
        return encode_message(
            payload,
            node=PEER,
            seq=seq,
            compress=compress,
            broadcast=True,
            channel=0,
            fragment_size=1000,
        )

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
            mailbox = rx.receiver.mailboxes[0]
            got = [*await mailbox.take(1), *await mailbox.take(1)]
            assert got == [Message(b"x" * 6000, PEER, 0), Message(b"plain", PEER, 0)]
            shown = rx.world.context.counters.snapshot()
            assert shown.rx_compressed_packets == 1
            assert shown.rx_compressed_original_bytes == 6000
            assert shown.rx_compressed_size_bytes == 3000
        assert (halver.threads != {threading.get_ident()}) is slow

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
