"""How packets and the account read."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from knet_trio._core.onwire import (
    Ping,
    PmtudProbe,
    PmtudReply,
    encode_ping,
    encode_pmtud,
    encode_pmtud_reply,
)
from knet_trio._crypto.envelope import make_cipher
from knet_trio.cli.decode.decoder import Decoder
from knet_trio.cli.decode.json_lines import packet_object, summary_object
from knet_trio.cli.decode.keys import CaptureKey
from knet_trio.cli.decode.text import clock, packet_line, seconds_text, summary_lines
from tests.cli.decode.building import KEY, OTHER_KEY, SECOND, data, frame, ping, pong, seal, udp

FORCED = encode_ping(Ping(1, 0, bytes(16), 5, timed=False))
PROBE = encode_pmtud(PmtudProbe(1, 2, 7, 900))
REPLY = encode_pmtud_reply(PmtudReply(1, 2, 7))
TRAIN = b"".join(make_cipher(KEY).seal([data(1), data(2)]))


def decoder_of(*packets: bytes, snaplen: int = 1 << 20) -> tuple[Decoder, list[str]]:
    """The account of packets from alpha to beta, and their lines from the link layer on."""
    decoder = Decoder([CaptureKey("lab.key", KEY)], [5405])
    lines = [
        packet_line(found).partition("10.0.0.2:5405 ")[2]
        for packet in packets
        for found in decoder.take(frame(udp(packet), snaplen=snaplen))
    ]
    return decoder, lines


@pytest.mark.parametrize(
    ("packet", "lines"),
    [
        (data(7), ["host 1 data 7 channel 0, 5 bytes, to all, clear"]),
        (
            data(7, fragment=2, fragments=3, channel=4, compress=2),
            ["host 1 data 7 fragment 2/3 channel 4, 5 bytes, lz4, to all, clear"],
        ),
        (seal(ping(1, link=3)), ["host 1 link 3 ping, number 1"]),
        (FORCED, ["host 1 link 0 ping, number 5, forced, clear"]),
        (pong(1), ["host 2 link 0 pong, number 1, clear"]),
        (PROBE, ["host 1 link 2 path MTU probe, 900 bytes, clear"]),
        (REPLY, ["host 1 link 2 path MTU reply, clear"]),
        (b"noise", ["not opened: no key opens it, 5 bytes"]),
        (
            TRAIN,
            [
                "host 1 data 1 channel 0, 5 bytes, to all, 1 of 2 in a train",
                "host 1 data 2 channel 0, 5 bytes, to all, 2 of 2 in a train",
            ],
        ),
    ],
    # Sealed ones differ in every run.
    ids=["data", "fragment", "ping", "forced", "pong", "probe", "reply", "noise", "train"],
)
def test_lines(packet: bytes, lines: Sequence[str]) -> None:
    assert decoder_of(packet)[1] == lines


def test_a_packet_that_is_not_captured_whole() -> None:
    decoder, lines = decoder_of(data(1, payload=bytes(500)), seal(ping(1)), snaplen=70)
    assert lines == [
        "host 1 data 1 channel 0, 514 bytes on the wire, to all, clear, not captured whole",
        "not opened: not captured whole, 80 bytes",
    ]
    assert any("may be trains" in line for line in summary_lines(decoder))


def test_where_it_was_captured_and_what_opens_the_rest() -> None:
    decoder = Decoder([CaptureKey("lab.key", KEY)])
    captured = frame(udp(data(1)))._replace(interface="eth7")
    (line,) = map(packet_line, decoder.take(captured))
    assert " eth7 10.0.0.1:5405 > 10.0.0.2:5405 host 1 data 1 " in line
    for i in range(4):
        list(decoder.take(frame(udp(seal(ping(i), OTHER_KEY)))._replace(interface="eth7")))
    text = "\n".join(summary_lines(decoder))
    assert "unknown link, 10.0.0.1:5405 and 10.0.0.2:5405 on eth7" in text
    assert "look like knet sealed by AES-CBC with sha512 with another key" in text


def test_more_strangers_than_are_shown() -> None:
    decoder = Decoder([])
    for port in range(1000, 1025):
        list(decoder.take(frame(udp(b"something", ("10.0.0.1", port)))))
    list(decoder.take(frame(udp(b"something"), snaplen=45)))
    text = "\n".join(summary_lines(decoder))
    assert "26 other UDP flows without an opened packet" in text
    assert "  and 16 more" in text
    assert len(summary_object(decoder, None)["other_flows"]) == 26


def test_times() -> None:
    assert clock(12 * SECOND + 3456789).endswith("12.003456")
    # No calendar goes so far.
    assert clock(10**30) == f"{10**21}.000000"
    assert [seconds_text(value) for value in (0.0, 1.5e-5, 0.0123, 2.0)] == [
        "0 µs",
        "15 µs",
        "12.3 ms",
        "2 s",
    ]


def test_kinds_as_objects() -> None:
    decoder = Decoder([])
    found = [
        packet_object(packet)
        for datagram in (FORCED, PROBE, REPLY, data(1, compress=3))
        for packet in decoder.take(frame(udp(datagram)))
    ]
    assert [packet["kind"] for packet in found] == ["ping", "pmtud", "pmtud_reply", "data"]
    assert found[0]["forced"] is True
    assert found[1]["probe_bytes"] == 900
    assert found[3]["compressed"] == "lz4hc"
