"""The record of a link, or of a UDP flow that may be one, with its two directions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from knet_trio._compress import model_of
from knet_trio._core.onwire import Data, Packet, Ping, PmtudProbe, PmtudReply, Pong
from knet_trio.cli.decode.network import UdpEnd
from knet_trio.cli.decode.numbers import MessageNumbers
from knet_trio.cli.decode.opening import FlowMemory, OpenedPacket, Piece, Reason
from knet_trio.cli.decode.round_trips import PingPairs
from knet_trio.cli.decode.seal_guess import SealedSizes, guess_seal

KINDS: Final[dict[type[Packet], str]] = {
    Data: "data",
    Ping: "ping",
    Pong: "pong",
    PmtudProbe: "pmtud",
    PmtudReply: "pmtud_reply",
}
_MOST_PROBES: Final = 64
_MOST_HOSTS: Final = 16
# Fewer similar packets are not enough for a guess.
_ENOUGH: Final = 3


def shows_restart(packet: Packet) -> bool:
    """Return whether ``packet`` shows that its host has started again and sent no data yet."""
    return isinstance(packet, Ping) and packet.timed and not packet.seq


class Arrival(NamedTuple):
    """A piece with its time of capture, in nanoseconds."""

    time: int
    piece: Piece


class LinkDirection:
    """One direction of a link.

    Attributes:
        kinds: Opened packets, by kind.
        size: The bytes of all datagrams, opened or not.
        unopened: Packets that were not opened, by reason.
        hosts: Opened packets, by the id of the sender; more than one id is unusual.
        links: Pings, pongs and probes, by link id.
        keys: Opened packets, by key; None for packets in clear.
        compressions: Packets with compressed data, by the name of the model.
        channels: Packets with data, by channel.
        broadcasts: Packets with data for all hosts.
        trains: Frames with more than one datagram.
        cut: Packets that were not captured completely.
        numbers: The message numbers.
        pings: The pings in this direction.
        largest_probe: The size of the largest path MTU probe, in bytes.
        largest_answered: The size of the largest probe that was answered, in bytes.
        memory: The state for opening further packets.
        sealed_sizes: The sizes of packets that no key opens.
    """

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.size: int = 0
        self.unopened: Counter[Reason] = Counter()
        self.hosts: Counter[int] = Counter()
        self.links: Counter[int] = Counter()
        self.keys: Counter[str | None] = Counter()
        self.compressions: Counter[str] = Counter()
        self.channels: Counter[int] = Counter()
        self.broadcasts: int = 0
        self.trains = 0
        self.cut: int = 0
        self.numbers: MessageNumbers = MessageNumbers()
        self.pings: PingPairs = PingPairs()
        self.largest_probe: int = 0
        self.largest_answered: int = 0
        self.memory: FlowMemory = FlowMemory()
        self._probes: dict[tuple[int, int], int] = {}
        self.sealed_sizes: SealedSizes = SealedSizes()

    @property
    def packets(self) -> int:
        """The number of packets, opened or not."""
        return self.kinds.total() + self.unopened.total()

    @property
    def host(self) -> int | None:
        """The id of the sending host, None while not known."""
        return self.hosts.most_common(1)[0][0] if self.hosts else None

    def take(self, arrival: Arrival, back: LinkDirection) -> float | None:
        """Count a packet; ``back`` is the other direction.

        Returns:
            The seconds since the ping, for a pong to a ping that was captured.
        """
        now, piece = arrival
        self.size += piece.size
        if not isinstance(piece, OpenedPacket):
            self.unopened[piece.reason] += 1
            if piece.reason is Reason.SEALED:
                self.sealed_sizes.add(piece.size)
            return None
        packet = piece.packet
        self.kinds[KINDS[type(packet)]] += 1
        self.keys[piece.key] += 1
        self.cut += piece.cut
        if packet.node in self.hosts or len(self.hosts) < _MOST_HOSTS:
            self.hosts[packet.node] += 1
        if isinstance(packet, Data):
            self._take_data(packet)
            return None
        self.links[packet.link] += 1
        match packet:
            case Ping():
                if shows_restart(packet):
                    self.numbers.restart()
                self.pings.ping(packet.link, packet.time, now)
            case Pong():
                return back.pings.pong(packet.link, packet.time, now)
            case PmtudProbe():
                # Both sizes are of the datagram, with its envelope.
                self.largest_probe = max(self.largest_probe, piece.size)
                self._probes[packet.link, packet.size] = piece.size
                if len(self._probes) > _MOST_PROBES:
                    del self._probes[next(iter(self._probes))]
            case PmtudReply():
                back.probe_answered(packet)
        return None

    def probe_answered(self, reply: PmtudReply) -> None:
        """Note the reply to a probe."""
        size = self._probes.get((reply.link, reply.size), 0)
        self.largest_answered = max(self.largest_answered, size)

    def _take_data(self, packet: Data) -> None:
        self.channels[packet.channel] += 1
        self.broadcasts += packet.broadcast
        if packet.compress:
            self.compressions[model_of(packet.compress)] += 1
        self.numbers.see(packet.seq, packet.frag_num, packet.frag_seq)

    def finish(self, now: int) -> None:
        """Count incomplete messages and unanswered pings at the end of the capture."""
        self.numbers.finish()
        self.pings.finish(now)


class LinkRecord:
    """The packets between two ends on one interface.

    Attributes:
        interface: The name of the interface, empty if not in the capture.
        ends: Both ends, in order.
        ways: The direction from the first end, and the one from the second.
    """

    def __init__(self, interface: str, ends: tuple[UdpEnd, UdpEnd]) -> None:
        self.interface = interface
        self.ends = ends
        self.ways: tuple[LinkDirection, LinkDirection] = (LinkDirection(), LinkDirection())

    @property
    def packets(self) -> int:
        """The number of packets in both directions."""
        return sum(way.packets for way in self.ways)

    @property
    def opened(self) -> int:
        """The number of opened packets in both directions."""
        return sum(way.kinds.total() for way in self.ways)

    @property
    def link(self) -> int | None:
        """The most frequent link id in the packets, None while there is none."""
        links = self.ways[0].links + self.ways[1].links
        return links.most_common(1)[0][0] if links else None

    def guess_seal(self) -> str | None:
        """Return a guess how packets that no key opens are sealed, None if there is none."""
        hashes = {way.memory.hash_alone for way in self.ways} - {None}
        if hashes:
            return f"{hashes.pop()} alone"
        ways: Sequence[LinkDirection] = self.ways
        if self.ends[0].port == self.ends[1].port:
            # Equal ports are usual for knet: then one direction is enough.
            ways = [way for way in self.ways if way.unopened[Reason.SEALED]]
        for way in ways:
            cipher, count = next(iter(way.memory.aead.most_common(1)), ("", 0))
            if count >= _ENOUGH and count >= way.unopened[Reason.SEALED] // 2:
                return f"model aead with {cipher}"
        return guess_seal([way.sealed_sizes for way in ways])

    @property
    def seems_sealed(self) -> bool:
        """True if this seems to be a flow of knet that the keys do not open."""
        return bool(self.hints or self.guess_seal())

    @property
    def hints(self) -> list[str]:
        """The options that would open more packets."""
        return list(self.ways[0].memory.hints | self.ways[1].memory.hints)
