"""lzo2: a raw LZO1X block; level 999 is LZO1X-999, every other level is LZO1X-1.

The other variants that libknet selects (levels 11, 12, 15) are not in the Python library. They
differ in the sender's costs only, and their blocks can be decompressed here.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Final, Protocol, cast

import lzo  # pyright: ignore[reportMissingImports]

from knet_trio._compress.base import MAX_INT, MIN_INT, bad_data, check_level, no_memory
from knet_trio.abc import Compressor


class _Lzo(Protocol):
    """The part of the untyped library that is used here."""

    error: type[Exception]

    @abstractmethod
    def compress(self, message: bytes, level: int, header: bool, /) -> bytes:
        """Return a block."""

    @abstractmethod
    def decompress(self, block: bytes, header: bool, limit: int, /) -> bytes:
        """Return the message in a block."""


_library = cast("_Lzo", lzo)

BEST: Final = 999
# The library's levels for LZO1X-1 and LZO1X-999.
_LZO1X_1: Final = 1
_LZO1X_999: Final = 9


class Lzo2(Compressor):
    """lzo2: one LZO1X block without a header."""

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
        """Return the message in a raw block; the library never exceeds ``limit`` bytes."""
        try:
            return _library.decompress(data, False, limit)
        except _library.error as error:
            raise bad_data("lzo2", error) from error


def make(model: str, wire_id: int, level: int | None) -> Compressor:
    """Return the compressor with a level."""
    level = check_level(model, level, 1, MIN_INT, MAX_INT)
    return Lzo2(wire_id, _LZO1X_999 if level == BEST else _LZO1X_1)
