"""What the network saw of each message, read from the packets by the protocol's description alone.

Nothing of the package takes part in that, but the algorithms of compression.
"""

from __future__ import annotations

import hmac
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, NamedTuple

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from knet_trio import CryptoConfig
from knet_trio._compress import Decompressors
from knet_trio.address import Address
from knet_trio.testing import Fate, PacketRecord
from tests.simulation.messages import MAX_SIZE, Name, read_name

_DATA_HEADER: Final = struct.Struct(">BBHBBHBBBBBb")
_PING: Final = struct.Struct(">BBHBBB16sHB")
_TYPE_DATA: Final = 0x00
_TYPE_PING: Final = 0x81
_TYPE_PONG: Final = 0x82
_SALT: Final = 16
_AEAD: Final = "aead"
_AEADS: Final[dict[str, tuple[int, type[AESGCM | ChaCha20Poly1305 | AESGCMSIV]]]] = {
    "aes256-gcm": (1, AESGCM),
    "chacha20-poly1305": (2, ChaCha20Poly1305),
    "aes256-gcm-siv": (3, AESGCMSIV),
}
_decompressors: Final = Decompressors()


class Sender(NamedTuple):
    """A host in one of its lives."""

    host: int
    life: int


class Seal(NamedTuple):
    """Under which key of model ``aead`` a packet was sealed, in which life, and its counter."""

    key: bytes
    life: bytes
    counter: int


class Crossing(NamedTuple):
    """One copy of one fragment, on its way to a host in its life (0: it had none).

    ``taken``, the time at which a socket of its sender took it: then it may have had to wait.
    ``again``: somebody had recorded it, and played it back.
    """

    to: Sender
    link: int
    fragment: int
    taken: float
    ended: float
    fate: Fate
    seal: Seal | None = None
    again: bool = False


class Control(NamedTuple):
    """A control packet that a socket got; of a ping the number it tells.

    Of a pong, when the ping was taken that was sent with its stamp to where it came from.
    """

    link: int
    asked: float | None
    taken: float
    ended: float
    number: int | None
    timed: bool
    seal: Seal | None = None


@attrs.define
class Track:
    """All that was seen of one message under one number."""

    sender: Sender
    number: int
    compress: int
    fragments: list[bytes | None]
    crossings: list[Crossing] = attrs.field(factory=list[Crossing])

    def arrived(self, to: Sender) -> list[Crossing]:
        """What the sockets of a host in its life got."""
        return [c for c in self.crossings if c.to == to and c.fate is Fate.DELIVERED]

    def is_whole(self, crossings: Iterable[Crossing]) -> bool:
        """Whether every fragment is among ``crossings``."""
        return {crossing.fragment for crossing in crossings} == set(range(len(self.fragments)))

    def name(self) -> Name | None:
        """Which message it is, None if too little of it was seen."""
        data = b"".join(fragment for fragment in self.fragments if fragment is not None)
        if self.compress:
            if None in self.fragments:
                return None
            compressor = _decompressors.find_untrusted(self.compress)
            data = compressor.decompress_untrusted(data, MAX_SIZE)
        elif self.fragments[0] is None:
            return None
        return read_name(data)


class _Control(NamedTuple):
    node: int
    key: bytes
    is_pong: bool
    stamp: bytes
    number: int | None
    timed: bool
    seal: Seal | None


class _Data(NamedTuple):
    node: int
    key: bytes
    seal: Seal | None
    seq: int
    compress: int
    fragments: int
    fragment: int
    payload: bytes


Locate = Callable[[str, float], tuple[int, int, int] | None]
"""Host, life (0 for none) and link at an address at a time; None where there is nobody."""


class Witness:
    """Takes note of every packet. ``keys`` are all there ever were."""

    def __init__(self, locate: Locate, keys: list[CryptoConfig], *, records: bool) -> None:
        self.tracks: dict[tuple[Sender, int], Track] = {}
        # By sender and receiver, in the order they came.
        self.controls: dict[tuple[Sender, Sender], list[Control]] = defaultdict(list)
        # Datagrams that sockets of a host in its life got, and those of them that were damaged.
        self.arrived: dict[Sender, int] = {}
        self.damaged: dict[Sender, int] = {}
        # All that was sent, if somebody may want to play it back.
        self.tape: list[PacketRecord] = []
        # Keys that no host has any more.
        self.withdrawn: set[bytes] = set()
        self._locate = locate
        self._keys = keys
        self._records = records
        # When and where to a ping with that stamp was sent.
        self._asked: dict[bytes, tuple[float, Address]] = {}
        # What was seen already: copies are the same bytes.
        self._seen: dict[bytes, _Data | _Control] = {}

    def clear(self) -> None:
        """Forget messages, which are all at their ends; go on counting."""
        self.tracks.clear()
        self.controls.clear()
        self.tape.clear()
        self._asked.clear()
        self._seen.clear()

    def see(self, passage: PacketRecord, *, again: bool = False) -> None:
        """For ``network.trace``, and ``again`` for what is played back."""
        # Not what only another path would carry: who brings it there helps the search for a path
        # MTU to a wrong result, and has recorded nothing old.
        if self._records and not again and passage.fate is not Fate.TOO_BIG:
            self.tape.append(passage)
        data = passage.data
        if data not in self._seen:
            self._seen[data] = self._read(data)
        packet = self._seen[data]
        there = self._locate(passage.destination.host, passage.ended)
        to = Sender(0, 0) if there is None else Sender(there[0], there[1])
        fate = passage.fate
        if fate is Fate.DELIVERED and packet.key in self.withdrawn:
            # It waited somewhere until nobody had its key any more.
            fate = Fate.DAMAGED
        if fate in (Fate.DELIVERED, Fate.DAMAGED):
            self.arrived[to] = self.arrived.get(to, 0) + 1
            self.damaged[to] = self.damaged.get(to, 0) + (fate is Fate.DAMAGED)
        # A program may be gone before what it sent.
        here = self._locate(passage.source.host, passage.taken)
        assert here is not None, passage
        assert here[0] == packet.node, (here, packet.node)
        sender = Sender(here[0], here[1])
        if isinstance(packet, _Control):
            if packet.number is not None and not again:
                self._asked[packet.stamp] = passage.taken, passage.destination
            if fate is Fate.DELIVERED:
                asked = None
                if packet.is_pong and packet.stamp in self._asked:
                    at, place = self._asked[packet.stamp]
                    asked = at if place == passage.source else None
                self.controls[sender, to].append(
                    Control(
                        here[2],
                        asked,
                        passage.taken,
                        passage.ended,
                        packet.number,
                        packet.timed,
                        packet.seal,
                    )
                )
            return
        track = self.tracks.get((sender, packet.seq))
        if track is None:
            track = Track(sender, packet.seq, packet.compress, [None] * packet.fragments)
            self.tracks[sender, packet.seq] = track
        track.fragments[packet.fragment] = packet.payload
        track.crossings.append(
            Crossing(
                to,
                here[2],
                packet.fragment,
                passage.taken,
                passage.ended,
                fate,
                packet.seal,
                again,
            )
        )

    def _read(self, data: bytes) -> _Data | _Control:
        plain, key, seal = data, b"", None
        if self._keys:
            opened = ((_open(config, data), config) for config in self._keys)
            plain, config = next((plain, config) for plain, config in opened if plain is not None)
            key = config.key
            if config.model == _AEAD:
                seal = Seal(key, data[6:15], int.from_bytes(data[18:24], "big"))
        if plain[1] != _TYPE_DATA:
            node = int.from_bytes(plain[2:4], "big")
            if plain[1] == _TYPE_PING:
                *_, stamp, number, timed = _PING.unpack(plain)
                return _Control(node, key, False, stamp, number, bool(timed), seal)
            if plain[1] == _TYPE_PONG:
                *_, stamp, _, _ = _PING.unpack(plain)
                return _Control(node, key, True, stamp, None, False, seal)
            return _Control(node, key, False, b"", None, False, seal)
        _, _, node, _, _, seq, compress, _, _, count, index, _ = _DATA_HEADER.unpack_from(plain)
        payload = plain[_DATA_HEADER.size :]
        return _Data(node, key, seal, seq, compress, count, max(0, index - 1), payload)


def _open(config: CryptoConfig, data: bytes) -> bytes | None:
    """What is in an envelope, None if that key does not open it."""
    if config.model == _AEAD:
        return _open_aead(config, data)
    size = hmac.new(config.key, b"", config.hash).digest_size
    sealed, digest = data[:-size], data[-size:]
    if not hmac.compare_digest(hmac.digest(config.key, sealed, config.hash), digest):
        return None
    if config.cipher == "none":
        return sealed
    salt, text = sealed[:_SALT], sealed[_SALT:]
    bits = {"aes128": 128, "aes192": 192, "aes256": 256, "aes-256-ctr": 256}[config.cipher]
    mode = modes.CTR(salt) if config.cipher.endswith("ctr") else modes.CBC(salt)
    opener = Cipher(algorithms.AES(config.key[: bits // 8]), mode).decryptor()
    plain = opener.update(text) + opener.finalize()
    return plain if config.cipher.endswith("ctr") else plain[: -plain[-1]]


def _open_aead(config: CryptoConfig, data: bytes) -> bytes | None:
    number, make = _AEADS[config.cipher]
    if data[0] != 0x61 or data[1] & 0x7F != number:
        return None
    counter = int.from_bytes(data[18:24], "big")
    context = data[:1] + bytes([number]) + data[2:4] + data[6:15] + struct.pack(">I", counter >> 22)
    key, mask = _derive(config.key, context)
    nonce = (int.from_bytes(mask, "big") ^ counter).to_bytes(12, "big")
    try:
        return make(key).decrypt(nonce, data[24:], data[:24])
    except InvalidTag:
        return None


@lru_cache(maxsize=256)
def _derive(key: bytes, context: bytes) -> tuple[bytes, bytes]:
    """The key and the mask of one epoch of a life."""
    derived = HKDF(SHA256(), 44, b"knet-trio aead 1", b"key" + context).derive(key)
    return derived[:32], derived[32:]
