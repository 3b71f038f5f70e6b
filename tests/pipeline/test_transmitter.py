from __future__ import annotations

import errno
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio._core.onwire import Data, decode_untrusted
from knet_trio._core.policy import LinkPolicy
from knet_trio._crypto.envelope import make_cipher
from knet_trio._pipeline.batches import BATCH_MESSAGES
from knet_trio._pipeline.transmitter import ChannelState, Transmitter
from knet_trio._state.link_sender import LinkSender
from knet_trio._state.turns import TURN, CountedClock
from knet_trio.address import Address
from knet_trio.config import CryptoConfig
from knet_trio.errors import (
    DestinationError,
    DropCause,
    DroppedByFilterError,
    FilterError,
    ForwardingDisabledError,
    HostDownError,
    NoFilterError,
    NoProgressError,
    SealError,
    SendError,
)
from knet_trio.message import Broadcast, Direction, Drop, FilterPacket, FilterResult, Unicast
from tests.pipeline.sending import Outgoing, data, drops, make, message, running, send
from tests.state.fakes import KEY, ME, World, address, refusal

MINIMUM = 482


def answering(answer: Any) -> Callable[[FilterPacket], FilterResult]:
    def decide(_: FilterPacket) -> FilterResult:
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    return decide


class TestWhatGoesOut:
    async def test_a_broadcast_goes_to_every_reachable_host(self) -> None:
        world = make(2, 3, 4)
        world.handle.hosts[3].network_links[0].set_enabled(False)
        await send(world, message(channel=7))
        packet = Data(ME, 1, 0, True, 1, 0, 7, b"hello")
        assert data(world) == [packet, packet]
        assert {sent.destination for sent in world.endpoint.sent} == {address(20), address(40)}
        assert drops(world) == {}

    async def test_messages_are_numbered_in_their_order(self) -> None:
        world = make(2)
        count = 3 * BATCH_MESSAGES
        async with running(world) as transmitter:
            for number in range(count):
                await transmitter.send(*message(b"%d" % number))
            await transmitter.flush()
        packets = data(world)
        assert [packet.seq for packet in packets] == list(range(1, count + 1))
        assert [int(packet.payload) for packet in packets] == list(range(count))
        stats = world.handle.hosts[2].network_links[0].status().stats
        assert stats.tx_data_packets == count
        assert stats.tx_data_bytes == sum(14 + len(packet.payload) for packet in packets)

    async def test_hosts_that_are_named_get_it_alone(self) -> None:
        world = make(2, 3, 4)
        await send(world, message(to=[4, 2]))
        assert [sent.destination for sent in world.endpoint.sent] == [address(40), address(20)]
        assert all(not packet.broadcast for packet in data(world))

    @pytest.mark.parametrize(
        ("size", "fragments"),
        [(1, 1), (MINIMUM, 1), (MINIMUM + 1, 2), (2 * MINIMUM, 2), (65536, 136)],
    )
    async def test_a_long_message_goes_in_fragments(self, size: int, fragments: int) -> None:
        world = make(2)
        content = bytes(i % 251 for i in range(size))
        await send(world, message(content))
        packets = data(world)
        assert len(packets) == fragments
        assert {packet.frag_num for packet in packets} == {fragments}
        assert {packet.seq for packet in packets} == {1}
        expected = [0] if fragments == 1 else list(range(1, fragments + 1))
        assert [packet.frag_seq for packet in packets] == expected
        assert b"".join(packet.payload for packet in packets) == content
        largest = -(-size // fragments)
        assert all(len(packet.payload) == largest for packet in packets[:-1])

    async def test_as_few_fragments_as_fit_into_the_data_mtu_and_of_equal_size(self) -> None:
        world = make(2)
        world.context.fixed_mtu = 1500
        world.handle.restart_discovery()
        await send(world, message(bytes(2 * 1446)), message(bytes(2 * 1446 + 1)))
        assert [len(packet.payload) for packet in data(world)] == [1446, 1446, 965, 965, 963]

    async def test_an_envelope_around_each_fragment(self) -> None:
        config = CryptoConfig(KEY)
        world = World(crypto=config)
        world.bring_up(world.add_link(world.add_host(), dst=address(20)))
        await send(world, message(bytes(1000)))
        cipher = make_cipher(config)
        plain = [cipher.open_untrusted(sent.datagram) for sent in world.endpoint.sent]
        packets = [decode_untrusted(packet) for packet in plain]
        assert [len(p.payload) for p in packets if isinstance(p, Data)] == [334, 334, 332]
        shown = world.context.counters.snapshot()
        assert shown.tx_crypt_packets == 3
        assert shown.tx_crypt_byte_overhead == sum(
            len(sent.datagram) - len(packet)
            for sent, packet in zip(world.endpoint.sent, plain, strict=True)
        )
        assert shown.tx_crypt_time_ave is not None


class TestPolicies:
    @pytest.mark.parametrize(
        ("policy", "counts"),
        [
            (LinkPolicy.PASSIVE, [6, 0, 0]),
            (LinkPolicy.ACTIVE, [6, 6, 6]),
            (LinkPolicy.ROUND_ROBIN, [2, 2, 2]),
        ],
    )
    async def test_choose_the_links(self, policy: LinkPolicy, counts: list[int]) -> None:
        world = make(2, policy=policy, links=3)
        await send(world, *[message(b"%d" % i) for i in range(6)])
        assert [len(data(world, address(20 + i))) for i in range(3)] == counts

    async def test_round_robin_keeps_the_fragments_of_a_message_together(self) -> None:
        world = make(2, policy=LinkPolicy.ROUND_ROBIN, links=2)
        await send(world, *[message(bytes(1000)) for _ in range(4)])
        for link_id in range(2):
            packets = data(world, address(20 + link_id))
            assert len(packets) == 6
            assert len({packet.seq for packet in packets}) == 2


class TestFilter:
    async def test_sees_the_message(self) -> None:
        world = make(2)
        seen: list[FilterPacket] = []

        def decide(packet: FilterPacket) -> FilterResult:
            seen.append(packet)
            return Broadcast()

        world.context.filter = decide
        await send(world, message(b"x", 5))
        assert seen == [FilterPacket(b"x", Direction.TX, ME, ME, 5)]
        assert data(world)[0].channel == 5

    @pytest.mark.parametrize(
        ("answer", "channel", "to"),
        [
            (Broadcast(), 5, [20, 30]),
            (Broadcast(9), 9, [20, 30]),
            (Unicast([3]), 5, [30]),
            (Unicast([3, 2], 0), 0, [30, 20]),
        ],
    )
    async def test_decides_where_it_goes(
        self, answer: FilterResult, channel: int, to: list[int]
    ) -> None:
        world = make(2, 3)
        world.context.filter = answering(answer)
        await send(world, message(b"x", 5))
        assert [sent.destination for sent in world.endpoint.sent] == [address(n) for n in to]
        assert {packet.channel for packet in data(world)} == {channel}
        assert {packet.broadcast for packet in data(world)} == {isinstance(answer, Broadcast)}

    async def test_is_not_asked_when_hosts_are_named(self) -> None:
        world = make(2)
        world.context.filter = answering(Drop())
        await send(world, message(to=[2]))
        assert len(data(world)) == 1

    @pytest.mark.parametrize(
        ("answer", "cause"),
        [
            (Drop(), DropCause.FILTER_DROP),
            (Unicast([]), DropCause.UNKNOWN_DESTINATION),
            (RuntimeError("oops"), DropCause.FILTER_ERROR),
            ("everybody", DropCause.FILTER_ERROR),
            (Broadcast(32), DropCause.FILTER_ERROR),
            (Unicast([2], -1), DropCause.FILTER_ERROR),
        ],
    )
    async def test_what_it_stops_is_counted_and_takes_no_number(
        self, answer: object, cause: DropCause
    ) -> None:
        world = make(2)
        world.context.filter = answering(answer)
        await send(world, message(), message())
        assert data(world) == []
        assert drops(world) == {cause: 2}
        world.context.filter = None
        await send(world, message())
        assert data(world)[0].seq == 1


class TestDrops:
    async def test_while_forwarding_is_off(self) -> None:
        world = make(2)
        world.context.forwarding = False
        await send(world, message(), message(to=[2]))
        assert drops(world) == {DropCause.FORWARDING_DISABLED: 2}

    async def test_nobody_is_there(self) -> None:
        world = make()
        await send(world, message())
        assert drops(world) == {DropCause.HOST_DOWN: 1}

    async def test_each_host_that_is_named_counts(self) -> None:
        world = make(2, 3, 4)
        for host in (3, 4):
            world.handle.hosts[host].network_links[0].set_enabled(False)
        await send(world, message(to=[2, 3, 4, 9]))
        assert drops(world) == {DropCause.HOST_DOWN: 2, DropCause.UNKNOWN_DESTINATION: 1}
        assert len(data(world)) == 1

    async def test_a_host_that_is_missing_counts_only_what_was_sent(self) -> None:
        world = make(2)
        world.endpoint.room = 0
        transmitter = Transmitter(world.handle)
        sent = 0
        with pytest.raises(trio.WouldBlock):
            while True:
                transmitter.send_nowait([b"x"], 0, (2, 3))
                sent += 1
        with trio.move_on_after(0):
            await transmitter.send([b"x"], 0, (2, 3))
        assert drops(world) == {DropCause.UNKNOWN_DESTINATION: sent}

    async def test_what_the_system_refuses(self) -> None:
        world = make(2)

        def refuse(_: bytes, __: Address) -> None:
            raise refusal(errno.EPERM)

        world.endpoint.refuse = refuse
        await send(world, message(), message())
        assert drops(world) == {DropCause.SEND_FAILED: 2}
        assert world.handle.hosts[2].network_links[0].counters.drops == drops(world)

    async def test_what_the_cipher_fails_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = World(crypto=CryptoConfig(KEY))
        world.bring_up(world.add_link(world.add_host(), dst=address(20)))
        break_cipher(world, monkeypatch)
        await send(world, message())
        assert drops(world) == {DropCause.SEAL_FAILED: 1}
        assert world.endpoint.sent == []


def break_cipher(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> list[bytes]:
        raise OSError("out of entropy")

    monkeypatch.setattr(world.context.crypto.sealer, "seal", fail)


class TestTurns:
    async def test_what_need_not_wait_goes_in_the_turn_of_its_user(self) -> None:
        world = make(2)
        transmitter = Transmitter(world.handle)
        for number in range(3):
            transmitter.send_nowait(*message(b"%d" % number))
            assert [int(packet.payload) for packet in data(world)] == list(range(number + 1))
            # A task of the handle has noticed that the loop has gone round.
            world.context.turns.resumed(world.context.turns.round)

    async def test_messages_of_one_turn_go_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = make(2)
        calls: list[int] = []
        send_nowait = world.endpoint.send_nowait

        def send_noted(datagrams: Sequence[bytes], destination: Address) -> int:
            calls.append(len(datagrams))
            return send_nowait(datagrams, destination)

        monkeypatch.setattr(world.endpoint, "send_nowait", send_noted)
        monkeypatch.setattr(world.context.turns, "_clock", lambda: 0.0)
        async with running(world) as transmitter:
            for number in range(200):
                await transmitter.send(*message(b"%d" % number))
            await wait_all_tasks_blocked()
            assert [int(packet.payload) for packet in data(world)] == list(range(200))
        # The first goes at once, the others when the loop has gone round.
        assert calls == [1, BATCH_MESSAGES, BATCH_MESSAGES, BATCH_MESSAGES, 7]

    async def test_nothing_waits_for_others_to_come(self, autojump_clock: MockClock) -> None:
        world = make(2)
        async with running(world) as transmitter:
            for count in (1, 2, 3):
                before = len(world.endpoint.sent)
                for _ in range(count):
                    await transmitter.send(*message())
                await wait_all_tasks_blocked()
                assert len(world.endpoint.sent) == before + count
            # Not a moment has passed.
            assert trio.current_time() == 0.0

    async def test_a_broadcast_to_many_hosts_is_cut_into_turns(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = make(*range(2, 20))
        turns = world.context.turns
        # Each look at the clock finds a quarter of a turn gone.
        monkeypatch.setattr(turns, "_clock", CountedClock(TURN / 4))
        turns.resumed(turns.round)
        async with running(world) as transmitter:
            transmitter.send_nowait(*message())
            assert 0 < len(world.endpoint.sent) < 9
            await wait_all_tasks_blocked()
            assert {sent.destination for sent in world.endpoint.sent} == {
                address(10 * host) for host in range(2, 20)
            }
            assert {packet.seq for packet in data(world)} == {1}


class TestFlush:
    async def test_waits_for_all_lanes(self) -> None:
        world = make(2, 3)
        async with running(world) as transmitter, trio.open_nursery() as nursery:
            nursery.start_soon(world.send_socket.run)
            world.endpoint.room = 0
            for count in range(3):
                await transmitter.send(*message(b"%d" % count))
            flushed = trio.Event()

            async def flush() -> None:
                await transmitter.flush()
                flushed.set()

            nursery.start_soon(flush)
            await wait_all_tasks_blocked()
            assert not flushed.is_set()
            world.endpoint.give_room(math.inf)
            with trio.fail_after(5):
                await flushed.wait()
            assert len(data(world)) == 6
            nursery.cancel_scope.cancel()

    async def test_an_end_of_the_handle_ends_it(self) -> None:
        world = make(2)
        world.endpoint.room = 0
        async with running(world) as transmitter, trio.open_nursery() as nursery:
            await transmitter.send(*message())

            async def flush() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await transmitter.flush()

            nursery.start_soon(flush)
            await wait_all_tasks_blocked()
            transmitter.close()


class TestBugs:
    async def test_in_a_stage_end_the_handle_and_not_the_caller(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = make(2)
        bug = RuntimeError("a bug")

        def fail(*_: object, **__: object) -> None:
            raise bug

        monkeypatch.setattr("knet_trio._pipeline.sealing.encode_messages", fail)
        transmitter = Transmitter(world.handle)
        with pytest.raises(trio.ClosedResourceError):
            await transmitter.send(*message())
        with pytest.raises(RuntimeError, match="a bug"):
            world.context.raise_bug()

    async def test_in_a_stage_end_the_waiting_of_send_sync(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = make(2)
        world.endpoint.room = 0
        transmitter = Transmitter(world.handle)

        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("a bug")

        async def send_sync() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await transmitter.send_sync(b"hello", 0, (2,))
            woken.set()

        woken = trio.Event()
        bug = pytest.RaisesExc(RuntimeError, match="a bug")
        with trio.fail_after(5), pytest.RaisesGroup(bug, flatten_subgroups=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(world.send_socket.run)
                nursery.start_soon(send_sync)
                await wait_all_tasks_blocked()
                monkeypatch.setattr(LinkSender, "send_data", fail)
                world.endpoint.give_room(math.inf)
                try:
                    await transmitter.run()
                finally:
                    transmitter.close()
        assert woken.is_set()


class TestSendSync:
    async def sync(self, world: World, outgoing: Outgoing) -> None:
        datas, channel, to = outgoing
        await Transmitter(world.handle).send_sync(datas[0], channel, to)

    async def fails(self, world: World, outgoing: Outgoing, kind: type[SendError]) -> SendError:
        with pytest.raises(kind) as caught:
            await self.sync(world, outgoing)
        assert type(caught.value) is kind
        return caught.value

    async def test_is_past_the_queues(self) -> None:
        world = make(2)
        await self.sync(world, message(bytes(1000), 3, to=[2]))
        assert [packet.frag_seq for packet in data(world)] == [1, 2, 3]
        assert not data(world)[0].broadcast

    async def test_the_filter_names_the_host(self) -> None:
        world = make(2, 3)
        world.context.filter = answering(Unicast([3], 8))
        await self.sync(world, message())
        assert [packet.channel for packet in data(world, address(30))] == [8]
        assert len(world.endpoint.sent) == 1

    async def test_neither_filter_nor_host(self) -> None:
        error = await self.fails(make(2), message(), NoFilterError)
        assert error.errno == errno.ENETDOWN
        assert "to=[host_id]" in str(error)

    async def test_forwarding_off(self) -> None:
        world = make(2)
        world.context.forwarding = False
        error = await self.fails(world, message(to=[2]), ForwardingDisabledError)
        assert error.errno == errno.ECANCELED

    @pytest.mark.parametrize(
        ("answer", "number"),
        [(Broadcast(), errno.E2BIG), (Unicast([2, 3]), errno.E2BIG), (Unicast([]), errno.EINVAL)],
    )
    async def test_not_exactly_one_destination(self, answer: FilterResult, number: int) -> None:
        world = make(2, 3)
        world.context.filter = answering(answer)
        error = await self.fails(world, message(), DestinationError)
        assert error.errno == number

    @pytest.mark.parametrize(("to", "number"), [([2, 3], errno.E2BIG), ([], errno.EINVAL)])
    async def test_nor_by_name(self, to: list[int], number: int) -> None:
        error = await self.fails(make(2, 3), message(to=to), DestinationError)
        assert error.errno == number

    async def test_dropped_by_the_filter(self) -> None:
        world = make(2)
        world.context.filter = answering(Drop())
        error = await self.fails(world, message(), DroppedByFilterError)
        assert error.errno == errno.ENOMSG

    async def test_the_filter_fails(self) -> None:
        world = make(2)
        world.context.filter = answering(ValueError("oops"))
        error = await self.fails(world, message(), FilterError)
        assert error.errno == errno.EFAULT
        assert isinstance(error.__cause__, ValueError)

    @pytest.mark.parametrize("host", [3, 9])
    async def test_the_host_is_down_or_unknown(self, host: int) -> None:
        world = make(2)
        world.add_link(world.add_host(3), dst=address(30))
        error = await self.fails(world, message(to=[host]), HostDownError)
        assert error.errno == errno.EHOSTDOWN

    async def test_the_cipher_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = World(crypto=CryptoConfig(KEY))
        world.bring_up(world.add_link(world.add_host(), dst=address(20)))
        break_cipher(world, monkeypatch)
        error = await self.fails(world, message(to=[2]), SealError)
        assert error.errno == errno.ECHILD
        assert "out of entropy" in str(error)

    async def test_the_system_refuses_on_every_link(self) -> None:
        world = make(2, policy=LinkPolicy.ACTIVE, links=2)

        def refuse(_: bytes, destination: Address) -> None:
            raise refusal(errno.EPERM if destination == address(20) else errno.ENETUNREACH)

        world.endpoint.refuse = refuse
        error = await self.fails(world, message(to=[2]), NoProgressError)
        assert error.errno == errno.EPERM
        assert "no link to host 2 takes it: Operation not permitted" in str(error)

    async def test_one_link_is_enough(self) -> None:
        world = make(2, policy=LinkPolicy.ACTIVE, links=2)

        def refuse(_: bytes, destination: Address) -> None:
            if destination == address(20):
                raise refusal(errno.EPERM)

        world.endpoint.refuse = refuse
        await self.sync(world, message(to=[2]))
        assert len(data(world, address(21))) == 1

    async def test_it_waits_for_room(self, nursery: trio.Nursery) -> None:
        world = make(2)
        nursery.start_soon(world.send_socket.run)
        async with running(world) as transmitter:
            world.endpoint.room = 0
            transmitter.send_nowait(*message(b"in the lane"))
            nursery.start_soon(transmitter.send_sync, b"past it", 0, (2,))
            await wait_all_tasks_blocked()
            assert data(world) == []
            world.endpoint.give_room(1)
            await wait_all_tasks_blocked()
            assert [packet.payload for packet in data(world)] == [b"past it"]
            world.endpoint.give_room(1)
            await wait_all_tasks_blocked()
            first, second = data(world)
            assert second.payload == b"in the lane"
            assert second.seq > first.seq
        nursery.cancel_scope.cancel()

    async def test_the_host_is_lost_while_it_waits(self, nursery: trio.Nursery) -> None:
        world = make(2)
        async with running(world) as transmitter:
            world.endpoint.room = 0

            async def wait() -> None:
                with pytest.raises(HostDownError):
                    await transmitter.send_sync(b"x", 0, (2,))

            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            world.handle.hosts[2].network_links[0].set_enabled(False)
        assert drops(world) == {}

    @pytest.mark.parametrize("policy", LinkPolicy)
    @pytest.mark.parametrize("begun", [0, 1])
    async def test_cancelled(self, begun: int, policy: LinkPolicy) -> None:
        world = make(2, policy=policy, links=2)
        async with running(world) as transmitter:
            world.endpoint.room = begun
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(transmitter.send_sync, bytes(1000), 0, (2,))
                    await wait_all_tasks_blocked()
                    scope.cancel()
            world.endpoint.give_room(math.inf)
            await wait_all_tasks_blocked()
            # What has not begun has not happened; the rest of what has is given up.
            assert len(data(world)) == begun
            assert drops(world) == ({DropCause.SEND_FAILED: 1} if begun else {})

    async def test_its_channel_is_closed(self, nursery: trio.Nursery) -> None:
        world = make(2)
        owner = ChannelState()
        async with running(world) as transmitter:
            world.endpoint.room = 0

            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError, match="this channel was closed"):
                    await transmitter.send_sync(b"x", 0, (2,), owner)

            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            owner.closed = True
            transmitter.close_channel(owner)
            await wait_all_tasks_blocked()
            world.endpoint.give_room(math.inf)
            await wait_all_tasks_blocked()
            assert data(world) == []
