"""Many packets in one call, and one by one: it is all the same to who opens them."""

from __future__ import annotations

import hmac
import itertools
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, CTR
from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.onwire import Data, encode_data
from knet_trio._crypto.envelope import make_cipher
from knet_trio._crypto.slots import CryptoSlots
from knet_trio.abc import Cipher
from knet_trio.config import CryptoConfig
from knet_trio.errors import DropCause, PacketError

KEY = bytes(range(256))
OTHER_KEY = KEY[::-1]
CONFIGS = [
    CryptoConfig(KEY, cipher=cipher, hash=digest)
    for cipher, digest in (
        ("aes128", "md5"),
        ("aes192", "sha512"),
        ("aes256", "sha256"),
        ("aes-128-ctr", "sha1"),
        ("aes-256-ctr", "sha384"),
        ("none", "sha256"),
    )
]
WITH_SALT = [config for config in CONFIGS if config.cipher != "none"]
CONFIG = st.sampled_from(CONFIGS)
# All lengths of the last block, and more blocks than one.
PACKETS = st.lists(st.binary(min_size=1, max_size=70), max_size=12)


def name(config: CryptoConfig) -> str:
    return f"{config.cipher}-{config.hash}"


def key_size(config: CryptoConfig) -> int:
    return {"aes128": 16, "aes192": 24, "aes256": 32, "aes-128-ctr": 16, "aes-256-ctr": 32}[
        config.cipher
    ]


def one_by_one(cipher: Cipher | CryptoSlots, envelopes: Sequence[bytes]) -> list[bytes | DropCause]:
    opened: list[bytes | DropCause] = []
    for envelope in envelopes:
        try:
            opened.append(cipher.open_untrusted(envelope))
        except PacketError as error:
            opened.append(error.cause)
    return opened


def together(cipher: Cipher | CryptoSlots, envelopes: Sequence[bytes]) -> list[bytes | DropCause]:
    opened = cipher.open_many_untrusted(envelopes)
    return [packet.cause if isinstance(packet, PacketError) else packet for packet in opened]


@given(CONFIG, st.lists(PACKETS, max_size=4), st.data())
def test_sealed_together_they_open_singly_in_any_order(
    config: CryptoConfig, calls: list[list[bytes]], data: st.DataObject
) -> None:
    cipher = make_cipher(config)
    envelopes = [envelope for packets in calls for envelope in cipher.seal(packets)]
    packets = list(itertools.chain(*calls))
    for opener in (cipher, make_cipher(config)):
        order = data.draw(st.permutations(range(len(envelopes))))
        assert [opener.open_untrusted(envelopes[i]) for i in order] == [packets[i] for i in order]


@given(CONFIG, PACKETS, st.data())
def test_sealed_one_by_one_they_open_together_in_any_order(
    config: CryptoConfig, packets: list[bytes], data: st.DataObject
) -> None:
    sealers = [make_cipher(config), make_cipher(config)]
    # Two hosts of the cluster take turns.
    envelopes = [sealers[i % 2].seal([packet])[0] for i, packet in enumerate(packets)]
    for opener in (*sealers, make_cipher(config)):
        order = data.draw(st.permutations(range(len(envelopes))))
        opened = opener.open_many_untrusted([envelopes[i] for i in order])
        assert opened == [packets[i] for i in order]


@given(CONFIG, st.integers(1, 70), st.integers(1, 12), st.integers(1, 70), st.booleans())
def test_a_train_opens_where_it_lies(
    config: CryptoConfig, size: int, count: int, last: int, twice: bool
) -> None:
    """Packets of one size, the last maybe shorter."""
    cipher = make_cipher(config)
    packets = [bytes([i]) * size for i in range(count)] + [b"z" * min(size, last)]
    envelopes = cipher.seal(packets)
    # With padding they may have one size, though the packets do not.
    assert {len(envelope) for envelope in envelopes[:-1]} == {len(envelopes[0])}
    for opener in (cipher, make_cipher(config)):
        for _ in range(1 + twice):
            opened = opener.open_train_untrusted(b"".join(envelopes), len(envelopes[0]))
            if opened is None:
                # Only where the hashes are no whole blocks of the cipher.
                assert config.cipher.startswith("aes1") or config.cipher.startswith("aes2")
                assert opener.hash_size % 16
            else:
                assert opened.packets() == packets
        # What comes next opens all the same.
        assert opener.open_many_untrusted(envelopes) == packets
        assert opener.open_untrusted(envelopes[0]) == packets[0]


@given(CONFIG, st.integers(20, 60), st.integers(0, 4), st.data())
def test_a_train_with_one_that_does_not_open_is_none(
    config: CryptoConfig, size: int, which: int, data: st.DataObject
) -> None:
    cipher = make_cipher(config)
    envelopes = cipher.seal([bytes([i]) * size for i in range(5)])
    stride = len(envelopes[0])
    train = bytearray(b"".join(envelopes))
    bit = data.draw(st.integers(0, 8 * stride - 1))
    train[which * stride + bit // 8] ^= 1 << bit % 8
    assert cipher.open_train_untrusted(bytes(train), stride) is None
    # Cut anywhere, the last one is none, but where a whole one ends.
    cut = data.draw(st.integers(1, len(train) - 1))
    found = cipher.open_train_untrusted(b"".join(envelopes)[:cut], stride)
    assert found is None or (cut % stride == 0 and len(found.packets()) == cut // stride)


@given(CONFIG, st.binary(max_size=600), st.integers(1, 200))
def test_noise_is_no_train(config: CryptoConfig, noise: bytes, size: int) -> None:
    assert make_cipher(config).open_train_untrusted(noise, size) is None


def test_a_train_whose_padding_is_wrong_is_none() -> None:
    """Its hash is right: whoever has the key has made it."""
    config = CryptoConfig(KEY, cipher="aes256", hash="sha256")
    cipher = make_cipher(config)
    bad = next(broken for broken in breaks(config, cipher.seal([b"x" * 40])[0]) if _hashed(broken))
    good = cipher.seal([b"y" * 40])[0]
    assert len(bad) <= len(good)
    assert cipher.open_train_untrusted(good + bad, len(good)) is None


def _hashed(envelope: bytes) -> bool:
    """Whether the hash is right, and there are as many whole blocks as an envelope has."""
    body, digest = envelope[:-32], envelope[-32:]
    return (
        len(body) >= 32
        and not len(body) % 16
        and hmac.compare_digest(digest, hmac.digest(KEY, body, "sha256"))
    )


def breaks(config: CryptoConfig, envelope: bytes) -> list[bytes]:
    """What is no envelope, each in another way; some have the right hash all the same."""
    digest = config.hash
    size = hmac.new(KEY, b"", digest).digest_size
    body = envelope[:-size]

    def hashed(body: bytes) -> bytes:
        return body + hmac.digest(KEY, body, digest)

    broken = [
        b"",
        envelope[:-1],
        envelope[:size],
        bytes((envelope[0] ^ 1,)) + envelope[1:],
        envelope[:-1] + bytes((envelope[-1] ^ 0x80,)),
        make_cipher(CryptoConfig(OTHER_KEY, cipher=config.cipher, hash=digest)).seal([b"x"])[0],
        hashed(b""),
    ]
    if config.cipher != "none":
        broken += [hashed(body[:16]), hashed(body[:10])]
    if config.cipher.startswith("aes") and not config.cipher.endswith("ctr"):
        broken += [hashed(body[:-1]), hashed(body + b"x")]
        for padding in (b"\0", b"\x11", b"\x01\x02", b"\x05\x03\x03"):
            salt = bytes(range(16))
            plain = bytes(32 - len(padding)) + padding
            encryptor = BlockCipher(AES(KEY[: key_size(config)]), CBC(salt)).encryptor()
            broken.append(hashed(salt + encryptor.update(plain)))
    return broken


@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_each_that_is_broken_spoils_no_other(config: CryptoConfig) -> None:
    cipher = make_cipher(config)
    packets = [bytes([i]) * (i + 1) for i in range(20)]
    envelopes = cipher.seal(packets)
    for broken in breaks(config, envelopes[7]):
        for position in (0, 1, 7, len(packets)):
            mixed = [*envelopes[:position], broken, *envelopes[position:]]
            assert together(cipher, mixed) == [
                *packets[:position],
                DropCause.NOT_AUTHENTIC,
                *packets[position:],
            ]
            assert one_by_one(cipher, mixed) == together(cipher, mixed)


@given(CONFIG, PACKETS.filter(bool), st.data())
def test_any_mixture_is_opened_as_one_by_one(
    config: CryptoConfig, packets: list[bytes], data: st.DataObject
) -> None:
    cipher, other = make_cipher(config), make_cipher(config)
    envelopes = cipher.seal(packets)
    wrong = st.one_of(st.sampled_from(breaks(config, envelopes[0])), st.binary(max_size=120))
    mixture = data.draw(
        st.lists(st.one_of(st.sampled_from(envelopes), wrong), min_size=1, max_size=12)
    )
    mixed = together(cipher, mixture)
    assert mixed == one_by_one(other, mixture) == one_by_one(cipher, mixture)
    assert together(other, mixture) == mixed
    for envelope, opened in zip(mixture, mixed, strict=True):
        if envelope in envelopes:
            assert opened == packets[envelopes.index(envelope)]
        else:
            assert opened is DropCause.NOT_AUTHENTIC
    # Whatever was in it, what is sealed next opens as ever.
    assert other.open_many_untrusted(cipher.seal(packets)) == packets


@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_none_at_all(config: CryptoConfig) -> None:
    cipher = make_cipher(config)
    assert cipher.seal([]) == []
    assert cipher.open_many_untrusted([]) == []


@pytest.mark.parametrize("config", WITH_SALT, ids=name)
def test_each_is_an_envelope_of_its_own_in_any_implementation(config: CryptoConfig) -> None:
    """Nothing of what was sealed before it is needed to open it."""
    cipher = make_cipher(config)
    key = AES(KEY[: key_size(config)])
    packets = [bytes([i]) * (i + 1) for i in range(40)]
    envelopes = [
        *cipher.seal(packets[:15]),
        *cipher.seal(packets[15:16]),
        *cipher.seal(packets[16:]),
    ]
    for packet, envelope in zip(packets, envelopes, strict=True):
        size = hmac.new(KEY, b"", config.hash).digest_size
        body, digest = envelope[:-size], envelope[-size:]
        assert digest == hmac.digest(KEY, body, config.hash)
        salt, ciphertext = body[:16], body[16:]
        if config.cipher.endswith("ctr"):
            assert BlockCipher(key, CTR(salt)).decryptor().update(ciphertext) == packet
        else:
            padding = 16 - len(packet) % 16
            plain = BlockCipher(key, CBC(salt)).decryptor().update(ciphertext)
            assert plain == packet + bytes([padding]) * padding


@pytest.mark.parametrize("config", WITH_SALT, ids=name)
def test_salts_never_repeat(config: CryptoConfig) -> None:
    ciphers = [make_cipher(config) for _ in range(3)]
    envelopes: list[bytes] = []
    for _ in range(20):
        for cipher in ciphers:
            envelopes += cipher.seal([b"the same packet"] * 20)
            envelopes += cipher.seal([b"the same packet"])
    salts = {envelope[:16] for envelope in envelopes}
    assert len(salts) == len(envelopes) == 20 * 3 * 21
    # Nor is a block of any ciphertext that of another: not even that of the same packet.
    assert len({envelope[16:31] for envelope in envelopes}) == len(envelopes)


# Both slots.

A, B = (CryptoConfig(key) for key in (KEY, OTHER_KEY))


@given(
    st.lists(st.tuples(st.sampled_from("abcx"), st.binary(min_size=1, max_size=40)), max_size=12),
    st.sampled_from([(), (1,), (2,), (1, 2), (2, 1)]),
    st.booleans(),
)
def test_slots_open_any_mixture_as_one_by_one(
    kinds: list[tuple[str, bytes]], used: tuple[int, ...], clear: bool
) -> None:
    slots = CryptoSlots(allow_clear_traffic=clear)
    for slot, config in ((1, A), (2, B)):
        if slot in used:
            slots.set(config, slot)
    if used:
        slots.use(used[0])
    sealers = {"a": make_cipher(A), "b": make_cipher(B)}
    packets = [encode_data(Data(7, 9, 0, True, 1, 0, 3, payload)) for _, payload in kinds]
    datagrams = [
        sealers[kind].seal([packet])[0] if kind in sealers else packet
        for (kind, _), packet in zip(kinds, packets, strict=True)
    ]
    opened = together(slots, datagrams)
    assert opened == one_by_one(slots, datagrams)
    for (kind, _), packet, one in zip(kinds, packets, opened, strict=True):
        if (kind == "a" and 1 in used) or (kind == "b" and 2 in used):
            assert one == packet
        elif kind not in sealers:
            assert one == (packet if clear else DropCause.CLEAR_TRAFFIC)
        elif not used and clear:
            # What it is shows when it is read.
            assert isinstance(one, bytes)
        else:
            assert one == DropCause.NOT_AUTHENTIC


@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_an_error_holds_nothing_but_what_it_says(config: CryptoConfig) -> None:
    cipher = make_cipher(config)
    opened = cipher.open_many_untrusted([b"noise" * 100, *cipher.seal([b"packet"])])
    assert isinstance(opened[0], PacketError)
    # A traceback would lead to the others and to itself.
    assert opened[0].__traceback__ is None
    assert opened[1] == b"packet"
