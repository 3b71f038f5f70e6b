"""With which names a key opens what the names in use do not open."""

from __future__ import annotations

import pytest

from knet_trio._core.onwire import Ping, encode_ping
from knet_trio._crypto.envelope import HASH_NAMES, make_cipher
from knet_trio._crypto.trial import SealNames, find_names_untrusted
from knet_trio.config import CryptoConfig

KEY = bytes(range(200))
PING = encode_ping(Ping(1, 0, bytes(16), 1, True))


@pytest.mark.parametrize("digest", HASH_NAMES)
@pytest.mark.parametrize(
    "cipher", ["aes128", "aes192", "aes256", "aes256-ctr", "aes128-ctr", "none"]
)
def test_the_names_are_found(cipher: str, digest: str) -> None:
    (envelope,) = make_cipher(CryptoConfig(KEY, cipher, digest)).seal([PING])
    assert find_names_untrusted(KEY, envelope) == SealNames(cipher, digest)
    assert find_names_untrusted(KEY[::-1], envelope) is None


def test_noise_under_a_right_hash_has_no_cipher() -> None:
    (envelope,) = make_cipher(CryptoConfig(KEY, "none", "sha1")).seal([bytes(80)])
    assert find_names_untrusted(KEY, envelope) == SealNames(None, "sha1")


@pytest.mark.parametrize("size", [0, 1, 16, 20, 64, 65, 256])
def test_any_bytes_are_of_no_key(size: int) -> None:
    assert find_names_untrusted(KEY, bytes(size)) is None
