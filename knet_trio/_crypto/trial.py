"""Which cipher and hash a packet is sealed with that the names in use do not open."""

from __future__ import annotations

from typing import Final, NamedTuple

from knet_trio._core.onwire import decode_untrusted
from knet_trio._crypto.envelope import CIPHER_NAMES, HASH_NAMES, NONE, make_cipher
from knet_trio.config import CryptoConfig
from knet_trio.errors import PacketError

# One name for each cipher that there is.
_CIPHERS: Final = (
    *(name for name in CIPHER_NAMES if not name.startswith("aes-") and not name.endswith("-cbc")),
    NONE,
)


class SealNames(NamedTuple):
    """With what a packet is sealed.

    Attributes:
        cipher: The name of the cipher, None if it is none that there is.
        hash: The name of the hash.
    """

    cipher: str | None
    hash: str


def find_names_untrusted(key: bytes, envelope: bytes) -> SealNames | None:
    """Return with which names ``key`` would open ``envelope``; None if it is of another key.

    It takes some 0.1 ms for an envelope of the size of a ping.
    """
    for digest in HASH_NAMES:
        authentic = make_cipher(CryptoConfig(key, NONE, digest))
        try:
            authentic.open_untrusted(envelope)
        except PacketError:
            continue
        for cipher in _CIPHERS:
            try:
                decode_untrusted(
                    make_cipher(CryptoConfig(key, cipher, digest)).open_untrusted(envelope)
                )
            except PacketError:
                continue
            return SealNames(cipher, digest)
        return SealNames(None, digest)
    return None
