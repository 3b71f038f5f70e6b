"""Compressed messages to and from the C library: read whatever the reader's own setting is."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio

from knet_trio import CompressConfig, InvalidArgumentError
from knet_trio._compress import make_compressor
from tests.interop import libknet
from tests.interop.pairs import on_loopback, open_pair

pytestmark = pytest.mark.usefixtures("segmentation")

TEXT = b"The quick brown knet jumps over the lazy link. "
MESSAGES = [b"short", TEXT * 20, TEXT * 1300, bytes(65536)]
# The C library's own levels: what it takes in place of our None differs from model to model.
LEVELS = {"zlib": 6, "lz4": 1, "lz4hc": 9, "lzma": 6, "bzip2": 9, "zstd": 3, "lzo2": 1}


@pytest.mark.parametrize("model", LEVELS)
async def test_both_directions(model: str) -> None:
    if model == "lzo2":
        pytest.importorskip("lzo", reason="pip install 'knet-trio[lzo2]'")
    async with open_pair(on_loopback()) as pair:
        with trio.fail_after(30):
            await pair.c.set_compress(model, LEVELS[model])
            await pair.c.send_many(MESSAGES)
            assert await pair.ours.receive_count(len(MESSAGES)) == MESSAGES
            pair.ours.handle.set_compress(CompressConfig(model))
            await pair.ours.channel.send_many(MESSAGES)
            assert await pair.c.receive_count(len(MESSAGES)) == MESSAGES
        counted = pair.ours.handle.statistics()
        theirs = await pair.c.statistics()
        packed = len(MESSAGES) - 1
        assert counted.tx_compressed_packets == theirs["rx_compressed_packets"] == packed
        assert counted.rx_compressed_packets == theirs["tx_compressed_packets"] == packed
        # On receiving, the C library counts the data header of 8 bytes along.
        sent = counted.tx_compressed_size_bytes
        assert theirs["rx_compressed_size_bytes"] == sent + 8 * packed
        assert counted.rx_compressed_size_bytes == theirs["tx_compressed_size_bytes"]


@pytest.mark.parametrize("model", LEVELS)
def test_levels(model: str) -> None:
    """What the C library takes, and nothing else, is a level here."""
    if model == "lzo2":
        pytest.importorskip("lzo", reason="pip install 'knet-trio[lzo2]'")
    numbers = {*range(-12, 26), 999, 1000, 65537, 65538, 131072, 2**31 - 1}
    numbers |= {-number for number in numbers} | {-131073, -(2**31), -(2**31) + 9, -(2**31) + 10}
    theirs, ours = set[int](), set[int]()
    handle = libknet.Handle(1)
    try:
        for level in numbers:
            with suppress(OSError):
                handle.compress(model, level, 0)
                theirs.add(level)
            with suppress(InvalidArgumentError):
                make_compressor(CompressConfig(model, level))
                ours.add(level)
    finally:
        handle.free()
    assert ours == theirs
