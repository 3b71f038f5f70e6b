"""The AEAD envelope: its layout and keys beside a second implementation, and what does not open."""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from pathlib import Path
from typing import Any, Final, cast

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV, ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from knet_trio._crypto.aead import (
    ALGORITHMS,
    EPOCH_BITS,
    HEADER_SIZE,
    OVERHEAD,
    Algorithm,
    EnvelopeHeader,
    KeyCache,
    KeySchedule,
    PacketKey,
    PacketSealer,
    read_header_untrusted,
)
from knet_trio._crypto.life import LAST_COUNTER, Life
from knet_trio.errors import DropCause, PacketError

KEY = bytes(range(256))
VECTORS = Path(__file__).parents[1] / "vectors" / "aead" / "vectors.json"
ANY = pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=list(ALGORITHMS))
MAKERS: Final[dict[int, type[AESGCM | AESGCMSIV | ChaCha20Poly1305]]] = {
    1: AESGCM,
    2: ChaCha20Poly1305,
    3: AESGCMSIV,
}


def fixed_life(name: bytes = b"\x11" * 9, counter: int = 0) -> Life:
    """Return a life of that name, whose next counter is the one after ``counter``."""
    life = Life(lambda _: name)
    life.counter = counter
    return life


def find(cache: KeyCache, header: EnvelopeHeader) -> PacketKey | None:
    """Return the key for an envelope; None if its header fits none."""
    return cache.find(header) if cache.fits_untrusted(header) else None


def seal(algorithm: Algorithm, packet: bytes, to: int | None = 7, counter: int = 0) -> bytes:
    """Return the envelope of a packet of host 5."""
    sealer = PacketSealer(KeySchedule(KEY, algorithm), 5, fixed_life(counter=counter))
    return sealer.seal_to([packet], to)[0]


def read(envelope: bytes) -> EnvelopeHeader:
    header = read_header_untrusted(envelope)
    assert header is not None
    return header


def expand(root: bytes, info: bytes, size: int) -> bytes:
    """HKDF-Expand, as RFC 5869 has it."""
    blocks, last = b"", b""
    for number in range(1, -(-size // 32) + 1):
        last = hmac.new(root, last + info + bytes([number]), hashlib.sha256).digest()
        blocks += last
    return blocks[:size]


def seal_by_the_page(
    key: bytes, number: int, sender: int, to: int | None, life: bytes, counter: int, packet: bytes
) -> dict[str, bytes]:
    """Do what docs/aead.md says, step by step; return what each step gives."""
    root = hmac.new(b"knet-trio aead 1", key, hashlib.sha256).digest()
    epoch = counter >> 22
    context = struct.pack(">BBH9sI", 0x61, number, sender, life, epoch)
    check = expand(root, b"check" + context, 3)
    material = expand(root, b"key" + context, 44)
    cipher = number if to is not None else number | 0x80
    header = struct.pack(">BBHH", 0x61, cipher, sender, to or 0)
    header += life + check + counter.to_bytes(6, "big")
    mask = int.from_bytes(material[32:], "big")
    nonce = (mask ^ counter).to_bytes(12, "big")
    sealed = MAKERS[number](material[:32]).encrypt(nonce, packet, header)
    return {
        "prk": root,
        "check": check,
        "key": material[:32],
        "mask": material[32:],
        "nonce": nonce,
        "envelope": header + sealed,
    }


def vectors() -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", json.loads(VECTORS.read_text()))


@given(
    name=st.sampled_from(list(ALGORITHMS)),
    key=st.binary(min_size=128, max_size=200),
    sender=st.integers(0, 65535),
    to=st.none() | st.integers(0, 65535),
    life=st.binary(min_size=9, max_size=9),
    counter=st.integers(1, LAST_COUNTER),
    packet=st.binary(min_size=1, max_size=200),
)
def test_it_is_what_the_page_says(
    name: str,
    key: bytes,
    sender: int,
    to: int | None,
    life: bytes,
    counter: int,
    packet: bytes,
) -> None:
    algorithm = ALGORITHMS[name]
    sealer = PacketSealer(KeySchedule(key, algorithm), sender, fixed_life(life, counter - 1))
    (envelope,) = sealer.seal_to([packet], to)
    steps = seal_by_the_page(key, algorithm.number, sender, to, life, counter, packet)
    assert envelope == steps["envelope"]
    assert len(envelope) == len(packet) + OVERHEAD
    header = read(envelope)
    assert header == (algorithm.number, sender, to, life, steps["check"], counter)
    found = find(KeyCache(KeySchedule(key, algorithm), sender), header)
    assert found is not None
    assert found.open_untrusted(counter, envelope) == packet


@ANY
def test_nothing_that_was_changed_opens(algorithm: Algorithm) -> None:
    envelope = seal(algorithm, b"a packet")
    schedule = KeySchedule(KEY, algorithm)
    for place in range(len(envelope)):
        forged = bytearray(envelope)
        forged[place] ^= 0x40
        header = read_header_untrusted(bytes(forged))
        if header is None:
            continue
        key = find(KeyCache(schedule, 5), header)
        if key is None:
            continue
        with pytest.raises(PacketError) as caught:
            key.open_untrusted(header.counter, bytes(forged))
        assert caught.value.cause is DropCause.NOT_AUTHENTIC


@ANY
def test_another_key_or_sender_is_known_by_the_check(algorithm: Algorithm) -> None:
    header = read(seal(algorithm, b"a packet"))
    assert find(KeyCache(KeySchedule(KEY[::-1], algorithm), 5), header) is None
    assert find(KeyCache(KeySchedule(KEY, algorithm), 6), header) is None
    for other in ALGORITHMS.values():
        found = find(KeyCache(KeySchedule(KEY, other), 5), header)
        assert (found is not None) is (other is algorithm)


@pytest.mark.parametrize(
    "envelope",
    [
        b"",
        b"\x61",
        bytes([0x61, 1]) + bytes(38),
        # No counter is 0.
        bytes([0x61, 1]) + bytes(60),
        # For every host, and for one.
        bytes([0x61, 0x81, 0, 5, 0, 7]) + bytes(12) + b"\x00\x00\x00\x00\x00\x01" + bytes(20),
        # Of libknet.
        bytes([0x01, 1]) + bytes(13) + b"\x01" * 40,
    ],
)
def test_what_cannot_be_one(envelope: bytes) -> None:
    assert read_header_untrusted(envelope) is None


@given(st.binary(max_size=120))
def test_whatever_comes_is_read_or_not(data: bytes) -> None:
    header = read_header_untrusted(data)
    assert header is None or len(data) > OVERHEAD


@ANY
def test_an_epoch_has_its_own_key(algorithm: Algorithm) -> None:
    last = (1 << EPOCH_BITS) - 1
    life = fixed_life(counter=last - 1)
    sealer = PacketSealer(KeySchedule(KEY, algorithm), 5, life)
    envelopes = sealer.seal([b"a", b"b", b"c"])
    headers = [read(envelope) for envelope in envelopes]
    assert [header.counter for header in headers] == [last, last + 1, last + 2]
    assert [header.epoch for header in headers] == [0, 1, 1]
    assert headers[0].check != headers[1].check == headers[2].check
    cache = KeyCache(KeySchedule(KEY, algorithm), 5)
    for header, envelope, packet in zip(headers, envelopes, (b"a", b"b", b"c"), strict=True):
        key = find(cache, header)
        assert key is not None
        assert key.open_untrusted(header.counter, envelope) == packet


@ANY
def test_a_life_that_ends_within_a_batch(algorithm: Algorithm) -> None:
    names = iter((b"1" * 9, b"2" * 9))
    life = Life(lambda _: next(names))
    life.counter = LAST_COUNTER - 1
    sealer = PacketSealer(KeySchedule(KEY, algorithm), 5, life)
    headers = [read(envelope) for envelope in sealer.seal_to([b"a", b"b", b"c"], 7)]
    assert [(header.life, header.counter) for header in headers] == [
        (b"1" * 9, LAST_COUNTER),
        (b"2" * 9, 1),
        (b"2" * 9, 2),
    ]


def test_both_slots_count_together() -> None:
    """No counter comes twice, so no nonce does, though a key may be in both slots."""
    life = fixed_life()
    sealers = [PacketSealer(KeySchedule(KEY, one), 5, life) for one in ALGORITHMS.values()]
    envelopes = [sealer.seal([b"a packet"])[0] for sealer in (*sealers, *sealers)]
    assert [read(envelope).counter for envelope in envelopes] == [1, 2, 3, 4, 5, 6]


class CountingSchedule(KeySchedule):
    """Counts the keys that it derives."""

    derived = 0

    def derive(self, sender: int, life: bytes, epoch: int) -> PacketKey:
        self.derived += 1
        return super().derive(sender, life, epoch)


def test_the_cache_is_bounded_and_keeps_the_confirmed_life() -> None:
    algorithm = ALGORITHMS["aes256-gcm"]
    schedule = CountingSchedule(KEY, algorithm)
    cache = KeyCache(schedule, 5)

    def header_of(life: bytes, epoch: int) -> EnvelopeHeader:
        counter = (epoch << EPOCH_BITS) + 1
        check = schedule.derive_check(5, life, epoch)
        return EnvelopeHeader(algorithm.number, 5, None, life, check, counter)

    ours = header_of(b"o" * 9, 3)
    kept = find(cache, ours)
    assert kept is not None
    cache.confirm(ours.life)
    cache.opened(ours)
    for number in range(20):
        assert find(cache, header_of(bytes([number]) * 9, 0)) is not None
    assert find(cache, ours) is kept
    # Of the others four are kept, those that were used last.
    latest = [header_of(bytes([number]) * 9, 0) for number in (16, 17, 18, 19)]
    derived = schedule.derived
    for header in latest:
        find(cache, header)
    assert schedule.derived == derived
    find(cache, header_of(bytes(9), 0))
    assert schedule.derived == derived + 1
    headers = [header_of(ours.life, epoch) for epoch in (4, 5, 6)]
    keys = [find(cache, header) for header in headers]
    for header in headers:
        cache.opened(header)
    for number in range(20):
        find(cache, header_of(bytes([number]) * 9, 0))
    assert [find(cache, header) for header in headers[1:]] == keys[1:]
    assert find(cache, headers[0]) is not keys[0]
    # What is opened of another life stays with the others.
    other = header_of(bytes([19]) * 9, 0)
    key = find(cache, other)
    cache.opened(other)
    assert find(cache, other) is key


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["what"])
def test_vectors(vector: dict[str, Any]) -> None:
    fields = {
        name: bytes.fromhex(vector[name])
        for name in ("shared_key", "life", "packet", "prk", "check", "key", "mask", "nonce")
    }
    algorithm = ALGORITHMS[vector["cipher"]]
    sender, to, counter = vector["sender"], vector["to"], vector["counter"]
    steps = seal_by_the_page(
        fields["shared_key"],
        algorithm.number,
        sender,
        to,
        fields["life"],
        counter,
        fields["packet"],
    )
    envelope = bytes.fromhex(vector["envelope"])
    assert steps == {
        **{name: fields[name] for name in ("prk", "check", "key", "mask", "nonce")},
        "envelope": envelope,
    }
    life = fixed_life(fields["life"], counter - 1)
    sealer = PacketSealer(KeySchedule(fields["shared_key"], algorithm), sender, life)
    assert sealer.seal_to([fields["packet"]], to) == [envelope]


def test_a_header_has_the_size_that_it_says() -> None:
    envelope = seal(ALGORITHMS["aes256-gcm"], b"x")
    assert len(envelope) == OVERHEAD + 1
    assert HEADER_SIZE == 24
