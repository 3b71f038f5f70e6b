"""What the compression algorithms have in common."""

from __future__ import annotations

from typing import Final

from knet_trio.errors import DropCause, InvalidArgumentError, PacketError, is_integer, shown

# What C's ``int`` holds. Where libknet looks at no level, the library behind the model takes all.
MIN_INT: Final = -(2**31)
MAX_INT: Final = 2**31 - 1


def check_level(model: str, level: object, default: int, low: int, high: int) -> int:
    """Return ``level``, or the default for None; raise InvalidArgumentError if it is not one."""
    if level is None:
        return default
    if is_integer(level) and low <= level <= high:
        return level
    raise InvalidArgumentError(f"{model} has levels {low} to {high}, not {shown(level)}")


def bad_data(model: str, why: object) -> PacketError:
    """Return the error for bytes that the algorithm did not make."""
    return PacketError(DropCause.BAD_COMPRESSION, f"not {model} data: {why}")


def no_memory(model: str, why: object) -> MemoryError:
    """Return the error for an algorithm that fails, which valid levels leave one reason for."""
    return MemoryError(f"{model}: {why}")


def too_large(model: str, limit: int) -> PacketError:
    """Return the error for data that would become larger than the limit."""
    return PacketError(DropCause.BAD_COMPRESSION, f"{model} data of more than {limit} bytes")
