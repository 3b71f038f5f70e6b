"""Floods of all kinds: what is wrong is dropped and counted, what is held meanwhile is bounded.

Each says in bytes by how much, beside ``SLACK``, which is for everything but the attack.
"""

from __future__ import annotations

import bz2
import itertools
import lzma
import random
import sys
import zlib
from collections.abc import Callable, Iterator

import pytest

from knet_trio import CompressConfig, CryptoConfig, DropCause
from knet_trio._compress import make_compressor
from knet_trio._core.onwire import MAX_MESSAGE, Data, Ping, Pong, encode_data
from tests.attack.arena import (
    CRYPTO,
    INSIDER,
    PEER,
    REASSEMBLY,
    SLACK,
    STRANGER_ADDRESS,
    Attack,
    both,
    make_data,
    one_of_each,
    open_arena,
    open_insider,
    open_socket,
    under_attack,
)
from tests.packets import encode

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


async def flood_from(attack: Attack, host: str, packets: Iterator[bytes]) -> None:
    """Flood the victim from a socket of the attacker's, without the key."""
    with open_socket(host) as sock:
        await attack.flood(lambda packet: sock.sendto(packet, attack.arena.target), packets)


def noise(dice: random.Random) -> Iterator[bytes]:
    """Bytes by chance, and what begins like a packet and is none."""
    good = one_of_each(PEER, 0)
    while True:
        yield bytes([dice.randrange(2, 256)]) + dice.randbytes(dice.randrange(1400))
        yield dice.choice(good)[: dice.randrange(1, 9)]
        wrong = bytearray(dice.choice(good))
        wrong[0] = dice.randrange(2, 256)
        yield bytes(wrong)
        wrong[:2] = 1, dice.randrange(5, 0x80)
        yield bytes(wrong)


@both
@pytest.mark.parametrize("place", ["peer", "stranger"])
async def test_garbage(crypto: CryptoConfig | None, place: str) -> None:
    async with open_arena(crypto) as arena, under_attack(arena, SLACK) as attack:
        packets = noise(random.Random(1))
        if place == "peer":
            await attack.flood(arena.tap.inject, packets)
        else:
            await flood_from(attack, STRANGER_ADDRESS, packets)
        assert attack.dropped == attack.thrown
        wrong = {DropCause.MALFORMED, DropCause.WRONG_VERSION, DropCause.UNKNOWN_TYPE}
        assert set(attack.drops) == ({DropCause.NOT_AUTHENTIC} if crypto else wrong)


# Who is who: node ids, link ids, addresses.


@both
async def test_hosts_that_do_not_exist(crypto: CryptoConfig | None) -> None:
    """Every other node id there is, the victim's own too."""
    ids = itertools.cycle(node for node in range(0, 65536, 7) if node not in (PEER, INSIDER))
    packets = (packet for node in ids for packet in one_of_each(node, node % 8))
    async with (
        open_arena(crypto) as arena,
        open_insider(arena) as insider,
        under_attack(arena, SLACK) as attack,
    ):
        # With the key, from an address that may speak.
        await attack.flood(insider.send, packets)
        assert attack.drops == {DropCause.UNKNOWN_HOST: attack.thrown}
        await flood_from(attack, STRANGER_ADDRESS, packets)
        assert attack.dropped == attack.thrown


@both
async def test_a_host_that_says_it_is_another(crypto: CryptoConfig | None) -> None:
    """A member of the cluster, with the key and a link of its own, claims to be the peer."""
    packets = itertools.cycle(one_of_each(PEER, 0) + one_of_each(PEER, 1))
    async with (
        open_arena(crypto) as arena,
        open_insider(arena) as insider,
        under_attack(arena, SLACK) as attack,
    ):
        await attack.flood(insider.send, packets)
        assert attack.dropped == attack.thrown
        assert set(attack.drops) == {DropCause.ACCESS_LIST, DropCause.UNKNOWN_ADDRESS}


@both
async def test_forged_link_ids(crypto: CryptoConfig | None) -> None:
    """Every link id that fits into the packet, of which the victim has 0 for that host."""
    control = [one_of_each(INSIDER, link)[2:] for link in range(256) if link != 0]
    packets = itertools.cycle(itertools.chain.from_iterable(control))
    async with (
        open_arena(crypto) as arena,
        open_insider(arena) as insider,
        under_attack(arena, SLACK) as attack,
    ):
        await attack.flood(insider.send, packets)
        assert attack.drops == {DropCause.UNKNOWN_LINK: attack.thrown}


@both
async def test_spoofed_sources(crypto: CryptoConfig | None) -> None:
    """Each packet comes from another address, and claims to be the peer's."""
    numbers = itertools.count(1)

    def throw(packet: bytes) -> None:
        number = next(numbers)
        host = f"127.{1 + number // 60000}.{number // 250 % 250}.{1 + number % 250}"
        with open_socket(host) as sock:
            sock.sendto(packet, arena.target)

    packets = itertools.cycle(one_of_each(PEER, 0) + one_of_each(PEER, 1))
    async with open_arena(crypto) as arena, under_attack(arena, SLACK) as attack:
        await attack.flood(throw, packets)
        assert attack.dropped == attack.thrown
        forged = {DropCause.ACCESS_LIST, DropCause.UNKNOWN_ADDRESS}
        assert set(attack.drops) == ({DropCause.CLEAR_TRAFFIC} if crypto else forged)


@both
async def test_answers_from_the_address_of_the_peer(crypto: CryptoConfig | None) -> None:
    """Pongs and path MTU replies nobody asked for keep links up and MTUs wide, if believed."""
    dice = random.Random(1)
    answers = (
        encode(Pong(PEER, 0, dice.randbytes(16), dice.randrange(65536), timed=True))
        if dice.random() < 0.5
        else one_of_each(PEER, 0)[-1]
        for _ in itertools.count()
    )
    async with open_arena(crypto) as arena, under_attack(arena, SLACK) as attack:
        await attack.flood(arena.tap.inject, answers)
        assert attack.dropped == attack.thrown
        unasked = {DropCause.UNEXPECTED_PONG, DropCause.UNEXPECTED_PMTUD_REPLY}
        assert set(attack.drops) == ({DropCause.CLEAR_TRAFFIC} if crypto else unasked)


@both
async def test_pings_from_the_address_of_the_peer(crypto: CryptoConfig | None) -> None:
    """In the clear each is answered to where the peer is, and that is all that comes of it."""
    numbers = itertools.count()
    pings = (encode(Ping(PEER, 0, number.to_bytes(16, "big"), 1, timed=True)) for number in numbers)
    async with open_arena(crypto) as arena, under_attack(arena, SLACK) as attack:
        link = arena.victim.get_host(PEER).links[0]

        def pinged() -> int:
            return attack.dropped if crypto else link.status.stats.rx_ping_packets

        await attack.flood(arena.tap.inject, pings, pinged)
        assert attack.dropped == (attack.thrown if crypto else 0)


@both
async def test_pings_that_are_all_different(crypto: CryptoConfig | None) -> None:
    """Those that may start a host's numbers afresh are remembered: so many, and no more."""
    pings = (
        encode(Ping(INSIDER, 0, number.to_bytes(16, "big"), number % 9, timed=number % 2 == 0))
        for number in itertools.count()
    )
    async with (
        open_arena(crypto) as arena,
        open_insider(arena) as insider,
        under_attack(arena, SLACK) as attack,
    ):
        link = arena.victim.get_host(INSIDER).links[0]
        await attack.flood(insider.send, pings, lambda: link.status.stats.rx_ping_packets)
        assert attack.drops == {}


# Messages, and parts of them.


@both
async def test_packets_for_every_sequence_number(crypto: CryptoConfig | None) -> None:
    """All of them, and then in the orders that do most harm: down, and between far ends."""
    # In an envelope each costs much more and does the same.
    every = range(0, 65536, 16 if crypto else 1)
    some = range(0, 65536, 31)
    mixed = [seq for pair in zip(some, reversed(some), strict=True) for seq in pair]
    numbers = itertools.chain(every, reversed(some), mixed)
    async with (
        open_arena(crypto) as arena,
        open_insider(arena) as insider,
        under_attack(arena, SLACK) as attack,
    ):
        # Nobody listens on that channel.
        packets = (make_data(INSIDER, seq, channel=7) for seq in numbers)
        await attack.flood(insider.send, packets, to_the_end=True)
        assert attack.dropped == attack.thrown == len(every) + 3 * len(some)
        assert set(attack.drops) == {DropCause.NO_CHANNEL, DropCause.DUPLICATE}
        # Who is no member of the cluster gets no further than that.
        thrown = attack.thrown
        await flood_from(attack, STRANGER_ADDRESS, (make_data(PEER, seq) for seq in range(65536)))
        cause = DropCause.CLEAR_TRAFFIC if crypto else DropCause.UNKNOWN_ADDRESS
        assert attack.drops[cause] == attack.thrown - thrown


def unfinished(node: int, count: int, size: int) -> Iterator[bytes]:
    """The fragments of messages of which each lacks its last."""
    for number in itertools.count(1):
        for index in range(1, count):
            yield encode_data(
                Data(node, 1 + number % 65535, 0, False, count, index, 0, bytes(size))
            )


@both
@pytest.mark.parametrize("count", [2, 16, 255])
async def test_fragments_that_never_complete(crypto: CryptoConfig | None, count: int) -> None:
    size = min(MAX_MESSAGE // count, 32000)
    async with (
        open_arena(crypto) as arena,
        open_insider(arena) as insider,
        under_attack(arena, REASSEMBLY + SLACK) as attack,
    ):
        link = arena.victim.get_host(INSIDER).links[0]
        fragments = unfinished(INSIDER, count, size)
        # Enough of them that all room is taken, and some are given up for others.
        least = itertools.islice(fragments, 40 * (count - 1))
        await attack.flood(
            insider.send, least, lambda: link.status.stats.rx_data_packets, to_the_end=True
        )
        assert attack.drops == {DropCause.REASSEMBLY_GIVEN_UP: 40 - 32}
        if count < 255:
            await attack.flood(insider.send, fragments, lambda: link.status.stats.rx_data_packets)
        given_up = -(-attack.thrown // (count - 1)) - 32
        assert attack.drops == {DropCause.REASSEMBLY_GIVEN_UP: given_up}
    # All that room was taken.
    assert attack.memory > 31 * (count - 1) * size


@both
async def test_fragments_of_somebody_else(crypto: CryptoConfig | None) -> None:
    async with open_arena(crypto) as arena, under_attack(arena, SLACK) as attack:
        await flood_from(attack, STRANGER_ADDRESS, unfinished(PEER, 16, 1000))
        cause = DropCause.CLEAR_TRAFFIC if crypto else DropCause.UNKNOWN_ADDRESS
        assert attack.drops == {cause: attack.thrown}


@both
async def test_more_messages_than_anybody_takes(crypto: CryptoConfig | None) -> None:
    """A channel holds what it was opened for, of the largest messages there are, and no more."""
    held = 8
    payload = bytes(60000)
    packets = (make_data(INSIDER, 1 + i % 65535, payload, 5) for i in itertools.count())
    async with (
        open_arena(crypto) as arena,
        open_insider(arena) as insider,
        under_attack(arena, held * MAX_MESSAGE + SLACK) as attack,
    ):
        channel = arena.victim.open_channel(5, receive_buffer=held)
        link = arena.victim.get_host(INSIDER).links[0]
        await attack.flood(insider.send, packets, lambda: link.status.stats.rx_data_packets)
        assert attack.drops == {DropCause.CHANNEL_FULL: attack.thrown - held}
        assert len(await channel.receive_many()) == held
    assert attack.memory > held * len(payload)


def lz4_bomb(message: bytes) -> bytes:
    return make_compressor(CompressConfig("lz4")).compress(message)


def lzma_bomb(message: bytes) -> bytes:
    return lzma.compress(message, format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE, preset=9)


MIB = 1024 * 1024
LARGE = bytes(8 * MIB)
# What opening a message takes beside the message, by algorithm: tables, windows and dictionaries.
# An .xz container asks for up to 64 MiB however short it is, and is opened alone.
BOMBS: list[tuple[int, Callable[[bytes], bytes], int]] = [
    (1, zlib.compress, MIB),
    (2, lz4_bomb, MIB),
    (5, lzma_bomb, 72 * MIB),
    (6, bz2.compress, 8 * MIB),
    (7, zstd.compress, 16 * MIB),
]


@pytest.mark.parametrize(
    ("wire_id", "compress", "memory"), BOMBS, ids=["zlib", "lz4", "lzma", "bzip2", "zstd"]
)
async def test_decompression_bombs(
    wire_id: int, compress: Callable[[bytes], bytes], memory: int
) -> None:
    """Megabytes in a few bytes: no more than a message may have is ever unpacked."""
    bomb = compress(LARGE)
    assert len(bomb) < 60000
    packets = (
        encode_data(Data(INSIDER, 1 + i % 65535, wire_id, False, 1, 0, 0, bomb))
        for i in itertools.count()
    )
    async with (
        open_arena(CRYPTO) as arena,
        open_insider(arena) as insider,
        under_attack(arena, memory + SLACK) as attack,
    ):
        await attack.flood(insider.send, packets)
        assert attack.drops == {DropCause.BAD_COMPRESSION: attack.thrown}
