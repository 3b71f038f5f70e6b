"""Which flows are knet, and the account of each link."""

from __future__ import annotations

import pytest

from knet_trio._core.onwire import (
    Data,
    PmtudProbe,
    PmtudReply,
    encode_pmtud,
    encode_pmtud_reply,
)
from knet_trio._crypto.envelope import make_cipher
from knet_trio.cli.decode import decoder as decoder_module
from knet_trio.cli.decode.decoder import DecodedPacket, Decoder
from knet_trio.cli.decode.frame import Frame
from knet_trio.cli.decode.keys import CaptureKey
from knet_trio.cli.decode.opening import OpenedPacket, Reason
from tests.cli.decode.building import (
    ALPHA,
    BETA,
    KEY,
    OTHER_KEY,
    SECOND,
    End,
    data,
    frame,
    ping,
    pong,
    seal,
    udp,
)


def taken(decoder: Decoder, *packets: bytes, back: bool = False) -> list[DecodedPacket]:
    """What is said of datagrams from alpha to beta, or back."""
    ends = (BETA, ALPHA) if back else (ALPHA, BETA)
    return [found for packet in packets for found in decoder.take(frame(udp(packet, *ends)))]


def test_a_link() -> None:
    decoder = Decoder([])
    for i in range(10):
        at = float(i)
        list(decoder.take(frame(udp(ping(i, link=3, seq=i)), at=at)))
        (found,) = decoder.take(frame(udp(pong(i, link=3), BETA, ALPHA), at=at + 0.004))
        assert found.round_trip == pytest.approx(0.004)
        assert found.link == 3
    taken(decoder, *(data(seq, channel=5, compress=1) for seq in (1, 2, 4, 4)))
    taken(decoder, encode_pmtud(PmtudProbe(1, 3, 7, 900)), encode_pmtud(PmtudProbe(1, 3, 8, 950)))
    taken(decoder, encode_pmtud_reply(PmtudReply(2, 3, 7)), back=True)
    decoder.finish()
    (link,) = decoder.links
    assert (link.link, [end.port for end in link.ends]) == (3, [5405, 5405])
    there, back = link.ways
    assert (there.host, back.host) == (1, 2)
    assert there.kinds == {"ping": 10, "data": 4, "pmtud": 2}
    assert back.kinds == {"pong": 10, "pmtud_reply": 1}
    assert (there.numbers.missing, there.numbers.duplicates) == (1, 1)
    assert (there.channels, there.compressions) == ({5: 4}, {"zlib": 4})
    assert there.pings.latencies.count == 10
    assert there.pings.latencies.quantile(0.5) == pytest.approx(0.004, rel=0.05)
    assert (there.largest_probe, there.largest_answered) == (950, 900)
    assert decoder.hosts[1].missing == 1
    assert decoder.unopened == 0


def test_both_directions_are_one_link_whichever_is_seen_first() -> None:
    for first in (False, True):
        decoder = Decoder([])
        taken(decoder, data(), back=first)
        taken(decoder, data(), back=not first)
        assert len(decoder.links) == 1


def test_a_flow_is_knet_as_soon_as_something_opens() -> None:
    decoder = Decoder([CaptureKey("key", KEY)])
    damaged = bytearray(seal(data(1)))
    damaged[40] ^= 1
    # It may be anything.
    assert taken(decoder, bytes(damaged)) == []
    assert (decoder.links, len(decoder.strangers)) == ([], 1)
    (found,) = taken(decoder, seal(data(2)))
    assert isinstance(found.piece, OpenedPacket)
    (found,) = taken(decoder, bytes(damaged))
    assert found.piece.reason is Reason.SEALED  # type: ignore[union-attr]
    assert decoder.unopened == 2
    assert decoder.strangers == []


def test_with_ports_all_of_them_is_knet_and_nothing_else() -> None:
    decoder = Decoder([], [5405])
    (found,) = taken(decoder, b"what is this?")
    assert found.piece.reason is Reason.SEALED  # type: ignore[union-attr]
    other: End = ("10.0.0.2", 53)
    assert list(decoder.take(frame(udp(data(), ("10.0.0.1", 4000), other)))) == []
    assert decoder.others == {"UDP of other ports": 1}
    assert len(decoder.links) == 1


def test_a_key_that_was_not_given() -> None:
    decoder = Decoder([CaptureKey("key", KEY)])
    for i in range(5):
        assert taken(decoder, seal(ping(i), OTHER_KEY)) == []
        assert taken(decoder, seal(pong(i), OTHER_KEY), back=True) == []
    (stranger,) = decoder.strangers
    assert stranger.seems_sealed
    assert stranger.guess_seal() == "AES-CBC with sha512"
    assert decoder.unopened == 10


def test_two_keys_one_after_the_other() -> None:
    decoder = Decoder([CaptureKey("old", KEY), CaptureKey("new", OTHER_KEY)])
    for seq in range(1, 5):
        taken(decoder, seal(data(seq)))
    for seq in range(5, 10):
        taken(decoder, seal(data(seq), OTHER_KEY))
    (link,) = decoder.links
    assert link.ways[0].keys == {"old (aes256, sha256)": 4, "new (aes128, sha512)": 5}
    assert link.ways[0].numbers.missing == 0


def test_a_train_is_told_with_its_places() -> None:
    decoder = Decoder([CaptureKey("key", KEY)])
    train = b"".join(make_cipher(KEY).seal([data(seq) for seq in (1, 2, 3)]))
    found = taken(decoder, train)
    assert [packet.train for packet in found] == [(1, 3), (2, 3), (3, 3)]
    assert decoder.links[0].ways[0].trains == 1


def test_a_host_that_begins_anew() -> None:
    decoder = Decoder([])
    taken(decoder, data(1), data(2), data(3), ping(1, seq=0), ping(2, seq=0), data(1), data(2))
    numbers = decoder.links[0].ways[0].numbers
    assert (numbers.restarts, numbers.duplicates, numbers.messages) == (1, 0, 5)
    assert decoder.hosts[1].restarts == 1


def test_numbers_that_another_link_carries() -> None:
    decoder = Decoder([])
    other: End = ("10.1.0.2", 5405)
    for seq in range(1, 101):
        way = (ALPHA, BETA) if seq % 2 else (("10.1.0.1", 5405), other)
        list(decoder.take(frame(udp(data(seq), *way))))
    decoder.finish()
    assert [link.ways[0].numbers.missing for link in decoder.links] == [49, 49]
    assert decoder.hosts[1].missing == 0


def test_frames_of_other_kinds() -> None:
    decoder = Decoder([])
    fragment = bytearray(udp(data()))
    fragment[6] = 0x20
    list(decoder.take(frame(bytes(fragment))))
    list(decoder.take(Frame(0, "", 147, b"?", 1)))
    list(decoder.take(Frame(3 * SECOND, "", 1, bytes(14), 14)))
    assert decoder.others == {
        "fragments of IP packets, which are not put together": 1,
        "link layer not known": 1,
        "not IP": 1,
    }
    assert decoder.link_types == {147: 1}
    assert (decoder.frames, decoder.first, decoder.last) == (3, SECOND, 3 * SECOND)


def test_flows_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_module, "_MOST_STRANGERS", 10)
    monkeypatch.setattr(decoder_module, "_MOST_LINKS", 10)
    decoder = Decoder([])
    taken(decoder, data(1))
    for port in range(1000, 1100):
        list(decoder.take(frame(udp(b"something else", ("10.0.0.1", port)))))
    # What is knet stays.
    assert (len(decoder.links), len(decoder.strangers), decoder.forgotten) == (1, 10, 90)
    # One more stranger goes, for each is one at first; then those links that were seen first.
    for port in range(1000, 1100):
        list(decoder.take(frame(udp(data(1), ("10.0.0.3", port)))))
    assert (len(decoder.links), decoder.forgotten) == (10, 91 + 91)
    (found,) = taken(decoder, data(2))
    assert isinstance(found.piece, OpenedPacket)
    assert isinstance(found.piece.packet, Data)
