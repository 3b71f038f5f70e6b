"""Any bytes: the one error, or frames, and always an account."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from knet_trio._crypto.envelope import make_cipher
from knet_trio.cli.decode.capture import Capture
from knet_trio.cli.decode.decoder import Decoder
from knet_trio.cli.decode.errors import CaptureError
from knet_trio.cli.decode.json_lines import packet_object, summary_object
from knet_trio.cli.decode.keys import CaptureKey
from knet_trio.cli.decode.text import packet_line, summary_lines
from knet_trio.config import CryptoConfig
from tests.cli.decode.building import (
    BETA,
    KEY,
    OTHER_KEY,
    SECOND,
    data,
    ethernet,
    interface,
    packet_block,
    pcap,
    ping,
    pong,
    seal,
    section,
    udp,
)

KEYS = (KEY, OTHER_KEY, CryptoConfig(KEY.key, "none", "md5"))
PACKETS = [
    data(1),
    data(2, fragment=1, fragments=2),
    ping(1),
    pong(1),
    data(3, payload=bytes(40)) + data(4, payload=bytes(40)),
    seal(data(5)),
    seal(ping(6), OTHER_KEY),
    b"".join(make_cipher(KEY).seal([data(7), data(8), data(9)])),
]
FRAMES = [ethernet(udp(packet)) for packet in PACKETS] + [
    ethernet(udp(packet, ("fd00::1", 5405), ("fd00::2", 5405))) for packet in PACKETS
]
PCAP = pcap([(i * SECOND, frame, len(frame)) for i, frame in enumerate(FRAMES)])
PCAPNG = (
    section()
    + interface(options=[(2, b"eth0"), (9, b"\x09")])
    + interface(276, options=[(14, bytes(8))])
    + b"".join(packet_block(frame, i * SECOND) for i, frame in enumerate(FRAMES))
)


def decode(file: bytes, piece: int = 1 << 20) -> Decoder:
    """All that the command does with a file."""
    decoder = Decoder([CaptureKey("key", config) for config in KEYS])
    capture = Capture()
    damage: str | None = None
    try:
        for start in range(0, len(file), piece):
            for frame in capture.feed(file[start : start + piece]):
                for found in decoder.take(frame):
                    assert packet_line(found)
                    assert json.dumps(packet_object(found))
        capture.finish()
    except CaptureError as error:
        damage = str(error)
        assert damage
    decoder.finish()
    assert list(summary_lines(decoder))
    assert json.dumps(summary_object(decoder, damage))
    return decoder


def test_what_is_mutated_is_right_to_begin_with() -> None:
    for file in (PCAP, PCAPNG):
        decoder = decode(file)
        assert decoder.frames == len(FRAMES)
        assert sum(link.opened for link in decoder.links) == 2 * (len(PACKETS) + 3)
        assert decoder.unopened == 0


@given(st.binary(max_size=2000), st.sampled_from([b"", PCAP[:24], section() + interface()]))
def test_random_bytes(noise: bytes, head: bytes) -> None:
    decode(head + noise)


mutations = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=8)), min_size=1, max_size=20
)


@given(mutations, st.sampled_from([PCAP, PCAPNG]), st.sampled_from([31, 1 << 20]))
def test_mutated_captures(places: list[tuple[int, bytes]], file: bytes, piece: int) -> None:
    mutated = bytearray(file)
    for place, value in places:
        start = place % len(mutated)
        mutated[start : start + len(value)] = value
    decode(bytes(mutated), piece)


@given(st.integers(0, 1 << 20), st.integers(0, 100), st.sampled_from([PCAP, PCAPNG]))
def test_captures_with_bytes_cut_out(place: int, count: int, file: bytes) -> None:
    start = place % len(file)
    decode(file[:start] + file[start + count :])


@given(
    st.lists(st.tuples(st.sampled_from(PACKETS), mutations, st.booleans()), max_size=10),
)
def test_mutated_packets(packets: list[tuple[bytes, list[tuple[int, bytes]], bool]]) -> None:
    """The frames are right, so all of it is looked into."""
    frames: list[tuple[int, bytes, int]] = []
    for packet, places, back in packets:
        mutated = bytearray(packet)
        for place, value in places:
            start = place % len(mutated)
            mutated[start : start + len(value)] = value
        ends = (BETA, ("10.0.0.1", 5405)) if back else (("10.0.0.1", 5405), BETA)
        whole = ethernet(udp(bytes(mutated), *ends))
        frames.append((len(frames), whole, len(whole)))
    assert decode(pcap(frames)).frames == len(packets)


@given(st.sampled_from([1, 101, 113, 276, 0]), st.binary(max_size=200), st.integers(0, 2**32 - 1))
def test_random_frames(link_type: int, frame: bytes, length: int) -> None:
    assert decode(pcap([(0, frame, length)], link_type=link_type)).frames == 1
