"""The crypto envelope, and what its parts are called.

::

    | salt 16 | ciphertext | hash |      a cipher and a hash
    | plaintext | hash |                 a hash alone

The cipher's key is the first bytes of the shared key, the salt is its IV; the hash is an HMAC with
the whole shared key over all that stands before it. Encrypt, then authenticate: a packet is not
looked into before its hash is right.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, CTR
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hmac import HMAC

from knet_trio.abc import Cipher
from knet_trio.config import CryptoConfig
from knet_trio.errors import DropCause, InvalidArgumentError, PacketError

SALT_SIZE: Final = 16
AES_BLOCK: Final = 16
NONE: Final = "none"

MODELS: Final = ("openssl", "nss", "gcrypt")


class _CipherKind(NamedTuple):
    key_size: int
    mode: type[CBC] | type[CTR]


_COMMON_CIPHERS: Final = {f"aes{bits}": _CipherKind(bits // 8, CBC) for bits in (128, 192, 256)}
_OPENSSL_CIPHERS: Final = {
    f"aes-{bits}-{name}": _CipherKind(bits // 8, mode)
    for name, mode in (("cbc", CBC), ("ctr", CTR))
    for bits in (128, 192, 256)
}
_HASHES: Final[dict[str, Callable[[], hashes.HashAlgorithm]]] = {
    "md5": hashes.MD5,
    "sha1": hashes.SHA1,
    "sha224": hashes.SHA224,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}

CIPHER_NAMES: Final = (*_COMMON_CIPHERS, *_OPENSSL_CIPHERS)
HASH_NAMES: Final = tuple(_HASHES)


def make_cipher(config: CryptoConfig) -> Cipher:
    """The envelope that ``config`` describes.

    Raises InvalidArgumentError for names that are not known, or that make no envelope together.
    """
    model, cipher, digest = config.model.lower(), config.cipher.lower(), config.hash.lower()
    if model not in MODELS:
        raise InvalidArgumentError(
            f"crypto model {config.model!r} is not known; there are {', '.join(MODELS)}"
        )
    if digest == NONE:
        raise InvalidArgumentError(
            "a cipher without a hash would accept forged packets: name a hash such as 'sha256'"
            if cipher != NONE
            else "neither cipher nor hash: to turn crypto off give None in place of a CryptoConfig"
        )
    if digest not in _HASHES:
        raise InvalidArgumentError(
            f"hash {config.hash!r} is not known; there are {', '.join(HASH_NAMES)}"
        )
    seal_hash = HMAC(config.key, _HASHES[digest]())
    if cipher == NONE:
        return HashEnvelope(seal_hash)
    kinds = _COMMON_CIPHERS if model == "nss" else _COMMON_CIPHERS | _OPENSSL_CIPHERS
    if cipher not in kinds:
        raise InvalidArgumentError(
            f"cipher {config.cipher!r} is not one of model {config.model!r};"
            f" there are {', '.join(kinds)}"
        )
    kind = kinds[cipher]
    return AesEnvelope(seal_hash, config.key[: kind.key_size], kind.mode)


class HashEnvelope(Cipher):
    """Authentication alone: ``| plaintext | hash |``."""

    salt_size = 0
    block_size = 0

    def __init__(self, keyed: HMAC) -> None:
        # Copying a keyed HMAC spares hashing the key again for each packet.
        self._keyed = keyed
        self.hash_size = keyed.algorithm.digest_size

    def seal(self, packets: Sequence[bytes]) -> list[bytes]:
        """Append the hash to each packet."""
        return [packet + self._digest(packet) for packet in packets]

    def open_untrusted(self, envelope: bytes) -> bytes:
        """Check the hash and take it off."""
        body, digest = envelope[: -self.hash_size], envelope[-self.hash_size :]
        if not body or not bytes_eq(digest, self._digest(body)):
            raise PacketError(DropCause.NOT_AUTHENTIC, "the hash is not right")
        return body

    def _digest(self, body: bytes) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(body)
        return keyed.finalize()


class AesEnvelope(HashEnvelope):
    """``| salt | ciphertext | hash |`` with AES in CBC (PKCS#7 padding) or CTR (none)."""

    salt_size = SALT_SIZE

    def __init__(self, keyed: HMAC, key: bytes, mode: type[CBC] | type[CTR]) -> None:
        super().__init__(keyed)
        self._algorithm = AES(key)
        self._mode = mode
        self.block_size = AES_BLOCK if mode is CBC else 1

    def seal(self, packets: Sequence[bytes]) -> list[bytes]:
        """Encrypt each packet under a salt of its own, and append the hash."""
        salts = os.urandom(SALT_SIZE * len(packets))
        padded = self.block_size == AES_BLOCK
        envelopes: list[bytes] = []
        for i, packet in enumerate(packets):
            salt = salts[i * SALT_SIZE : (i + 1) * SALT_SIZE]
            encryptor = BlockCipher(self._algorithm, self._mode(salt)).encryptor()
            plaintext = packet + _PADDING[len(packet) % AES_BLOCK] if padded else packet
            body = salt + encryptor.update(plaintext) + encryptor.finalize()
            envelopes.append(body + self._digest(body))
        return envelopes

    def open_untrusted(self, envelope: bytes) -> bytes:
        """Check the hash, then decrypt and take the padding off."""
        body = super().open_untrusted(envelope)
        ciphertext = body[SALT_SIZE:]
        padded = self.block_size == AES_BLOCK
        if not ciphertext or (padded and len(ciphertext) % AES_BLOCK):
            raise PacketError(DropCause.NOT_AUTHENTIC, "not a whole number of cipher blocks")
        decryptor = BlockCipher(self._algorithm, self._mode(body[:SALT_SIZE])).decryptor()
        plaintext = decryptor.update(ciphertext) + decryptor.finalize()
        if not padded:
            return plaintext
        # The hash was right, so this came from a holder of the key: a wrong padding is a bug
        # there, and telling it apart gives nobody an oracle.
        size = plaintext[-1]
        if not 1 <= size <= AES_BLOCK or plaintext[-size:] != bytes([size]) * size:
            raise PacketError(DropCause.NOT_AUTHENTIC, "the padding is not right")
        return plaintext[:-size]


_PADDING: Final = [bytes([AES_BLOCK - used]) * (AES_BLOCK - used) for used in range(AES_BLOCK)]
