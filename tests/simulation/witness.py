"""What the network saw of each message, read from the packets by the protocol's description alone.

Nothing of the package takes part in that, but the algorithms of compression.
"""

from __future__ import annotations

import hmac
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import attrs
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

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
_decompressors: Final = Decompressors()


class Sender(NamedTuple):
    """A host in one of its lives."""

    host: int
    life: int


class Crossing(NamedTuple):
    """One copy of one fragment, on its way to a host in its life (0: it had none).

    ``taken``, the time at which a socket of its sender took it: then it may have had to wait.
    """

    to: Sender
    link: int
    fragment: int
    taken: float
    ended: float
    fate: Fate


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


class _Data(NamedTuple):
    node: int
    key: bytes
    seq: int
    compress: int
    fragments: int
    fragment: int
    payload: bytes


Locate = Callable[[str, float], tuple[int, int, int] | None]
"""Host, life (0 for none) and link at an address at a time; None where there is nobody."""


class Witness:
    """Takes note of every packet. ``keys`` are all there ever were."""

    def __init__(self, locate: Locate, keys: list[CryptoConfig]) -> None:
        self.tracks: dict[tuple[Sender, int], Track] = {}
        # By sender and receiver, in the order they came.
        self.controls: dict[tuple[Sender, Sender], list[Control]] = defaultdict(list)
        # Datagrams that sockets of a host in its life got, and those of them that were damaged.
        self.arrived: dict[Sender, int] = {}
        self.damaged: dict[Sender, int] = {}
        # Keys that no host has any more.
        self.withdrawn: set[bytes] = set()
        self._locate = locate
        self._keys = keys
        # When and where to a ping with that stamp was sent.
        self._asked: dict[bytes, tuple[float, Address]] = {}
        # What was seen already: copies are the same bytes.
        self._seen: dict[bytes, _Data | _Control] = {}

    def clear(self) -> None:
        """Forget messages, which are all at their ends; go on counting."""
        self.tracks.clear()
        self.controls.clear()
        self._asked.clear()
        self._seen.clear()

    def see(self, passage: PacketRecord) -> None:
        """For ``network.trace``."""
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
            if packet.number is not None:
                self._asked[packet.stamp] = passage.taken, passage.destination
            if fate is Fate.DELIVERED:
                asked = None
                if packet.is_pong and packet.stamp in self._asked:
                    at, place = self._asked[packet.stamp]
                    asked = at if place == passage.source else None
                self.controls[sender, to].append(
                    Control(
                        here[2], asked, passage.taken, passage.ended, packet.number, packet.timed
                    )
                )
            return
        track = self.tracks.get((sender, packet.seq))
        if track is None:
            track = Track(sender, packet.seq, packet.compress, [None] * packet.fragments)
            self.tracks[sender, packet.seq] = track
        track.fragments[packet.fragment] = packet.payload
        track.crossings.append(
            Crossing(to, here[2], packet.fragment, passage.taken, passage.ended, fate)
        )

    def _read(self, data: bytes) -> _Data | _Control:
        plain, key = data, b""
        if self._keys:
            opened = ((_open(config, data), config.key) for config in self._keys)
            plain, key = next((plain, key) for plain, key in opened if plain is not None)
        if plain[1] != _TYPE_DATA:
            node = int.from_bytes(plain[2:4], "big")
            if plain[1] == _TYPE_PING:
                *_, stamp, number, timed = _PING.unpack(plain)
                return _Control(node, key, False, stamp, number, bool(timed))
            if plain[1] == _TYPE_PONG:
                *_, stamp, _, _ = _PING.unpack(plain)
                return _Control(node, key, True, stamp, None, False)
            return _Control(node, key, False, b"", None, False)
        _, _, node, _, _, seq, compress, _, _, count, index, _ = _DATA_HEADER.unpack_from(plain)
        payload = plain[_DATA_HEADER.size :]
        return _Data(node, key, seq, compress, count, max(0, index - 1), payload)


def _open(config: CryptoConfig, data: bytes) -> bytes | None:
    """What is in an envelope, None if that key does not open it."""
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
