"""Messages on their way out go in groups, whose members nobody can tell from single ones."""

from __future__ import annotations

import errno

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from knet_trio._pipeline.batches import (
    ITEM_BYTES,
    ITEM_MESSAGES,
    SHORT,
    Outgoing,
    Sealed,
    pack_messages,
)
from knet_trio._pipeline.sealing import Sealer
from knet_trio._pipeline.stage import BATCH_LIMIT, CHANNEL_BATCHES
from knet_trio._pipeline.transport import TransportStage
from knet_trio._pipeline.tx import CipherStage, CompressorStage, FilterStage, Transmitter
from knet_trio._state.context import Compression
from knet_trio.config import CryptoConfig
from knet_trio.errors import DropCause
from knet_trio.message import Broadcast, Drop, FilterPacket, FilterResult, Unicast
from tests.pipeline.sending import data, drops, make, message, send
from tests.pipeline.test_compression import Halver
from tests.state.fakes import KEY, address, refusal


class TestPacking:
    """Messages become items, each of them work for one turn."""

    def packed(self, *sizes: int) -> list[list[int]]:
        """The sizes of the messages in each item."""
        datas = [bytes([i % 256]) * size for i, size in enumerate(sizes)]
        items = pack_messages(datas, 5, (2, 3))
        assert {(item.channel, item.to) for item in items} <= {(5, (2, 3))}
        assert [data for item in items for data in item.datas] == datas
        return [list(map(len, item.datas)) for item in items]

    def test_nothing(self) -> None:
        assert self.packed() == []

    def test_few_go_together(self) -> None:
        assert self.packed(1, 1000, 65536) == [[1, 1000, 65536]]

    @pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 129, 1000])
    def test_no_more_than_so_many(self, count: int) -> None:
        whole, rest = divmod(count, ITEM_MESSAGES)
        expected = [ITEM_MESSAGES] * whole + [rest] * (rest > 0)
        assert [len(item) for item in self.packed(*[1] * count)] == expected

    def test_nor_more_than_so_many_bytes(self) -> None:
        assert self.packed(*[65536] * 7) == [[65536] * 3, [65536] * 3, [65536]]
        assert ITEM_BYTES == 3 * 65536
        assert self.packed(*[65536] * 3, 1) == [[65536] * 3, [1]]
        assert self.packed(1, *[65536] * 3) == [[1, 65536, 65536], [65536]]

    @given(st.lists(st.sampled_from([1, 1, 1, 1000, 3073, 30000, 65536]), max_size=300))
    def test_each_item_is_as_large_as_it_may_be(self, sizes: list[int]) -> None:
        items = self.packed(*sizes)
        for item, after in zip(items, [*items, [ITEM_BYTES]][1:], strict=bool(items)):
            assert 0 < len(item) <= ITEM_MESSAGES
            assert sum(item) <= ITEM_BYTES
            assert len(item) == ITEM_MESSAGES or sum(item) + after[0] > ITEM_BYTES


class TestJoining:
    """What comes while a stage is behind goes on together."""

    async def test_messages_keep_their_order_channels_and_hosts(self) -> None:
        world = make(2, 3)
        transmitter = Transmitter(world.node)
        # What needs a thread is not done in the turn of who sends it, nor is what comes after it.
        world.context.compression = Compression(Halver(slow=True), 65536)
        items = [
            # Some take fragments.
            message(
                b"%d " % i + bytes(600 * (i % 7 == 6)),
                channel=i // 30 % 2,
                to=[2] if i // 50 % 2 else None,
            )
            for i in range(400)
        ]
        for item in items:
            transmitter.send_nowait([item])
        # More than the two stages have room for one by one.
        assert len(items) > 2 * CHANNEL_BATCHES * BATCH_LIMIT
        assert world.endpoint.sent == []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transmitter.run)
            with trio.fail_after(5):
                await transmitter.flush()
            nursery.cancel_scope.cancel()
        for number in (20, 30):
            packets = data(world, address(number))
            wanted = [item for item in items if number == 20 or item.to is None]
            seqs = list(dict.fromkeys(packet.seq for packet in packets))
            assert seqs == sorted(seqs)
            for seq, item in zip(seqs, wanted, strict=True):
                parts = [packet for packet in packets if packet.seq == seq]
                assert b"".join(part.payload for part in parts) == item.datas[0]
                assert {part.channel for part in parts} == {item.channel}
                assert {part.broadcast for part in parts} == {item.to is None}
        assert drops(world) == {}

    async def test_no_item_grows_past_what_is_one_turns_work(self) -> None:
        world = make(2)
        sealer = Sealer(world.node)
        stage = FilterStage(
            world.node,
            CompressorStage(world.node, CipherStage(sealer, TransportStage(world.node, sealer))),
        )

        def joined(first: list[bytes], second: list[bytes]) -> Outgoing | None:
            return stage.join(Outgoing(first, 0, None), Outgoing(second, 0, None))

        together = [b"x"] * (ITEM_MESSAGES - 24) + [b"y"] * 24
        assert joined(together[:-24], together[-24:]) == Outgoing(together, 0, None)
        assert joined(together[:-24], [b"y"] * 25) is None
        # Long ones gain nothing.
        assert joined([b"x"], [bytes(SHORT)]) == Outgoing([b"x", bytes(SHORT)], 0, None)
        assert joined([b"x"], [b"y", bytes(SHORT + 1)]) is None

    async def test_messages_of_different_ways_do_not_join(self) -> None:
        world = make(2)
        sealer = Sealer(world.node)
        stage = FilterStage(
            world.node,
            CompressorStage(world.node, CipherStage(sealer, TransportStage(world.node, sealer))),
        )
        for other in (message(channel=1), message(to=[2]), message(channel=1, to=[2])):
            assert stage.join(message(), other) is None
            assert stage.join(other, message()) is None
        assert stage.join(message(b"a", to=[3, 2]), message(b"b", to=[3, 2])) is not None
        assert stage.join(message(b"a", to=[3, 2]), message(b"b", to=[2, 3])) is None

    async def test_datagrams_of_the_same_hosts_are_sent_together(self) -> None:
        node = make(2).node
        stage = TransportStage(node, Sealer(node))
        one = Sealed([b"a"], None)
        assert stage.join(one, Sealed([b"b", b"c"], None)) == Sealed([b"a", b"b", b"c"], None)
        assert stage.join(one, Sealed([b"b"], (2,))) is None
        # What is one message is dealt to one link.
        parts = Sealed([b"b", b"c"], None, fragments=True)
        assert stage.join(one, parts) is None
        assert stage.join(parts, one) is None

    async def test_what_is_in_the_envelopes_stays_beside_them(self) -> None:
        node = make(2).node
        stage = TransportStage(node, Sealer(node))
        sealed = Sealed([b"A"], None, packets=[b"a"])
        joined = stage.join(sealed, Sealed([b"B"], None, packets=[b"b"]))
        assert joined == Sealed([b"A", b"B"], None, packets=[b"a", b"b"])
        # The envelope was turned on or off in between.
        assert stage.join(Sealed([b"c"], None), Sealed([b"B"], None, packets=[b"b"])) is None
        assert stage.join(Sealed([b"A"], None, packets=[b"a"]), Sealed([b"c"], None)) is None


class TestFiltering:
    async def test_each_message_of_several_is_asked_about(self) -> None:
        world = make(2, 3)
        asked: list[bytes] = []

        def decide(packet: FilterPacket) -> FilterResult:
            asked.append(packet.data)
            answers: list[FilterResult] = [
                Broadcast(),
                Broadcast(7),
                Unicast([3]),
                Drop(),
                Unicast([2, 3], 1),
            ]
            return answers[packet.data[0] // 3 % 5]

        world.context.filter = decide
        messages = [bytes([number]) for number in range(60)]
        await send(world, Outgoing(messages, 0, None))
        assert asked == messages
        for host, kinds in ((2, (0, 1, 4)), (3, (0, 1, 2, 4))):
            packets = data(world, address(10 * host))
            wanted = [number for number in range(60) if number // 3 % 5 in kinds]
            assert [packet.payload[0] for packet in packets] == wanted
            for packet in packets:
                kind = packet.payload[0] // 3 % 5
                assert packet.channel == {1: 7, 4: 1}.get(kind, 0)
                assert packet.broadcast is (kind < 2)
        # What is dropped takes no number.
        assert {packet.seq for packet in data(world)} == set(range(1, 49))
        assert drops(world) == {DropCause.FILTER_DROP: 12}


class TestLosses:
    """Each message counts, however many go together."""

    @pytest.mark.parametrize("to", [None, (2,), (2, 9)])
    async def test_nobody_is_there(self, to: tuple[int, ...] | None) -> None:
        world = make(2)
        world.node.peers[2].paths[0].set_enabled(False)
        await send(world, Outgoing([b"x"] * 10, 0, to))
        expected = {DropCause.HOST_DOWN: 10}
        if to == (2, 9):
            expected[DropCause.UNKNOWN_DESTINATION] = 10
        assert drops(world) == expected

    async def test_a_message_in_fragments_counts_once(self) -> None:
        world = make()
        await send(world, Outgoing([b"x", bytes(5000), b"y"], 0, None))
        assert drops(world) == {DropCause.HOST_DOWN: 3}

    async def test_while_forwarding_is_off(self) -> None:
        world = make(2)
        world.context.forwarding = False
        await send(world, Outgoing([b"x"] * 10, 0, (2,)))
        assert drops(world) == {DropCause.FORWARDING_DISABLED: 10}

    async def test_the_cipher_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = make(2)

        def fail(_: object) -> list[bytes]:
            raise MemoryError

        world.context.crypto.set(CryptoConfig(KEY), 1)
        world.context.crypto.use(1)
        monkeypatch.setattr(world.context.crypto.sealer, "seal", fail)
        await send(world, Outgoing([b"x", b"y", bytes(5000), b"z"], 0, None))
        assert drops(world) == {DropCause.SEAL_FAILED: 4}

    async def test_one_that_the_system_refuses_stops_no_other(self) -> None:
        world = make(2)

        def refuse(datagram: bytes, _: object) -> None:
            if datagram.endswith(b"refused"):
                raise refusal(errno.EPERM)

        world.endpoint.refuse = refuse
        messages = [b"one", b"refused", b"two", b"refused", b"three"]
        await send(world, Outgoing(messages, 0, None))
        assert [packet.payload for packet in data(world)] == [b"one", b"two", b"three"]
        assert drops(world) == {DropCause.SEND_FAILED: 2}
        stats = world.node.peers[2].paths[0].status().stats
        assert (stats.tx_data_packets, stats.tx_data_errors) == (3, 2)
