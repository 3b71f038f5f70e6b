"""Helpers of the compression algorithms."""

from __future__ import annotations

from typing import Final

from knet_trio.errors import DropCause, InvalidArgumentError, PacketError, is_integer, shown

# The range of C's ``int``. libknet does not check the level of some models.
MIN_INT: Final = -(2**31)
MAX_INT: Final = 2**31 - 1


def check_level(model: str, level: object, default: int, low: int, high: int) -> int:
    """Return ``level``, or ``default`` for None; raise InvalidArgumentError if it is invalid."""
    if level is None:
        return default
    if is_integer(level) and low <= level <= high:
        return level
    raise InvalidArgumentError(
        f"{model} level {shown(level)} is not valid: give a number from {low} to {high}"
    )


def bad_data(model: str, why: object) -> PacketError:
    """Return the error for bytes that are not compressed data of ``model``."""
    return PacketError(DropCause.BAD_COMPRESSION, f"not {model} data: {why}")


def no_memory(model: str, why: object) -> MemoryError:
    """Return the error for a compressor that failed: with a valid level, memory has run out."""
    return MemoryError(f"{model}: {why}")


def too_large(model: str, limit: int) -> PacketError:
    """Return the error for data that decompress to more than the limit."""
    return PacketError(DropCause.BAD_COMPRESSION, f"{model} data of more than {limit} bytes")
