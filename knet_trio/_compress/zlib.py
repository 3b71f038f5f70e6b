"""zlib: a zlib stream, level 0 (stored) to 9 (smallest), -1 for the default."""

from __future__ import annotations

import zlib

from knet_trio._compress.base import bad_data, check_level, too_large
from knet_trio.abc import Compressor


class Zlib(Compressor):
    """zlib: deflate with zlib's header and checksum."""

    # Blocks with nothing but their tables take 100 ns a byte; others a tenth of that.
    slow_from = 8192

    def __init__(self, wire_id: int, level: int) -> None:
        self.wire_id = wire_id
        self._level = level
        # 1 to 2 ms for 64 KiB on a fast machine, with all levels but 0.
        if level:
            self.compress_at_once = 8192

    def compress(self, message: bytes) -> bytes:
        """Return ``message`` as a zlib stream."""
        return zlib.compress(message, self._level)

    def decompress_untrusted(self, data: bytes, limit: int) -> bytes:
        """Return the message in a zlib stream, of at most ``limit`` bytes."""
        stream = zlib.decompressobj()
        try:
            message = stream.decompress(data, limit + 1)
        except zlib.error as error:
            raise bad_data("zlib", error) from error
        if len(message) > limit:
            raise too_large("zlib", limit)
        if not stream.eof:
            raise bad_data("zlib", "it ends early")
        return message


def make(model: str, wire_id: int, level: int | None) -> Compressor:
    """Return the compressor with a level."""
    return Zlib(wire_id, check_level(model, level, -1, -1, 9))
