"""Messages on their way out go in groups, whose members nobody can tell from single ones."""

from __future__ import annotations

import errno

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from knet_trio._pipeline.batches import BATCH_BYTES, BATCH_MESSAGES, cut, pack
from knet_trio._pipeline.transmitter import Transmitter
from knet_trio._state.send_lane import LANE_MESSAGES
from knet_trio.config import CryptoConfig
from knet_trio.errors import DropCause
from knet_trio.message import Broadcast, Drop, FilterPacket, FilterResult, Unicast
from tests.pipeline.sending import Outgoing, data, drops, make, message, send
from tests.state.fakes import KEY, address, refusal


class TestPacking:
    """Messages become batches, each of them work for one turn."""

    def packed(self, *sizes: int) -> list[list[int]]:
        """The sizes of the messages in each batch."""
        datas = [bytes([i % 256]) * size for i, size in enumerate(sizes)]
        batches = list(pack(iter(datas)))
        assert [data for batch in batches for data in batch] == datas
        return [list(map(len, batch)) for batch in batches]

    def test_nothing(self) -> None:
        assert self.packed() == []

    def test_few_go_together(self) -> None:
        assert self.packed(1, 1000, 65536) == [[1, 1000, 65536]]

    @pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 129, 1000])
    def test_no_more_than_so_many(self, count: int) -> None:
        whole, rest = divmod(count, BATCH_MESSAGES)
        expected = [BATCH_MESSAGES] * whole + [rest] * (rest > 0)
        assert [len(batch) for batch in self.packed(*[1] * count)] == expected

    def test_nor_more_than_so_many_bytes(self) -> None:
        assert self.packed(*[65536] * 7) == [[65536] * 3, [65536] * 3, [65536]]
        assert BATCH_BYTES == 3 * 65536
        assert self.packed(*[65536] * 3, 1) == [[65536] * 3, [1]]
        assert self.packed(1, *[65536] * 3) == [[1, 65536, 65536], [65536]]

    @given(st.lists(st.sampled_from([1, 1, 1, 1000, 3073, 30000, 65536]), max_size=300))
    def test_each_batch_is_as_large_as_it_may_be(self, sizes: list[int]) -> None:
        batches = self.packed(*sizes)
        for batch, after in zip(batches, [*batches, [BATCH_BYTES]][1:], strict=bool(batches)):
            assert 0 < len(batch) <= BATCH_MESSAGES
            assert sum(batch) <= BATCH_BYTES
            assert len(batch) == BATCH_MESSAGES or sum(batch) + after[0] > BATCH_BYTES

    def test_what_is_short_enough_is_not_copied(self) -> None:
        datas = [b"x"] * BATCH_MESSAGES
        (batch,) = cut(datas)
        assert batch is datas
        assert list(map(len, cut([bytes(65536)] * 4))) == [3, 1]


class TestGathering:
    """Messages that are sent one by one within a turn go together."""

    async def test_they_keep_their_order_channels_and_hosts(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = make(2, 3)
        monkeypatch.setattr(world.context.turns, "_clock", lambda: 0.0)
        items = [
            # Some take fragments.
            message(
                b"%d " % i + bytes(600 * (i % 7 == 6)),
                channel=i // 30 % 2,
                to=[2] if i // 50 % 2 else None,
            )
            for i in range(400)
        ]
        await send(world, *items)
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

    async def test_a_full_lane_takes_no_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = make(2)
        monkeypatch.setattr(world.context.turns, "_clock", lambda: 0.0)
        transmitter = Transmitter(world.handle)
        world.endpoint.room = 0
        sent = 0
        with trio.move_on_after(0.1) as scope:
            while True:
                await transmitter.send(*message())
                sent += 1
        assert scope.cancelled_caught
        assert sent == world.handle.hosts[2].lane.messages == LANE_MESSAGES


class TestFiltering:
    async def test_each_message_of_several_is_asked_about(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = make(2, 3)
        monkeypatch.setattr(world.context.turns, "_clock", lambda: 0.0)
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
        world.handle.hosts[2].network_links[0].set_enabled(False)
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
        stats = world.handle.hosts[2].network_links[0].status().stats
        assert (stats.tx_data_packets, stats.tx_data_errors) == (5, 2)
