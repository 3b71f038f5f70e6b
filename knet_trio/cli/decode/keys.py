"""The keys that a capture is opened with."""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from knet_trio._core.onwire import Packet, decode_untrusted
from knet_trio._crypto.aead import (
    AEAD_NAMES,
    MODEL,
    OVERHEAD,
    TAG_SIZE,
    EnvelopeHeader,
    KeySchedule,
    PacketKey,
    find_algorithm,
    read_header_untrusted,
)
from knet_trio._crypto.envelope import NONE, make_cipher
from knet_trio._crypto.trial import find_names_untrusted
from knet_trio.cli.ending import describe_error
from knet_trio.config import MAX_KEY_SIZE, CryptoConfig, is_aead
from knet_trio.errors import InvalidArgumentError, PacketError

# The least bytes in an envelope without padding: the smallest packet.
_LEAST_PLAIN: Final = 7


class UnusableKeyError(Exception):
    """A key cannot be used; the message says which one and why."""


class OpeningKey(ABC):
    """A key with its cipher, hash and model.

    Args:
        name: The name of the key in the output.
        config: The key, cipher, hash and model.
        hash_size: The bytes at the end of an envelope that authenticate it.

    Attributes:
        name: The name of the key with its cipher and hash, for the output.
        hash_size: The bytes at the end of an envelope that authenticate it.

    Raises:
        InvalidArgumentError: The cipher, hash or model is unknown.
    """

    def __init__(self, name: str, config: CryptoConfig, hash_size: int) -> None:
        self._config = config
        self._file = name
        self.name: str = f"{name} ({_describe_use(config)})"
        self.hash_size = hash_size

    @abstractmethod
    def open_untrusted(self, envelope: bytes) -> Packet | None:
        """Return the packet in ``envelope``, None if this key does not open it."""

    @abstractmethod
    def find_size_untrusted(self, train: bytes) -> int | None:
        """Return the size of the first envelope in ``train``, None if it is not found."""

    @abstractmethod
    def is_hash_right_untrusted(self, envelope: bytes) -> bool:
        """Return whether this key authenticates ``envelope``, even if its content is invalid."""

    def find_use_untrusted(self, envelope: bytes) -> CryptoConfig | None:
        """Return the cipher and hash with which this key opens ``envelope``, None for no such."""
        names = find_names_untrusted(self._config.key, envelope)
        if names is None or names.cipher is None:
            return None
        if names.hash == NONE:
            return CryptoConfig(self._config.key, names.cipher, model=MODEL)
        return CryptoConfig(self._config.key, names.cipher, names.hash)

    def explain_untrusted(self, envelope: bytes) -> str | None:
        """Return a hint with which options this key opens ``envelope``, None if it does not."""
        use = self.find_use_untrusted(envelope)
        if use is None:
            return None
        digest = "" if is_aead(use.model) else f" --hash {use.hash}"
        return f"{self._file} opens it with --cipher {use.cipher}{digest}"

    def with_use(self, config: CryptoConfig) -> OpeningKey:
        """Return this key with another cipher, hash and model."""
        return make_opening_key(self._file, config)


class CaptureKey(OpeningKey):
    """A key with a cipher and a hash.

    Args:
        name: The name of the key in the output.
        config: The key, cipher and hash.

    Raises:
        InvalidArgumentError: The cipher or hash is unknown.
    """

    def __init__(self, name: str, config: CryptoConfig) -> None:
        self._cipher = make_cipher(config)
        super().__init__(name, config, self._cipher.hash_size)
        self._keyed = hmac.new(config.key, None, config.hash.lower())

    def open_untrusted(self, envelope: bytes) -> Packet | None:
        """Return the packet in ``envelope``, None if this key does not open it."""
        try:
            return decode_untrusted(self._cipher.open_untrusted(envelope))
        except PacketError:
            return None

    def find_size_untrusted(self, train: bytes) -> int | None:
        """Return the size of the first envelope in ``train``, found by trying the hash.

        The hash is extended from one size to the next, so only its end is calculated again.
        """
        step = self._cipher.block_size or 1
        least = self._cipher.salt_size + (step if step > 1 else _LEAST_PLAIN)
        hash_size, view, hashed = self.hash_size, memoryview(train), self._keyed.copy()
        start = 0
        for end in range(least, len(train) - hash_size + 1, step):
            hashed.update(view[start:end])
            start = end
            if hashed.copy().digest() == train[end : end + hash_size]:
                return end + hash_size
        return None

    def is_hash_right_untrusted(self, envelope: bytes) -> bool:
        """Return whether this key authenticates ``envelope``, even if its content is invalid."""
        hashed = self._keyed.copy()
        hashed.update(envelope[: -self.hash_size])
        return hmac.compare_digest(hashed.digest(), envelope[-self.hash_size :])


# The most derived keys of lives and epochs in the cache: a host seals 4 million packets with one.
_MOST_KEPT: Final = 256
# The most sizes tried for the envelopes of a train.
_MOST_TRIED: Final = 16
_LIFE_AT: Final = slice(6, 15)


class AeadKey(OpeningKey):
    """A key for model ``aead``.

    Args:
        name: The name of the key in the output.
        config: The key and the cipher.

    Raises:
        InvalidArgumentError: The cipher is unknown, or the model is another one.
    """

    def __init__(self, name: str, config: CryptoConfig) -> None:
        algorithm = find_algorithm(config)
        if algorithm is None:
            raise InvalidArgumentError(f"the model is not {MODEL}")
        super().__init__(name, config, TAG_SIZE)
        self._schedule = KeySchedule(config.key, algorithm)
        # The cache, most recently used last; None for envelopes of another key.
        self._kept: dict[tuple[int, bytes, int, bytes], PacketKey | None] = {}

    def open_untrusted(self, envelope: bytes) -> Packet | None:
        """Return the packet in ``envelope``, None if this key does not open it."""
        plain = self._open(envelope)
        try:
            return None if plain is None else decode_untrusted(plain)
        except PacketError:
            return None

    def find_size_untrusted(self, train: bytes) -> int | None:
        """Return the size of the first envelope in ``train``, since the next has the same life."""
        header = read_header_untrusted(train)
        if header is None or self._find(header) is None:
            return None
        place, life = 0, train[_LIFE_AT]
        for _ in range(_MOST_TRIED):
            place = train.find(life, place + OVERHEAD)
            end = place - _LIFE_AT.start
            if place < 0:
                return None
            if self._open(train[:end]) is not None:
                return end
        return None

    def is_hash_right_untrusted(self, envelope: bytes) -> bool:
        """Return whether this key authenticates ``envelope``, even if its content is invalid."""
        return self._open(envelope) is not None

    def _open(self, envelope: bytes) -> bytes | None:
        header = read_header_untrusted(envelope)
        key = None if header is None else self._find(header)
        if header is None or key is None:
            return None
        try:
            return key.open_untrusted(header.counter, envelope)
        except PacketError:
            return None

    def _find(self, header: EnvelopeHeader) -> PacketKey | None:
        """Return the key of a life and epoch, None for an envelope of another shared key."""
        if header.cipher != self._schedule.number:
            return None
        about = header.sender, header.life, header.epoch, header.check
        if about in self._kept:
            key = self._kept.pop(about)
        else:
            fits = self._schedule.fits_untrusted(header)
            key = self._schedule.derive(*about[:3]) if fits else None
        self._kept[about] = key
        if len(self._kept) > _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        return key


def make_opening_key(name: str, config: CryptoConfig) -> OpeningKey:
    """Return a key of the class for its model.

    Args:
        name: The name of the key in the output.
        config: The key, cipher, hash and model.

    Raises:
        InvalidArgumentError: The cipher, hash or model is unknown.
    """
    return AeadKey(name, config) if is_aead(config.model) else CaptureKey(name, config)


def _describe_use(config: CryptoConfig) -> str:
    if is_aead(config.model):
        return f"{MODEL}, {config.cipher}"
    return f"{config.cipher}, {config.hash}"


def read_keys(
    files: Sequence[Path], ciphers: Sequence[str], hashes: Sequence[str]
) -> list[OpeningKey]:
    """Return the keys given by the options of the command.

    Args:
        files: The key files.
        ciphers: One name for all keys, or one for each in their order; empty for ``aes256``. A
            cipher of model ``aead`` implies that model.
        hashes: One name for all keys, or one for each in their order; empty for ``sha256``. A
            single name does not apply to keys of model ``aead`` if there are several keys.

    Raises:
        UnusableKeyError: A file cannot be read or is not a key, or the names do not fit.
    """
    if not files and (ciphers or hashes):
        raise UnusableKeyError("--cipher and --hash need a key: give --key FILE too")
    keys: list[OpeningKey] = []
    names = zip(
        files,
        _for_each(files, ciphers, "aes256", "--cipher"),
        _for_each(files, hashes, "", "--hash"),
        strict=True,
    )
    for file, cipher, digest in names:
        if len(hashes) == 1 and len(files) > 1 and cipher.lower() in AEAD_NAMES:
            digest = ""
        try:
            with file.open("rb") as opened:
                # One byte more detects a file that is too large, which may be an endless device.
                key = opened.read(MAX_KEY_SIZE + 1)
            keys.append(make_opening_key(str(file), _make_config(key, cipher, digest)))
        except OSError as error:
            raise UnusableKeyError(
                f"the key file {file} cannot be read: {error.strerror}"
            ) from None
        except InvalidArgumentError as error:
            raise UnusableKeyError(
                f"the key file {file} cannot be used: {describe_error(error)}"
            ) from None
    return keys


def _make_config(key: bytes, cipher: str, digest: str) -> CryptoConfig:
    """Return the configuration of a key; the cipher determines the model."""
    if cipher.lower() not in AEAD_NAMES:
        return CryptoConfig(key, cipher, digest or "sha256")
    return CryptoConfig(key, cipher, digest or NONE, MODEL)


def _for_each(files: Sequence[Path], names: Sequence[str], usual: str, option: str) -> list[str]:
    if len(names) <= 1:
        return [*(names or [usual])] * len(files)
    if len(names) != len(files):
        raise UnusableKeyError(
            f"{option} is given {len(names)} times for {len(files)} keys: give it once for all, or"
            " once for each in their order"
        )
    return list(names)
