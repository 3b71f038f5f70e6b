"""Slots of model ``aead``, alone and beside a hash envelope."""

from __future__ import annotations

import pytest
from cryptography.exceptions import UnsupportedAlgorithm

from knet_trio import CryptoConfig, DropCause, InvalidArgumentError, PacketError
from knet_trio._core.onwire import Ping, encode_ping
from knet_trio._crypto.aead import AEAD_NAMES, ALGORITHMS, HEADER_SIZE, OVERHEAD, Algorithm
from knet_trio._crypto.slots import CryptoSlots
from knet_trio._crypto.trial import SealNames, find_names_untrusted

KEY, OTHER = b"k" * 128, b"o" * 128
AEAD = CryptoConfig(KEY, model="aead")
PING = encode_ping(Ping(7, 1, bytes(range(16)), 9, True))


def slots_with(*configs: CryptoConfig | None, use: int = 1) -> CryptoSlots:
    slots = CryptoSlots(host_id=7)
    for slot, config in enumerate(configs, 1):
        slots.set(config, slot)
    slots.use(use)
    return slots


def test_cipher_and_hash_follow_from_the_model() -> None:
    assert (AEAD.cipher, AEAD.hash) == ("aes256-gcm", "none")
    assert CryptoConfig(KEY, model="AEAD") == CryptoConfig(KEY, "aes256-gcm", "none", "AEAD")
    plain = CryptoConfig(KEY)
    assert (plain.cipher, plain.hash, plain.model) == ("aes256", "sha256", "openssl")


@pytest.mark.parametrize("cipher", AEAD_NAMES)
def test_an_envelope_has_its_exact_size(cipher: str) -> None:
    slots = slots_with(CryptoConfig(KEY, cipher, model="aead"))
    (envelope,) = slots.seal([PING])
    assert len(envelope) == len(PING) + OVERHEAD
    sealer = slots.sealer
    assert sealer is not None
    assert sealer.addresses
    assert (sealer.salt_size, sealer.hash_size, sealer.block_size) == (24, 16, 0)
    assert sealer.open_untrusted(envelope) == PING
    assert sealer.seal_to([PING], 9)[0][1] & 0x80 == 0
    with pytest.raises(PacketError) as refused:
        slots_with(CryptoConfig(OTHER, cipher, model="aead")).aead[0].open_untrusted(envelope)
    assert refused.value.cause is DropCause.NOT_AUTHENTIC
    assert find_names_untrusted(KEY, envelope) == SealNames(cipher, "none")
    assert find_names_untrusted(OTHER, envelope) is None


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            CryptoConfig(KEY, "aes256", model="aead"),
            "has no cipher 'aes256'; use one of aes256-gcm",
        ),
        (CryptoConfig(KEY, hash="sha256", model="aead"), "has no hash 'sha256'"),
        (CryptoConfig(KEY, "aes256-gcm"), "cipher 'aes256-gcm' is not known"),
        (CryptoConfig(KEY, model="tls"), "openssl, nss, gcrypt, aead"),
    ],
)
def test_wrong_names_are_refused(config: CryptoConfig, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        CryptoSlots().set(config, 1)


@pytest.mark.parametrize(
    "other", [CryptoConfig(KEY), CryptoConfig(KEY, AEAD_NAMES[1], model="aead")]
)
def test_one_key_in_both_slots_is_refused(other: CryptoConfig) -> None:
    for first, second in ((AEAD, other), (other, AEAD)):
        slots = slots_with(first)
        with pytest.raises(InvalidArgumentError, match="key of its own"):
            slots.set(second, 2)
        assert slots.find(2) is None
        slots.set(CryptoConfig(OTHER, model="aead"), 2)
        slots.use(2)
        slots.set(second, 1)
        with pytest.raises(InvalidArgumentError, match="key of its own"):
            slots.replace(CryptoConfig(OTHER))


def test_that_in_use_comes_first() -> None:
    slots = slots_with(AEAD, CryptoConfig(OTHER, model="aead"))
    first, second = slots.aead
    assert (slots.number(first), slots.number(second)) == (1, 2)
    assert slots.sealer is first
    assert not slots.openers
    slots.use(2)
    assert slots.aead == (second, first)
    slots.use(0)
    assert slots.is_set
    assert slots.seal([PING]) == [PING]


def test_what_is_wrong_is_told() -> None:
    slots = slots_with(AEAD)
    (wrong,) = slots_with(CryptoConfig(OTHER, model="aead")).seal([PING])
    (cbc,) = slots_with(CryptoConfig(OTHER)).seal([PING])
    for config, datagram, words in (
        (AEAD, wrong, "with a wrong key"),
        (AEAD, cbc, "it uses another envelope"),
        (CryptoConfig(KEY), wrong, "it uses another envelope: model 'aead'"),
        (CryptoConfig(KEY), cbc, "no crypto configuration opens it"),
    ):
        slots = slots_with(config)
        with pytest.raises(PacketError, match=words) as refused:
            slots.open_untrusted(datagram)
        assert refused.value.cause is DropCause.NOT_AUTHENTIC


def test_an_answer_has_the_envelope_of_what_it_answers() -> None:
    slots = slots_with(CryptoConfig(OTHER), AEAD, use=2)
    (cbc,) = slots_with(CryptoConfig(OTHER)).seal([PING])
    assert slots.answering(cbc, slots.open_untrusted(cbc)) is slots.openers[0]
    assert slots.answering(PING, PING) is None
    # Without AEAD in a slot what is in use seals, whatever the question had.
    slots = slots_with(CryptoConfig(OTHER), CryptoConfig(KEY), use=2)
    assert slots.answering(cbc, PING) is slots.sealer


def test_keys_are_kept_nowhere() -> None:
    slots = slots_with(CryptoConfig(b"SECRET" * 30, model="aead"))
    assert "SECRET" not in repr([vars(slots), vars(slots.aead[0])])


def test_a_cipher_that_this_machine_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """An OpenSSL before 3.2 has no AES-GCM-SIV."""

    class Missing:
        def __init__(self, key: bytes) -> None:
            raise UnsupportedAlgorithm("not supported by this version of OpenSSL")

        def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
            raise AssertionError

        decrypt = encrypt

    monkeypatch.setitem(ALGORITHMS, "aes256-gcm-siv", Algorithm(3, Missing))
    slots = slots_with(AEAD)
    with pytest.raises(InvalidArgumentError, match="has no cipher 'aes256-gcm-siv'"):
        slots.set(CryptoConfig(OTHER, "aes256-gcm-siv", model="aead"), 2)
    assert slots.find(2) is None
    (envelope,) = slots.seal([PING])
    found = slots.find_names_untrusted(envelope)
    assert found is not None
    assert found[0] == SealNames("aes256-gcm", "none")


@pytest.mark.parametrize("cipher", AEAD_NAMES)
def test_a_header_in_front_of_something_else_has_no_names(cipher: str) -> None:
    """Else whoever sees a packet could make a host say that its peer has another cipher."""
    slots = slots_with(CryptoConfig(KEY, cipher, model="aead"))
    (envelope,) = slots.seal([PING])
    forged = envelope[:HEADER_SIZE] + bytes(len(envelope) - HEADER_SIZE)
    assert slots.find_names_untrusted(forged) is None
    assert find_names_untrusted(KEY, forged) is None
    assert not slots.is_other_model_untrusted(forged, None)
