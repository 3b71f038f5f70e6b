"""The envelope of authenticated encryption (AEAD), which only knet_trio has: docs/aead.md.

::

    | version | cipher | sender | to | life | check | counter | ciphertext | tag |
        1         1        2      2     9       3        6                    16

What stands before the ciphertext is authenticated with it. A key is derived for each life of each
sender, and for each 2**22 packets of it (an epoch); the nonce is the counter. ``check`` shows
whether a key is the right one before it is derived.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
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
"""Bytes before the ciphertext."""
TAG_SIZE: Final = 16
OVERHEAD: Final = HEADER_SIZE + TAG_SIZE
"""Bytes that an envelope adds to a packet, whatever its size."""
EPOCH_BITS: Final = 22
"""A key seals the packets whose counters differ in these lowest bits alone."""
_EPOCH_MASK: Final = (1 << EPOCH_BITS) - 1
EVERYBODY: Final = 0x80
"""The bit of the cipher's number that says that a packet is for every host."""

PREFIX_SIZE: Final = 18
"""Bytes before the counter, which are the same for all packets of a key that go to one host."""
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
    """What seals and opens, of the cryptography package."""

    def __init__(self, key: bytes) -> None: ...

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Return the ciphertext and its tag."""
        ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Return the plaintext, or raise InvalidTag."""
        ...


class Algorithm(NamedTuple):
    """A cipher: its number on the wire, and what seals and opens."""

    number: int
    make: type[Aead]


ALGORITHMS: Final[dict[str, Algorithm]] = {
    "aes256-gcm": Algorithm(1, AESGCM),
    "chacha20-poly1305": Algorithm(2, ChaCha20Poly1305),
    "aes256-gcm-siv": Algorithm(3, AESGCMSIV),
}
"""The ciphers by their names."""

MODEL: Final = "aead"
"""The name of the model that has them."""
AEAD_NAMES: Final = tuple(ALGORITHMS)


def find_algorithm(config: CryptoConfig) -> Algorithm | None:
    """Return the cipher that ``config`` names, None if its model is another one.

    Raises:
        InvalidArgumentError: There is no such cipher, or a hash beside it.
    """
    if not is_aead(config.model):
        return None
    algorithm = ALGORITHMS.get(config.cipher.lower())
    if algorithm is None:
        raise InvalidArgumentError(
            f"model {MODEL!r} has no cipher {show_name(config.cipher)};"
            f" it has {', '.join(ALGORITHMS)}"
        )
    if config.hash.lower() != "none":
        raise InvalidArgumentError(
            f"model {MODEL!r} has no hash {show_name(config.hash)}: its ciphers authenticate"
            " themselves, so leave hash out"
        )
    return algorithm


def check_names(config: CryptoConfig) -> None:
    """Raise InvalidArgumentError if there is no envelope of that model, cipher and hash."""
    if find_algorithm(config) is None:
        make_cipher(config)


class EnvelopeHeader(NamedTuple):
    """What an envelope says of itself, which nobody has authenticated yet.

    Attributes:
        cipher: The number of the cipher.
        sender: The host that says it has sealed it.
        to: The host that it is for, None for every host.
        life: The life of the sender, 9 bytes.
        check: 3 bytes by which the right key is known.
        counter: The counter of the packet in that life, from 1.
    """

    cipher: int
    sender: int
    to: int | None
    life: bytes
    check: bytes
    counter: int

    @property
    def epoch(self) -> int:
        """Which key of the life it is sealed with."""
        return self.counter >> EPOCH_BITS


def read_header_untrusted(envelope: bytes) -> EnvelopeHeader | None:
    """Return what an envelope says of itself; None if it cannot be one."""
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

    Attributes:
        check: The 3 bytes by which it is known.
    """

    __slots__ = ("_aead", "_mask", "check")

    def __init__(self, aead: Aead, mask: bytes, check: bytes) -> None:
        self._aead = aead
        self._mask = int.from_bytes(mask, "big")
        self.check: bytes = check

    def seal_many(
        self, counters: Sequence[int], prefix: bytes, packets: Sequence[bytes]
    ) -> list[bytes]:
        """Return the envelopes of as many of ``packets`` as there are counters.

        Args:
            counters: Their counters, all of the epoch of the key.
            prefix: What stands before them.
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
        """Return the packets in envelopes of ``size`` bytes, of which the last may have fewer.

        Raises:
            PacketError: One of them is not what the holder of the key has sealed.
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
            PacketError: It is not what the holder of the key has sealed.
        """
        nonce = (self._mask ^ counter).to_bytes(_MASK_SIZE, "big")
        try:
            return self._aead.decrypt(nonce, envelope[HEADER_SIZE:], envelope[:HEADER_SIZE])
        except InvalidTag:
            raise PacketError(DropCause.NOT_AUTHENTIC, _WRONG_TAG) from None


class KeySchedule:
    """Derives the keys of all lives of all hosts from a shared key (HKDF with SHA-256, RFC 5869).

    Args:
        key: The shared key.
        algorithm: The cipher.
    """

    __slots__ = ("_algorithm", "_root")

    def __init__(self, key: bytes, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        self._root = hmac.digest(_SALT, key, "sha256")

    @property
    def number(self) -> int:
        """The number of the cipher on the wire."""
        return self._algorithm.number

    def fits_untrusted(self, header: EnvelopeHeader) -> bool:
        """Return whether an envelope says that it was sealed with a key of these."""
        if header.cipher != self._algorithm.number:
            return False
        check = self.derive_check(header.sender, header.life, header.epoch)
        return hmac.compare_digest(check, header.check)

    def derive_check(self, sender: int, life: bytes, epoch: int) -> bytes:
        """Return the bytes by which the key of an epoch is known."""
        return self._expand(b"check", sender, life, epoch, _CHECK_SIZE)

    def derive(self, sender: int, life: bytes, epoch: int) -> PacketKey:
        """Return the key of an epoch."""
        material = self._expand(b"key", sender, life, epoch, _KEY_SIZE + _MASK_SIZE)
        aead = self._algorithm.make(material[:_KEY_SIZE])
        check = self.derive_check(sender, life, epoch)
        return PacketKey(aead, material[_KEY_SIZE:], check)

    def _expand(self, label: bytes, sender: int, life: bytes, epoch: int, size: int) -> bytes:
        context = _CONTEXT.pack(VERSION, self._algorithm.number, sender, life, epoch)
        if size <= _DIGEST_SIZE:
            # The first block of HKDF-Expand is all that it takes, and quicker made by hand.
            return hmac.digest(self._root, label + context + b"\x01", "sha256")[:size]
        return HKDFExpand(SHA256(), size, label + context).derive(self._root)


def pack_prefix(number: int, sender: int, to: int | None, life: bytes, check: bytes) -> bytes:
    """Return what stands before the counter; ``to`` is None for every host."""
    cipher = number | EVERYBODY if to is None else number
    return _PREFIX.pack(VERSION, cipher, sender, to or 0, life, check)


class PacketSealer(Cipher):
    """Seals the packets of one host with one shared key.

    Args:
        schedule: The keys.
        sender: The host.
        life: Its life and counter.

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
        # What stands before the counters, by whom packets are for.
        self._prefixes: dict[int | None, bytes] = {}

    def seal(self, packets: Sequence[bytes]) -> list[bytes]:
        """Return the envelopes of ``packets`` for every host.

        Raises:
            OSError: The system has no random bytes for another life.
        """
        return self.seal_to(packets, None)

    def seal_to(self, packets: Sequence[bytes], to: int | None) -> list[bytes]:
        """Return the envelopes of ``packets``, for host ``to``, or None for every host.

        Raises:
            OSError: The system has no random bytes for another life.
        """
        if not packets:
            return []
        counters = self._life.take(len(packets))
        if len(counters) == len(packets) and counters[-1] & _EPOCH_MASK >= len(counters) - 1:
            key, prefix = self._find_key(counters[0], to)
            return key.seal_many(counters, prefix, packets)
        # Another key for some of them, or another life.
        sealed: list[bytes] = []
        while True:
            for counter in counters:
                key, prefix = self._find_key(counter, to)
                sealed += key.seal_many((counter,), prefix, packets[len(sealed) :][:1])
            if len(sealed) == len(packets):
                return sealed
            counters = self._life.take(len(packets) - len(sealed))

    def open_untrusted(self, envelope: bytes) -> bytes:
        """Return the packet in ``envelope``, whoever has sealed it for whichever host.

        Who receives has more to ask: see ``KeyCache``.
        """
        header = read_header_untrusted(envelope)
        if header is not None and self.schedule.fits_untrusted(header):
            key = self.schedule.derive(header.sender, header.life, header.epoch)
            return key.open_untrusted(header.counter, envelope)
        raise PacketError(DropCause.NOT_AUTHENTIC, "it is of another key, or no such envelope")

    def _find_key(self, counter: int, to: int | None) -> tuple[PacketKey, bytes]:
        """Return the key for a packet of this life, and what stands before its counter."""
        key, name, epoch = self._key, self._life.name, counter >> EPOCH_BITS
        if key is None or epoch != self._epoch or name != self._name:
            key = self._key = self.schedule.derive(self._sender, name, epoch)
            self._name, self._epoch = name, epoch
            self._prefixes.clear()
        prefix = self._prefixes.get(to)
        if prefix is None:
            number = self.schedule.number
            prefix = pack_prefix(number, self._sender, to, name, key.check)
            self._prefixes[to] = prefix
        return key, prefix


class LifeCounter(Protocol):
    """The life of a handle, as a sealer sees it: ``Life`` of ``life.py`` is one."""

    name: bytes

    def take(self, count: int) -> range:
        """Return the next counters of the life ``name``: at least one, and at most ``count``."""
        ...


_OTHERS: Final = 4
_EPOCHS: Final = 2


class KeyCache:
    """The keys of one host that packets are opened with.

    Those of the newest two epochs of its confirmed life are kept, and four others.

    Args:
        schedule: Where keys come from.
        sender: The host.
    """

    __slots__ = ("_life", "_others", "_own", "_schedule", "_sender")

    def __init__(self, schedule: KeySchedule, sender: int) -> None:
        self._schedule = schedule
        self._sender = sender
        self._life: bytes | None = None
        self._own: dict[int, PacketKey] = {}
        # Those used last at the end.
        self._others: dict[tuple[bytes, int], PacketKey] = {}

    def find_untrusted(self, header: EnvelopeHeader) -> PacketKey | None:
        """Return the key for an envelope of the host; None if it is of another shared key."""
        epoch = header.epoch
        key = self._own.get(epoch) if header.life == self._life else None
        if key is None:
            key = self._others.pop((header.life, epoch), None)
            if key is not None:
                self._others[header.life, epoch] = key
        if key is not None:
            return key if hmac.compare_digest(key.check, header.check) else None
        if header.sender != self._sender or not self._schedule.fits_untrusted(header):
            return None
        key = self._schedule.derive(self._sender, header.life, epoch)
        self._others[header.life, epoch] = key
        if len(self._others) > _OTHERS:
            del self._others[next(iter(self._others))]
        return key

    def opened(self, header: EnvelopeHeader) -> None:
        """Note that an envelope of the confirmed life was opened, and keep its key at hand."""
        key = self._others.pop((header.life, header.epoch), None)
        if key is None or header.life != self._life:
            return
        self._own[header.epoch] = key
        if len(self._own) > _EPOCHS:
            del self._own[min(self._own)]

    def confirm(self, life: bytes) -> None:
        """Keep the keys of ``life`` at hand from now on."""
        if life != self._life:
            self._life = life
            self._own.clear()
