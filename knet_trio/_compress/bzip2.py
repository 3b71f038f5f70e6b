"""bzip2: a bzip2 stream, level 1 (fastest) to 9 (smallest)."""

from __future__ import annotations

import bz2

from knet_trio._compress.base import bad_data, check_level, too_large
from knet_trio.abc import Compressor


class Bzip2(Compressor):
    """bzip2 with blocks of ``level`` times 100 kB."""

    slow = True

    def __init__(self, wire_id: int, level: int) -> None:
        self.wire_id = wire_id
        self._level = level

    def compress(self, message: bytes) -> bytes:
        """Return ``message`` as a bzip2 stream."""
        return bz2.compress(message, self._level)

    def decompress_untrusted(self, data: bytes, limit: int) -> bytes:
        """Return the message in a bzip2 stream, of at most ``limit`` bytes."""
        stream = bz2.BZ2Decompressor()
        try:
            message = stream.decompress(data, limit + 1)
        except (OSError, ValueError, EOFError) as error:
            raise bad_data("bzip2", error) from error
        if len(message) > limit:
            raise too_large("bzip2", limit)
        if not stream.eof:
            raise bad_data("bzip2", "it ends early")
        return message


def make(model: str, wire_id: int, level: int | None) -> Compressor:
    """Return the compressor with a level."""
    return Bzip2(wire_id, check_level(model, level, 9, 1, 9))
