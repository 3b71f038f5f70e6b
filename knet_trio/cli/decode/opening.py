"""Opening of the knet packets in a datagram: with a key, in clear, or in a train.

A virtual interface carries the datagrams of one system call as one frame of up to 64 kB, and the
kernel joins received ones in the same way. Such a train has many datagrams of equal size, the last
possibly smaller, and the frame does not contain that size. It is found by trying: with a key, the
size at whose end a hash is right; in clear, the size at whose multiples packets begin. If messages
contain packets, several sizes may fit; then the train is not opened.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from knet_trio._core.onwire import (
    DATA_HEADER_SIZE,
    MIN_PACKET_SIZE,
    PING_SIZE,
    PMTUD_HEADER_SIZE,
    TYPE_DATA,
    TYPE_PING,
    TYPE_PMTUD_REPLY,
    TYPE_PONG,
    VERSION,
    Data,
    Packet,
    decode_untrusted,
    type_name,
)
from knet_trio._crypto.aead import ALGORITHMS, EnvelopeHeader, read_header_untrusted
from knet_trio.cli.decode.keys import AeadKey, OpeningKey
from knet_trio.errors import PacketError

# The smallest datagram of each kind in a train in clear: data packets have at least one byte.
_SMALLEST: Final = {
    TYPE_DATA: DATA_HEADER_SIZE + 1,
    TYPE_PING: PING_SIZE,
    TYPE_PONG: PING_SIZE,
    TYPE_PMTUD_REPLY: PMTUD_HEADER_SIZE,
}
# Kinds with a fixed size.
_EXACT: Final = frozenset((TYPE_PING, TYPE_PONG, TYPE_PMTUD_REPLY))
# The most by which message numbers may advance within a train.
_NEAR: Final = 4096
_NUMBERS: Final = 1 << 16

_MOST_SIZES: Final = 4
# After this many failures to find a size in a flow, only one train in 64 is tried.
_PATIENCE: Final = 8
_THEN_ONE_IN: Final = 64
# The most packets of a flow on which other ciphers and hashes are tried.
_MOST_EXPLANATIONS: Final = 3
# The same with --find.
_MOST_FINDINGS: Final = 256
CIPHERS: Final = {algorithm.number: name for name, algorithm in ALGORITHMS.items()}
"""The ciphers of model ``aead``, by number."""
_HASH_SIZES: Final = {16: "md5", 20: "sha1", 28: "sha224", 32: "sha256", 48: "sha384", 64: "sha512"}


class Reason(enum.StrEnum):
    """The reason why a packet was not opened."""

    SEALED = "no key opens it"
    UNREADABLE = "of this key, but another cipher or another version of the protocol"
    CUT = "not captured whole"
    TRAIN = "more than a datagram: the size of those in it stays open"
    NOT_KNET = "in clear, and not a knet packet"
    EMPTY = "empty"


class OpenedPacket(NamedTuple):
    """An opened packet.

    Attributes:
        packet: The packet.
        key: The name of its key, None for a packet in clear.
        size: The size of the datagram, in bytes.
        cut: True if it was not captured completely.
        envelope: The header of an envelope of model ``aead``, None for others.
    """

    packet: Packet
    key: str | None
    size: int
    cut: bool = False
    envelope: EnvelopeHeader | None = None


class UnopenedPacket(NamedTuple):
    """A packet that was not opened, with its size in bytes."""

    reason: Reason
    size: int


Piece = OpenedPacket | UnopenedPacket


class FlowMemory:
    """The state of a flow for opening its packets and explaining failures.

    Attributes:
        hints: The options that would open packets.
        hash_alone: The hash of packets that seem to be authenticated only, with a key that was not
            given; None for none.
        aead: Unopened packets that seem to be of model ``aead``, by cipher.
    """

    def __init__(self) -> None:
        self.hints: dict[str, None] = {}
        self.hash_alone: str | None = None
        self.aead: Counter[str] = Counter()
        self.sizes: list[int] = []
        self.failures = 0
        self.explained = 0

    def remember_size(self, size: int) -> None:
        """Remember the size of a train's datagrams, since the next train may have the same."""
        if size in self.sizes:
            self.sizes.remove(size)
        self.sizes.insert(0, size)
        del self.sizes[_MOST_SIZES:]


class Opener:
    """Opens datagrams.

    Args:
        keys: The keys; the one that opened the last packet is tried first.
        find: True to try each key with all ciphers and hashes on packets that it does not open.
    """

    def __init__(self, keys: Sequence[OpeningKey], *, find: bool = False) -> None:
        self._keys = list(keys)
        self._find = find

    def open_untrusted(self, payload: bytes, size: int, memory: FlowMemory) -> list[Piece]:
        """Open a datagram of ``size`` bytes, of which ``payload`` was captured.

        Returns:
            The packets, several for a train.
        """
        if not size:
            return [UnopenedPacket(Reason.EMPTY, 0)]
        if len(payload) == size and (piece := self._open_sealed(payload)) is not None:
            return [piece]
        if (cut := self._find_sealed_size(payload, size, memory)) is not None:
            memory.remember_size(cut)
            return [
                self._open_sealed(part) or UnopenedPacket(_why(part, whole), whole)
                for part, whole in _parts(payload, size, cut)
            ]
        pieces = _open_clear(payload, size, memory)
        if pieces is not None:
            return pieces
        if self._find and (piece := self._find_use(payload, size, memory)) is not None:
            return [piece]
        self._explain(payload, size, memory)
        if len(payload) < size:
            return [UnopenedPacket(Reason.CUT, size)]
        if any(key.is_hash_right_untrusted(payload) for key in self._keys):
            return [UnopenedPacket(Reason.UNREADABLE, size)]
        header = read_header_untrusted(payload)
        if header is not None and header.cipher in CIPHERS:
            memory.aead[CIPHERS[header.cipher]] += 1
        clear = _is_header(payload) and memory.hash_alone is None
        return [UnopenedPacket(Reason.NOT_KNET if clear else Reason.SEALED, size)]

    def _open_sealed(self, datagram: bytes) -> OpenedPacket | None:
        for i, key in enumerate(self._keys):
            packet = key.open_untrusted(datagram)
            if packet is not None:
                if i:
                    self._keys.insert(0, self._keys.pop(i))
                header = read_header_untrusted(datagram) if isinstance(key, AeadKey) else None
                return OpenedPacket(packet, key.name, len(datagram), envelope=header)
        return None

    def _find_sealed_size(self, payload: bytes, size: int, memory: FlowMemory) -> int | None:
        """Return the size of the datagrams in a train, None if no sealed one is found.

        The size is found by the first datagram, which is complete even if the rest is cut off.
        """
        if not self._keys or size <= min(key.hash_size for key in self._keys):
            return None
        for known in memory.sizes:
            if known < len(payload) and self._open_sealed(payload[:known]) is not None:
                return known
            # If the first datagram is damaged, the second one may confirm the size.
            second = payload[known : known * 2]
            if len(second) == known and self._open_sealed(second) is not None:
                return known
        if memory.failures >= _PATIENCE and memory.failures % _THEN_ONE_IN:
            memory.failures += 1
            return None
        for key in self._keys:
            found = key.find_size_untrusted(payload)
            if found is not None and found < size and key.open_untrusted(payload[:found]):
                memory.failures = 0
                return found
        memory.failures += 1
        return None

    def _find_use(self, payload: bytes, size: int, memory: FlowMemory) -> OpenedPacket | None:
        """Try all keys with all ciphers and hashes, and keep the one that opens the packet."""
        if len(payload) < size or memory.explained >= _MOST_FINDINGS:
            return None
        memory.explained += 1
        for key in self._keys:
            use = key.find_use_untrusted(payload)
            if use is not None:
                self._keys.insert(0, key.with_use(use))
                return self._open_sealed(payload)
        return None

    def _explain(self, payload: bytes, size: int, memory: FlowMemory) -> None:
        """Add a hint if a key would open the packet with another cipher or hash."""
        if len(payload) < size or memory.explained >= _MOST_EXPLANATIONS:
            return
        memory.explained += 1
        for key in self._keys:
            hint = key.explain_untrusted(payload)
            if hint is not None:
                memory.hints[hint] = None


def _why(part: bytes, whole: int) -> Reason:
    return Reason.CUT if len(part) < whole else Reason.SEALED


def _parts(payload: bytes, size: int, step: int) -> Iterator[tuple[bytes, int]]:
    """Yield the captured bytes of each datagram of a train, and its size on the wire."""
    for start in range(0, size, step):
        yield payload[start : start + step], min(step, size - start)


def _open_clear(payload: bytes, size: int, memory: FlowMemory) -> list[Piece] | None:
    """Return the packets in a datagram in clear, None if it is not a knet packet in clear."""
    if not _is_header(payload):
        return None
    sizes = _find_clear_sizes(payload, size)
    if len(sizes) > 1:
        return [UnopenedPacket(Reason.TRAIN, size)]
    if not sizes:
        kind = payload[1]
        if kind in _EXACT and size != _SMALLEST[kind]:
            # The bytes after such a packet are the hash of an envelope without encryption.
            memory.hash_alone = _HASH_SIZES.get(size - _SMALLEST[kind], memory.hash_alone)
            return None
    if memory.hash_alone is not None and payload[1] not in _EXACT:
        return None
    pieces: list[Piece] = []
    for part, whole in _parts(payload, size, sizes[0] if sizes else size):
        try:
            packet = decode_untrusted(part)
        except PacketError:
            reason = Reason.NOT_KNET if len(part) == whole else Reason.CUT
            pieces.append(UnopenedPacket(reason, whole))
        else:
            pieces.append(OpenedPacket(packet, None, whole, len(part) < whole))
    # If not even the first part is a packet, the datagram may be sealed.
    return pieces if isinstance(pieces[0], OpenedPacket) else None


def _is_header(packet: bytes) -> bool:
    """Return whether a packet in clear begins here, by the constant fields of its header."""
    if len(packet) < MIN_PACKET_SIZE or packet[0] != VERSION or packet[1] not in type_name:
        return False
    if packet[4] > 1 or packet[5]:
        return False
    return packet[1] != TYPE_DATA or len(packet) <= 10 or (packet[9] == 0 and packet[10] <= 1)


def _find_clear_sizes(payload: bytes, size: int) -> list[int]:
    """Return the possible sizes of the datagrams of a train in clear, none if it is not a train.

    All packets of a host begin with the same bytes. Each place where they occur again is tried as
    the size: packets have to begin at all its multiples, with increasing numbers. Multiples of a
    size that fits are not tried.
    """
    smallest = _SMALLEST.get(payload[1])
    if smallest is None or size <= smallest:
        return []
    if payload[1] in _EXACT:
        return [smallest] if _is_train(payload, size, smallest) else []
    found: list[int] = []
    start = payload[:1]
    place = payload.find(start, smallest)
    while place >= 0:
        if (
            payload[place + 2 : place + 6] == payload[2:6]
            and not (found and place % found[0] == 0)
            and _is_train(payload, size, place)
        ):
            found.append(place)
            if len(found) > 1:
                break
        place = payload.find(start, place + 1)
    return found


def _is_train(payload: bytes, size: int, step: int) -> bool:
    newest: Data | None = None
    for part, whole in _parts(payload, size, step):
        if not part:
            break
        if not _is_header(part) or part[2:6] != payload[2:6]:
            return False
        try:
            packet = decode_untrusted(part)
        except PacketError:
            # The last datagram may be cut off.
            return len(part) < whole
        if isinstance(packet, Data):
            if newest is not None and not _follows(packet, newest):
                return False
            newest = packet
        elif whole != _SMALLEST.get(part[1]):
            return False
    return True


def _follows(packet: Data, before: Data) -> bool:
    ahead = (packet.seq - before.seq) % _NUMBERS
    if ahead:
        return ahead < _NEAR
    return packet.frag_num == before.frag_num and packet.frag_seq > before.frag_seq
