"""What comes in, joined by the kernel or one by one: it makes no difference to anybody."""

from __future__ import annotations

import enum
import random
from typing import Any, NamedTuple

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from knet_trio._core.onwire import MAX_SEQ, Ping, encode_messages, encode_ping
from knet_trio._crypto.envelope import make_cipher
from knet_trio._pipeline.receiver import Receiver
from knet_trio._state.channel_queue import ChannelQueue
from knet_trio.config import CryptoConfig
from knet_trio.errors import DropCause
from knet_trio.message import Broadcast, Drop, FilterPacket, FilterResult, Message
from tests.state.fakes import KEY, World, address

CONFIG = CryptoConfig(KEY)
OTHER = CryptoConfig(bytes(reversed(KEY)))
# Small, so that fragments are.
MTU = 40


class Way(enum.Enum):
    """How datagrams come in."""

    TRAINS = enum.auto()
    DATAGRAMS = enum.auto()
    # Each is taken by the task that waits for all quiet sockets.
    QUIET = enum.auto()


class Burst(NamedTuple):
    """What a host sends at once: messages of these sizes."""

    host: int
    step: int
    sizes: list[int]
    channel: int
    broadcast: bool
    key: str
    # What happens to it on its way.
    lost: frozenset[int]
    again: frozenset[int]
    pings: frozenset[int]
    garbage: frozenset[int]
    shuffled: bool
    stranger: bool


PLACES = st.frozensets(st.integers(0, 40), max_size=2)
SOMETIMES = st.sampled_from([False, False, False, True])
BURSTS = st.builds(
    Burst,
    host=st.sampled_from([2, 2, 2, 3, 9]),
    step=st.sampled_from([1, 1, 1, 0, -3, 10, 5000]),
    sizes=st.one_of(
        st.lists(st.just(12), min_size=1, max_size=70),
        st.lists(st.just(80), min_size=1, max_size=40),
        # Padded to the same size, in fragments as many.
        st.lists(st.integers(68, 80), min_size=1, max_size=40),
        st.lists(st.integers(97, 120), min_size=1, max_size=40),
        st.lists(st.sampled_from([1, 12, 40, 41, 100, 400]), min_size=1, max_size=10),
    ),
    channel=st.sampled_from([0, 0, 0, 1, 5]),
    broadcast=st.booleans(),
    key=st.sampled_from(["ours", "ours", "ours", "other", "none"]),
    lost=PLACES,
    again=PLACES,
    pings=PLACES,
    garbage=PLACES,
    shuffled=SOMETIMES,
    stranger=SOMETIMES,
)


class Setting(NamedTuple):
    """How the handle is set."""

    crypto: bool
    clear: bool
    filtered: bool
    forwarding: bool


SETTINGS = st.builds(
    Setting,
    st.booleans(),
    st.sampled_from([True, True, False]),
    SOMETIMES,
    st.sampled_from([True, True, True, False]),
)


def datagrams(burst: Burst, seq: int, dice: random.Random) -> list[bytes]:
    """The packets of a burst from that number on, as they arrive."""
    seqs = range(seq, min(seq + len(burst.sizes), MAX_SEQ + 1))
    sent = encode_messages(
        [bytes([number % 256]) * size for number, size in zip(seqs, burst.sizes, strict=False)],
        node=burst.host,
        seqs=seqs,
        compress=0,
        broadcast=burst.broadcast,
        channel=burst.channel,
        fragment_size=MTU,
    )
    # As large as a message of 12 bytes. The number says that nothing started again.
    ping = encode_ping(Ping(burst.host, 0, bytes(16), seq, True))
    packets: list[bytes] = []
    for place, packet in enumerate(sent):
        packets += [packet] * ((place not in burst.lost) + (place in burst.again))
        packets += [ping] * (place in burst.pings)
        if place in burst.garbage:
            packets.append(bytes(dice.randrange(256) for _ in packet))
    if burst.shuffled:
        dice.shuffle(packets)
    config = {"ours": CONFIG, "other": OTHER}.get(burst.key)
    return packets if config is None else make_cipher(config).seal(packets)


def filter_by_content(packet: FilterPacket) -> FilterResult:
    if packet.data[0] % 5 == 0:
        return Drop()
    return Broadcast(packet.data[0] % 2 if packet.data[0] % 3 == 0 else None)


class Outcome(NamedTuple):
    """All that can be seen of it."""

    messages: list[list[Message]]
    drops: dict[DropCause, int]
    handle: dict[str, Any]
    links: list[dict[str, Any]]
    link_drops: list[dict[DropCause, int]]
    answers: int


def counts(statistics: attrs.AttrsInstance) -> dict[str, Any]:
    """The counters among statistics: no times."""
    return {
        name: value
        for name, value in attrs.asdict(statistics, recurse=False).items()
        if isinstance(value, int)
    }


async def receive(
    arrivals: list[list[tuple[bytes, str]]], setting: Setting, *, way: Way
) -> Outcome:
    world = World(crypto=CONFIG if setting.crypto else None)
    world.context.crypto.allow_clear_traffic = setting.clear
    world.context.filter = filter_by_content if setting.filtered else None
    for host in (2, 3):
        world.bring_up(world.add_link(world.add_host(host), dst=address(10 * host)))
    world.context.forwarding = setting.forwarding
    world.endpoint.coalesces = way is Way.TRAINS
    receiver = Receiver(world.handle)
    # One of them is too small now and then.
    receiver.channels[0] = ChannelQueue(10000, world.context.turns)
    receiver.channels[1] = ChannelQueue(20, world.context.turns)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receiver.run)
        nursery.start_soon(receiver.receive_from, world.endpoint)
        for arrived in arrivals:
            datagrams = [(datagram, address(int(source))) for datagram, source in arrived]
            if way is Way.QUIET:
                for datagram, source in datagrams:
                    receiver.receive_alone(datagram, source)
            else:
                world.endpoint.arrive(*datagrams)
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    links = list(world.handle.network_links())
    return Outcome(
        [[queue.take_nowait() for _ in range(len(queue))] for queue in receiver.channels.values()],
        dict(world.context.counters.drops),
        counts(world.context.counters.snapshot()),
        [counts(link.status().stats) for link in links],
        [dict(link.counters.drops) for link in links],
        len(world.endpoint.sent),
    )


@given(
    st.lists(st.lists(BURSTS, min_size=1, max_size=3), max_size=6),
    st.one_of(st.integers(1, 10), st.integers(65480, 65535)),
    SETTINGS,
    st.integers(),
)
async def test_trains_are_their_datagrams(
    bursts: list[list[Burst]], start: int, setting: Setting, seed: int
) -> None:
    dice = random.Random(seed)
    newest = {2: start, 3: start, 9: start}
    arrivals: list[list[tuple[bytes, str]]] = []
    for together in bursts:
        arrived: list[tuple[bytes, str]] = []
        for burst in together:
            seq = (newest[burst.host] + burst.step - 1) % MAX_SEQ + 1
            newest[burst.host] = (seq + len(burst.sizes) - 2) % MAX_SEQ + 1
            source = "99" if burst.stranger else str(10 * burst.host)
            arrived += [(datagram, source) for datagram in datagrams(burst, seq, dice)]
        arrivals.append(arrived)
    joined = await receive(arrivals, setting, way=Way.TRAINS)
    assert joined == await receive(arrivals, setting, way=Way.DATAGRAMS)
    assert joined == await receive(arrivals, setting, way=Way.QUIET)


@pytest.mark.parametrize("crypto", [True, False])
async def test_whether_it_was_data_that_came_to_a_quiet_socket(crypto: bool) -> None:
    world = World(crypto=CONFIG if crypto else None)
    world.bring_up(world.add_link(world.add_host(2), dst=address(20)))
    receiver = Receiver(world.handle)
    receiver.channels[0] = queue = ChannelQueue(10, world.context.turns)
    (data,) = encode_messages(
        [b"hello"], node=2, seqs=[1], compress=0, broadcast=False, channel=0, fragment_size=MTU
    )
    ping = encode_ping(Ping(2, 0, bytes(16), 1, True))
    for packet, is_data in ((data, True), (ping, False), (b"garbage", False)):
        datagram = make_cipher(CONFIG).seal([packet])[0] if crypto else packet
        assert receiver.receive_alone(datagram, address(20)) is is_data
    # Sealed with another key it may have been anything.
    if crypto:
        assert not receiver.receive_alone(make_cipher(OTHER).seal([data])[0], address(20))
    assert queue.take_nowait().data == b"hello"
    assert len(queue) == 0
