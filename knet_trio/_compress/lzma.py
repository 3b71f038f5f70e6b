"""lzma: an .xz container without integrity check, level 0 (fastest) to 9 (smallest).

The level may include the library's flag for extreme presets, which makes it negative in C's
``int``.
"""

from __future__ import annotations

import lzma
from typing import Final

from knet_trio._compress.base import MIN_INT, bad_data, check_level, too_large
from knet_trio.abc import Compressor

# Level 9 requires a dictionary of 64 MiB at the receiver, however short the message. No level
# requires more.
MEMORY_LIMIT: Final = 72 * 1024 * 1024


class Lzma(Compressor):
    """lzma: LZMA2 in an .xz container."""

    slow = True

    def __init__(self, wire_id: int, level: int) -> None:
        self.wire_id = wire_id
        self._level = level

    def compress(self, message: bytes) -> bytes:
        """Return ``message`` as an .xz container."""
        return lzma.compress(
            message, format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE, preset=self._level
        )

    def decompress_untrusted(self, data: bytes, limit: int) -> bytes:
        """Return the message in an .xz container, of at most ``limit`` bytes."""
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_LIMIT)
        try:
            message = stream.decompress(data, limit + 1)
        except (lzma.LZMAError, EOFError) as error:
            raise bad_data("lzma", error) from error
        if len(message) > limit:
            raise too_large("lzma", limit)
        if not stream.eof:
            raise bad_data("lzma", "it ends early")
        return message


def make(model: str, wire_id: int, level: int | None) -> Compressor:
    """Return the compressor with a level."""
    if isinstance(level, int) and MIN_INT <= level <= MIN_INT + 9:
        return Lzma(wire_id, (level - MIN_INT) | lzma.PRESET_EXTREME)
    return Lzma(wire_id, check_level(model, level, 6, 0, 9))
