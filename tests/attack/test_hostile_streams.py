"""A member that speaks the protocol of streams, and breaks it: it gets its own bounds, no more.

Host 3 has the key, and a plain channel where hosts 1 and 2 have streams. Meanwhile these two ask
each other and copy bytes, which must go on, in little memory.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import attrs
import pytest
import trio

from knet_trio import Channel, CryptoConfig, Handle, open_handle
from knet_trio.streams import HostRequest, HostStream, Streams, open_streams
from knet_trio.streams._core.limits import (
    INITIAL_CREDIT,
    MAX_JUMP,
    MAX_NUMBER,
    MAX_SEGMENTS,
    MAX_STREAMS,
)
from knet_trio.streams._core.wire import (
    PING_FRAME,
    RECEIVING,
    SENDING,
    Code,
    StreamKind,
    StreamPacketKind,
)
from knet_trio.streams._core.wire_reading import read_header_untrusted
from knet_trio.streams._core.wire_writing import (
    write_accept,
    write_ack,
    write_credit,
    write_data_head,
    write_packet,
    write_reset,
    write_streams,
)
from tests.attack.arena import SECONDS, traced
from tests.cluster import PATIENCE, join

VICTIM: Final = 1
FRIEND: Final = 2
MEMBER: Final = 3
STREAMS: Final = 6
PIECE: Final = 1200
# What the two healthy hosts hold while they copy, and what the attacker has a right to: the bytes
# that it has credit for, on all its streams.
MEMORY: Final = 24 * 1024 * 1024 + MAX_STREAMS * INITIAL_CREDIT
COPIED: Final = 500_000
# Packets that the victim takes in before the attacker goes on.
BURST: Final = 32


class Member:
    """Host 3, and what it sends."""

    def __init__(self, channel: Channel, dice: random.Random) -> None:
        self.dice = dice
        self.theirs = 0
        self._channel = channel
        self._mine = dice.getrandbits(64) | 1
        self.number = 0
        self._sent = 0

    async def greet(self) -> None:
        """Begin a connection, with ids that were not used before."""
        self._mine += 1 << 33
        self.number = 0
        hello = self._packet(StreamPacketKind.HELLO, self._mine, 0)
        with trio.fail_after(PATIENCE):
            await self.throw(hello)
            while True:
                header = read_header_untrusted((await self._channel.receive()).data)
                if header.receiver == self._mine and header.kind is StreamPacketKind.HELLO:
                    self.theirs = header.sender
                    return

    def _packet(self, kind: StreamPacketKind, sender: int, receiver: int, *frames: bytes) -> bytes:
        return write_packet(kind, sender, receiver, self.number, frames, checked=True)

    async def say(self, *frames: bytes) -> None:
        """Send frames in a packet of the connection."""
        packet = self._packet(StreamPacketKind.FRAMES, self._mine, self.theirs, *frames)
        self.number += 1
        await self.throw(packet)

    async def throw(self, packet: bytes) -> None:
        """Send any bytes."""
        await self._channel.send(packet, to=VICTIM)
        self._sent += 1
        if self._sent % BURST == 0:
            # So that they arrive: what is dropped before is no attack.
            await trio.sleep(0.002)

    async def open(
        self, number: int, kind: StreamKind, data: bytes = b"", offset: int = 0, last: bool = False
    ) -> None:
        """Send a piece of one of its streams."""
        await self.say(write_data_head(2 * number, kind, offset, len(data), last=last) + data)


Attack = Callable[[Member], Awaitable[None]]


async def streams_without_end(member: Member) -> None:
    """As many streams as it may open, of each kind, and more; then again."""
    for kind in StreamKind:
        await member.greet()
        for number in range(MAX_STREAMS + 1):
            await member.open(number, kind)


async def all_it_has_credit_for(member: Member) -> None:
    """Bytes on many streams, as many as it may send, and none is the last."""
    await member.greet()
    for number in range(MAX_STREAMS // 8):
        for offset in range(0, INITIAL_CREDIT - PIECE, PIECE):
            await member.open(number, StreamKind.STREAM, bytes(PIECE), offset)
    await member.open(0, StreamKind.STREAM, b"!", 2**40)


async def requests_without_ends(member: Member) -> None:
    """Many requests that never come to an end, and many that are whole."""
    await member.greet()
    for number in range(MAX_STREAMS):
        await member.open(number, StreamKind.REQUEST, bytes(PIECE), 0, number % 2 == 0)


async def holes(member: Member) -> None:
    """Single bytes with holes between them, as many as go into the credit of many streams."""
    await member.greet()
    for number in range(MAX_STREAMS // 32):
        frames: list[bytes] = []
        for offset in range(1, min(INITIAL_CREDIT, 2 * MAX_SEGMENTS), 2):
            head = write_data_head(2 * number, StreamKind.STREAM, offset, 1, last=False)
            frames.append(head + b"!")
            if len(frames) == 1000:
                await member.say(*frames)
                frames.clear()
        await member.say(*frames)


async def what_was_not_sent(member: Member) -> None:
    """Acknowledgements, credit, acceptance and resets of what there never was."""
    for frame in (
        write_ack([(0, 1000)], 0),
        write_credit(1, 2**40),
        write_accept(2**30 + 1),
        write_reset(2**30 + 1, SENDING | RECEIVING, Code.CANCELLED, "x" * 240),
        write_streams(2**40),
    ):
        await member.greet()
        await member.say(frame)


async def numbers_far_apart(member: Member) -> None:
    """Packets whose numbers leave gaps that are too large to be told, or nearly are."""
    for jump in (2**32 + 1, MAX_JUMP + 1, MAX_JUMP, MAX_NUMBER // 2, 2**63):
        await member.greet()
        for _ in range(100):
            await member.say(PING_FRAME)
            member.number += jump - 1
            if member.number >= 2**64:
                break


async def nobody_is_meant(member: Member) -> None:
    """Packets of every kind without the receiver's id."""
    for kind in StreamPacketKind:
        for _ in range(200):
            await member.throw(write_packet(kind, 5, 0, 0, (PING_FRAME,), checked=True))


async def noise(member: Member) -> None:
    """Random bytes, also behind a header and a checksum that are right."""
    await member.greet()
    dice = member.dice
    for _ in range(1000):
        await member.throw(dice.randbytes(dice.randrange(1, 3000)))
        await member.say(dice.randbytes(dice.randrange(1, 300)))


async def greetings(member: Member) -> None:
    """Greetings from ids that nobody has, and packets of connections that there are not."""
    for _ in range(2000):
        stranger, kind = member.dice.getrandbits(64) | 1, member.dice.choice(list(StreamPacketKind))
        packet = write_packet(kind, stranger, stranger ^ 2, 0, (), checked=True)
        await member.throw(packet)


@attrs.frozen
class Healthy:
    """What the two others do meanwhile."""

    alpha: Streams
    beta: Streams
    done: trio.Event
    rounds: list[float]

    async def ask(self) -> None:
        """Ask the victim, and copy bytes to it, until told to stop."""
        while not self.done.is_set() or len(self.rounds) < 3:
            began = trio.current_time()
            question = b"%d" % len(self.rounds)
            assert await self.beta.request(VICTIM, question) == question * 2
            async with await self.beta.connect(VICTIM) as stream:
                data = question * (COPIED // len(question))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stream.send_all, data)
                    got = 0
                    while got < len(data):
                        got += len(await stream.receive_some())
            self.rounds.append(trio.current_time() - began)

    async def answer(self) -> None:
        """Answer requests, whoever asks."""
        async with self.alpha.requests() as requests, trio.open_nursery() as nursery:
            async for request in requests:
                nursery.start_soon(self._answer_one, request)

    @staticmethod
    async def _answer_one(request: HostRequest) -> None:
        try:
            await request.answer(request.data * 2)
        except trio.BrokenResourceError:
            assert request.source == MEMBER

    async def echo(self) -> None:
        """Send back what comes on streams."""
        async with self.alpha.listener() as listener:
            await trio.serve_listeners(self._echo_one, [listener])

    @staticmethod
    async def _echo_one(stream: HostStream) -> None:
        try:
            async with stream:
                async for part in stream:
                    await stream.send_all(part)
        except trio.BrokenResourceError:
            assert stream.host_id == MEMBER


@asynccontextmanager
async def open_three(crypto: CryptoConfig | None) -> AsyncGenerator[tuple[Handle, Handle, Handle]]:
    """The victim, its friend, and the member: each reaches the victim."""
    async with (
        open_handle(VICTIM, crypto=crypto) as victim,
        open_handle(FRIEND, crypto=crypto) as friend,
        open_handle(MEMBER, crypto=crypto) as member,
    ):
        for other in (friend, member):
            to_other, to_victim = victim.add_host(other.host_id), other.add_host(VICTIM)
            await join(to_other, to_victim, 0)
            with trio.fail_after(PATIENCE):
                await to_other.wait_reachable()
                await to_victim.wait_reachable()
        yield victim, friend, member


@pytest.mark.parametrize(
    "attack",
    [
        streams_without_end,
        all_it_has_credit_for,
        requests_without_ends,
        holes,
        numbers_far_apart,
        nobody_is_meant,
        what_was_not_sent,
        noise,
        greetings,
    ],
)
async def test_a_member_that_breaks_the_rules_harms_itself(attack: Attack) -> None:
    async with (
        open_three(None) as (victim, friend, member),
        open_streams(victim, channel=STREAMS) as alpha,
        open_streams(friend, channel=STREAMS) as beta,
        trio.open_nursery() as nursery,
    ):
        healthy = Healthy(alpha, beta, trio.Event(), [])
        nursery.start_soon(healthy.answer)
        nursery.start_soon(healthy.echo)
        hostile = Member(member.open_channel(STREAMS), random.Random(1))
        ends = trio.current_time() + SECONDS
        downs = [victim.hosts[FRIEND].links[0].status.stats.down_count]
        with traced() as taken, trio.fail_after(PATIENCE):
            async with trio.open_nursery() as asking:
                asking.start_soon(healthy.ask)
                await attack(hostile)
                while trio.current_time() < ends:
                    await attack(hostile)
                healthy.done.set()
        downs.append(victim.hosts[FRIEND].links[0].status.stats.down_count)
        assert downs[0] == downs[1]
        assert taken[0] < MEMORY
        nursery.cancel_scope.cancel()
