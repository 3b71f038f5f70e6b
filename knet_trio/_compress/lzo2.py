"""lzo2: level 999 compresses best, every other is LZO1X-1. A raw LZO1X block.

The other variants that libknet's levels name (11, 12, 15) are not in the Python library. They
differ in what they cost the sender only; what they made is read all the same.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Final, Protocol, cast

import lzo  # pyright: ignore[reportMissingImports]

from knet_trio._compress.base import bad_data, check_level, no_memory
from knet_trio.abc import Compressor


class _Lzo(Protocol):
    """What is used of the library, which has no types."""

    error: type[Exception]

    @abstractmethod
    def compress(self, message: bytes, level: int, header: bool, /) -> bytes:
        """A block."""

    @abstractmethod
    def decompress(self, block: bytes, header: bool, limit: int, /) -> bytes:
        """The message in it."""


_library = cast("_Lzo", lzo)

BEST: Final = 999
# The library's own names for LZO1X-1 and LZO1X-999.
_LZO1X_1: Final = 1
_LZO1X_999: Final = 9


class Lzo2(Compressor):
    """One LZO1X block without header."""

    def __init__(self, wire_id: int, level: int) -> None:
        self.wire_id = wire_id
        self._level = level
        if level == _LZO1X_999:
            self.compress_at_once = 2048

    def compress(self, message: bytes) -> bytes:
        """Return ``message`` as a raw block."""
        try:
            return _library.compress(message, self._level, False)
        except _library.error as error:
            raise no_memory("lzo2", error) from error

    def decompress_untrusted(self, data: bytes, limit: int) -> bytes:
        """Return the message in a raw block; the library never writes past the limit."""
        try:
            return _library.decompress(data, False, limit)
        except _library.error as error:
            raise bad_data("lzo2", error) from error


def make(model: str, wire_id: int, level: int | None) -> Compressor:
    """Return the compressor at that level."""
    # As libknet's, any number will do.
    level = check_level(model, level, 1, -(2**31), 2**31 - 1)
    return Lzo2(wire_id, _LZO1X_999 if level == BEST else _LZO1X_1)
