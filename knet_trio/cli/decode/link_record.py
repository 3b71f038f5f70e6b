"""What is known of a link, and of UDP flows that may be one: a record for each, two directions."""

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
# Fewer that look alike prove nothing.
_ENOUGH: Final = 3


def begins_anew(packet: Packet) -> bool:
    """Return whether the host that sent ``packet`` says that it has sent no data since it began."""
    return isinstance(packet, Ping) and packet.timed and not packet.seq


class Arrival(NamedTuple):
    """A piece with the moment at which it was captured, in nanoseconds."""

    time: int
    piece: Piece


class LinkDirection:
    """What one end of a link sends to the other.

    Attributes:
        kinds: How many packets of each kind were opened.
        size: The bytes of all datagrams, opened or not.
        unopened: How many packets were not opened, by the reason.
        hosts: The ids of the host that sends; several are odd.
        links: The link ids that pings, pongs and probes name.
        keys: How many packets each key opened; None for clear.
        compressions: How many packets with compressed data, by the model's name.
        channels: How many packets with data, by the channel.
        broadcasts: How many packets with data for all hosts.
        trains: How many frames held more than one datagram.
        cut: How many packets were not captured whole.
        numbers: Those of the messages.
        pings: Those that were sent this way.
        largest_probe: The bytes of the largest probe of the path MTU.
        largest_answered: The bytes of the largest one that was answered.
        memory: What helps to open more.
        sealed_sizes: Those of the packets that no key opens.
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
        """How many packets there were, opened or not."""
        return self.kinds.total() + self.unopened.total()

    @property
    def host(self) -> int | None:
        """The id of the host that sends, None while it is not known."""
        return self.hosts.most_common(1)[0][0] if self.hosts else None

    def take(self, arrival: Arrival, back: LinkDirection) -> float | None:
        """Count a packet; ``back`` is the other direction.

        Returns:
            The seconds since the ping, if it is a pong to one that was captured.
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
                if begins_anew(packet):
                    self.numbers.restart()
                self.pings.ping(packet.link, packet.time, now)
            case Pong():
                return back.pings.pong(packet.link, packet.time, now)
            case PmtudProbe():
                # Both count the datagram, with what seals it.
                self.largest_probe = max(self.largest_probe, piece.size)
                self._probes[packet.link, packet.size] = piece.size
                if len(self._probes) > _MOST_PROBES:
                    del self._probes[next(iter(self._probes))]
            case PmtudReply():
                back.probe_answered(packet)
        return None

    def probe_answered(self, reply: PmtudReply) -> None:
        """Take note of the answer to one of the probes."""
        size = self._probes.get((reply.link, reply.size), 0)
        self.largest_answered = max(self.largest_answered, size)

    def _take_data(self, packet: Data) -> None:
        self.channels[packet.channel] += 1
        self.broadcasts += packet.broadcast
        if packet.compress:
            self.compressions[model_of(packet.compress)] += 1
        self.numbers.see(packet.seq, packet.frag_num, packet.frag_seq)

    def finish(self, now: int) -> None:
        """Count what is still open; the capture has ended."""
        self.numbers.finish()
        self.pings.finish(now)


class LinkRecord:
    """The packets between two ends on one interface.

    Attributes:
        interface: The name of the interface, empty if the capture does not say.
        ends: Both ends, in order.
        ways: What the first end sends, and what the second does.
    """

    def __init__(self, interface: str, ends: tuple[UdpEnd, UdpEnd]) -> None:
        self.interface = interface
        self.ends = ends
        self.ways: tuple[LinkDirection, LinkDirection] = (LinkDirection(), LinkDirection())

    @property
    def packets(self) -> int:
        """How many packets there were, both ways."""
        return sum(way.packets for way in self.ways)

    @property
    def opened(self) -> int:
        """How many packets were opened, both ways."""
        return sum(way.kinds.total() for way in self.ways)

    @property
    def link(self) -> int | None:
        """The link id that its packets name most, None while none did."""
        links = self.ways[0].links + self.ways[1].links
        return links.most_common(1)[0][0] if links else None

    def guess_seal(self) -> str | None:
        """Return what packets that no key opens seem to be sealed with, None for nothing known."""
        hashes = {way.memory.hash_alone for way in self.ways} - {None}
        if hashes:
            return f"{hashes.pop()} alone"
        ways: Sequence[LinkDirection] = self.ways
        if self.ends[0].port == self.ends[1].port:
            # So it is with knet: then one direction is enough.
            ways = [way for way in self.ways if way.unopened[Reason.SEALED]]
        for way in ways:
            cipher, count = next(iter(way.memory.aead.most_common(1)), ("", 0))
            if count >= _ENOUGH and count >= way.unopened[Reason.SEALED] // 2:
                return f"model aead with {cipher}"
        return guess_seal([way.sealed_sizes for way in ways])

    @property
    def seems_sealed(self) -> bool:
        """Whether it looks like a flow of knet that the keys do not open."""
        return bool(self.hints or self.guess_seal())

    @property
    def hints(self) -> list[str]:
        """What would open packets that are not opened."""
        return list(self.ways[0].memory.hints | self.ways[1].memory.hints)
