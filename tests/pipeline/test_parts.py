"""A batch that makes many datagrams is sealed and sent in parts, each of whole messages."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio._core.inbound import InboundSequence
from knet_trio._core.onwire import Data, decode_untrusted
from knet_trio._core.policy import LinkPolicy
from knet_trio._pipeline.sealing import SEALED_AT_ONCE, Sealer
from knet_trio._state.send_lane import Batch, Sealed
from knet_trio._state.turns import TURN, counted_turns
from knet_trio.address import Address
from knet_trio.config import CryptoConfig
from knet_trio.errors import DropCause, SealError
from tests.pipeline.lanes import lose
from tests.pipeline.sending import Outgoing, data, drops, make, running, send, use_up
from tests.pipeline.test_narrowing import delivered, find_mtu, ignore
from tests.pipeline.test_send_lanes import Sockets
from tests.state.fakes import KEY, FakeEndpoint, World, address, refusal

# Each of these makes more datagrams than are sealed at once.
LARGE = [bytes([65 + number]) * 65536 for number in range(3)]
# What a search finds, and what passes later. Two datagrams a message, then three.
WIDE, NARROW = 2900, 1500
MANY = [b"%02d" % number + bytes(2998) for number in range(64)]


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many datagrams are sealed, part for part."""
    seal: Callable[[Sealer, Batch, int], Sealed] = Sealer._seal  # pyright: ignore[reportPrivateUsage]
    noted: list[int] = []

    def seal_noted(sealer: Sealer, batch: Batch, first: int) -> Sealed:
        sealed = seal(sealer, batch, first)
        noted.append(len(sealed.datagrams))
        return sealed

    monkeypatch.setattr(Sealer, "_seal", seal_noted)
    return noted


def opened(endpoint: FakeEndpoint, world: World) -> dict[bytes, Data]:
    """The datagrams that hold data, and what is in them."""
    found: dict[bytes, Data] = {}
    for datagram in endpoint.datagrams:
        packet = decode_untrusted(world.context.crypto.open_untrusted(datagram))
        if isinstance(packet, Data):
            found[datagram] = packet
    return found


def received(endpoint: FakeEndpoint, world: World) -> list[bytes]:
    """What the host at the other end delivers."""
    source = InboundSequence(ignore, 64)
    found = [source.receive(packet) for packet in opened(endpoint, world).values()]
    return [message for message in found if message is not None]


def wide(*hosts: int, links: int = 1, policy: LinkPolicy = LinkPolicy.PASSIVE) -> World:
    """Make a handle whose data MTU is that of WIDE."""
    world = make(*hosts, links=links, policy=policy)
    for link in world.handle.network_links():
        find_mtu(link, WIDE)
    world.endpoint.sent.clear()
    world.endpoint.refuse = None
    return world


def datagrams_of_one(sockets: Sockets) -> int:
    """How many datagrams one of the large messages makes."""
    return math.ceil(len(LARGE[0]) / sockets.world.handle.data_mtu)


class TestTurns:
    async def test_a_message_goes_and_the_turn_is_over(
        self, mock_clock: MockClock, parts: list[int]
    ) -> None:
        # Each look at the clock ends the turn.
        with counted_turns(2 * TURN):
            sockets = Sockets(2)
        async with sockets.running() as transmitter:
            transmitter.send_nowait(LARGE, 0)
            lane = sockets.world.handle.hosts[2].lane
            sent: list[list[bytes]] = []
            while lane.items:
                sent.append(received(sockets.endpoints[2], sockets.world))
                await trio.lowlevel.checkpoint()
            sent.append(received(sockets.endpoints[2], sockets.world))
        steps = [one for one, after in zip(sent, [*sent[1:], []], strict=True) if one != after]
        assert steps == [LARGE[:1], LARGE[:2], LARGE]
        assert len(parts) == 3
        assert drops(sockets.world) == {}

    async def test_others_do_not_get_in_between(self, mock_clock: MockClock) -> None:
        with counted_turns(2 * TURN):
            sockets = Sockets(2)
        async with sockets.running() as transmitter:
            transmitter.send_nowait(LARGE, 0)
            transmitter.send_nowait((b"after",), 0)
            await wait_all_tasks_blocked()
            assert received(sockets.endpoints[2], sockets.world) == [*LARGE, b"after"]

    async def test_small_messages_are_as_many_as_fit(self, parts: list[int]) -> None:
        world = wide(2)
        await send(world, Outgoing(MANY))
        assert parts == [SEALED_AT_ONCE, 2 * len(MANY) - SEALED_AT_ONCE]
        assert delivered(world) == MANY


class TestSeveralHosts:
    @pytest.mark.parametrize("step", [0.0, 2 * TURN], ids=["one turn", "many turns"])
    async def test_share_each_part(
        self, step: float, mock_clock: MockClock, parts: list[int]
    ) -> None:
        with counted_turns(step):
            sockets = Sockets(2, 3, 4, crypto=CryptoConfig(KEY))
        async with sockets.running() as transmitter:
            transmitter.send_nowait(LARGE, 0)
            await wait_all_tasks_blocked()
            await transmitter.flush()
        datagrams = [list(opened(one, sockets.world)) for one in sockets.endpoints.values()]
        assert datagrams[0] == datagrams[1] == datagrams[2]
        assert len(parts) == 3
        assert sum(parts) == len(datagrams[0])
        assert received(sockets.endpoints[2], sockets.world) == LARGE

    async def test_one_that_is_behind_gets_the_same_parts(
        self, mock_clock: MockClock, parts: list[int]
    ) -> None:
        sockets = Sockets(2, 3)
        async with sockets.running() as transmitter:
            sockets.endpoints[3].room = 70
            transmitter.send_nowait(LARGE, 0)
            transmitter.send_nowait(LARGE, 0)
            await wait_all_tasks_blocked()
            assert received(sockets.endpoints[2], sockets.world) == [*LARGE, *LARGE]
            sockets.release(3)
            await wait_all_tasks_blocked()
            first, second = (list(opened(one, sockets.world)) for one in sockets.endpoints.values())
            assert first == second
            assert len(parts) == 6


class TestRoundRobin:
    @pytest.mark.parametrize("step", [0.0, 2 * TURN], ids=["one turn", "many turns"])
    async def test_goes_on_where_the_part_before_ended(
        self, step: float, mock_clock: MockClock, parts: list[int]
    ) -> None:
        with counted_turns(step):
            world = make(2, links=2, policy=LinkPolicy.ROUND_ROBIN)
        async with running(world) as transmitter:
            for _ in range(2):
                transmitter.send_nowait(LARGE, 0)
            await transmitter.flush()
        assert len(parts) == 6
        links: dict[int, set[Address]] = {}
        for sent in world.endpoint.sent:
            packet = decode_untrusted(sent.datagram)
            assert isinstance(packet, Data)
            links.setdefault(packet.seq, set()).add(sent.destination)
        turns = [address(20), address(21)]
        first = 0 if links[1] == {turns[0]} else 1
        assert links == {seq: {turns[(seq - 1 + first) % 2]} for seq in range(1, 7)}
        assert delivered(world) == [*LARGE, *LARGE]


class TestRefused:
    @pytest.mark.parametrize("policy", [LinkPolicy.PASSIVE, LinkPolicy.ROUND_ROBIN])
    async def test_what_is_too_large_keeps_the_messages_of_later_parts(
        self, policy: LinkPolicy, parts: list[int]
    ) -> None:
        world = wide(2, links=2 if policy is LinkPolicy.ROUND_ROBIN else 1, policy=policy)
        taken = 0

        def narrow(_: object) -> None:
            nonlocal taken
            taken += 1
            if taken == 11:
                world.endpoint.limit_mtu(NARROW)

        world.endpoint.on_sent = narrow
        await send(world, Outgoing(MANY))
        assert sorted(delivered(world)) == MANY
        assert max(parts) <= SEALED_AT_ONCE
        assert drops(world) == {}

    @pytest.mark.parametrize("refused", [0, 10, 31, 32, 63])
    async def test_what_the_system_refuses_is_counted_in_its_part(
        self, refused: int, parts: list[int]
    ) -> None:
        world = wide(2)

        def refuse(datagram: bytes, _: Address) -> None:
            if MANY[refused][:2] + bytes(100) in datagram:
                raise refusal(errno.EPERM)

        world.endpoint.refuse = refuse
        await send(world, Outgoing(MANY))
        assert delivered(world) == [one for one in MANY if one is not MANY[refused]]
        assert drops(world) == {DropCause.SEND_FAILED: 1}
        assert len(parts) == 2

    async def test_all_that_the_system_refuses_is_counted_once(self, parts: list[int]) -> None:
        world = wide(2)

        def refuse(*_: object) -> None:
            raise refusal(errno.EPERM)

        world.endpoint.refuse = refuse
        await send(world, Outgoing(MANY))
        assert data(world) == []
        assert drops(world) == {DropCause.SEND_FAILED: len(MANY)}
        assert len(parts) == 2

    async def test_what_the_cipher_fails_on_is_what_is_left(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = wide(2)
        seal: Callable[[Sealer, Batch, int], Sealed] = Sealer._seal  # pyright: ignore[reportPrivateUsage]

        def seal_first(sealer: Sealer, batch: Batch, first: int) -> Sealed:
            if first:
                raise SealError("the cipher failed")
            return seal(sealer, batch, first)

        monkeypatch.setattr(Sealer, "_seal", seal_first)
        await send(world, Outgoing(MANY))
        assert delivered(world) == MANY[:32]
        assert drops(world) == {DropCause.SEAL_FAILED: 32}


class TestAHostThatIsLost:
    async def test_between_two_parts_does_not_get_the_rest(self, mock_clock: MockClock) -> None:
        with counted_turns(2 * TURN):
            sockets = Sockets(2, 3)
        async with sockets.running() as transmitter:
            transmitter.send_nowait(LARGE, 0, (2,))
            assert received(sockets.endpoints[2], sockets.world) == LARGE[:1]
            lose(sockets.world, 2)
            await wait_all_tasks_blocked()
            await transmitter.flush()
            assert received(sockets.endpoints[2], sockets.world) == LARGE[:1]
            assert drops(sockets.world) == {DropCause.HOST_DOWN: 2}
            assert not sockets.world.handle.hosts[2].lane.items

    async def test_in_the_middle_of_a_message(
        self, mock_clock: MockClock, parts: list[int]
    ) -> None:
        sockets = Sockets(2)
        async with sockets.running() as transmitter:
            sockets.endpoints[2].room = datagrams_of_one(sockets) + 5
            transmitter.send_nowait(LARGE, 0)
            await wait_all_tasks_blocked()
            assert len(parts) == 2
            lose(sockets.world, 2)
            await wait_all_tasks_blocked()
            assert drops(sockets.world) == {DropCause.HOST_DOWN: 2}


async def test_what_waits_between_two_parts_is_sealed_with_the_new_key(
    mock_clock: MockClock,
) -> None:
    sockets = Sockets(2, crypto=CryptoConfig(KEY))
    crypto = sockets.world.context.crypto
    async with sockets.running() as transmitter:
        use_up(sockets.world.context.turns)
        transmitter.send_nowait(LARGE, 0)
        assert len(sockets.endpoints[2].datagrams) == datagrams_of_one(sockets)
        crypto.set(CryptoConfig(bytes(reversed(KEY))), 2)
        crypto.use(2)
        await wait_all_tasks_blocked()
        assert received(sockets.endpoints[2], sockets.world) == LARGE
        crypto.set(None, 1)
        sealed_anew = sockets.endpoints[2].datagrams[datagrams_of_one(sockets) :]
        assert all(crypto.open_untrusted(one) for one in sealed_anew)
