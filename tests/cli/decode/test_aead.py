"""Packets of model ``aead`` in captures: opened, shown, and found among keys."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from knet_trio._crypto.aead import (
    AEAD_NAMES,
    EPOCH_BITS,
    KeySchedule,
    PacketSealer,
    find_algorithm,
    read_header_untrusted,
)
from knet_trio.cli.decode.keys import AeadKey, OpeningKey, make_opening_key
from knet_trio.cli.decode.opening import FlowMemory, OpenedPacket, Opener, Reason, UnopenedPacket
from knet_trio.config import CryptoConfig
from tests.cli.decode.building import (
    ALPHA,
    BETA,
    KEY,
    SECOND,
    data,
    ethernet,
    pcap,
    ping,
    pong,
    seal,
    udp,
)
from tests.cli.test_command import run

AEAD = CryptoConfig(KEY.key, model="aead")


class FixedLife:
    """A life that is always the same."""

    name = bytes(range(0xA0, 0xA9))

    def __init__(self, counter: int = 1) -> None:
        self._next = counter

    def take(self, count: int) -> range:
        self._next += count
        return range(self._next - count, self._next)


def sealer(config: CryptoConfig = AEAD, *, sender: int = 1, counter: int = 1) -> PacketSealer:
    algorithm = find_algorithm(config)
    assert algorithm is not None
    return PacketSealer(KeySchedule(config.key, algorithm), sender, FixedLife(counter))


def opened(opener: Opener, payload: bytes, memory: FlowMemory | None = None) -> list[Any]:
    return list(opener.open_untrusted(payload, len(payload), memory or FlowMemory()))


@pytest.mark.parametrize("cipher", AEAD_NAMES)
def test_a_packet_and_a_train(cipher: str) -> None:
    config = CryptoConfig(KEY.key, cipher, model="aead")
    keys = [make_opening_key("key0", KEY), make_opening_key("key1", config)]
    # A train goes to one host, and what is in it for all or for that one; the last one is smaller.
    one = sealer(config, counter=(1 << EPOCH_BITS) - 2)
    packets = [data(seq, payload=bytes(900)) for seq in range(1, 6)] + [data(6)]
    train = one.seal(packets[:2]) + one.seal_to(packets[2:4], 2) + one.seal(packets[4:])
    pieces = opened(Opener(keys), b"".join(train))
    assert [piece.packet.seq for piece in pieces] == [1, 2, 3, 4, 5, 6]
    assert {piece.key for piece in pieces} == {f"key1 (aead, {cipher})"}
    assert [piece.envelope.to for piece in pieces] == [None, None, 2, 2, None, None]
    assert [piece.envelope.epoch for piece in pieces] == [0, 0, 1, 1, 1, 1]
    (piece,) = opened(Opener(keys), train[0])
    assert piece == OpenedPacket(
        pieces[0].packet, pieces[0].key, len(train[0]), envelope=read_header_untrusted(train[0])
    )
    # What is cut by the capture, and what was changed on the way.
    (cut,) = Opener(keys).open_untrusted(train[0][:99], len(train[0]), FlowMemory())
    assert cut == UnopenedPacket(Reason.CUT, len(train[0]))
    changed = train[0][:-1] + bytes([train[0][-1] ^ 1])
    assert opened(Opener(keys), changed) == [UnopenedPacket(Reason.SEALED, len(changed))]


def test_what_is_right_is_said_and_found() -> None:
    """The right one of two keys, with the right names, whichever it is used with."""
    other = make_opening_key("other", CryptoConfig(KEY.key[::-1]))
    uses = [
        (CryptoConfig(KEY.key, name, model="aead"), f"aead, {name}", f"--cipher {name}")
        for name in AEAD_NAMES
    ]
    for cipher, digest in (("aes128", "sha512"), ("none", "md5"), ("aes192-ctr", "sha1")):
        use = CryptoConfig(KEY.key, cipher, digest)
        uses.append((use, f"{cipher}, {digest}", f"--cipher {cipher} --hash {digest}"))
    sealed = [
        (sealer(use).seal([ping(1)])[0] if use.model == "aead" else seal(ping(1), use), shown, said)
        for use, shown, said in uses
    ]
    keys: list[OpeningKey] = [other, make_opening_key("right", KEY)]
    for datagram, _, said in sealed:
        memory = FlowMemory()
        (piece,) = opened(Opener(keys), datagram, memory)
        assert isinstance(piece, UnopenedPacket)
        assert list(memory.hints) == [f"right opens it with {said}"]
    finding, memory = Opener(keys, find=True), FlowMemory()
    for _ in range(2):
        for datagram, shown, _ in sealed:
            (piece,) = opened(finding, datagram, memory)
            assert piece.key == f"right ({shown})"
    assert memory.explained == len(sealed)
    assert not memory.hints
    assert isinstance(
        opened(finding, sealer(CryptoConfig(b"x" * 128, model="aead")).seal([data()])[0])[0],
        UnopenedPacket,
    )


def test_hostile_bytes_of_it() -> None:
    """No memory grows with the lives that somebody names, and none of it opens."""
    key = AeadKey("key", AEAD)
    (envelope,) = sealer().seal([ping(1)])
    for _ in range(1000):
        assert key.open_untrusted(envelope[:6] + os.urandom(9) + envelope[15:]) is None
        assert key.find_size_untrusted(envelope[:24] + os.urandom(2000)) is None
    assert len(key._kept) <= 256  # pyright: ignore[reportPrivateUsage]
    # The life in all places: sizes are tried a few times only.
    assert key.find_size_untrusted(envelope[:24] + FixedLife.name * 5000) is None


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a capture of two hosts, and keys."""
    here, there = sealer(sender=1), sealer(sender=2, counter=7)
    payloads = [
        (*here.seal_to([ping(n)], 2), *there.seal_to([pong(n)], 1), *here.seal([data(n)]))
        for n in range(1, 4)
    ]
    frames: list[tuple[int, bytes, int]] = []
    for number, (asked, answered, said) in enumerate(payloads):
        for payload, ends in (
            (asked, (ALPHA, BETA)),
            (answered, (BETA, ALPHA)),
            (said, (ALPHA, BETA)),
        ):
            frame = ethernet(udp(payload, *ends))
            frames.append(((number + 1) * SECOND, frame, len(frame)))
    (tmp_path / "aead.pcap").write_bytes(pcap(frames))
    (tmp_path / "right.key").write_bytes(AEAD.key)
    (tmp_path / "wrong.key").write_bytes(AEAD.key[::-1])
    return tmp_path


def test_the_command(place: Path) -> None:
    capture, right, wrong = (str(place / name) for name in ("aead.pcap", "right.key", "wrong.key"))
    done = run("decode", capture, "--key", right, "--cipher", "aes256-gcm", "--hash", "none")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    life = "life a0a1a2a3…, epoch 0, counter"
    assert lines[0].endswith(f" ping, number 1, aes256-gcm of host 1 to host 2: {life} 1")
    assert lines[1].endswith(f" after the ping, aes256-gcm of host 2 to host 1: {life} 7")
    assert lines[2].endswith(f" to all, aes256-gcm of host 1 to all: {life} 2")
    done = run("decode", capture, "--json", "--find", "--key", wrong, "--key", right)
    assert done.returncode == 0, done.stderr
    *packets, summary = map(json.loads, done.stdout.splitlines())
    assert packets[1]["envelope"] == {
        "cipher": "aes256-gcm",
        "sender": 2,
        "to": 1,
        "life": "a0a1a2a3a4a5a6a7a8",
        "epoch": 0,
        "counter": 7,
    }
    assert {packet["key"] for packet in packets} == {f"{right} (aead, aes256-gcm)"}
    assert summary["unopened"] == 0
    # Without the key it is said what it looks like.
    done = run("decode", capture, "--key", wrong)
    assert done.returncode == 1
    assert "look like knet sealed by model aead with aes256-gcm with a key" in done.stdout
    for arguments, why in (
        (("--key", right, "--cipher", "aes256-gcm", "--hash", "sha256"), "has no hash 'sha256'"),
        (("--find",), "--find needs keys to try"),
    ):
        done = run("decode", capture, *arguments)
        assert (done.returncode, why in done.stderr) == (2, True), done.stderr


def test_the_keys_of_a_cluster_file(place: Path) -> None:
    (place / "right.key").chmod(0o400)
    (place / "lab.toml").write_text(
        '[cluster]\nkey_file = "right.key"\nmodel = "aead"\n'
        '[[hosts]]\nid = 1\nlinks = ["10.0.0.1"]\n[[hosts]]\nid = 2\nlinks = ["10.0.0.2"]\n'
    )
    done = run("decode", str(place / "aead.pcap"), "--cluster", str(place / "lab.toml"))
    assert done.returncode == 0, done.stderr
