"""Writes what the corpora begin with: ``python -m tests.fuzz.seeds``.

Packets and compressed messages are those of the recordings in tests/vectors, cut short where only
their length made them long.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from knet_trio._compress import MODELS
from knet_trio._core.inbound import InboundSequence
from knet_trio._core.onwire import Data, decode_untrusted, encode_data, encode_message
from knet_trio._crypto.envelope import HASH_NAMES, make_cipher
from knet_trio.config import CryptoConfig
from knet_trio.streams._core.limits import INITIAL_CREDIT
from knet_trio.streams._core.wire import PING_TYPE, Code, StreamPacketKind
from knet_trio.streams._core.wire_writing import (
    write_accept,
    write_ack,
    write_close,
    write_credit,
    write_data_head,
    write_reset,
    write_streams,
)
from tests.fuzz.__main__ import CORPUS
from tests.fuzz.configuration import SETTERS
from tests.fuzz.envelope import CIPHERS
from tests.fuzz.reassembly import COUNTS, SIZES, STEPS
from tests.fuzz.streams import LATER, OF_CONNECTION, PROGRAM_READS, TWICE

VECTORS: Final = Path(__file__).parents[1] / "vectors"
SHORT: Final = 60
TEXT: Final = b"The quick brown knet jumps over the lazy link. "


def recordings() -> Iterator[tuple[list[bytes], list[list[bytes]]]]:
    """Of each recording the control packets, and the data packets of each message."""
    for path in sorted(VECTORS.glob("*.json")):
        fields: dict[str, Any] = json.loads(path.read_text(encoding="ascii"))
        crypto = fields["crypto"]
        cipher = None
        if crypto is not None:
            names = {name: crypto[name] for name in ("cipher", "hash", "model")}
            cipher = make_cipher(CryptoConfig(bytes.fromhex(crypto["key"]), **names))

        def plain(packet: str, cipher: Any = cipher) -> bytes:
            raw = bytes.fromhex(packet)
            return raw if cipher is None else cipher.open_untrusted(raw)

        yield (
            [plain(each["packet"]) for each in fields["control"]],
            [[plain(each) for each in message["packets"]] for message in fields["messages"]],
        )


def packet() -> Iterator[bytes]:
    """One of each kind, some that are none, and rows of them."""
    control, messages = next(recordings())
    kinds = {each[1]: each for each in (*control, *(message[-1] for message in messages))}
    for each in kinds.values():
        yield b"\0" + each[:SHORT]
    for length in (0, 6, 7, 8, 14, 25):
        yield b"\0" + bytes((1, 0x81))[:length].ljust(length, b"\0")
    for kind in (0x00, 0x01, 0x02, 0x81, 0x84):
        yield bytes((0, 1, kind, 0, 1, 0, 0, 9)) + bytes(SHORT)
    fragments = encode_message(
        TEXT, node=1, seq=5, compress=2, broadcast=True, channel=3, fragment_size=10
    )
    yield bytes((24,)) + b"".join(fragments)
    yield bytes((24,)) + b"".join(reversed(fragments[:4]))
    yield bytes((24,)) + b"".join(fragments[1:])
    several = [
        encode_data(Data(1, 0xFF + i // 3, 0, False, 3, 1 + i % 3, 0, b"x" * 6)) for i in range(7)
    ]
    for row in (several, several[2:], several[:3] + several[2:], several[:3] + several[4:]):
        yield bytes((20,)) + b"".join(row)
    for first, second in ((1, 2), (0x1FF, 0x200), (0xFFFD, 0xFFFE), (5, 7), (0x1FF, 0x100), (9, 9)):
        row = [encode_data(Data(1, seq, 0, False, 1, 0, 0, b"x" * 6)) for seq in (first, second)]
        yield bytes((20,)) + b"".join(row)
        yield bytes((20,)) + b"".join(row)[:-3]


def envelope() -> Iterator[bytes]:
    """Each cipher and each hash, with one of each kind of envelope."""
    kinds = b"".join(
        (
            bytes((0, 3)) + b"abc",
            bytes((2, 64)) + bytes(64),
            bytes((4, 20)) + bytes(range(20)),
            bytes((6, 20)) + bytes(20) + bytes((5, 1)),
            bytes((8, 32)) + bytes(31) + b"\1",
            bytes((5, 32)) + bytes(32),
            bytes((8, 32)) + bytes(32),
            bytes((4, 0)),
        )
    )
    for i in range(len(CIPHERS)):
        yield bytes((i, i % 6, i + 1, 5, i * 20 % 256)) + kinds
    for i in range(len(HASH_NAMES)):
        yield bytes((2, i, 9, i, i)) + kinds


def aead() -> Iterator[bytes]:
    """Lives that are confirmed and lost, while packets come in order, twice and changed."""
    for number in range(20):
        rng = random.Random(number)
        kinds = (0, 1, 2, 4, 4, 6, 6, 8, 9, 10, 12, 13)
        steps: list[bytes] = [bytes((8, 0))]
        for _ in range(50):
            kind = rng.choice(kinds[:8] if number % 2 else kinds)
            size = rng.choice((0, 3, 22))
            content = bytes((size,)) + bytes(rng.randrange(256) for _ in range(size))
            small = bytes((rng.randrange(3), rng.randrange(2)))
            steps.append(bytes((kind,)) + (content + small if kind < 4 else small[:1]))
        yield b"".join(steps)[:1000]


def reassembly() -> Iterator[bytes]:
    """Hosts that do what the protocol is about, one after the other."""
    steps = {step: i for i, step in enumerate(STEPS)}
    sizes = {size: i for i, size in enumerate(SIZES)}
    counts = {count: COUNTS.index(count) for count in COUNTS}

    def whole(step: int) -> bytes:
        return bytes((5, steps[step], 2))

    def part(step: int, count: int, frag_seq: int, size: int = 2, kind: int = 0) -> bytes:
        return bytes((13, steps[step], counts[count], frag_seq - 1, sizes[size], kind))

    def parts(step: int, count: int, first: int, some: int, size: int = 2, kind: int = 0) -> bytes:
        return bytes((10, steps[step], counts[count], first - 1, some - 2, sizes[size], kind))

    def several(
        step: int, count: int, first: int, some: int, size: int = 2, last: int = 0, kind: int = 0
    ) -> bytes:
        return bytes((15, steps[step], counts[count], first - 1, some - 2, sizes[size], last, kind))

    def ping(step: int, *, timed: bool, nothing: bool = False) -> bytes:
        return bytes((3, steps[step], timed, nothing))

    lost, anew, buffers = b"\1", b"\0", bytes((2, 1))
    yield whole(1) + whole(1) + whole(0) + whole(-1) + whole(1)
    yield part(1, 3, 1) + part(0, 3, 3, 1) + part(0, 3, 2) + part(0, 3, 2) + whole(0)
    yield part(1, 3, 1) + part(0, 3, 1) + part(0, 3, 2, 3) + part(0, 3, 2, kind=1) + part(0, 3, 2)
    yield part(1, 2, 1, 65536) + part(1, 2, 2, 65536) + part(0, 2, 1, 32769) + part(1, 2, 1, 32768)
    yield b"".join(part(1, 3, 1, 21845) for _ in range(5)) + buffers + part(-4, 3, 2, 21845)
    yield part(1, 255, 1, 257) + parts(0, 255, 2, 200, 257) + part(0, 255, 255, 1)
    yield parts(1, 3, 1, 3) + parts(0, 3, 1, 3) + parts(1, 3, 2, 2, kind=9) + part(0, 3, 1)
    yield part(1, 3, 1) + parts(0, 3, 1, 3, kind=1) + parts(0, 3, 2, 2) + whole(0)
    yield part(1, 3, 1) + whole(0) + parts(0, 3, 1, 3) + parts(0, 3, 2, 2)
    yield bytes((7, steps[4], counts[16], 5)) * 3 + bytes((7, steps[-8], counts[255], 5))
    yield whole(1) + several(1, 3, 1, 8) + several(0, 3, 3, 7) + several(-3, 3, 1, 30)
    yield whole(1) + several(1, 2, 1, 60, 1000, 1) + several(1, 2, 1, 4, 1000, 130) + lost
    yield whole(1) + several(1, 3, 1, 6, 21846) + several(1, 2, 1, 4, 32769)
    yield whole(1) + part(1, 3, 1) + part(1, 3, 1) + buffers + several(1, 3, 1, 9, last=3)
    yield whole(1) + part(1, 3, 1) + part(4095, 3, 2) + several(1, 4, 1, 20) + part(0, 3, 3)
    yield whole(1) + several(5, 3, 1, 9) + several(-4, 3, 1, 12, kind=1) + several(-8, 3, 2, 30)
    yield whole(1) + whole(4096) + whole(4097) + whole(-4095) + whole(-4096) + whole(10_000)
    yield part(1, 2, 1) + whole(4096) + part(1, 2, 1) + part(-4095, 2, 2) + part(-1, 2, 2)
    yield whole(5) + lost + ping(0, timed=True) + whole(0) + lost + ping(-5, timed=True) + whole(1)
    yield whole(5) + ping(0, timed=True) + ping(0, timed=True, nothing=True) * 2 + whole(5)
    yield whole(5) + ping(1, timed=False) * 2 + ping(2, timed=False) + whole(5) + anew + whole(5)
    _, messages = next(recordings())
    yield b"".join(
        bytes((4, len(each[:SHORT]))) + each[:SHORT] for message in messages for each in message[:8]
    )


def decompression() -> Iterator[bytes]:
    """What the C library made of each message, and messages to be made something of here."""
    for _, messages in recordings():
        for message in messages:
            source = InboundSequence(lambda _: None)
            for each in message:
                data = decode_untrusted(each)
                assert isinstance(data, Data)
                whole = source.receive(data)
                if data.compress and whole is not None:
                    yield bytes((data.compress, 0, 0, 0)) + whole
    for i in range(len(MODELS)):
        for kind in (1, 0xF3):
            yield bytes((i + 1, kind, 0, 0)) + TEXT
    for i in (0, 1, 8):
        yield bytes((i, 0, 0, 0))


def acl() -> Iterator[bytes]:
    """Entries of each kind and version, questions, and texts."""

    def near(version: int, last: int) -> bytes:
        return bytes((version == 6, last))

    for version in (4, 6):
        one = bytes((5, 1)) + near(version, 5) + b"\1"
        refused = bytes((5, 0)) + near(version, 6) + b"\1"
        length = 24 if version == 4 else 120
        network = bytes((5, 3)) + near(version, 0) + bytes((length, 2))
        some = bytes((5, 5)) + near(version, 3) + near(version, 9) + b"\3"
        ask = b"".join(bytes((3,)) + near(version, last) for last in (5, 6, 7, 10))
        yield one + ask
        yield refused + network + ask + bytes((2,)) + near(version, 0) + b"\0" + ask
        yield some + ask + b"\1" + ask
        yield one + one + some + ask + bytes((2,)) + near(version, 77) + b"\1"
        yield bytes((5, 3, 129 if version == 6 else 128)) + bytes(range(16)) + ask
    for text, other in (
        ("10.0.0.1", "10.0.0.9"),
        ("10.0.0.0", "8"),
        ("10.0.0.0", "255.0.0.0"),
        ("fd00::", "64"),
        ("fe80::1%eth0", "fe80::2%1"),
        ("fe80::%eth0", "64"),
        ("::ffff:10.0.0.1", "::1.2.3.4"),
        ("010.0.0.1", "1.2.3"),
        ("10.0.0.2", "10.0.0.1"),
        ("", "localhost"),
    ):
        yield b"\0" + bytes((len(text),)) + text.encode() + bytes((len(other),)) + other.encode()


def configuration() -> Iterator[bytes]:
    """Each setter with some values of each kind."""
    values = (b"\0\1", b"\0\5", b"\2\12", b"\4\3", b"\6\0", b"\6\1", b"\7\0\0\7", b"\5\3abc")
    for setter in range(len(SETTERS)):
        yield bytes((setter,)) + b"".join(values)
        yield bytes((setter,)) + b"".join(reversed(values))
    for host in ("127.0.0.1", "fd00::1", "fe80::1%lo", "10.0.0.1%lo", "::ffff:1.2.3.4", "x"):
        yield b"".join(
            bytes((0, 5, len(host))) + host.encode() + bytes((5, len(port))) + port.encode()
            for port in ("5405", "65536", " 1", "0x10")
        )
    key = b"Zq7Zq7Zq"
    for times in (1, 6, 200):
        for names in (bytes(6), bytes((0, 2, 0, 3, 0, 1)), bytes((0, 9, 0, 6, 0, 0))):
            yield b"\1" + key + bytes((times, 1)) + names + b"\0\2\0\2"


def streams() -> Iterator[bytes]:
    """Frames and packets of each kind, right ones and some that are not."""

    def record(doing: int, kind: int, step: int, content: bytes) -> bytes:
        return bytes((doing, *(2 + len(content)).to_bytes(2, "big"), kind, step)) + content

    def frames(*contents: bytes, doing: int = OF_CONNECTION) -> bytes:
        kind = StreamPacketKind.FRAMES
        return b"".join(record(doing, kind, step, each) for step, each in enumerate(contents))

    def data(key: int, offset: int, size: int, *, last: bool = False, use: int = 1) -> bytes:
        return write_data_head(key, use, offset, size, last=last) + TEXT[:size]

    def end(kind: StreamPacketKind, content: bytes = b"") -> bytes:
        return record(OF_CONNECTION, kind, 0, content)

    ping = bytes((PING_TYPE, 0, 0, 0))
    opened, answered = 2 * 1, 1
    several = [data(opened, at, 10) for at in range(0, 50, 10)]
    yield frames(*several, data(opened, 50, 0, last=True), doing=OF_CONNECTION | PROGRAM_READS)
    yield frames(*reversed(several), doing=OF_CONNECTION | LATER)
    yield frames(data(opened, 5, 10), data(opened, 0, 10), data(opened, 12, 20), *several)
    yield frames(data(opened, 0, 40, last=True), data(opened, 40, 1), data(opened, 0, 3, last=True))
    yield frames(data(opened, 0, 10), data(opened, 30, 5, last=True), data(opened, 10, 40))
    yield frames(data(opened, 2**20, 10), data(opened, INITIAL_CREDIT, 1), data(opened, 2**63, 9))
    yield frames(b"".join(several), ping * 64, ping * 65, doing=OF_CONNECTION | TWICE)
    for use in (0, 1, 2, 3, 4):
        yield frames(
            data(4, 0, 5, use=use), data(answered, 0, 5, use=use), data(4, 5, 5, last=True)
        )
    yield frames(*(data(2 * number, 0, 1, last=True, use=2) for number in (1, 2, 5, 300, 2**32)))
    yield frames(write_ack([(0, 1)], 0.0), write_ack([(0, 9)], 1.0), write_ack([(3, 99)], 9.0))
    yield frames(
        write_ack([(2, 3), (0, 1)], 0.01) + data(opened, 0, 9), doing=OF_CONNECTION | LATER
    )
    yield frames(write_credit(0, 10**6), write_credit(1, 5), write_streams(5000), write_accept(0))
    yield frames(*(write_reset(key, 3, Code.FAILED, "no") for key in (0, 1, opened, 4, 7, 10**9)))
    yield frames(write_reset(opened, 1, Code.REFUSED, "n" * 60), *several, ping)
    yield end(StreamPacketKind.HELLO) + frames(ping)
    yield end(StreamPacketKind.UNKNOWN) + frames(ping)
    yield end(StreamPacketKind.CLOSE, write_close(Code.CLOSED, "good bye")) + frames(ping)
    yield record(0, 0, 0, bytes(30)) + frames(*(bytes((kind,)) + bytes(20) for kind in range(9)))
    yield record(OF_CONNECTION, StreamPacketKind.FRAMES, 255, ping) + frames(ping)


SEEDS: Final = {
    make.__name__: make
    for make in (packet, envelope, aead, reassembly, decompression, acl, configuration, streams)
}


def main() -> None:
    """Add to each corpus what it does not have."""
    for target, make in SEEDS.items():
        place = CORPUS / target
        place.mkdir(parents=True, exist_ok=True)
        for seed in make():
            name = hashlib.sha1(seed, usedforsecurity=False).hexdigest()
            place.joinpath(name).write_bytes(seed)
        print(f"{target}: {len(list(place.iterdir()))} files")


if __name__ == "__main__":
    main()
