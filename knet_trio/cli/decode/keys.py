"""The keys that a capture is opened with, and where they come from."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from knet_trio._core.onwire import Packet, decode_untrusted
from knet_trio._crypto.envelope import NONE, make_cipher
from knet_trio._crypto.trial import find_names_untrusted
from knet_trio.cli.ending import describe_error
from knet_trio.config import MAX_KEY_SIZE, CryptoConfig
from knet_trio.errors import InvalidArgumentError, PacketError

# Fewer bytes than these are in no envelope: the smallest packet, or one block of it.
_LEAST_PLAIN: Final = 7


class UnusableKeyError(Exception):
    """A key cannot be used; the message says which one and why."""


class CaptureKey:
    """A key with the names of cipher and hash.

    Args:
        name: What the key is called in what is printed.
        config: The key, cipher and hash.

    Attributes:
        hash_size: The bytes of hash at the end of an envelope.

    Raises:
        InvalidArgumentError: A name is not known.
    """

    def __init__(self, name: str, config: CryptoConfig) -> None:
        self._cipher = make_cipher(config)
        self._config = config
        self._keyed = hmac.new(config.key, None, config.hash.lower())
        self.name = f"{name} ({config.cipher}, {config.hash})"
        self._file = name
        self.hash_size = self._cipher.hash_size

    def open_untrusted(self, envelope: bytes) -> Packet | None:
        """Return the packet in ``envelope``, None if this is not its key."""
        try:
            return decode_untrusted(self._cipher.open_untrusted(envelope))
        except PacketError:
            return None

    def find_size_untrusted(self, train: bytes) -> int | None:
        """Return the size of the first envelope in ``train``, by trying where a hash is right.

        The hash goes on from one size to the next, so all that is done twice is its end.
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

    def explain_untrusted(self, envelope: bytes) -> str | None:
        """Return with which cipher and hash this key would open ``envelope``; None: with none."""
        names = find_names_untrusted(self._config.key, envelope)
        if names is None or names.cipher is None:
            return None
        if names.hash == NONE:
            return f"{self._file} fits it, with model aead and cipher {names.cipher}"
        return f"{self._file} opens it with --cipher {names.cipher} --hash {names.hash}"

    def is_hash_right_untrusted(self, envelope: bytes) -> bool:
        """Return whether a holder of this key made ``envelope``, whatever is in it."""
        hashed = self._keyed.copy()
        hashed.update(envelope[: -self.hash_size])
        return hmac.compare_digest(hashed.digest(), envelope[-self.hash_size :])


def read_keys(
    files: Sequence[Path], ciphers: Sequence[str], hashes: Sequence[str]
) -> list[CaptureKey]:
    """Return the keys that the command's options name.

    Args:
        files: A key file each, whose bytes are the key.
        ciphers: One name for all keys, or one for each in their order; none for ``aes256``.
        hashes: The same, with ``sha256``.

    Raises:
        UnusableKeyError: A file cannot be read, is no key, or the names do not fit.
    """
    if not files and (ciphers or hashes):
        raise UnusableKeyError("--cipher and --hash say how a key is used: give --key FILE too")
    keys: list[CaptureKey] = []
    names = zip(
        files,
        _for_each(files, ciphers, "aes256", "--cipher"),
        _for_each(files, hashes, "sha256", "--hash"),
        strict=True,
    )
    for file, cipher, digest in names:
        try:
            with file.open("rb") as opened:
                # One byte more tells a file that is too large; it may be a device without end.
                key = opened.read(MAX_KEY_SIZE + 1)
            keys.append(CaptureKey(str(file), CryptoConfig(key, cipher, digest)))
        except OSError as error:
            raise UnusableKeyError(
                f"the key file {file} cannot be read: {error.strerror}"
            ) from None
        except InvalidArgumentError as error:
            raise UnusableKeyError(
                f"the key file {file} cannot be used: {describe_error(error)}"
            ) from None
    return keys


def _for_each(files: Sequence[Path], names: Sequence[str], usual: str, option: str) -> list[str]:
    if len(names) <= 1:
        return [*(names or [usual])] * len(files)
    if len(names) != len(files):
        raise UnusableKeyError(
            f"{len(names)} times {option} for {len(files)} keys: give it once for all of them,"
            " or once for each in their order"
        )
    return list(names)
