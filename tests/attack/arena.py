"""A handle under attack, its healthy peer, and what shows that nothing has become of them.

Host 1 is the victim, host 2 its peer. Link 0 between them runs over a wire that the attacker has
tapped: what comes out of its end has the peer's own address. Link 1 is a plain one.
`KNET_TRIO_FLOOD_SECONDS` says how long a flood lasts: for many, give pytest `--timeout=0`.
"""

from __future__ import annotations

import os
import socket
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from typing import Final, NamedTuple

import attrs
import pytest
import trio

from knet_trio import Channel, CryptoConfig, DropCause, Handle, Host, Link, open_handle
from knet_trio._core.onwire import (
    MAX_MESSAGE,
    Data,
    Packet,
    Ping,
    PmtudProbe,
    PmtudReply,
    Pong,
    decode_untrusted,
    encode_data,
)
from knet_trio._core.sizes import MAX_ONWIRE
from knet_trio._crypto.envelope import make_cipher
from knet_trio._crypto.slots import CryptoSlots
from knet_trio.abc import Cipher
from knet_trio.cli.relay import Relay, WireEnd
from tests.cluster import KEY, LOCALHOST, PATIENCE, add_quick_link, join, wait_for
from tests.packets import encode

SECONDS: Final = float(os.environ.get("KNET_TRIO_FLOOD_SECONDS", "0.25"))
# What is thrown before the victim has to have counted it: little enough for any socket buffer.
BURST_PACKETS: Final = 128
BURST_BYTES: Final = 64 * 1024

VICTIM: Final = 1
PEER: Final = 2
INSIDER: Final = 3
STRANGER_ADDRESS: Final = "127.0.0.66"
INSIDER_ADDRESS: Final = "127.0.0.33"
# Where the healthy hosts talk.
CHANNEL: Final = 0

# What everything but the attack may take meanwhile: messages on their way, events, a batch of each
# stage, the log's counts.
SLACK: Final = 1024 * 1024
# A fragment that waits for others: the object that holds it, and its place among the others.
_PER_FRAGMENT: Final = 64
# 32 messages of a host, each of at most 64 KiB in at most 255 fragments.
REASSEMBLY: Final = 32 * (MAX_MESSAGE + 255 * _PER_FRAGMENT)

CRYPTO: Final = CryptoConfig(key=KEY)
both = pytest.mark.parametrize("crypto", [None, CRYPTO], ids=["clear", "crypto"])

Kinds = type[Packet] | tuple[type[Packet], ...]

Throw = Callable[[bytes], object]


def make_data(node: int, seq: int, payload: bytes = b"forged", channel: int = CHANNEL) -> bytes:
    """A whole message."""
    return encode_data(Data(node, seq, 0, False, 1, 0, channel, payload))


def one_of_each(node: int, link: int) -> list[bytes]:
    """A packet of each kind that anybody could make."""
    stamp = bytes(range(16))
    packets = (
        Data(node, 77, 0, True, 1, 0, CHANNEL, b"forged"),
        Data(node, 78, 0, True, 3, 2, CHANNEL, b"forged"),
        Ping(node, link, stamp, 0, timed=True),
        Ping(node, link, stamp, 8191, timed=False),
        Pong(node, link, stamp, 5, timed=True),
        PmtudProbe(node, link, 1500, 1000),
        PmtudReply(node, link, 1500),
    )
    return [encode(packet) for packet in packets]


class TappedEnd(WireEnd):
    """The end of a wire that somebody listens at, and can let come out of it what they like."""

    tape: list[bytes] | None = None

    def emit(self, datagram: memoryview) -> None:
        """Pass it on, and keep a copy if told to."""
        if self.tape is not None:
            self.tape.append(bytes(datagram))
        super().emit(datagram)

    def inject(self, datagram: bytes) -> None:
        """Let ``datagram`` come out."""
        super().emit(memoryview(datagram))

    @contextmanager
    def recording(self) -> Generator[list[bytes]]:
        """What comes out in the block."""
        tape: list[bytes] = []
        self.tape = tape
        try:
            yield tape
        finally:
            self.tape = None


class Insider:
    """Host 3, which has the key and a link to the victim, and is up to no good."""

    def __init__(self, sock: socket.socket, cipher: Cipher | None) -> None:
        self.address: tuple[str, int] = sock.getsockname()
        self._sock = sock
        self._cipher = cipher
        self._target: tuple[str, int] | None = None

    def plug(self, target: tuple[str, int]) -> None:
        """Speak to ``target`` from now on."""
        self._target = target

    def send(self, packet: bytes) -> None:
        """Send one packet, in the envelope if there is one."""
        assert self._target is not None
        envelope = packet if self._cipher is None else self._cipher.seal([packet])[0]
        self._sock.sendto(envelope, self._target)

    async def run(self) -> None:
        """Answer pings and probes, as a good host does."""
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            envelope = self._sock.recv(65536)
            packet = decode_untrusted(
                envelope if self._cipher is None else self._cipher.open_untrusted(envelope)
            )
            if isinstance(packet, Ping):
                self.send(encode(Pong(INSIDER, *packet[1:])))
            elif isinstance(packet, PmtudProbe):
                self.send(encode(PmtudReply(INSIDER, packet.link, packet.size)))


class Health(NamedTuple):
    """What an attack must not change about a link."""

    address: tuple[str | None, int | None, str, int]
    flags: tuple[bool, bool, bool, bool]
    mtu: tuple[int, int, int]
    ups_and_downs: tuple[int, int]
    settings: tuple[object, ...]


def health(handle: Handle, host: Host, link: Link) -> Health:
    status = link.status
    return Health(
        (status.dst_ipaddr, status.dst_port, status.src_ipaddr, status.src_port),
        (status.enabled, status.connected, status.dynconnected, host.status.reachable),
        (status.mtu, status.proto_overhead, handle.data_mtu),
        (status.stats.up_count, status.stats.down_count),
        (host.policy, link.priority, link.config, tuple(link.acl)),
    )


def drops(handle: Handle) -> dict[DropCause, int]:
    return dict(handle.statistics().drops)


@attrs.define
class Arena:
    """The victim, its peer, and the tap between them. ``network`` is what the wire is part of."""

    victim: Handle
    peer: Handle
    tap: TappedEnd
    back: TappedEnd
    network: Relay
    crypto: CryptoConfig | None
    inbox: Channel
    outbox: Channel

    @property
    def target(self) -> tuple[str, int]:
        """Where the victim's end of the tapped link listens."""
        return self.victim.get_host(PEER).links[0].config.src

    def links(self) -> list[tuple[Handle, Host, Link]]:
        """Both ends of the healthy links."""
        return [
            (handle, handle.get_host(other), link)
            for handle, other in ((self.victim, PEER), (self.peer, VICTIM))
            for link in map(handle.get_host(other).links.__getitem__, (0, 1))
        ]

    def pongs(self) -> list[int]:
        return [link.status.stats.rx_pong_packets for _, _, link in self.links()]

    def seal(self, packet: bytes) -> bytes:
        """The packet as the peer would send it: only who has the key can do that."""
        return packet if self.crypto is None else make_cipher(self.crypto).seal([packet])[0]

    def _opener(self) -> Cipher | None:
        slots = CryptoSlots()
        slots.replace(self.crypto)
        return slots.sealer

    def read(self, tape: Iterable[bytes]) -> list[tuple[Packet, bytes]]:
        """What is on a tape, with the datagrams: only who has the key can tell."""
        cipher = self._opener()
        return [
            (decode_untrusted(one if cipher is None else cipher.open_untrusted(one)), one)
            for one in tape
        ]


@asynccontextmanager
async def open_arena(
    crypto: CryptoConfig | None = None, *, insider: bool = False
) -> AsyncGenerator[Arena]:
    """Two hosts that reach each other over both links; the victim gives ``insider`` a link."""
    # The policy is passive and nothing is hedged, so that there are no copies but the attacker's.
    async with (
        open_wire() as (network, far, near),
        open_handle(VICTIM, crypto=crypto, hedge=False) as victim,
        open_handle(PEER, crypto=crypto, hedge=False) as peer,
    ):
        to_peer, to_victim = victim.add_host(PEER), peer.add_host(VICTIM)
        for host, end in ((to_peer, far), (to_victim, near)):
            link = await add_quick_link(host, 0, (LOCALHOST, 0), end.address)
            end.plug(link.config.src)
        await join(to_victim, to_peer, 1)
        arena = Arena(
            victim,
            peer,
            far,
            near,
            network,
            crypto,
            victim.open_channel(CHANNEL, receive_buffer=100_000),
            peer.open_channel(CHANNEL, receive_buffer=100_000),
        )
        for _, _, link in arena.links():
            with trio.fail_after(PATIENCE):
                await link.wait_connected()
        # A search that ends later would look like something the attack did.
        await wait_for(lambda: all(link.status.proto_overhead for _, _, link in arena.links()))
        yield arena


@asynccontextmanager
async def open_wire() -> AsyncGenerator[tuple[Relay, TappedEnd, TappedEnd]]:
    """A wire with a tap at either end."""
    # As wide as it can be, so that searching takes no time.
    network = Relay(MAX_ONWIRE)
    far = TappedEnd(network)
    try:
        near = TappedEnd(network)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.carry_to, far)
                nursery.start_soon(far.carry_to, near)
                yield network, far, near
                nursery.cancel_scope.cancel()
        finally:
            near.close()
    finally:
        far.close()


@asynccontextmanager
async def open_insider(arena: Arena) -> AsyncGenerator[Insider]:
    """Host 3, with a link 0 to the victim that is up."""
    with open_socket(INSIDER_ADDRESS) as sock:
        insider = Insider(sock, None if arena.crypto is None else make_cipher(arena.crypto))
        host = arena.victim.add_host(INSIDER)
        link = await add_quick_link(host, 0, (LOCALHOST, 0), insider.address)
        insider.plug(link.config.src)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(insider.run)
            await wait_for(lambda: link.status.connected and link.status.proto_overhead > 0)
            yield insider
            nursery.cancel_scope.cancel()


@contextmanager
def open_socket(host: str, port: int = 0) -> Generator[socket.socket]:
    """A socket of the attacker's. All of 127.0.0.0/8 is this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind((host, port))
        yield sock


def only(arena: Arena, tape: list[bytes], kinds: Kinds) -> list[bytes]:
    """The datagrams with packets of that kind."""
    return [datagram for packet, datagram in arena.read(tape) if isinstance(packet, kinds)]


def pings_and_pongs(arena: Arena, tape: list[bytes]) -> int:
    """How many there are at least of each."""
    return min(len(only(arena, tape, Ping)), len(only(arena, tape, Pong)))


class Attack:
    """What is thrown at the victim, and what has become of it."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.thrown = 0
        # What the process held for it at most, in bytes, once it is over.
        self.memory = 0
        self._before = drops(arena.victim)
        self._pongs = arena.pongs()

    @property
    def drops(self) -> dict[DropCause, int]:
        """What the victim has dropped since the attack began."""
        now = drops(self.arena.victim)
        return {
            cause: count - self._before.get(cause, 0)
            for cause, count in now.items()
            if count != self._before.get(cause, 0)
        }

    @property
    def dropped(self) -> int:
        return sum(self.drops.values())

    def heartbeats_go_on(self) -> bool:
        """Whether every link has been answered a few pings since the attack began."""
        pairs = zip(self.arena.pongs(), self._pongs, strict=True)
        return all(now - before >= 3 for now, before in pairs)

    async def flood(
        self,
        throw: Throw,
        packets: Iterable[bytes],
        done: Callable[[], int] | None = None,
        *,
        to_the_end: bool = False,
    ) -> None:
        """Throw packets until the time is over and heartbeats have come, or none are left.

        ``done`` is how many of them the victim is done with, by default those it dropped. It is
        given the next ones only then, so none is lost where nobody counts.
        """
        done = done or (lambda: self.dropped)
        ends = trio.current_time() + SECONDS
        before, thrown = done(), 0
        burst = 0
        with trio.fail_after(PATIENCE + SECONDS):
            for packet in packets:
                throw(packet)
                thrown += 1
                burst += max(len(packet), BURST_BYTES // BURST_PACKETS)
                if burst < BURST_BYTES:
                    continue
                burst = 0
                while done() - before < thrown:  # no event tells of it
                    await trio.lowlevel.checkpoint()
                over = trio.current_time() >= ends and self.heartbeats_go_on()
                if over and not to_the_end:
                    break
            while done() - before < thrown:  # no event tells of it
                await trio.lowlevel.checkpoint()
        self.thrown += thrown


@asynccontextmanager
async def under_attack(arena: Arena, memory: int) -> AsyncGenerator[Attack]:
    """Attack in the block, while both hosts send to each other; then see that nothing has happened.

    ``memory`` is what the attack may make the process hold for a moment, in bytes.
    """
    before = [health(*end) for end in arena.links()]
    # The tests' own messages count for nothing.
    streams = [Stream(arena.outbox, arena.inbox), Stream(arena.inbox, arena.outbox)]
    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(stream.run)
        attack = Attack(arena)
        with traced() as taken:
            yield attack
        attack.memory = taken[0]
        await wait_for(attack.heartbeats_go_on)
        for stream in streams:
            stream.stop.set()
    for stream in streams:
        assert stream.received == list(range(stream.sent))
    assert attack.memory <= memory
    assert [health(*end) for end in arena.links()] == before
    assert all(flags.flags == (True, True, False, True) for flags in before)


@contextmanager
def traced() -> Generator[list[int]]:
    """Puts the memory that was held at once in the block, in bytes, into the list."""
    taken: list[int] = []
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        yield taken
        taken.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()


class Stream:
    """Messages from one host to the other, until told to stop."""

    def __init__(self, source: Channel, sink: Channel) -> None:
        self.sent = 0
        self.received: list[int] = []
        self.stop = trio.Event()
        self._source = source
        self._sink = sink

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive)
            while not self.stop.is_set():
                await self._source.send(b"%d " % self.sent + b"x" * (self.sent * 97 % 5000))
                self.sent += 1
                await trio.sleep(0.005)
            await self._source.send(b"end ")

    async def _receive(self) -> None:
        with trio.CancelScope() as scope:
            async for message in self._sink:
                number = message.data.split(b" ")[0]
                if number == b"end":
                    scope.cancel()
                else:
                    self.received.append(int(number))
