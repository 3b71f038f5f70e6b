"""Packets out of datagrams: keys, clear ones, and trains whose sizes nobody tells."""

from __future__ import annotations

import random

import pytest

from knet_trio._core.onwire import (
    Data,
    Ping,
    PmtudProbe,
    PmtudReply,
    Pong,
    encode_messages,
    encode_pmtud,
    encode_pmtud_reply,
)
from knet_trio._crypto.envelope import make_cipher
from knet_trio.cli.decode.keys import CaptureKey
from knet_trio.cli.decode.opening import (
    FlowMemory,
    OpenedPacket,
    Opener,
    Piece,
    Reason,
    UnopenedPacket,
)
from knet_trio.config import CryptoConfig
from tests.cli.decode.building import KEY, OTHER_KEY, data, ping, pong, seal

SECRET = KEY.key

configs = pytest.mark.parametrize(
    "config",
    [
        CryptoConfig(SECRET),
        CryptoConfig(SECRET, "aes128", "sha1"),
        CryptoConfig(SECRET, "aes-192-cbc", "sha224"),
        CryptoConfig(SECRET, "aes256-ctr", "md5"),
        CryptoConfig(SECRET, "aes-128-ctr", "sha512"),
        CryptoConfig(SECRET, "none", "sha384"),
    ],
    ids=lambda config: f"{config.cipher}-{config.hash}",
)


def keys(*found: CryptoConfig) -> list[CaptureKey]:
    return [CaptureKey(f"key{i}", config) for i, config in enumerate(found)]


def opened(opener: Opener, datagram: bytes, memory: FlowMemory | None = None) -> list[Piece]:
    return opener.open_untrusted(datagram, len(datagram), memory or FlowMemory())


def messages(count: int, size: int, *, fragment_size: int = 1400) -> list[bytes]:
    chance = random.Random(count * size)
    return encode_messages(
        [chance.randbytes(size) for _ in range(count)],
        node=1,
        seqs=range(1, count + 1),
        compress=0,
        broadcast=True,
        channel=3,
        fragment_size=fragment_size,
    )


def numbers(pieces: list[Piece]) -> list[tuple[int, int]]:
    """The number and the fragment of each."""
    found: list[tuple[int, int]] = []
    for piece in pieces:
        assert isinstance(piece, OpenedPacket)
        assert isinstance(piece.packet, Data)
        found.append((piece.packet.seq, piece.packet.frag_seq))
    return found


def test_every_kind_in_clear() -> None:
    probe = encode_pmtud(PmtudProbe(1, 2, 700, 700))
    reply = encode_pmtud_reply(PmtudReply(2, 2, 700))
    kinds = {Data: data(), Ping: ping(1), Pong: pong(1), PmtudProbe: probe, PmtudReply: reply}
    for kind, packet in kinds.items():
        (piece,) = opened(Opener([]), packet)
        assert isinstance(piece, OpenedPacket)
        assert isinstance(piece.packet, kind)
        assert (piece.key, piece.size, piece.cut) == (None, len(packet), False)


@configs
def test_a_sealed_packet(config: CryptoConfig) -> None:
    (piece,) = opened(Opener(keys(OTHER_KEY, config)), seal(data(7), config))
    assert isinstance(piece, OpenedPacket)
    assert piece.key == f"key1 ({config.cipher}, {config.hash})"
    assert numbers([piece]) == [(7, 0)]


@configs
@pytest.mark.parametrize("shape", ["equal", "shorter end", "fragments"])
def test_a_sealed_train(config: CryptoConfig, shape: str) -> None:
    packets = {
        "equal": messages(20, 1000),
        "shorter end": [*messages(5, 700), data(6, payload=b"x")],
        "fragments": messages(2, 5000),
    }[shape]
    train = b"".join(make_cipher(config).seal(packets))
    pieces = opened(Opener(keys(OTHER_KEY, config)), train)
    assert len(pieces) == len(packets)
    expected = numbers([piece for packet in packets for piece in opened(Opener([]), packet)])
    assert numbers(pieces) == expected
    assert sum(piece.size for piece in pieces) == len(train)


@pytest.mark.parametrize("fragment_size", [15, 100, 1400])
def test_a_train_in_clear(fragment_size: int) -> None:
    packets = messages(3, 40 * fragment_size // 10, fragment_size=fragment_size)
    pieces = opened(Opener([]), b"".join(packets))
    assert numbers(pieces) == [(seq, part) for seq in (1, 2, 3) for part in (1, 2, 3, 4)]


def test_a_train_of_pings_and_pongs_that_the_kernel_joined() -> None:
    pieces = opened(Opener([]), ping(1) + pong(2, node=1) + ping(3))
    kinds = [type(piece.packet) for piece in pieces if isinstance(piece, OpenedPacket)]
    assert kinds == [Ping, Pong, Ping]
    assert len(opened(Opener([]), encode_pmtud_reply(PmtudReply(1, 0, 5)) * 2)) == 2


def test_packets_inside_of_messages_make_no_train() -> None:
    # Somebody sends knet packets over knet.
    for inner in (data(5), ping(1)):
        packet = data(1, payload=inner)
        (piece,) = opened(Opener([]), packet)
        assert piece == OpenedPacket(Data(1, 1, 0, True, 1, 0, 0, inner), None, len(packet), False)


def test_a_size_that_stays_open() -> None:
    packet = data(1, payload=data(6) * 10)
    assert opened(Opener([]), packet) == [UnopenedPacket(Reason.TRAIN, len(packet))]


def test_a_damaged_datagram_in_a_train() -> None:
    envelopes = make_cipher(KEY).seal(messages(4, 500))
    size = len(envelopes[0])
    for bad in range(4):
        memory = FlowMemory()
        opener = Opener(keys(KEY))
        # The size is known from the train before it.
        assert len(opened(opener, b"".join(envelopes), memory)) == 4
        train = bytearray(b"".join(envelopes))
        train[bad * size + 40] ^= 1
        pieces = opened(opener, bytes(train), memory)
        assert [isinstance(piece, OpenedPacket) for piece in pieces] == [i != bad for i in range(4)]
        assert pieces[bad] == UnopenedPacket(Reason.SEALED, size)


def test_sizes_are_not_tried_for_ever() -> None:
    tried: list[int] = []

    class Counted(CaptureKey):
        def find_size_untrusted(self, train: bytes) -> int | None:
            tried.append(len(train))
            return super().find_size_untrusted(train)

    opener, memory = Opener([Counted("key", KEY)]), FlowMemory()
    for _ in range(1000):
        opened(opener, bytes(500), memory)
    assert len(tried) < 30
    # But when the flow changes to that key, the sizes are found again.
    train = b"".join(make_cipher(KEY).seal(messages(2, 300)))
    found = [len(opened(opener, train, memory)) for _ in range(100)]
    assert found[-1] == 2


def test_what_was_cut_by_the_capture() -> None:
    opener, memory = Opener(keys(KEY)), FlowMemory()
    clear = data(9, payload=bytes(1000))
    (piece,) = opener.open_untrusted(clear[:50], len(clear), memory)
    assert isinstance(piece, OpenedPacket)
    assert (piece.cut, piece.size) == (True, len(clear))
    sealed = seal(clear)
    assert opener.open_untrusted(sealed[:50], len(sealed), memory) == [
        UnopenedPacket(Reason.CUT, len(sealed))
    ]
    # The whole ones at the beginning of a train are opened.
    envelopes = make_cipher(KEY).seal(messages(3, 500))
    train, size = b"".join(envelopes), len(envelopes[0])
    pieces = opener.open_untrusted(train[: size + 100], len(train), memory)
    assert numbers(pieces[:1]) == [(1, 0)]
    assert pieces[1:] == [UnopenedPacket(Reason.CUT, size)] * 2


def test_why_nothing_opens() -> None:
    malformed = data(1, channel=5)[:13] + b"\x40hello"
    for payload, reason in (
        (b"", Reason.EMPTY),
        (b"\x01\x00", Reason.SEALED),
        (bytes(40), Reason.SEALED),
        (malformed, Reason.NOT_KNET),
    ):
        assert opened(Opener(keys(KEY)), payload) == [UnopenedPacket(reason, len(payload))]
    memory = FlowMemory()
    (piece,) = opened(Opener(keys(CryptoConfig(SECRET))), seal(data(), OTHER_KEY), memory)
    assert piece.reason is Reason.SEALED  # type: ignore[union-attr]
    assert not memory.hints


@configs
def test_the_key_is_right_and_the_names_are_not(config: CryptoConfig) -> None:
    memory = FlowMemory()
    wrong = CryptoConfig(SECRET, "aes192-ctr", "sha256")
    (piece,) = opened(Opener(keys(wrong)), seal(ping(1), config), memory)
    assert isinstance(piece, UnopenedPacket)
    same_hash = config.hash == wrong.hash
    assert piece.reason is (Reason.UNREADABLE if same_hash else Reason.SEALED)
    (hint,) = memory.hints
    name = config.cipher.replace("aes-", "aes").removesuffix("-cbc")
    assert hint == f"key0 opens it with --cipher {name} --hash {config.hash}"


def test_another_version_of_the_protocol() -> None:
    newer = b"\x02" + ping(1)[1:]
    assert opened(Opener(keys(KEY)), seal(newer)) == [UnopenedPacket(Reason.UNREADABLE, 80)]


def test_a_hash_alone_is_not_taken_for_clear() -> None:
    memory, config = FlowMemory(), CryptoConfig(OTHER_KEY.key, "none", "sha512")
    opener = Opener(keys(KEY))
    assert opened(opener, seal(ping(1), config), memory) == [UnopenedPacket(Reason.SEALED, 26 + 64)]
    assert memory.hash_alone == "sha512"
    # The hash behind it would be taken for data.
    sealed = seal(data(), config)
    assert opened(opener, sealed, memory) == [UnopenedPacket(Reason.SEALED, len(sealed))]
