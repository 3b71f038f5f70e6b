"""The search for the cipher and hash of a packet that the configured ones do not open."""

from __future__ import annotations

from typing import Final, NamedTuple

from cryptography.hazmat.primitives.ciphers.algorithms import AES

from knet_trio._core.onwire import decode_untrusted
from knet_trio._crypto.aead import (
    ALGORITHMS,
    EnvelopeHeader,
    KeySchedule,
    is_available,
    read_header_untrusted,
)
from knet_trio._crypto.envelope import (
    CIPHER_NAMES,
    HASH_NAMES,
    LONGEST_CIPHER_KEY,
    NONE,
    HashEnvelope,
    make_keyed,
    make_sealed,
)
from knet_trio.config import CryptoConfig
from knet_trio.errors import PacketError

# One name for each cipher.
_CIPHERS: Final = (
    *(name for name in CIPHER_NAMES if not name.startswith("aes-") and not name.endswith("-cbc")),
    NONE,
)


class SealNames(NamedTuple):
    """The names of the cipher and hash that a packet was sealed with.

    Attributes:
        cipher: The name of the cipher; None if it is not known here.
        hash: The name of the hash; ``none`` with model ``aead``.
    """

    cipher: str | None
    hash: str


class TrialKey:
    """A key that is tried with all ciphers and hashes.

    As in the envelopes, the key is kept only inside the objects of the ``cryptography`` package.

    Args:
        config: The configuration with the key and the names in use.

    Attributes:
        cipher: The name of the cipher in use.
        hash: The name of the hash in use.
    """

    __slots__ = ("_aes", "_hashes", "_schedules", "cipher", "hash")

    def __init__(self, config: CryptoConfig) -> None:
        self.cipher = config.cipher.lower()
        self.hash = config.hash.lower()
        self._aes = AES(config.key[:LONGEST_CIPHER_KEY])
        self._schedules = {
            name: KeySchedule(config.key, algorithm)
            for name, algorithm in ALGORITHMS.items()
            if is_available(algorithm)
        }
        self._hashes = {digest: make_keyed(config.key, digest) for digest in HASH_NAMES}

    def find_names_untrusted(self, envelope: bytes) -> SealNames | None:
        """Return the names with which the key opens ``envelope``; None if it has another key.

        This takes some 0.1 ms for an envelope of the size of a ping.
        """
        header = read_header_untrusted(envelope)
        if header is not None:
            for name, schedule in self._schedules.items():
                # Anybody can copy a header in front of something else.
                if schedule.fits_untrusted(header) and _opens(schedule, header, envelope):
                    return SealNames(name, NONE)
        for digest, keyed in self._hashes.items():
            try:
                plain = HashEnvelope(keyed).open_untrusted(envelope)
            except PacketError:
                continue
            for cipher in _CIPHERS:
                try:
                    packet = plain
                    if cipher != NONE:
                        sealed = make_sealed(cipher, keyed, bytes(self._aes.key))
                        packet = sealed.open_untrusted(envelope)
                    decode_untrusted(packet)
                except PacketError:
                    continue
                return SealNames(cipher, digest)
            return SealNames(None, digest)
        return None


def _opens(schedule: KeySchedule, header: EnvelopeHeader, envelope: bytes) -> bool:
    key = schedule.derive(header.sender, header.life, header.epoch)
    try:
        key.open_untrusted(header.counter, envelope)
    except PacketError:
        return False
    return True


def find_names_untrusted(key: bytes, envelope: bytes) -> SealNames | None:
    """Return the names with which ``key`` opens ``envelope``; None if it has another key."""
    return TrialKey(CryptoConfig(key)).find_names_untrusted(envelope)
