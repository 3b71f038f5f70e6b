"""zstd: a Zstandard frame, level -131072 (fastest) to 22 (smallest), 0 for the default.

As in libknet, a level outside the range means its nearest end.

The library is ``compression.zstd`` from Python 3.14 on, before that ``backports.zstd``.
"""

from __future__ import annotations

import sys
from typing import Final

from knet_trio._compress.base import (
    MAX_INT,
    MIN_INT,
    bad_data,
    check_level,
    no_memory,
    too_large,
)
from knet_trio.abc import Compressor

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

QUICKEST: Final = -131072
STRONGEST: Final = 22
DEFAULT: Final = 3
# The largest window of a frame, as a power of two: 8 MiB, which every decoder must support.
MAX_WINDOW_LOG: Final = 23


class Zstd(Compressor):
    """zstd: one Zstandard frame."""

    # Blocks with nothing but their tables take 220 ns a byte; others a hundredth of that.
    slow_from = 4096

    def __init__(self, wire_id: int, level: int) -> None:
        self.wire_id = wire_id
        self._level = level
        # Measured for 64 KiB on a fast machine: level 3 0.4 ms, 5 0.7, 9 1.0, 15 6, 19 24.
        if level > 9:
            self.compress_at_once = 0
        elif level > 3:
            self.compress_at_once = 16384

    def compress(self, message: bytes) -> bytes:
        """Return ``message`` as a frame."""
        try:
            return zstd.compress(message, self._level)
        except zstd.ZstdError as error:
            raise no_memory("zstd", error) from error

    def decompress_untrusted(self, data: bytes, limit: int) -> bytes:
        """Return the message in a frame, of at most ``limit`` bytes."""
        options = {int(zstd.DecompressionParameter.window_log_max): MAX_WINDOW_LOG}
        stream = zstd.ZstdDecompressor(options=options)
        try:
            message = stream.decompress(data, limit + 1)
        except zstd.ZstdError as error:
            raise bad_data("zstd", error) from error
        if len(message) > limit:
            raise too_large("zstd", limit)
        if not stream.eof:
            raise bad_data("zstd", "it ends early")
        return message


def make(model: str, wire_id: int, level: int | None) -> Compressor:
    """Return the compressor with a level."""
    level = check_level(model, level, DEFAULT, MIN_INT, MAX_INT)
    return Zstd(wire_id, min(max(level, QUICKEST), STRONGEST))
