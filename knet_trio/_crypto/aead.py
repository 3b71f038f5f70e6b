"""The envelope of authenticated encryption (AEAD), which libknet does not have: docs/aead.md.

::

    | version | cipher | sender | to | life | check | counter | ciphertext | tag |
        1         1        2      2     9       3        6                    16

The 24 bytes before the ciphertext are the associated data. A key is derived for each life of each
sender, and for each 2**22 packets of a life (an epoch). The nonce is the counter, masked with bytes
that are derived with the key. ``check`` shows whether a key is the right one before the key is
derived.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from knet_trio._crypto.envelope import make_cipher, show_name
from knet_trio.abc import Cipher
from knet_trio.config import CryptoConfig, is_aead
from knet_trio.errors import DropCause, InvalidArgumentError, PacketError

VERSION: Final = 0x61
"""The first byte of an envelope."""
HEADER_SIZE: Final = 24
"""The bytes before the ciphertext."""
TAG_SIZE: Final = 16
OVERHEAD: Final = HEADER_SIZE + TAG_SIZE
"""The bytes that an envelope adds to a packet of any size."""
EPOCH_BITS: Final = 22
"""The lowest bits of the counter, in which the packets sealed with one key differ."""
_EPOCH_MASK: Final = (1 << EPOCH_BITS) - 1
EVERYBODY: Final = 0x80
"""The bit of the cipher's number that marks a packet for every host."""

PREFIX_SIZE: Final = 18
"""The bytes before the counter: the same for all packets of one key to one host."""
COUNTER_SIZE: Final = 6
_WRONG_TAG: Final = "the tag is not right"

_SALT: Final = b"knet-trio aead 1"
_HEADER: Final = Struct(">BBHH9s3sHI")
_PREFIX: Final = Struct(">BBHH9s3s")
_CONTEXT: Final = Struct(">BBH9sI")
_CHECK_SIZE: Final = 3
_KEY_SIZE: Final = 32
_MASK_SIZE: Final = 12
_DIGEST_SIZE: Final = 32


class Aead(Protocol):
    """An AEAD cipher of the cryptography package."""

    def __init__(self, key: bytes) -> None: ...

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Return the ciphertext, followed by the tag."""
        ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Return the plaintext, or raise InvalidTag."""
        ...


class Algorithm(NamedTuple):
    """A cipher.

    Attributes:
        number: The number on the wire.
        make: The class that seals and opens.
    """

    number: int
    make: type[Aead]


ALGORITHMS: Final[dict[str, Algorithm]] = {
    "aes256-gcm": Algorithm(1, AESGCM),
    "chacha20-poly1305": Algorithm(2, ChaCha20Poly1305),
    "aes256-gcm-siv": Algorithm(3, AESGCMSIV),
}
"""The ciphers, by name."""

MODEL: Final = "aead"
"""The name of the crypto model that has these ciphers."""
AEAD_NAMES: Final = tuple(ALGORITHMS)


def find_algorithm(config: CryptoConfig) -> Algorithm | None:
    """Return the cipher that ``config`` names; None if its model is not ``aead``.

    Raises:
        InvalidArgumentError: The cipher is not known, or ``config`` also names a hash.
    """
    if not is_aead(config.model):
        return None
    algorithm = ALGORITHMS.get(config.cipher.lower())
    if algorithm is None:
        raise InvalidArgumentError(
            f"model {MODEL!r} has no cipher {show_name(config.cipher)};"
            f" use one of {', '.join(ALGORITHMS)}"
        )
    if config.hash.lower() != "none":
        raise InvalidArgumentError(
            f"model {MODEL!r} has no hash {show_name(config.hash)}: leave hash out, since its"
            " ciphers authenticate without one"
        )
    return algorithm


def check_names(config: CryptoConfig) -> None:
    """Raise InvalidArgumentError if there is no envelope of that model, cipher and hash."""
    if find_algorithm(config) is None:
        make_cipher(config)


def is_available(algorithm: Algorithm) -> bool:
    """Return whether the OpenSSL of this machine has a cipher: before 3.2 it has no AES-GCM-SIV."""
    try:
        algorithm.make(bytes(_KEY_SIZE))
    except UnsupportedAlgorithm:
        return False
    return True


class EnvelopeHeader(NamedTuple):
    """The header of an envelope, not yet authenticated.

    Attributes:
        cipher: The number of the cipher.
        sender: The id of the host that claims to have sealed it.
        to: The id of the host that it is for; None for every host.
        life: The life of the sender, 9 bytes.
        check: 3 bytes that show whether a key is the right one.
        counter: The counter of the packet in the life, from 1.
    """

    cipher: int
    sender: int
    to: int | None
    life: bytes
    check: bytes
    counter: int

    @property
    def epoch(self) -> int:
        """The epoch of the counter: the number of the key in the life."""
        return self.counter >> EPOCH_BITS


def read_header_untrusted(envelope: bytes) -> EnvelopeHeader | None:
    """Return the header of an envelope; None if the bytes cannot be an envelope."""
    if len(envelope) <= OVERHEAD or envelope[0] != VERSION:
        return None
    _, cipher, sender, to, life, check, high, low = _HEADER.unpack_from(envelope)
    counter = high << 32 | low
    if not counter or (cipher & EVERYBODY and to):
        return None
    is_for_all = bool(cipher & EVERYBODY)
    return EnvelopeHeader(
        cipher & ~EVERYBODY, sender, None if is_for_all else to, life, check, counter
    )


class PacketKey:
    """The key of one epoch of a life.

    Args:
        aead: The cipher with the key.
        mask: The 12 bytes that are XORed with the counter to make the nonce.
        check: The 3 bytes in the headers of its packets.

    Attributes:
        check: The 3 bytes in the headers of its packets.
    """

    __slots__ = ("_aead", "_mask", "check")

    def __init__(self, aead: Aead, mask: bytes, check: bytes) -> None:
        self._aead = aead
        self._mask = int.from_bytes(mask, "big")
        self.check: bytes = check

    def seal_many(
        self, counters: Sequence[int], prefix: bytes, packets: Sequence[bytes]
    ) -> list[bytes]:
        """Return the envelopes of ``packets``, of no more than there are counters.

        Args:
            counters: The counters of the packets, all in the epoch of the key.
            prefix: The bytes before the counter.
            packets: The packets.
        """
        encrypt, mask = self._aead.encrypt, self._mask
        sealed: list[bytes] = []
        for counter, packet in zip(counters, packets, strict=False):
            header = prefix + counter.to_bytes(COUNTER_SIZE, "big")
            nonce = (mask ^ counter).to_bytes(_MASK_SIZE, "big")
            sealed.append(header + encrypt(nonce, packet, header))
        return sealed

    def open_train_untrusted(self, counters: Sequence[int], train: bytes, size: int) -> list[bytes]:
        """Return the packets of a train of envelopes.

        Args:
            counters: The counter of each envelope.
            train: The envelopes, joined.
            size: The size of each envelope in bytes; the last may be shorter.

        Raises:
            PacketError: An envelope was not sealed with this key.
        """
        decrypt, mask = self._aead.decrypt, self._mask
        starts = range(0, len(train), size)
        try:
            return [
                decrypt(
                    (mask ^ counter).to_bytes(_MASK_SIZE, "big"),
                    train[start + HEADER_SIZE : start + size],
                    train[start : start + HEADER_SIZE],
                )
                for counter, start in zip(counters, starts, strict=True)
            ]
        except InvalidTag:
            raise PacketError(DropCause.NOT_AUTHENTIC, _WRONG_TAG) from None

    def open_untrusted(self, counter: int, envelope: bytes) -> bytes:
        """Return the packet in ``envelope``.

        Raises:
            PacketError: The envelope was not sealed with this key.
        """
        nonce = (self._mask ^ counter).to_bytes(_MASK_SIZE, "big")
        try:
            return self._aead.decrypt(nonce, envelope[HEADER_SIZE:], envelope[:HEADER_SIZE])
        except InvalidTag:
            raise PacketError(DropCause.NOT_AUTHENTIC, _WRONG_TAG) from None


class KeySchedule:
    """The derivation of all hosts' keys from a shared key (HKDF with SHA-256, RFC 5869).

    Args:
        key: The shared key.
        algorithm: The cipher.

    Raises:
        InvalidArgumentError: This machine does not have the cipher.
    """

    __slots__ = ("_algorithm", "_root")

    def __init__(self, key: bytes, algorithm: Algorithm) -> None:
        if not is_available(algorithm):
            name = next(name for name, one in ALGORITHMS.items() if one is algorithm)
            raise InvalidArgumentError(
                f"the OpenSSL of this machine has no cipher {name!r}: use another one of model"
                f" {MODEL!r}, or a later OpenSSL"
            )
        self._algorithm = algorithm
        self._root = hmac.digest(_SALT, key, "sha256")

    @property
    def number(self) -> int:
        """The number of the cipher on the wire."""
        return self._algorithm.number

    def fits_untrusted(self, header: EnvelopeHeader) -> bool:
        """Return whether a header fits a key of this schedule, by its cipher and check bytes."""
        if header.cipher != self._algorithm.number:
            return False
        check = self.derive_check(header.sender, header.life, header.epoch)
        return hmac.compare_digest(check, header.check)

    def derive_check(self, sender: int, life: bytes, epoch: int) -> bytes:
        """Return the check bytes of an epoch's key."""
        return self._expand(b"check", sender, life, epoch, _CHECK_SIZE)

    def derive(self, sender: int, life: bytes, epoch: int) -> PacketKey:
        """Return the key of one epoch of a life of the host ``sender``."""
        material = self._expand(b"key", sender, life, epoch, _KEY_SIZE + _MASK_SIZE)
        aead = self._algorithm.make(material[:_KEY_SIZE])
        check = self.derive_check(sender, life, epoch)
        return PacketKey(aead, material[_KEY_SIZE:], check)

    def _expand(self, label: bytes, sender: int, life: bytes, epoch: int, size: int) -> bytes:
        context = _CONTEXT.pack(VERSION, self._algorithm.number, sender, life, epoch)
        if size <= _DIGEST_SIZE:
            # The first block of HKDF-Expand is enough, and faster computed directly.
            return hmac.digest(self._root, label + context + b"\x01", "sha256")[:size]
        return HKDFExpand(SHA256(), size, label + context).derive(self._root)


def pack_prefix(number: int, sender: int, to: int | None, life: bytes, check: bytes) -> bytes:
    """Return the bytes of a header before the counter.

    Args:
        number: The number of the cipher.
        sender: The id of the sending host.
        to: The id of the host that the packet is for; None for every host.
        life: The life of the sender.
        check: The check bytes of the key.
    """
    cipher = number | EVERYBODY if to is None else number
    return _PREFIX.pack(VERSION, cipher, sender, to or 0, life, check)


class PacketSealer(Cipher):
    """The envelope of model ``aead`` around one host's packets, with one shared key.

    Args:
        schedule: The keys.
        sender: The id of the host.
        life: The life and counter of the host.

    Attributes:
        schedule: The keys.
    """

    salt_size = HEADER_SIZE
    hash_size = TAG_SIZE
    block_size = 0
    addresses = True

    def __init__(self, schedule: KeySchedule, sender: int, life: LifeCounter) -> None:
        self.schedule = schedule
        self._sender = sender
        self._life = life
        self._name: bytes = b""
        self._epoch = 0
        self._key: PacketKey | None = None
        # The bytes before the counter, by the host that packets are for.
        self._prefixes: dict[int | None, bytes] = {}

    def seal(self, packets: Sequence[bytes]) -> list[bytes]:
        """Return the envelopes of ``packets``, for every host.

        Raises:
            OSError: The system has no random bytes for a new life.
        """
        return self.seal_to(packets, None)

    def seal_to(self, packets: Sequence[bytes], to: int | None) -> list[bytes]:
        """Return the envelopes of ``packets``.

        Args:
            packets: The packets.
            to: The id of the host that they are for; None for every host.

        Raises:
            OSError: The system has no random bytes for a new life.
        """
        if not packets:
            return []
        counters = self._life.take(len(packets))
        if len(counters) == len(packets) and counters[-1] & _EPOCH_MASK >= len(counters) - 1:
            key, prefix = self._find_key(counters[0], to)
            return key.seal_many(counters, prefix, packets)
        # Some of them take another key, or another life.
        sealed: list[bytes] = []
        while True:
            for counter in counters:
                key, prefix = self._find_key(counter, to)
                sealed += key.seal_many((counter,), prefix, packets[len(sealed) :][:1])
            if len(sealed) == len(packets):
                return sealed
            counters = self._life.take(len(packets) - len(sealed))

    def open_untrusted(self, envelope: bytes) -> bytes:
        """Return the packet in ``envelope``, of any sender and for any host.

        A receiver has more to check, and keeps its keys: see ``KeyCache``.

        Raises:
            PacketError: It is not an envelope, or was sealed with another key.
        """
        header = read_header_untrusted(envelope)
        if header is not None and self.schedule.fits_untrusted(header):
            key = self.schedule.derive(header.sender, header.life, header.epoch)
            return key.open_untrusted(header.counter, envelope)
        raise PacketError(
            DropCause.NOT_AUTHENTIC, "it is not an envelope of model 'aead', or has another key"
        )

    def _find_key(self, counter: int, to: int | None) -> tuple[PacketKey, bytes]:
        """Return the key for a packet of the present life, and the bytes before its counter."""
        key, name, epoch = self._key, self._life.name, counter >> EPOCH_BITS
        if key is None or epoch != self._epoch or name != self._name:
            key = self._key = self.schedule.derive(self._sender, name, epoch)
            self._prefixes.clear()
            self._name, self._epoch = name, epoch
        prefix = self._prefixes.get(to)
        if prefix is None:
            number = self.schedule.number
            prefix = pack_prefix(number, self._sender, to, name, key.check)
            self._prefixes[to] = prefix
        return key, prefix


class LifeCounter(Protocol):
    """The life of a handle, as a sealer needs it. ``Life`` of ``life.py`` is one."""

    name: bytes

    def take(self, count: int) -> range:
        """Return the next counters of the life ``name``: at least one, at most ``count``."""
        ...


_OTHERS: Final = 4
_EPOCHS: Final = 2


class KeyCache:
    """The keys that open the packets of one host.

    The keys of the newest two epochs of the host's confirmed life are kept, and four others.

    Args:
        schedule: The derivation of the keys.
        sender: The id of the host.
    """

    __slots__ = ("_life", "_others", "_own", "_schedule", "_sender")

    def __init__(self, schedule: KeySchedule, sender: int) -> None:
        self._schedule = schedule
        self._sender = sender
        self._life: bytes | None = None
        self._own: dict[int, PacketKey] = {}
        # The key that was used last is at the end.
        self._others: dict[tuple[bytes, int], PacketKey] = {}

    def fits_untrusted(self, header: EnvelopeHeader) -> bool:
        """Return whether the header of an envelope fits a key of the host."""
        key = self._kept(header)
        if key is not None:
            return hmac.compare_digest(key.check, header.check)
        return header.sender == self._sender and self._schedule.fits_untrusted(header)

    def find(self, header: EnvelopeHeader) -> PacketKey:
        """Return the key for an envelope whose header fits.

        One that is not kept is derived, which takes ten times as long as to open a small packet.
        """
        key = self._kept(header)
        if key is None:
            key = self._schedule.derive(self._sender, header.life, header.epoch)
        elif header.life == self._life and header.epoch in self._own:
            return key
        name = header.life, header.epoch
        self._others.pop(name, None)
        self._others[name] = key
        if len(self._others) > _OTHERS:
            del self._others[next(iter(self._others))]
        return key

    def _kept(self, header: EnvelopeHeader) -> PacketKey | None:
        life, epoch = header.life, header.epoch
        key = self._own.get(epoch) if life == self._life else None
        return self._others.get((life, epoch)) if key is None else key

    def opened(self, header: EnvelopeHeader) -> None:
        """Note that an envelope of the confirmed life was opened; keep its key with the newest."""
        if header.life != self._life:
            return
        key = self._others.pop((header.life, header.epoch), None)
        if key is None:
            return
        self._own[header.epoch] = key
        if len(self._own) > _EPOCHS:
            del self._own[min(self._own)]

    def confirm(self, life: bytes) -> None:
        """Keep the keys of ``life``, which is confirmed now, instead of those of another life."""
        if life != self._life:
            self._life = life
            self._own.clear()
