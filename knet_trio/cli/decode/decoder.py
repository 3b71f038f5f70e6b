"""Decoding of frames to packets, and the records of flows and frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

from knet_trio._core.onwire import Data, Packet
from knet_trio.cli.decode.frame import Frame
from knet_trio.cli.decode.keys import OpeningKey
from knet_trio.cli.decode.link_record import Arrival, LinkRecord, shows_restart
from knet_trio.cli.decode.network import Datagram, Other, UdpEnd, find_datagram
from knet_trio.cli.decode.numbers import MessageNumbers
from knet_trio.cli.decode.opening import OpenedPacket, Opener, Piece

_MOST_LINKS: Final = 4096
_MOST_STRANGERS: Final = 4096
_MOST_HOSTS: Final = 1024
_MOST_LINK_TYPES: Final = 64

_RecordKey = tuple[str, tuple[UdpEnd, UdpEnd]]


class DecodedPacket(NamedTuple):
    """A packet of a link, opened or not.

    Attributes:
        time: When it was captured, in nanoseconds since 1970.
        interface: The name of the interface, empty if not in the capture.
        source: The address and port of the sender.
        destination: The address and port of the receiver.
        piece: The packet, opened or not.
        link: The link id, None if not known.
        train: Its position among the datagrams of one frame, from 1, and their number.
        round_trip: The seconds since the ping, for a pong to a ping that was captured.
    """

    time: int
    interface: str
    source: UdpEnd
    destination: UdpEnd
    piece: Piece
    link: int | None
    train: tuple[int, int]
    round_trip: float | None


class Decoder:
    """Opens the packets of frames and counts them.

    Args:
        keys: The keys to open packets with.
        ports: Only flows with one of these ports are examined, and are treated as knet. Empty for
            all ports; then a flow is knet if one of its packets could be opened.
        find: True to try each key with all ciphers and hashes.

    Attributes:
        frames: The number of frames.
        size: The bytes of these frames.
        others: Frames that are not UDP, or UDP of other ports, by kind.
        link_types: Frames with an unknown link layer, by its number.
        hosts: The message numbers of each host, on all links.
        forgotten: Packets of flows that were dropped, since there were too many flows.
        first: The time of the first frame, in nanoseconds since 1970.
        last: The time of the last frame, in nanoseconds since 1970.
    """

    def __init__(
        self, keys: Sequence[OpeningKey], ports: Collection[int] = (), *, find: bool = False
    ) -> None:
        self._opener = Opener(keys, find=find)
        self._ports = frozenset(ports)
        self.frames: int = 0
        self.size: int = 0
        self.others: Counter[str] = Counter()
        self.link_types: Counter[int] = Counter()
        self._links: dict[_RecordKey, LinkRecord] = {}
        self._strangers: dict[_RecordKey, LinkRecord] = {}
        self.hosts: dict[int, MessageNumbers] = {}
        self.forgotten: int = 0
        self.first: int | None = None
        self.last: int = 0

    def take(self, frame: Frame) -> Iterator[DecodedPacket]:
        """Yield the knet packets of a frame. The iterator must be exhausted to count them all."""
        self.frames += 1
        self.size += frame.length
        if self.first is None:
            self.first = frame.time
        self.last = max(self.last, frame.time)
        found = find_datagram(frame)
        if isinstance(found, Datagram):
            if (
                not self._ports
                or found.source.port in self._ports
                or (found.destination.port in self._ports)
            ):
                yield from self._take_datagram(frame.time, found)
            else:
                self.others["UDP of other ports"] += 1
            return
        self.others[found.value] += 1
        kind = frame.link_type
        if found is Other.LINK_TYPE and (
            kind in self.link_types or len(self.link_types) < _MOST_LINK_TYPES
        ):
            self.link_types[kind] += 1

    @property
    def links(self) -> list[LinkRecord]:
        """The flows of knet, in the order in which they were recognized."""
        return list(self._links.values())

    @property
    def strangers(self) -> list[LinkRecord]:
        """The other UDP flows, in the order in which they were seen."""
        return list(self._strangers.values())

    @property
    def unopened(self) -> int:
        """The number of packets that were not opened, in flows that are knet or seem to be."""
        seem = (record for record in self.strangers if record.seems_sealed)
        return sum(way.unopened.total() for record in (*self.links, *seem) for way in record.ways)

    def finish(self) -> None:
        """Count incomplete messages and unanswered pings at the end of the capture."""
        for record in (*self.links, *self.strangers):
            for way in record.ways:
                way.finish(self.last)
        for numbers in self.hosts.values():
            numbers.finish()

    def _take_datagram(self, time: int, datagram: Datagram) -> Iterator[DecodedPacket]:
        interface, source, destination, payload, size = datagram
        ends = (source, destination) if source <= destination else (destination, source)
        key = interface, ends
        record = self._links.get(key) or self._strangers.get(key) or self._add(key)
        turned = source != ends[0]
        way, back = record.ways[turned], record.ways[not turned]
        pieces = self._opener.open_untrusted(payload, size, way.memory)
        way.trains += len(pieces) > 1
        for i, piece in enumerate(pieces, 1):
            round_trip = way.take(Arrival(time, piece), back)
            if isinstance(piece, OpenedPacket):
                if key in self._strangers:
                    self._accept(key)
                self._take_number(piece.packet)
            elif key not in self._links:
                continue
            yield DecodedPacket(
                time,
                interface,
                source,
                destination,
                piece,
                record.link,
                (i, len(pieces)),
                round_trip,
            )

    def _add(self, key: _RecordKey) -> LinkRecord:
        record = LinkRecord(*key)
        self._strangers[key] = record
        if self._ports:
            self._accept(key)
        elif len(self._strangers) > _MOST_STRANGERS:
            oldest = self._strangers.pop(next(iter(self._strangers)))
            self.forgotten += oldest.packets
        return record

    def _accept(self, key: _RecordKey) -> None:
        """Treat a flow as knet from now on."""
        self._links[key] = self._strangers.pop(key)
        if len(self._links) > _MOST_LINKS:
            oldest = self._links.pop(next(iter(self._links)))
            self.forgotten += oldest.packets

    def _take_number(self, packet: Packet) -> None:
        numbers = self.hosts.get(packet.node)
        if isinstance(packet, Data):
            if numbers is None:
                if len(self.hosts) >= _MOST_HOSTS:
                    return
                numbers = self.hosts[packet.node] = MessageNumbers()
            numbers.see(packet.seq, packet.frag_num, packet.frag_seq)
        elif numbers is not None and shows_restart(packet):
            numbers.restart()
