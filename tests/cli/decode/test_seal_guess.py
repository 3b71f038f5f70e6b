"""What no key opens is told by the size of its pings."""

from __future__ import annotations

import pytest

from knet_trio._core.onwire import PmtudReply, encode_pmtud_reply
from knet_trio._crypto.envelope import make_cipher
from knet_trio.cli.decode.seal_guess import SealedSizes, guess_seal
from knet_trio.config import CryptoConfig
from tests.cli.decode.building import KEY, data, ping


def sizes(*found: int) -> SealedSizes:
    record = SealedSizes()
    for size in found:
        record.add(size)
    return record


@pytest.mark.parametrize("digest", ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize(("cipher", "name"), [("aes192", "AES-CBC"), ("aes128-ctr", "AES-CTR")])
def test_every_seal(cipher: str, name: str, digest: str) -> None:
    envelope = make_cipher(CryptoConfig(KEY.key, cipher, digest))
    reply = encode_pmtud_reply(PmtudReply(1, 0, 500))
    packets = [ping(i) for i in range(20)] + [reply] * 5
    packets += [data(1, payload=bytes(i)) for i in range(1, 100)]
    sealed = [len(datagram) for datagram in envelope.seal(packets)]
    # And a train of three.
    record = sizes(*sealed, 3 * sealed[-1])
    assert guess_seal([record, record]) == f"{name} with {digest}"


def test_what_does_not_look_like_it() -> None:
    assert guess_seal([]) is None
    assert guess_seal([sizes()]) is None
    # Too few, only one way, another size both ways, and between blocks.
    assert guess_seal([sizes(80, 80)]) is None
    assert guess_seal([sizes(80, 80, 80), sizes(700)]) is None
    assert guess_seal([sizes(80, 80, 80), sizes(96, 96, 96)]) is None
    assert guess_seal([sizes(80, 80, 80, 81)]) is None
    # Smaller than any packet that is sealed like that.
    assert guess_seal([sizes(74, 74, 74, 40)]) is None
    assert guess_seal([sizes(74, 74, 74, 64)]) == "AES-CTR with sha256"
