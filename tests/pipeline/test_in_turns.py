"""Messages whose last fragments are shorter: all others of several messages go first."""

from __future__ import annotations

import errno

import pytest
from trio.testing import wait_all_tasks_blocked

from knet_trio._core.inbound import InboundSequence
from knet_trio._core.onwire import Data, decode_untrusted
from knet_trio._core.policy import LinkPolicy
from knet_trio._core.runs import decode_train_untrusted
from knet_trio._transport.offload import train_length
from knet_trio.address import Address
from knet_trio.config import MIN_DEFRAG_BUFFERS, CryptoConfig
from knet_trio.errors import DropCause
from tests.pipeline.sending import Outgoing, data, drops, send
from tests.pipeline.test_narrowing import delivered, find_mtu, ignore
from tests.pipeline.test_parts import NARROW, WIDE, wide
from tests.pipeline.test_send_lanes import Sockets
from tests.state.fakes import KEY, World, refusal

# Two fragments each, the last one a byte shorter; and three.
TWO = [b"%02d" % number + bytes(2999) for number in range(20)]
THREE = [b"%02d" % number + bytes(6002) for number in range(20)]


def places(world: World) -> list[tuple[int, int]]:
    """The number of the message and that of the fragment, of each packet of data."""
    return [(packet.seq, packet.frag_seq) for packet in data(world)]


def trains(world: World) -> list[int]:
    """How many datagrams go in one call each."""
    sent = world.endpoint.datagrams
    found: list[int] = []
    while sum(found) < len(sent):
        found.append(train_length(sent, sum(found)))
    return found


async def test_all_but_the_last_ones_go_first() -> None:
    world = wide(2)
    await send(world, Outgoing(THREE[:3]))
    assert places(world) == [
        *((seq, part) for seq in (1, 2, 3) for part in (1, 2)),
        *((seq, 3) for seq in (1, 2, 3)),
    ]


async def test_as_many_as_every_receiver_can_put_together() -> None:
    world = wide(2)
    await send(world, Outgoing(TWO))
    assert places(world) == [
        (first + seq, part)
        for first in range(1, len(TWO), MIN_DEFRAG_BUFFERS)
        for part in (1, 2)
        for seq in range(MIN_DEFRAG_BUFFERS)
    ]
    source = InboundSequence(ignore, MIN_DEFRAG_BUFFERS)
    received = [source.receive(packet) for packet in data(world)]
    assert [message for message in received if message is not None] == TWO


@pytest.mark.parametrize(
    "datas",
    [
        pytest.param([bytes(3000)] * 4, id="equal fragments"),
        pytest.param([bytes(3001), bytes(3003)] * 2, id="of different lengths"),
        pytest.param([bytes(3001)], id="one message"),
        pytest.param([bytes(65000)] * 2, id="of many fragments"),
        pytest.param([b"whole"] * 4, id="of one fragment"),
    ],
)
async def test_others_go_one_after_the_other(datas: list[bytes]) -> None:
    world = wide(2)
    await send(world, Outgoing(datas))
    assert places(world) == sorted(places(world))


async def test_what_a_cipher_seals_goes_one_after_the_other() -> None:
    world = wide(2)
    world.context.crypto.set(CryptoConfig(KEY), 1)
    world.context.crypto.use(1)
    await send(world, Outgoing(TWO))
    packets = [world.context.crypto.open_untrusted(one) for one in world.endpoint.datagrams]
    assert packets == sorted(packets, key=lambda packet: packet[6:8])


async def test_a_receiver_reads_their_trains_in_one_go() -> None:
    world = wide(2)
    await send(world, Outgoing(THREE))
    source = InboundSequence(ignore)
    start = 0
    received: list[bytes] = []
    for length in trains(world):
        train = world.endpoint.datagrams[start : start + length]
        run = decode_train_untrusted(b"".join(train), len(train[0]))
        assert run is not None
        received += source.receive_run(run)
        # The first of the last ones may end the train of the others.
        for packet in data(world)[start + len(run.payloads) : start + length]:
            whole = source.receive(packet)
            received += [] if whole is None else [whole]
        start += length
    assert received == THREE


def wide_sockets() -> Sockets:
    sockets = Sockets(2)
    sockets.world.handle.restart_discovery()
    for link in sockets.world.handle.network_links():
        find_mtu(link, WIDE)
    sockets.endpoints[2].sent.clear()
    sockets.endpoints[2].refuse = None
    return sockets


def deliver(packets: list[bytes]) -> list[bytes]:
    """What the host at the other end delivers."""
    source = InboundSequence(ignore)
    found: list[bytes] = []
    for packet in map(decode_untrusted, packets):
        whole = source.receive(packet) if isinstance(packet, Data) else None
        found += [] if whole is None else [whole]
    return found


@pytest.mark.parametrize("datas", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("room", range(1, 40))
async def test_they_go_on_where_there_was_no_more_room(room: int, datas: list[bytes]) -> None:
    sockets = wide_sockets()
    async with sockets.running() as transmitter:
        sockets.endpoints[2].room = room
        transmitter.send_nowait(datas, 0)
        assert len(sockets.data(2)) == room
        sockets.release(2)
        await transmitter.flush()
    sent = [(packet.seq, packet.frag_seq) for packet in sockets.data(2)]
    assert len(sent) == len(set(sent))
    assert deliver(sockets.endpoints[2].datagrams) == datas
    assert drops(sockets.world) == {}


@pytest.mark.parametrize("room", range(1, 40))
async def test_those_that_are_not_sent_whole_get_the_new_key(room: int) -> None:
    sockets = wide_sockets()
    async with sockets.running() as transmitter:
        sockets.endpoints[2].room = room
        transmitter.send_nowait(TWO, 0)
        sent = [packet.frag_seq for packet in sockets.data(2)]
        crypto = sockets.world.context.crypto
        crypto.set(CryptoConfig(KEY), 1)
        crypto.use(1)
        sockets.release(2)
        await transmitter.flush()
        await wait_all_tasks_blocked()
    datagrams = sockets.endpoints[2].datagrams
    again = [crypto.open_untrusted(one) for one in datagrams[room:]]
    packets = [decode_untrusted(packet) for packet in again]
    assert sum(isinstance(packet, Data) for packet in packets) == 2 * (len(TWO) - sent.count(2))
    assert deliver([*datagrams[:room], *again]) == TWO
    assert drops(sockets.world) == {}


@pytest.mark.parametrize("part", [1, 2])
@pytest.mark.parametrize("seq", [1, 2, 16, 17, 20])
async def test_one_that_the_system_refuses_costs_only_its_message(seq: int, part: int) -> None:
    world = wide(2)

    def refuse(datagram: bytes, _: Address) -> None:
        packet = decode_untrusted(datagram)
        if isinstance(packet, Data) and (packet.seq, packet.frag_seq) == (seq, part):
            raise refusal(errno.EPERM)

    world.endpoint.refuse = refuse
    await send(world, Outgoing(TWO))
    assert drops(world) == {DropCause.SEND_FAILED: 1}
    assert delivered(world) == [*TWO[: seq - 1], *TWO[seq:]]


@pytest.mark.parametrize("policy", [LinkPolicy.ROUND_ROBIN, LinkPolicy.ACTIVE])
async def test_over_two_links(policy: LinkPolicy) -> None:
    world = wide(2, links=2, policy=policy)
    await send(world, Outgoing(TWO))
    assert sorted(set(delivered(world))) == TWO
    assert drops(world) == {}


async def test_those_that_became_too_large_go_once_more_in_smaller_ones() -> None:
    world = wide(2)
    left = 5

    def refuse(datagram: bytes, _: Address) -> None:
        nonlocal left
        if len(datagram) > NARROW:
            left -= 1
            if left < 0:
                find_mtu(next(iter(world.handle.network_links())), NARROW)
                raise refusal(errno.EMSGSIZE)

    world.endpoint.refuse = refuse
    await send(world, Outgoing(TWO))
    assert sorted(delivered(world)) == TWO
