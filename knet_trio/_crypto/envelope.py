"""The hash envelopes, and the names of their ciphers and hashes.

::

    | salt 16 | ciphertext | hash |      a cipher and a hash
    | plaintext | hash |                 a hash alone

The cipher's key is the first bytes of the shared key; the salt is its initialization vector. The
hash is an HMAC with the whole shared key over everything before the hash. Encrypt, then
authenticate: a packet is not decrypted before its hash is verified.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, CTR
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hmac import HMAC

from knet_trio.abc import Cipher, OpenedTrain
from knet_trio.config import CryptoConfig, is_aead
from knet_trio.errors import DropCause, InvalidArgumentError, PacketError

SALT_SIZE: Final = 16
AES_BLOCK: Final = 16
NONE: Final = "none"

MODELS: Final = ("openssl", "nss", "gcrypt")


_HASHES: Final[dict[str, Callable[[], hashes.HashAlgorithm]]] = {
    "md5": hashes.MD5,
    "sha1": hashes.SHA1,
    "sha224": hashes.SHA224,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}

HASH_NAMES: Final = tuple(_HASHES)

# libknet refuses this hash with this model, so no cluster can use it.
_MISSING: Final = {("nss", "sha224")}


def make_cipher(config: CryptoConfig) -> HashEnvelope:
    """Return the envelope that ``config`` describes.

    Raises:
        InvalidArgumentError: A name is not known, or the names do not go together.
    """
    model, cipher, digest = config.model.lower(), config.cipher.lower(), config.hash.lower()
    if is_aead(model):
        raise InvalidArgumentError(
            f"model {model!r} cannot be used here: pass it to open_handle or set_crypto"
        )
    if model not in MODELS:
        raise InvalidArgumentError(
            f"crypto model {show_name(config.model)} is not known;"
            f" use one of {', '.join((*MODELS, 'aead'))}"
        )
    if digest == NONE:
        raise InvalidArgumentError(
            "a cipher without a hash would accept forged packets: name a hash such as 'sha256'"
            if cipher != NONE
            else "cipher and hash are both 'none': to turn crypto off, give None in place of a"
            " CryptoConfig"
        )
    if digest not in _HASHES:
        raise InvalidArgumentError(
            f"hash {show_name(config.hash)} is not known; use one of {', '.join(HASH_NAMES)}"
        )
    if (model, digest) in _MISSING:
        raise InvalidArgumentError(
            f"model {config.model!r} has no hash {config.hash!r}: use another hash or model"
        )
    seal_hash = HMAC(config.key, _HASHES[digest]())
    if cipher == NONE:
        return HashEnvelope(seal_hash)
    kind = _CIPHERS.get(cipher)
    if kind is None:
        advice = (
            "it may be one of model 'aead': give model='aead', and no hash"
            if any(part in cipher for part in _OF_AEAD)
            else "use aes128, aes192 or aes256, with -ctr behind it for that mode"
        )
        raise InvalidArgumentError(f"cipher {show_name(config.cipher)} is not known; {advice}")
    return kind.envelope(seal_hash, config.key[: kind.key_size])


def make_keyed(key: bytes, digest: str) -> HMAC:
    """Return an HMAC with ``key`` and the hash named ``digest``."""
    return HMAC(key, _HASHES[digest]())


def make_sealed(cipher: str, keyed: HMAC, key: bytes) -> HashEnvelope:
    """Return an envelope with a cipher.

    Args:
        cipher: The name of the cipher, which must be known.
        keyed: The HMAC with the shared key.
        key: The shared key; the cipher uses its first bytes.
    """
    kind = _CIPHERS[cipher]
    return kind.envelope(keyed, key[: kind.key_size])


# Parts of the names of ciphers that model `aead` has.
_OF_AEAD: Final = ("gcm", "poly1305")

_WRONG_HASH: Final = "the hash is not right"
_NO_BLOCKS: Final = "not a whole number of cipher blocks"


class HashEnvelope(Cipher):
    """An envelope that authenticates only: ``| plaintext | hash |``.

    Args:
        keyed: The HMAC with the shared key.
    """

    salt_size = 0
    block_size = 0

    def __init__(self, keyed: HMAC) -> None:
        # Copying a keyed HMAC spares hashing the key again for each packet.
        self._keyed = keyed
        self.hash_size: int = keyed.algorithm.digest_size

    def seal(self, packets: Sequence[bytes]) -> list[bytes]:
        """Append the hash to each packet."""
        return [packet + self._digest(packet) for packet in packets]

    def open_untrusted(self, envelope: bytes) -> bytes:
        """Verify the hash and remove it."""
        body, digest = envelope[: -self.hash_size], envelope[-self.hash_size :]
        if not body or not bytes_eq(digest, self._digest(body)):
            raise PacketError(DropCause.NOT_AUTHENTIC, _WRONG_HASH)
        return body

    def open_train_untrusted(self, train: bytes, size: int) -> OpenedTrain | None:
        """Verify the hashes of a train of envelopes, without cutting the envelopes out.

        Args:
            train: The envelopes, joined.
            size: The size of each envelope in bytes; the last may be shorter.

        Returns:
            The packets; None if an envelope does not open.
        """
        ends = self._check_train(train, size, 1)
        return None if ends is None else OpenedTrain(train, 0, size, ends)

    def _check_train(self, train: bytes, size: int, least: int) -> list[int] | None:
        """Verify the hashes of a train of envelopes.

        Args:
            train: The envelopes, joined.
            size: The size of each envelope in bytes; the last may be shorter.
            least: The least size of an envelope without its hash, in bytes.

        Returns:
            The index where the hash of each envelope begins. None if the train is empty or an
            envelope is not valid.
        """
        copy_keyed, hash_size = self._keyed.copy, self.hash_size
        view, length = memoryview(train), len(train)
        ends: list[int] = []
        for start in range(0, length, size):
            end = min(start + size, length) - hash_size
            if end - start < least:
                return None
            keyed = copy_keyed()
            keyed.update(view[start:end])
            if not bytes_eq(train[end : end + hash_size], keyed.finalize()):
                return None
            ends.append(end)
        return ends or None

    def has_same_hash(self, other: HashEnvelope) -> bool:
        """Return whether both have the same key and hash, so that each verifies the other's."""
        return bytes_eq(self._digest(b""), other._digest(b""))

    def _digest(self, body: bytes) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(body)
        return keyed.finalize()


class CtrEnvelope(HashEnvelope):
    """An envelope with AES in CTR mode, without padding: ``| salt | ciphertext | hash |``.

    Args:
        keyed: The HMAC with the shared key.
        key: The key of the cipher.
    """

    salt_size = SALT_SIZE
    block_size = 1

    def __init__(self, keyed: HMAC, key: bytes) -> None:
        super().__init__(keyed)
        # One context for all packets, both ways: each packet begins with its own nonce, and in CTR
        # mode encryption is its own inverse.
        self._stream = BlockCipher(AES(key), CTR(bytes(SALT_SIZE))).encryptor()

    def seal(self, packets: Sequence[bytes]) -> list[bytes]:
        """Encrypt each packet with its own salt, and append the hash."""
        salts = os.urandom(SALT_SIZE * len(packets))
        envelopes: list[bytes] = []
        for i, packet in enumerate(packets):
            salt = salts[i * SALT_SIZE : (i + 1) * SALT_SIZE]
            self._stream.reset_nonce(salt)
            body = salt + self._stream.update(packet)
            envelopes.append(body + self._digest(body))
        return envelopes

    def open_untrusted(self, envelope: bytes) -> bytes:
        """Verify the hash, then decrypt."""
        body = super().open_untrusted(envelope)
        if len(body) <= SALT_SIZE:
            raise PacketError(DropCause.NOT_AUTHENTIC, "the envelope is empty")
        self._stream.reset_nonce(body[:SALT_SIZE])
        return self._stream.update(body[SALT_SIZE:])

    def open_train_untrusted(self, train: bytes, size: int) -> OpenedTrain | None:
        """Verify the hashes of a train of envelopes, then decrypt each envelope."""
        ends = self._check_train(train, size, SALT_SIZE + 1)
        if ends is None:
            return None
        stream, view = self._stream, memoryview(train)
        packets: list[bytes] = []
        for start, end in zip(range(0, len(train), size), ends, strict=True):
            stream.reset_nonce(train[start : start + SALT_SIZE])
            packets.append(stream.update(view[start + SALT_SIZE : end]))
        ends = list(accumulate(map(len, packets)))
        return OpenedTrain(b"".join(packets), 0, len(packets[0]), ends)


class CbcEnvelope(HashEnvelope):
    """An envelope with AES in CBC mode and PKCS#7 padding: ``| salt | ciphertext | hash |``.

    One context encrypts all packets as one endless stream, which costs a fraction of a context for
    each packet. A random block goes into the stream before every packet. In CBC mode each block of
    ciphertext is the initialization vector of the next one, so the ciphertext of the random block
    is the salt of the packet. This salt is as good as a random one: it is the encryption of a
    random block that nobody can predict (NIST SP 800-38A, appendix C, makes initialization vectors
    in this way).

    Decryption is one stream for the same reason. Every packet brings its salt; the plaintext of the
    salt itself is discarded.

    Args:
        keyed: The HMAC with the shared key.
        key: The key of the cipher.
    """

    salt_size = SALT_SIZE
    block_size = AES_BLOCK

    def __init__(self, keyed: HMAC, key: bytes) -> None:
        super().__init__(keyed)
        cipher = BlockCipher(AES(key), CBC(os.urandom(AES_BLOCK)))
        self._encryptor = cipher.encryptor()
        self._decryptor = cipher.decryptor()

    def seal(self, packets: Sequence[bytes]) -> list[bytes]:
        """Encrypt each packet with its own salt, and append the hash."""
        random = os.urandom(SALT_SIZE * len(packets))
        stream: list[bytes] = []
        for i, packet in enumerate(packets):
            stream += (
                random[i * SALT_SIZE : (i + 1) * SALT_SIZE],
                packet,
                _PADDING[len(packet) % AES_BLOCK],
            )
        bodies = self._encryptor.update(b"".join(stream))
        envelopes: list[bytes] = []
        copy_keyed = self._keyed.copy
        start = 0
        for packet in packets:
            end = start + SALT_SIZE + (len(packet) // AES_BLOCK + 1) * AES_BLOCK
            body = bodies[start:end]
            keyed = copy_keyed()
            keyed.update(body)
            envelopes.append(body + keyed.finalize())
            start = end
        return envelopes

    def open_untrusted(self, envelope: bytes) -> bytes:
        """Verify the hash, then decrypt and remove the padding."""
        body = super().open_untrusted(envelope)
        if len(body) < SALT_SIZE + AES_BLOCK or len(body) % AES_BLOCK:
            raise PacketError(DropCause.NOT_AUTHENTIC, _NO_BLOCKS)
        stream = self._decryptor.update(body)
        padding = stream[-1]
        if 1 <= padding <= AES_BLOCK and stream.endswith(_PADDING[-padding]):
            return stream[SALT_SIZE:-padding]
        raise PacketError(DropCause.NOT_AUTHENTIC, "the padding is not right")

    def open_many_untrusted(self, envelopes: Sequence[bytes]) -> list[bytes | PacketError]:
        """Verify the hash of each envelope, then decrypt all valid ones in one call."""
        bodies: list[bytes] = []
        opened: list[bytes | PacketError] = []
        copy_keyed, hash_size = self._keyed.copy, self.hash_size
        for envelope in envelopes:
            body = envelope[:-hash_size]
            keyed = copy_keyed()
            keyed.update(body)
            if not bytes_eq(envelope[-hash_size:], keyed.finalize()):
                opened.append(PacketError(DropCause.NOT_AUTHENTIC, _WRONG_HASH))
            elif len(body) < SALT_SIZE + AES_BLOCK or len(body) % AES_BLOCK:
                opened.append(PacketError(DropCause.NOT_AUTHENTIC, _NO_BLOCKS))
            else:
                bodies.append(body)
                opened.append(body)
        stream = self._decryptor.update(b"".join(bodies))
        start = 0
        for i, sealed in enumerate(opened):
            if isinstance(sealed, PacketError):
                continue
            end = start + len(sealed)
            # The hash is right, so the sender has the key and a wrong padding is its bug. Reporting
            # it gives an attacker no padding oracle.
            padding = stream[end - 1]
            if 1 <= padding <= AES_BLOCK and stream.endswith(_PADDING[-padding], start, end):
                opened[i] = stream[start + SALT_SIZE : end - padding]
            else:
                opened[i] = PacketError(DropCause.NOT_AUTHENTIC, "the padding is not right")
            start = end
        return opened

    def open_train_untrusted(self, train: bytes, size: int) -> OpenedTrain | None:
        """Verify the hashes of a train of envelopes, then decrypt the train in one call.

        The hashes are decrypted too, to garbage, so this needs hashes of whole blocks.
        """
        if size % AES_BLOCK or len(train) % AES_BLOCK or self.hash_size % AES_BLOCK:
            return None
        ends = self._check_train(train, size, SALT_SIZE + AES_BLOCK)
        if ends is None:
            return None
        stream = self._decryptor.update(train)
        for i, end in enumerate(ends):
            padding = stream[end - 1]
            if not 1 <= padding <= AES_BLOCK or not stream.endswith(_PADDING[-padding], 0, end):
                return None
            ends[i] = end - padding
        return OpenedTrain(stream, SALT_SIZE, size, ends)


# The padding, by the number of the packet's bytes in its last block; from the end, by the number of
# bytes of padding.
_PADDING: Final = [bytes([AES_BLOCK - used]) * (AES_BLOCK - used) for used in range(AES_BLOCK)]


class _CipherKind(NamedTuple):
    """A cipher: the size of its key in bytes, and its envelope."""

    key_size: int
    envelope: type[CbcEnvelope] | type[CtrEnvelope]


# The mode is CBC if the name has none. libknet 1.25 has ``aes128`` to ``aes256`` with every model,
# and OpenSSL's names with model ``openssl``; later releases have all names with every model.
_CIPHERS: Final = {
    f"aes{dash}{bits}{mode}": _CipherKind(bits // 8, envelope)
    for mode, envelope in (("", CbcEnvelope), ("-cbc", CbcEnvelope), ("-ctr", CtrEnvelope))
    for dash in ("", "-")
    for bits in (128, 192, 256)
}
CIPHER_NAMES: Final = tuple(_CIPHERS)
LONGEST_CIPHER_KEY: Final = max(kind.key_size for kind in _CIPHERS.values())


# No name of a cipher or hash is longer, and no key is shorter.
_LONGEST_NAME: Final = 32


def show_name(text: str) -> str:
    """Return ``text`` as an error shows it: its length only if it is too long for a name.

    A long text may be a key in the wrong place.
    """
    return repr(text) if len(text) <= _LONGEST_NAME else f"of {len(text)} characters"
