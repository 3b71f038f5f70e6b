"""The envelope around packets."""

from __future__ import annotations

import hashlib
import hmac
import os

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, CTR
from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.sizes import EnvelopeSizes
from knet_trio._crypto.envelope import CIPHER_NAMES, HASH_NAMES, MODELS, make_cipher
from knet_trio.abc import Cipher
from knet_trio.config import CryptoConfig
from knet_trio.errors import DropCause, InvalidArgumentError, PacketError

KEY = bytes(range(256))[::-1]
ENVELOPES = [
    CryptoConfig(KEY, cipher=cipher, hash=digest)
    for cipher in (*CIPHER_NAMES, "none")
    for digest in HASH_NAMES
]
SOME = [
    make_cipher(CryptoConfig(KEY, cipher=cipher, hash=digest))
    for cipher, digest in (
        ("aes128", "md5"),
        ("aes256", "sha256"),
        ("aes-256-ctr", "sha512"),
        ("none", "sha1"),
    )
]
PACKETS = st.binary(min_size=1, max_size=300)


def name(config: CryptoConfig) -> str:
    return f"{config.cipher}-{config.hash}"


def sizes_of(cipher: Cipher) -> EnvelopeSizes:
    return EnvelopeSizes(cipher.salt_size, cipher.hash_size, cipher.block_size)


def assert_not_authentic(cipher: Cipher, envelope: bytes) -> None:
    with pytest.raises(PacketError) as caught:
        cipher.open_untrusted(envelope)
    assert caught.value.cause is DropCause.NOT_AUTHENTIC


class TestRoundTrip:
    @pytest.mark.parametrize("config", ENVELOPES, ids=name)
    def test_what_is_sealed_opens_to_the_same(self, config: CryptoConfig) -> None:
        cipher = make_cipher(config)
        packets = [os.urandom(length) for length in (1, 15, 16, 17, 26, 1397, 65536)]
        envelopes = cipher.seal(packets)
        assert [cipher.open_untrusted(envelope) for envelope in envelopes] == packets

    @pytest.mark.parametrize("config", ENVELOPES, ids=name)
    def test_another_holder_of_the_key_opens_it(self, config: CryptoConfig) -> None:
        (envelope,) = make_cipher(config).seal([b"packet"])
        assert make_cipher(config).open_untrusted(envelope) == b"packet"

    @pytest.mark.parametrize("config", ENVELOPES, ids=name)
    def test_an_envelope_is_as_large_as_its_sizes_declare(self, config: CryptoConfig) -> None:
        cipher = make_cipher(config)
        salt, digest, block = sizes_of(cipher)
        assert digest == hashlib.new(config.hash).digest_size
        assert salt == (0 if config.cipher == "none" else 16)
        for length in range(1, 50):
            (envelope,) = cipher.seal([bytes(length)])
            padding = block - length % block if block > 1 else 0
            assert len(envelope) == salt + length + padding + digest

    @given(st.sampled_from(SOME), st.lists(PACKETS, max_size=5))
    def test_packets_keep_their_order(self, cipher: Cipher, packets: list[bytes]) -> None:
        assert [cipher.open_untrusted(envelope) for envelope in cipher.seal(packets)] == packets

    @given(st.sampled_from(SOME), st.integers(100, 2000))
    def test_the_largest_plaintext_of_a_room_fits_it(self, cipher: Cipher, room: int) -> None:
        (envelope,) = cipher.seal([bytes(sizes_of(cipher).largest_plaintext(room))])
        assert len(envelope) <= room

    def test_no_two_envelopes_of_a_packet_are_the_same(self) -> None:
        cipher = make_cipher(CryptoConfig(KEY))
        assert len(set(cipher.seal([b"packet"] * 20))) == 20

    def test_model_names_make_no_difference_on_the_wire(self) -> None:
        (envelope,) = make_cipher(CryptoConfig(KEY, model="nss")).seal([b"packet"])
        for model in MODELS:
            opened = make_cipher(CryptoConfig(KEY, model=model)).open_untrusted(envelope)
            assert opened == b"packet"

    def test_names_are_taken_in_capitals_too(self) -> None:
        capitals = CryptoConfig(KEY, cipher="AES256", hash="SHA256", model="OpenSSL")
        (envelope,) = make_cipher(capitals).seal([b"packet"])
        assert make_cipher(CryptoConfig(KEY)).open_untrusted(envelope) == b"packet"


class TestLayout:
    @pytest.mark.parametrize(("cipher", "size"), [("aes128", 16), ("aes192", 24), ("aes256", 32)])
    def test_it_is_salt_ciphertext_and_hmac_of_both_under_the_shared_key(
        self, cipher: str, size: int
    ) -> None:
        (envelope,) = make_cipher(CryptoConfig(KEY, cipher=cipher)).seal([b"a packet of knet"])
        salt, ciphertext, digest = envelope[:16], envelope[16:-32], envelope[-32:]
        assert digest == hmac.digest(KEY, salt + ciphertext, "sha256")
        decryptor = BlockCipher(AES(KEY[:size]), CBC(salt)).decryptor()
        # A packet of whole blocks gets a block of padding.
        assert decryptor.update(ciphertext) == b"a packet of knet" + b"\x10" * 16

    def test_counter_mode_does_not_pad(self) -> None:
        config = CryptoConfig(KEY, cipher="aes-128-ctr", hash="sha1")
        (envelope,) = make_cipher(config).seal([b"seventeen bytes .."[:17]])
        decryptor = BlockCipher(AES(KEY[:16]), CTR(envelope[:16])).decryptor()
        assert decryptor.update(envelope[16:-20]) == b"seventeen bytes ."

    def test_without_a_cipher_it_is_the_packet_and_its_hmac(self) -> None:
        (envelope,) = make_cipher(CryptoConfig(KEY, cipher="none")).seal([b"packet"])
        assert envelope == b"packet" + hmac.digest(KEY, b"packet", "sha256")


class TestHostile:
    @pytest.mark.parametrize("config", ENVELOPES, ids=name)
    def test_any_byte_that_changed_is_noticed(self, config: CryptoConfig) -> None:
        cipher = make_cipher(config)
        (envelope,) = cipher.seal([b"a packet of some length"])
        for i, byte in enumerate(envelope):
            assert_not_authentic(cipher, envelope[:i] + bytes((byte ^ 1,)) + envelope[i + 1 :])

    @pytest.mark.parametrize("config", ENVELOPES, ids=name)
    def test_any_byte_that_is_missing_or_too_many_is_noticed(self, config: CryptoConfig) -> None:
        cipher = make_cipher(config)
        (envelope,) = cipher.seal([b"a packet of some length"])
        for length in range(len(envelope)):
            assert_not_authentic(cipher, envelope[:length])
        assert_not_authentic(cipher, envelope + b"\0")

    @given(st.sampled_from(SOME), st.binary(max_size=200))
    def test_any_bytes_are_not_authentic_and_nothing_else(
        self, cipher: Cipher, envelope: bytes
    ) -> None:
        assert_not_authentic(cipher, envelope)

    @given(st.sampled_from(SOME), PACKETS, st.data())
    def test_any_change_to_an_envelope_is_not_authentic(
        self, cipher: Cipher, packet: bytes, data: st.DataObject
    ) -> None:
        (envelope,) = cipher.seal([packet])
        start = data.draw(st.integers(0, len(envelope) - 1))
        end = data.draw(st.integers(start, len(envelope)))
        other = data.draw(st.binary(max_size=40).filter(lambda new: new != envelope[start:end]))
        assert_not_authentic(cipher, envelope[:start] + other + envelope[end:])

    @given(st.sampled_from(SOME), st.binary(max_size=100))
    def test_a_holder_of_the_key_cannot_make_it_raise_anything_else(
        self, cipher: Cipher, body: bytes
    ) -> None:
        """What has the right hash still need not be whole blocks, or rightly padded."""
        algorithms = {16: "md5", 20: "sha1", 32: "sha256", 64: "sha512"}
        envelope = body + hmac.digest(KEY, body, algorithms[cipher.hash_size])
        try:
            packet = cipher.open_untrusted(envelope)
        except PacketError:
            return
        assert 0 <= len(packet) < len(envelope)

    @pytest.mark.parametrize(
        "padding", [b"\0", b"\x11", b"\x11" * 17, b"\x03\x02\x03", b"\x01\x02"]
    )
    def test_a_wrong_padding_under_a_right_hash_is_not_authentic(self, padding: bytes) -> None:
        salt = bytes(16)
        plaintext = bytes(32 - len(padding)) + padding
        body = salt + BlockCipher(AES(KEY[:32]), CBC(salt)).encryptor().update(plaintext)
        cipher = make_cipher(CryptoConfig(KEY))
        assert_not_authentic(cipher, body + hmac.digest(KEY, body, "sha256"))

    def test_the_right_hash_of_nothing_is_not_authentic(self) -> None:
        cipher = make_cipher(CryptoConfig(KEY, cipher="none"))
        assert_not_authentic(cipher, hmac.digest(KEY, b"", "sha256"))

    @pytest.mark.parametrize("config", ENVELOPES, ids=name)
    def test_an_envelope_of_another_key_is_not_authentic(self, config: CryptoConfig) -> None:
        other = CryptoConfig(bytes(128), cipher=config.cipher, hash=config.hash)
        (envelope,) = make_cipher(other).seal([b"packet"])
        assert_not_authentic(make_cipher(config), envelope)


class TestNames:
    @pytest.mark.parametrize(
        ("config", "match"),
        [
            (CryptoConfig(KEY, model="gnutls"), r"model 'gnutls'.*openssl, nss, gcrypt"),
            (CryptoConfig(KEY, cipher="des"), r"cipher 'des'.*aes192 or aes256"),
            (CryptoConfig(KEY, hash="crc32"), r"hash 'crc32'.*sha256"),
            (CryptoConfig(KEY, hash="none"), "forged"),
            (CryptoConfig(KEY, cipher="none", hash="none"), "give None"),
            (CryptoConfig(KEY, cipher="aes_256_ctr"), "cipher 'aes_256_ctr'"),
            (CryptoConfig(KEY, hash="SHA224", model="NSS"), "'NSS' has no hash 'SHA224'"),
        ],
        ids=["model", "cipher", "hash", "no hash", "nothing", "underscores", "sha224 with nss"],
    )
    def test_what_makes_no_envelope_is_refused_and_named(
        self, config: CryptoConfig, match: str
    ) -> None:
        with pytest.raises(InvalidArgumentError, match=match):
            make_cipher(config)

    @pytest.mark.parametrize("model", MODELS)
    @pytest.mark.parametrize("cipher", CIPHER_NAMES)
    def test_every_model_has_every_cipher(self, cipher: str, model: str) -> None:
        block_size = 1 if cipher.endswith("ctr") else 16
        assert make_cipher(CryptoConfig(KEY, cipher=cipher, model=model)).block_size == block_size

    @pytest.mark.parametrize("bits", [128, 192, 256])
    @pytest.mark.parametrize("mode", ["cbc", "ctr"])
    def test_the_names_of_a_cipher_are_one(self, bits: int, mode: str) -> None:
        names = [f"aes{bits}-{mode}", f"aes-{bits}-{mode}", f"AES-{bits}-{mode.upper()}"]
        if mode == "cbc":
            names += [f"aes{bits}", f"aes-{bits}"]
        ciphers = [make_cipher(CryptoConfig(KEY, cipher=name)) for name in names]
        for sealer in ciphers:
            (envelope,) = sealer.seal([b"packet"])
            assert [opener.open_untrusted(envelope) for opener in ciphers] == [b"packet"] * len(
                names
            )


class TestKey:
    @pytest.mark.parametrize("size", [128, 4096])
    def test_the_shortest_and_the_longest_key_are_taken(self, size: int) -> None:
        cipher = make_cipher(CryptoConfig(b"k" * size))
        assert cipher.open_untrusted(cipher.seal([b"packet"])[0]) == b"packet"

    @pytest.mark.parametrize("size", [0, 127, 4097])
    def test_a_key_of_another_size_is_refused(self, size: int) -> None:
        with pytest.raises(InvalidArgumentError, match=f"{size} bytes.*128 to 4096"):
            CryptoConfig(b"k" * size)

    @pytest.mark.parametrize("key", ["k" * 128, bytearray(128), None])
    def test_a_key_that_is_not_bytes_is_refused(self, key: object) -> None:
        with pytest.raises(InvalidArgumentError, match="not bytes"):
            CryptoConfig(key)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    @pytest.mark.parametrize("cipher", ["aes256", "aes-256-ctr", "none"])
    def test_it_is_never_shown(self, cipher: str) -> None:
        secret = b"SECRET" * 30
        config = CryptoConfig(secret, cipher=cipher)
        made = make_cipher(config)
        shown = [repr(config), str(config), repr(made), str(made)]
        with pytest.raises(PacketError) as refused:
            made.open_untrusted(bytes(100))
        shown += [repr(refused.value), str(refused.value)]
        assert not [text for text in shown if shows(text, secret)]

    def test_it_is_never_shown_by_errors_about_it(self) -> None:
        shown: list[str] = []
        for key in (b"SECRET", b"SECRET" * 1000, "SECRET" * 30):
            with pytest.raises(InvalidArgumentError) as caught:
                CryptoConfig(key)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            shown += [repr(caught.value), str(caught.value)]
        for wrong in (
            CryptoConfig(b"SECRET" * 30, cipher="no"),
            CryptoConfig(b"SECRET" * 30, hash="no"),
            CryptoConfig(b"SECRET" * 30, model="no"),
        ):
            with pytest.raises(InvalidArgumentError) as caught:
                make_cipher(wrong)
            shown += [repr(caught.value), str(caught.value)]
        assert not [text for text in shown if shows(text, b"SECRET")]


def shows(text: str, key: bytes) -> bool:
    """Whether the start of ``key`` is in ``text``, as it is or in hexadecimal."""
    start = key[:6]
    return start.decode() in text or start.hex() in text.lower()
