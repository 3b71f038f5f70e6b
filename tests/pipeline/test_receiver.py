from __future__ import annotations

import errno
import itertools
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio._core.onwire import (
    Data,
    Ping,
    Pong,
    encode_data,
    encode_message,
    encode_ping,
)
from knet_trio._crypto.envelope import make_cipher
from knet_trio._pipeline import receiver
from knet_trio._pipeline.receiver import Receiver
from knet_trio._state.channel_queue import ChannelQueue
from knet_trio._state.turns import counted_turns
from knet_trio.abc import PathTrouble
from knet_trio.address import Address
from knet_trio.config import CryptoConfig
from knet_trio.errors import DropCause
from knet_trio.message import (
    Broadcast,
    Direction,
    Drop,
    FilterPacket,
    FilterResult,
    Message,
    Unicast,
)
from tests.state.fakes import KEY, ME, FakeEndpoint, World, address

PEER = 2
HOME = address(20)
OTHER_KEY = bytes(reversed(KEY))


@pytest.fixture(params=["trains", "datagrams"], autouse=True)
def offload(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes in comes as the kernel joins it, or one by one: it makes no difference."""
    monkeypatch.setattr(FakeEndpoint, "coalesces", request.param == "trains")


class Receiving:
    """The pipeline at work on the world's endpoint, with channels 0 and 1 open."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.receiver = Receiver(world.handle)
        for channel in (0, 1):
            self.open(channel)

    def open(self, channel: int, size: int = 1000) -> None:
        self.receiver.channels[channel] = ChannelQueue(size, self.world.context.turns)

    def got(self, channel: int = 0) -> list[Message]:
        queue = self.receiver.channels[channel]
        return [queue.take_nowait() for _ in range(len(queue))]

    @property
    def drops(self) -> dict[DropCause, int]:
        return dict(self.world.context.counters.drops)

    async def arrive(self, *datagrams: bytes, source: Address = HOME) -> None:
        """Let datagrams come in, and wait until they have gone through."""
        self.world.endpoint.arrive(*[(datagram, source) for datagram in datagrams])
        await wait_all_tasks_blocked()


@asynccontextmanager
async def receiving(world: World, *, up: bool = True) -> AsyncGenerator[Receiving]:
    link = world.add_link(world.add_host(PEER), dst=HOME)
    if up:
        world.bring_up(link)
    at_work = Receiving(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(at_work.receiver.run)
        nursery.start_soon(at_work.receiver.receive_from, world.endpoint)
        yield at_work
        nursery.cancel_scope.cancel()


def packets(
    data: bytes = b"hello",
    *,
    seq: int = 1,
    node: int = PEER,
    channel: int = 0,
    broadcast: bool = True,
    size: int = 1000,
) -> list[bytes]:
    return encode_message(
        data,
        node=node,
        seq=seq,
        compress=0,
        broadcast=broadcast,
        channel=channel,
        fragment_size=size,
    )


def answering(answer: Any) -> Callable[[FilterPacket], FilterResult]:
    def decide(_: FilterPacket) -> FilterResult:
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    return decide


class TestDelivery:
    async def test_a_message_reaches_its_channel(self) -> None:
        async with receiving(World()) as rx:
            await rx.arrive(*packets(b"one", seq=1), *packets(b"two", seq=2, channel=1))
            assert rx.got(0) == [Message(b"one", PEER, 0)]
            assert rx.got(1) == [Message(b"two", PEER, 1)]
            assert rx.drops == {}
            stats = rx.world.handle.hosts[PEER].network_links[0].status().stats
            assert (stats.rx_data_packets, stats.rx_data_bytes) == (2, 2 * 17)

    async def test_fragments_in_any_order_make_one(self) -> None:
        async with receiving(World()) as rx:
            content = bytes(range(256)) * 20
            fragments = packets(content, size=1000)
            await rx.arrive(*reversed(fragments))
            assert rx.got() == [Message(content, PEER, 0)]

    async def test_each_message_once(self) -> None:
        async with receiving(World()) as rx:
            await rx.arrive(*packets(seq=1), *packets(seq=1), *packets(seq=2))
            assert len(rx.got()) == 2
            assert rx.drops == {DropCause.DUPLICATE: 1}

    async def test_a_channel_that_is_not_open(self) -> None:
        async with receiving(World()) as rx:
            await rx.arrive(*packets(seq=1, channel=5), *packets(seq=2, channel=5))
            assert rx.drops == {DropCause.NO_CHANNEL: 2}
            # It was opened meanwhile: the next is delivered.
            rx.open(5)
            await rx.arrive(*packets(seq=3, channel=5))
            assert len(rx.got(5)) == 1

    async def test_a_full_channel_holds_up_no_other(self) -> None:
        async with receiving(World()) as rx:
            rx.open(0, 2)
            for seq in range(1, 11, 2):
                await rx.arrive(*packets(b"a", seq=seq), *packets(b"b", seq=seq + 1, channel=1))
            assert len(rx.got(0)) == 2
            assert len(rx.got(1)) == 5
            assert rx.drops == {DropCause.CHANNEL_FULL: 3}

    async def test_a_flood_goes_through_in_order(self) -> None:
        async with receiving(World()) as rx:
            rx.open(0, 5000)
            datagrams = [packets(b"%d" % seq, seq=seq)[0] for seq in range(1, 3001)]
            for start in range(0, 3000, 64):
                rx.world.endpoint.arrive(*[(d, HOME) for d in datagrams[start : start + 64]])
            await wait_all_tasks_blocked()
            assert [int(message.data) for message in rx.got()] == list(range(1, 3001))


class TestFilter:
    async def test_sees_where_it_came_from(self) -> None:
        async with receiving(World()) as rx:
            seen: list[FilterPacket] = []

            def decide(packet: FilterPacket) -> FilterResult:
                seen.append(packet)
                return Broadcast()

            rx.world.context.filter = decide
            await rx.arrive(*packets(b"x", channel=1))
            assert seen == [FilterPacket(b"x", Direction.RX, ME, PEER, 1)]
            assert len(rx.got(1)) == 1

    @pytest.mark.parametrize(
        "answer", [Broadcast(), Broadcast(0), Unicast([ME]), Unicast([9, ME], 0)]
    )
    async def test_takes_it_as_it_is(self, answer: FilterResult) -> None:
        async with receiving(World()) as rx:
            rx.world.context.filter = answering(answer)
            await rx.arrive(*packets(broadcast=False))
            assert rx.got(0) == [Message(b"hello", PEER, 0)]

    @pytest.mark.parametrize("answer", [Broadcast(1), Unicast([ME], 1)])
    async def test_changes_the_channel(self, answer: FilterResult) -> None:
        async with receiving(World()) as rx:
            rx.world.context.filter = answering(answer)
            await rx.arrive(*packets())
            assert rx.got(1) == [Message(b"hello", PEER, 1)]

    @pytest.mark.parametrize("broadcast", [True, False])
    @pytest.mark.parametrize(
        ("answer", "cause"),
        [
            (Drop(), DropCause.FILTER_DROP),
            (Unicast([]), DropCause.NOT_FOR_THIS_HOST),
            (Unicast([PEER]), DropCause.NOT_FOR_THIS_HOST),
            (RuntimeError("oops"), DropCause.FILTER_ERROR),
            (None, DropCause.FILTER_ERROR),
            (Broadcast(99), DropCause.FILTER_ERROR),
        ],
    )
    async def test_stops_it(self, answer: object, cause: DropCause, broadcast: bool) -> None:
        async with receiving(World()) as rx:
            rx.world.context.filter = answering(answer)
            await rx.arrive(*packets(broadcast=broadcast))
            assert rx.drops == {cause: 1}
            assert rx.got(0) == rx.got(1) == []


class TestAdmission:
    async def test_an_unknown_host(self) -> None:
        async with receiving(World()) as rx:
            await rx.arrive(*packets(node=9))
            assert rx.drops == {DropCause.UNKNOWN_HOST: 1}

    @pytest.mark.parametrize("source", [address(99), HOME._replace(port=9)])
    async def test_an_unknown_address(self, source: Address) -> None:
        async with receiving(World()) as rx:
            await rx.arrive(*packets(), source=source)
            assert rx.drops == {DropCause.UNKNOWN_ADDRESS: 1}

    async def test_the_address_of_another_host(self) -> None:
        world = World()
        world.bring_up(world.add_link(world.add_host(3), dst=address(30)))
        async with receiving(world) as rx:
            await rx.arrive(*packets(node=PEER), source=address(30))
            assert rx.drops == {DropCause.UNKNOWN_ADDRESS: 1}

    async def test_an_address_the_access_list_rejects(self) -> None:
        async with receiving(World()) as rx:
            link = rx.world.handle.hosts[PEER].network_links[0]
            link.acl.clear()
            await rx.arrive(*packets())
            assert link.counters.drops == {DropCause.ACCESS_LIST: 1}
            rx.world.context.access_lists = False
            await rx.arrive(*packets())
            assert len(rx.got()) == 1

    async def test_while_forwarding_is_off(self) -> None:
        async with receiving(World()) as rx:
            rx.world.context.forwarding = False
            await rx.arrive(*packets())
            assert rx.drops == {DropCause.FORWARDING_DISABLED: 1}
            rx.world.context.forwarding = True
            await rx.arrive(*packets())
            assert len(rx.got()) == 1

    async def test_control_packets_pass_while_forwarding_is_off(self) -> None:
        async with receiving(World()) as rx:
            rx.world.context.forwarding = False
            await rx.arrive(encode_ping(Ping(PEER, 0, bytes(16), 0, True)))
            assert rx.world.endpoint.packets() == [Pong(ME, 0, bytes(16), 0, True)]

    async def test_nothing_of_a_malformed_datagram_gets_further(self) -> None:
        async with receiving(World()) as rx:
            link = rx.world.handle.hosts[PEER].network_links[0]
            (good,) = packets()
            await rx.arrive(b"", good[:5], b"\x02" + good[1:], good[:1] + b"\x77" + good[2:])
            assert link.counters.drops == {
                DropCause.MALFORMED: 2,
                DropCause.WRONG_VERSION: 1,
                DropCause.UNKNOWN_TYPE: 1,
            }
            assert rx.drops == link.counters.drops
            assert "it is of protocol version 2, not 1" in link.explain()

    async def test_noise_without_a_key_is_called_sealed_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with receiving(World()) as rx:
            link = rx.world.handle.hosts[PEER].network_links[0]
            await rx.arrive(*(bytes([first]) + bytes(range(200, 240)) for first in (23, 247, 1)))
            drops = {DropCause.WRONG_VERSION: 2, DropCause.UNKNOWN_TYPE: 1}
            assert link.counters.drops == drops
            words = f"a packet from {HOME} is refused: most likely its sender encrypts packets, and"
            assert f"wrong_version x 2, unknown_type x 1: {words}" in link.explain()
            assert caplog.text.count(words) == 1
            assert "version 23" not in link.explain() + caplog.text

    async def test_nor_of_one_from_nowhere(self) -> None:
        async with receiving(World()) as rx:
            await rx.arrive(b"junk", source=address(99))
            assert rx.drops == {DropCause.MALFORMED: 1}
            assert rx.world.handle.hosts[PEER].network_links[0].counters.drops == {}

    async def test_a_fragment_outside_of_its_message(self) -> None:
        # CVE-2026-15813.
        async with receiving(World()) as rx:
            await rx.arrive(encode_data(Data(PEER, 1, 0, True, 2, 3, 0, b"x")))
            assert rx.drops == {DropCause.BAD_FRAGMENT: 1}


class TestCrypto:
    async def test_opens_envelopes(self) -> None:
        config = CryptoConfig(KEY)
        async with receiving(World(crypto=config)) as rx:
            await rx.arrive(*make_cipher(config).seal(packets(bytes(5000), size=400)))
            assert rx.got() == [Message(bytes(5000), PEER, 0)]
            shown = rx.world.context.counters.snapshot()
            assert shown.rx_crypt_packets == 13
            assert shown.rx_crypt_time_ave is not None

    @pytest.mark.parametrize(("good", "bad"), [(b"x" * 1000, b"n" * 1100), (b"x", b"n" * 1100)])
    async def test_the_time_of_what_does_not_open_is_not_counted(
        self, monkeypatch: pytest.MonkeyPatch, good: bytes, bad: bytes
    ) -> None:
        # A second passes between two looks at this clock, however much is done in it.
        clock = SimpleNamespace(perf_counter=itertools.count(0.0, 1.0).__next__)
        monkeypatch.setattr(receiver, "time", clock)
        async with receiving(World(crypto=CryptoConfig(KEY))) as rx:
            rx.world.context.crypto.allow_clear_traffic = False
            (sealed,) = make_cipher(CryptoConfig(KEY)).seal(packets(good))
            trains = rx.world.endpoint.coalesces
            size = max(len(bad), len(sealed))
            await rx.arrive(*[bad.ljust(size, b"n")] * 49, sealed)
            assert rx.got() == [Message(good, PEER, 0)]
            assert rx.drops == {DropCause.NOT_AUTHENTIC: 49}
            shown = rx.world.context.counters.snapshot()
            assert shown.rx_crypt_packets == 1
            assert shown.rx_crypt_time_max is not None
            if trains:
                # Of one of fifty, which is the smallest.
                assert shown.rx_crypt_time_max <= 1 / 50
            else:
                assert shown.rx_crypt_time_max == 1

    async def test_an_empty_packet_in_a_train_counts(self) -> None:
        world = World(crypto=CryptoConfig(KEY))
        async with receiving(world) as rx:
            plain = [*packets(b"one", seq=1), *packets(b"two", seq=2), b""]
            sealed = make_cipher(CryptoConfig(KEY)).seal(plain)
            world.endpoint.coalesces = True
            await rx.arrive(*sealed)
            assert [message.data for message in rx.got()] == [b"one", b"two"]
            assert rx.drops == {DropCause.MALFORMED: 1}

    async def test_a_datagram_of_another_key(self) -> None:
        async with receiving(World(crypto=CryptoConfig(KEY))) as rx:
            rx.world.context.crypto.allow_clear_traffic = False
            sealed = make_cipher(CryptoConfig(OTHER_KEY)).seal(packets())
            await rx.arrive(*sealed, *packets())
            assert rx.drops == {DropCause.NOT_AUTHENTIC: 1, DropCause.CLEAR_TRAFFIC: 1}
            assert rx.got() == []
            assert rx.world.context.counters.snapshot().rx_crypt_packets == 0

    async def test_clear_packets_if_they_are_allowed(self) -> None:
        async with receiving(World(crypto=CryptoConfig(KEY))) as rx:
            rx.world.context.crypto.set_clear_traffic(True)
            await rx.arrive(*packets(seq=1))
            assert len(rx.got()) == 1
            rx.world.context.crypto.use(0)
            rx.world.context.crypto.set(None, 1)
            rx.world.context.crypto.set_clear_traffic(False)
            await rx.arrive(*packets(seq=2))
            assert rx.drops == {DropCause.CLEAR_TRAFFIC: 1}


class TestEndpoints:
    async def test_trouble_acts_on_the_link(self) -> None:
        async with receiving(World()) as rx:
            link = rx.world.handle.hosts[PEER].network_links[0]
            trouble = PathTrouble(HOME, errno.ECONNREFUSED, None, False)
            rx.world.endpoint.arrive(troubles=[trouble])
            await wait_all_tasks_blocked()
            assert link.heartbeat.doubt_reason is not None

    async def test_several_share_the_pipeline(self) -> None:
        world = World()
        other = FakeEndpoint()
        world.bring_up(
            world.add_link(
                world.add_host(3), dst=address(30), send_socket=world.make_send_socket(other)
            )
        )
        async with receiving(world) as rx, trio.open_nursery() as nursery:
            nursery.start_soon(rx.receiver.receive_from, other)
            other.arrive((packets(b"three", node=3)[0], address(30)))
            await rx.arrive(*packets(b"two"))
            assert sorted(message.data for message in rx.got()) == [b"three", b"two"]
            nursery.cancel_scope.cancel()


class TestBeforeTheLinkIsUp:
    async def test_data_of_a_silent_peer_is_dropped(self) -> None:
        async with receiving(World(), up=False) as rx:
            await rx.arrive(*packets())
            link = rx.world.handle.hosts[PEER].network_links[0]
            assert link.counters.drops == {DropCause.PEER_UNREACHABLE: 1}
            assert rx.got() == []

    async def test_data_of_one_that_answers_is_not(self) -> None:
        # It may have found this host before this host has found it.
        async with receiving(World(), up=False) as rx:
            link = rx.world.handle.hosts[PEER].network_links[0]
            rx.world.pong(link)
            await rx.arrive(*packets())
            assert not link.connected.is_on
            assert len(rx.got()) == 1


async def test_the_endpoint_is_told_whether_what_came_was_of_use() -> None:
    async with receiving(World()) as rx:
        arrivals = [(packets(seq=1), True), ([b"garbage"], False), (packets(seq=2), True)]
        for datagrams, is_welcome in arrivals:
            await rx.arrive(*datagrams)
            assert rx.world.endpoint.is_welcome is is_welcome


async def test_what_others_are_refused_meanwhile_is_not_the_fault_of_an_endpoint() -> None:
    with counted_turns(1.0):
        # A turn is over whenever somebody looks.
        world = World()
    async with receiving(world) as rx, trio.open_nursery() as nursery:
        other = FakeEndpoint()
        nursery.start_soon(rx.receiver.receive_from, other)
        for _ in range(40):
            other.arrive((b"garbage", HOME))
        await rx.arrive(*(packet for seq in range(1, 201) for packet in packets(seq=seq)))
        assert sum(rx.drops.values()) == 40
        assert world.endpoint.is_welcome
        assert not other.is_welcome
        nursery.cancel_scope.cancel()
