"""Every algorithm: there and back, by libknet's ids, and nothing hostile gets through."""

from __future__ import annotations

import bz2
import lzma
import re
import sys
import zlib
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio import CompressConfig, DropCause, InvalidArgumentError, PacketError, _compress
from knet_trio._compress import MODELS, Decompressors, make_compressor
from knet_trio.abc import Compressor

TEXT = b"The quick brown knet jumps over the lazy link. " * 100
LIMIT = 65536
WIRE_IDS = {"zlib": 1, "lz4": 2, "lz4hc": 3, "lzo2": 4, "lzma": 5, "bzip2": 6, "zstd": 7}
INTEGERS = (-(2**31), 2**31 - 1)
LEVELS = {
    "zlib": (-1, 9),
    "lz4": INTEGERS,
    "lz4hc": INTEGERS,
    "lzo2": INTEGERS,
    "lzma": (0, 9),
    "bzip2": (1, 9),
    "zstd": INTEGERS,
}


def compressor(model: str, level: int | None = None) -> Compressor:
    """The compressor, or a skip where its optional library is not installed."""
    if model == "lzo2":
        pytest.importorskip("lzo", reason="pip install 'knet-trio[lzo2]'")
    return make_compressor(CompressConfig(model, level))


def test_all_models_of_libknet_are_there() -> None:
    assert set(MODELS) == set(WIRE_IDS)


@pytest.mark.parametrize("model", MODELS)
def test_a_message_comes_back_as_it_was(model: str) -> None:
    algorithm = compressor(model)
    assert algorithm.wire_id == WIRE_IDS[model]
    for message in (TEXT, b"x", bytes(LIMIT), bytes(range(256)) * 200):
        packed = algorithm.compress(message)
        assert (
            Decompressors().find_untrusted(WIRE_IDS[model]).decompress_untrusted(packed, LIMIT)
            == message
        )
    assert len(algorithm.compress(TEXT)) < len(TEXT) / 5


@pytest.mark.parametrize("model", LEVELS)
def test_levels_are_those_of_libknet(model: str) -> None:
    low, high = LEVELS[model]
    for level in (low, high):
        algorithm = compressor(model, level)
        assert algorithm.decompress_untrusted(algorithm.compress(TEXT), LIMIT) == TEXT
    wrong: list[Any] = [low - 1, high + 1, True, str(low), float(high)]
    for level in wrong:
        with pytest.raises(InvalidArgumentError, match=r"level .* is not valid"):
            compressor(model, level)


@pytest.mark.parametrize(
    ("model", "level", "same"),
    [
        ("lz4", -1, 1),
        ("lz4", 0, 1),
        ("lz4", 65538, 65537),
        ("lz4hc", -1, 9),
        ("lz4hc", 0, 9),
        ("lz4hc", 17, 12),
        ("zstd", -131073, -131072),
        ("zstd", 0, 3),
        ("zstd", 23, 22),
        ("lzo2", -1, 1),
        ("lzo2", 1000, 1),
    ],
)
def test_a_level_that_there_is_not_is_another(model: str, level: int, same: int) -> None:
    assert compressor(model, level).compress(TEXT) == compressor(model, same).compress(TEXT)


@pytest.mark.parametrize("level", [0, 9])
def test_lzma_has_extreme_levels(level: int) -> None:
    algorithm = compressor("lzma", -(2**31) + level)
    packed = algorithm.compress(TEXT)
    extreme = lzma.PRESET_EXTREME | level
    assert packed == lzma.compress(TEXT, check=lzma.CHECK_NONE, preset=extreme)
    assert algorithm.decompress_untrusted(packed, LIMIT) == TEXT
    with pytest.raises(InvalidArgumentError, match=r"level .* is not valid"):
        compressor("lzma", -(2**31) + 10)


def test_negative_levels_of_zstd_are_quicker_and_larger() -> None:
    message = bytes(range(256)) * 4 + TEXT
    sizes = [len(compressor("zstd", level).compress(message)) for level in (-100, -5, 3)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]


@pytest.mark.parametrize("level", [None, 1, 11, 12, 15, 999, 7])
def test_every_level_of_lzo2_selects_a_variant(level: int | None) -> None:
    algorithm = compressor("lzo2", level)
    assert algorithm.decompress_untrusted(algorithm.compress(TEXT), LIMIT) == TEXT


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="use one of zlib"):
        make_compressor(CompressConfig("snappy"))
    with pytest.raises(PacketError) as caught:
        Decompressors().find_untrusted(200)
    assert caught.value.cause is DropCause.UNKNOWN_COMPRESSION


# The free-threaded build of Python has no lz4; zstd is in the standard library from 3.14 on.
@pytest.mark.parametrize(
    ("model", "library", "module", "package"),
    [
        ("lzo2", "lzo", "lzo2", "knet-trio[lzo2]"),
        ("lz4", "lz4", "lz4", "lz4"),
        ("lz4hc", "lz4.block", "lz4", "lz4"),
        (
            "zstd",
            "compression" if sys.version_info >= (3, 14) else "backports",
            "zstd",
            "knet-trio[zstd]",
        ),
    ],
)
def test_a_missing_library_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, model: str, library: str, module: str, package: str
) -> None:
    monkeypatch.delitem(sys.modules, f"knet_trio._compress.{module}", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    # As in a new process: what was tried before is remembered.
    monkeypatch.setattr("knet_trio._compress._load", cache(_compress._load.__wrapped__))  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(InvalidArgumentError, match=re.escape(f"pip install '{package}'")):
        make_compressor(CompressConfig(model))
    others = Decompressors()
    with pytest.raises(PacketError, match="pip install") as caught:
        others.find_untrusted(WIRE_IDS[model])
    assert caught.value.cause is DropCause.UNKNOWN_COMPRESSION
    # The rest goes on.
    others.find_untrusted(WIRE_IDS["zlib"])
    make_compressor(CompressConfig("zlib"))


@pytest.mark.parametrize("model", MODELS)
@given(data=st.binary(max_size=300), cut=st.integers(0, 60), flip=st.integers(0, 400))
def test_hostile_bytes_raise_one_error_and_nothing_else(
    model: str, data: bytes, cut: int, flip: int
) -> None:
    algorithm = compressor(model)
    packed = bytearray(algorithm.compress(TEXT[:500]))
    packed[flip // 8 % len(packed)] ^= 1 << flip % 8
    for hostile in (data, algorithm.compress(TEXT)[:cut], bytes(packed)):
        try:
            message = algorithm.decompress_untrusted(hostile, LIMIT)
        except PacketError as error:
            assert error.cause is DropCause.BAD_COMPRESSION  # noqa: PT017  # it may also be right
        else:
            assert len(message) <= LIMIT


@pytest.mark.parametrize("model", MODELS)
def test_one_byte_over_the_limit_is_refused(model: str) -> None:
    algorithm = compressor(model)
    packed = algorithm.compress(bytes(1001))
    assert algorithm.decompress_untrusted(packed, 1001) == bytes(1001)
    with pytest.raises(PacketError) as caught:
        algorithm.decompress_untrusted(packed, 1000)
    assert caught.value.cause is DropCause.BAD_COMPRESSION


def bomb(model: str) -> bytes:
    """As much as fits into a message, of what becomes very much larger."""
    much = bytes(256 * 1024 * 1024)
    if model == "zlib":
        packed = zlib.compress(bytes(60 * 1024 * 1024), 9)
    elif model == "bzip2":
        packed = bz2.compress(much)
    else:
        packed = lzma.compress(much, format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE)
    assert len(packed) <= LIMIT
    return packed


@pytest.mark.parametrize("model", ["zlib", "bzip2", "lzma"])
def test_a_bomb_costs_an_error_and_no_memory(model: str) -> None:
    resource = pytest.importorskip("resource")
    algorithm, packed = compressor(model), bomb(model)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PacketError, match="more than 65536 bytes"):
        algorithm.decompress_untrusted(packed, LIMIT)
    # Kilobytes; the peak is that of the process, which has held the bomb's making.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024
