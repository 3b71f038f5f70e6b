"""The knet packets in a datagram: with one of the keys, or in clear, or uncut in a train.

A virtual interface carries what one system call sent as one frame of up to 64 kB, and the kernel
joins what arrives in the same way. Then a "datagram" is many of equal size, the last maybe smaller,
and nothing in the frame tells the size. It is found by trial: with a key, the size at whose end a
hash is right; in clear, the one at whose multiples packets begin. Messages that have packets in
them may make several sizes fit, and then it stays open.
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

# Trains end with a datagram that is not larger than the others. One in clear has at least a byte of
# data.
_SMALLEST: Final = {
    TYPE_DATA: DATA_HEADER_SIZE + 1,
    TYPE_PING: PING_SIZE,
    TYPE_PONG: PING_SIZE,
    TYPE_PMTUD_REPLY: PMTUD_HEADER_SIZE,
}
# These have one size.
_EXACT: Final = frozenset((TYPE_PING, TYPE_PONG, TYPE_PMTUD_REPLY))
# How far ahead the number of the next message of a host may be, in one train.
_NEAR: Final = 4096
_NUMBERS: Final = 1 << 16

_MOST_SIZES: Final = 4
# How often all sizes are tried in vain on a flow, before it is done for one train in so many.
_PATIENCE: Final = 8
_THEN_ONE_IN: Final = 64
# How often other ciphers and hashes are tried on a flow.
_MOST_EXPLANATIONS: Final = 3
# And of all keys, to find the one that is right.
_MOST_FINDINGS: Final = 256
CIPHERS: Final = {algorithm.number: name for name, algorithm in ALGORITHMS.items()}
"""The ciphers of model ``aead`` by their numbers."""
_HASH_SIZES: Final = {16: "md5", 20: "sha1", 28: "sha224", 32: "sha256", 48: "sha384", 64: "sha512"}


class Reason(enum.StrEnum):
    """Why a packet was not opened."""

    SEALED = "no key opens it"
    UNREADABLE = "of this key, but another cipher or another version of the protocol"
    CUT = "not captured whole"
    TRAIN = "more than a datagram: the size of those in it stays open"
    NOT_KNET = "in clear, and not a knet packet"
    EMPTY = "empty"


class OpenedPacket(NamedTuple):
    """A packet, with the name of its key (None: in clear) and the bytes of its datagram.

    ``cut`` says that not all of it was captured. ``envelope`` is what an envelope of model ``aead``
    says of itself.
    """

    packet: Packet
    key: str | None
    size: int
    cut: bool = False
    envelope: EnvelopeHeader | None = None


class UnopenedPacket(NamedTuple):
    """What was not opened: how many bytes, and why."""

    reason: Reason
    size: int


Piece = OpenedPacket | UnopenedPacket


class FlowMemory:
    """What is known of a flow that helps to open its packets, and to say why they do not open.

    Attributes:
        hints: What would open it.
        hash_alone: Which hash its packets seem to have, whose key was not given; None for none.
        aead: How many that were not opened seem to be of model ``aead``, by the cipher.
    """

    def __init__(self) -> None:
        self.hints: dict[str, None] = {}
        self.hash_alone: str | None = None
        self.aead: Counter[str] = Counter()
        self.sizes: list[int] = []
        self.in_vain = 0
        self.explained = 0

    def remember_size(self, size: int) -> None:
        """Keep the size of a train's datagrams: the next train may have the same."""
        if size in self.sizes:
            self.sizes.remove(size)
        self.sizes.insert(0, size)
        del self.sizes[_MOST_SIZES:]


class Opener:
    """Opens datagrams.

    Args:
        keys: Tried in the order in which they opened something last.
        find: Whether each is tried with all ciphers and hashes on what it does not open.
    """

    def __init__(self, keys: Sequence[OpeningKey], *, find: bool = False) -> None:
        self._keys = list(keys)
        self._find = find

    def open_untrusted(self, payload: bytes, size: int, memory: FlowMemory) -> list[Piece]:
        """Return what is in a datagram of ``size`` bytes, of which ``payload`` was captured.

        Returns:
            Several pieces if it was a train.
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
        """Return the size of the datagrams in a train, None if there is no sealed one to be found.

        The first one, which decides it, is whole even where the capture has cut the rest off.
        """
        if not self._keys or size <= min(key.hash_size for key in self._keys):
            return None
        for known in memory.sizes:
            if known < len(payload) and self._open_sealed(payload[:known]) is not None:
                return known
            # If the first one is damaged, the second one may show that the size is right.
            second = payload[known : known * 2]
            if len(second) == known and self._open_sealed(second) is not None:
                return known
        if memory.in_vain >= _PATIENCE and memory.in_vain % _THEN_ONE_IN:
            memory.in_vain += 1
            return None
        for key in self._keys:
            found = key.find_size_untrusted(payload)
            if found is not None and found < size and key.open_untrusted(payload[:found]):
                memory.in_vain = 0
                return found
        memory.in_vain += 1
        return None

    def _find_use(self, payload: bytes, size: int, memory: FlowMemory) -> OpenedPacket | None:
        """Try all keys with all ciphers and hashes; what opens it is tried from then on."""
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
        """Find out whether a key would open it with another cipher or hash."""
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
    """Yield the datagrams of a train, as far as they were captured, and the bytes that each had."""
    for start in range(0, size, step):
        yield payload[start : start + step], min(step, size - start)


def _open_clear(payload: bytes, size: int, memory: FlowMemory) -> list[Piece] | None:
    """Return the packets in what is not sealed, None if it is no knet packet in clear."""
    if not _is_header(payload):
        return None
    sizes = _find_clear_sizes(payload, size)
    if len(sizes) > 1:
        return [UnopenedPacket(Reason.TRAIN, size)]
    if not sizes:
        kind = payload[1]
        if kind in _EXACT and size != _SMALLEST[kind]:
            # What is behind such a packet is the hash of an envelope that encrypts nothing.
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
    # Bytes of which not even the beginning is a packet may be sealed.
    return pieces if isinstance(pieces[0], OpenedPacket) else None


def _is_header(packet: bytes) -> bool:
    """Return whether a packet in clear begins here, with all that is always the same."""
    if len(packet) < MIN_PACKET_SIZE or packet[0] != VERSION or packet[1] not in type_name:
        return False
    if packet[4] > 1 or packet[5]:
        return False
    return packet[1] != TYPE_DATA or len(packet) <= 10 or (packet[9] == 0 and packet[10] <= 1)


def _find_clear_sizes(payload: bytes, size: int) -> list[int]:
    """Return the sizes that the datagrams of a train in clear may have; none: it is no train.

    Packets of one host begin alike. Where that happens again a size is tried: packets have to begin
    at all its multiples, and to go on from one another. Where one size fits its multiples often do
    too, and are none of their own.
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
            # The last one may not have been captured as far as that.
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
