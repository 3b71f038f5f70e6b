"""The two formats of captures: both byte orders, all units, several interfaces, damage."""

from __future__ import annotations

import struct
import tracemalloc

import pytest

from knet_trio.cli.decode.capture import Capture
from knet_trio.cli.decode.errors import CaptureError
from knet_trio.cli.decode.frame import ETHERNET, LARGEST_FRAME, Frame
from tests.cli.decode.building import (
    SECOND,
    block,
    interface,
    packet_block,
    pcap,
    read,
    section,
)

TIME = 1_700_000_000 * SECOND + 123_456_789

orders = pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])


@orders
@pytest.mark.parametrize("nanoseconds", [False, True], ids=["us", "ns"])
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_pcap(order: str, nanoseconds: bool, piece: int) -> None:
    file = pcap(
        [(TIME, b"first", 5), (TIME + SECOND, b"", 0), (TIME, b"cut", 1500)],
        order=order,
        nanoseconds=nanoseconds,
        link_type=276,
    )
    time = TIME if nanoseconds else TIME // 1000 * 1000
    assert read(file, piece=piece) == [
        Frame(time, "", 276, b"first", 5),
        Frame(time + SECOND, "", 276, b"", 0),
        Frame(time, "", 276, b"cut", 1500),
    ]


@orders
@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_pcapng(order: str, piece: int) -> None:
    file = (
        section(order)
        + interface(order=order, options=[(2, b"eth0"), (9, b"\x09")])
        + block(5, bytes(20), order)  # statistics, which say nothing here
        + interface(101, order=order, options=[(2, b"wg0"), (14, struct.pack(f"{order}q", 100))])
        + packet_block(b"first", TIME, order=order)
        + packet_block(b"second", TIME // 1000, number=1, order=order, length=99)
    )
    assert read(file, piece=piece) == [
        Frame(TIME, "eth0", ETHERNET, b"first", 5),
        Frame(TIME // 1000 * 1000 + 100 * SECOND, "wg0", 101, b"second", 99),
    ]


def test_a_section_begins_anew() -> None:
    file = (
        section("<")
        + interface(options=[(2, b"eth0")])
        + packet_block(b"a", 1)
        + section(">")
        + interface(113, order=">")
        + packet_block(b"b", 2, order=">")
    )
    assert read(file) == [
        Frame(1000, "eth0", ETHERNET, b"a", 1),
        Frame(2000, "", 113, b"b", 1),
    ]
    with pytest.raises(CaptureError, match=r"interface 0, and only 0 are described"):
        read(file + section() + packet_block(b"c", 3))


def test_times_in_powers_of_two() -> None:
    file = section() + interface(options=[(9, b"\x8a")]) + packet_block(b"a", 1024 + 512)
    assert [found.time for found in read(file)] == [SECOND * 3 // 2]


def test_the_older_blocks_of_frames() -> None:
    old = struct.pack("<HHIIII", 0, 3, 0, 5, 4, 60) + b"data"
    simple = struct.pack("<I", 60) + b"data"
    file = section() + interface(snaplen=4) + block(2, old) + block(3, simple)
    # A simple one has no time of its own, and its size is the interface's.
    assert read(file) == [Frame(5000, "", ETHERNET, b"data", 60)] * 2


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (b"", "the file is empty"),
        (b"#!/bin/sh\necho this is no capture\n", "neither pcap nor pcapng: the file begins"),
        (b"\x1f\x8b" + bytes(50), "compressed with gzip: try `gunzip`"),
        (b"\xa1\xb2\xcd\x34" + bytes(50), "this variant of pcap"),
        (pcap([])[:20], "cut off in its header"),
        (struct.pack("<IHHiIII", 0xA1B2C3D4, 9, 4, 0, 0, 0, 1), "version 9.4"),
        (section()[:20], "cut off after 0 frames, at byte 0"),
        (block(0x0A0D0D0A, struct.pack("<IHHq", 7, 1, 0, -1)), "byte order 0x07000000"),
        (block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 2, 0, -1)), "pcapng version 2.0"),
        (section() + struct.pack("<III", 1, 8, 0), "a block of 8 bytes is not possible"),
        (section() + struct.pack("<III", 1, 1 << 30, 0), "too large to be valid"),
        (section() + struct.pack("<IIII", 9, 16, 0, 20), "has the size 20 at its end"),
        (section() + block(1, b"\x01\x00"), "a block of type 1 has only 16 bytes"),
        (section() + interface() * 1025, "more than 1024 interfaces"),
        (section() + block(1, struct.pack("<HHIHH", 1, 0, 0, 2, 99)), "an option of 99 bytes"),
        (section() + interface() + block(6, struct.pack("<IIIII", 0, 0, 0, 99, 99)), "99 bytes"),
    ],
)  # fmt: skip
def test_what_is_no_capture(file: bytes, words: str) -> None:
    with pytest.raises(CaptureError) as caught:
        read(file)
    assert words in str(caught.value)


def test_what_is_before_the_damage_is_given() -> None:
    good = pcap([(TIME, b"first", 5), (TIME, b"second", 6)])
    broken = good + struct.pack("<IIII", 0, 0, LARGEST_FRAME + 1, 0) + bytes(100)
    capture = Capture()
    frames: list[Frame] = []
    with pytest.raises(CaptureError, match=rf"damaged after 2 frames, at byte {len(good)}: a fram"):
        frames.extend(capture.feed(broken))
    assert [found.data for found in frames] == [b"first", b"second"]


def test_a_file_that_is_cut_off() -> None:
    whole = pcap([(TIME, b"first", 5), (TIME, b"second", 6)])
    for end in range(24 + 16 + 5 + 1, len(whole)):
        capture = Capture()
        assert [found.data for found in capture.feed(whole[:end])] == [b"first"]
        with pytest.raises(CaptureError, match="cut off after 1 frames, at byte 45"):
            capture.finish()


def test_what_is_held_does_not_grow_with_the_file() -> None:
    record = pcap([(TIME, bytes(1400), 1400)])[24:] * 200
    capture = Capture()
    assert list(capture.feed(pcap([]))) == []
    tracemalloc.start()
    try:
        for _ in range(100):
            assert sum(1 for _ in capture.feed(record)) == 200
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert capture.frames == 20_000
    # 28 MB went through it.
    assert most < 2 * len(record)
