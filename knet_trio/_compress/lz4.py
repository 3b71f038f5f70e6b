"""lz4 and lz4hc: raw blocks without the size of the message.

The level of lz4 is its acceleration, 1 (smallest) to 65537; that of lz4hc is 1 (fastest) to 12. As
in libknet, a level below 1 means the default and one above the range its maximum.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Final, Protocol, cast

import lz4.block

from knet_trio._compress.base import MAX_INT, MIN_INT, bad_data, check_level, no_memory
from knet_trio.abc import Compressor

MAX_ACCELERATION: Final = 65537
HC_DEFAULT: Final = 9
HC_STRONGEST: Final = 12


class _Block(Protocol):
    """The part of the untyped library that is used here."""

    LZ4BlockError: type[Exception]

    @abstractmethod
    def compress(
        self,
        message: bytes,
        *,
        mode: str,
        acceleration: int = 1,
        compression: int = 0,
        store_size: bool,
    ) -> bytes:
        """Return a block."""

    @abstractmethod
    def decompress(self, block: bytes, *, uncompressed_size: int) -> bytes:
        """Return the message in a block, of at most ``uncompressed_size`` bytes."""


_library = cast("_Block", lz4.block)


class Lz4(Compressor):
    """lz4, or lz4hc if ``strength`` is given: one raw block."""

    def __init__(self, wire_id: int, *, acceleration: int = 1, strength: int | None = None) -> None:
        self.wire_id = wire_id
        self._acceleration = acceleration
        self._strength = strength
        # lz4hc takes 1 ms and more for 64 KiB.
        if strength is not None:
            self.compress_at_once = 8192

    def compress(self, message: bytes) -> bytes:
        """Return ``message`` as a raw block."""
        try:
            if self._strength is None:
                return _library.compress(
                    message, mode="fast", acceleration=self._acceleration, store_size=False
                )
            return _library.compress(
                message, mode="high_compression", compression=self._strength, store_size=False
            )
        except _library.LZ4BlockError as error:
            raise no_memory("lz4", error) from error

    def decompress_untrusted(self, data: bytes, limit: int) -> bytes:
        """Return the message in a raw block; the library never exceeds ``limit`` bytes."""
        try:
            return _library.decompress(data, uncompressed_size=limit)
        except _library.LZ4BlockError as error:
            raise bad_data("lz4", error) from error


def make(model: str, wire_id: int, level: int | None) -> Compressor:
    """Return lz4 or lz4hc with a level."""
    if model == "lz4hc":
        strength = check_level(model, level, HC_DEFAULT, MIN_INT, MAX_INT)
        return Lz4(wire_id, strength=min(strength, HC_STRONGEST) if strength > 0 else HC_DEFAULT)
    acceleration = check_level(model, level, 1, MIN_INT, MAX_INT)
    return Lz4(wire_id, acceleration=min(max(acceleration, 1), MAX_ACCELERATION))
