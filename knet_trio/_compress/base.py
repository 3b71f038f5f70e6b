"""What the algorithms have in common."""

from __future__ import annotations

from knet_trio.errors import DropCause, InvalidArgumentError, PacketError


def check_level(model: str, level: object, default: int, low: int, high: int) -> int:
    """``level``, or the default for None; InvalidArgumentError if the model does not have it."""
    if level is None:
        return default
    if isinstance(level, int) and not isinstance(level, bool) and low <= level <= high:
        return level
    raise InvalidArgumentError(f"{model} has levels {low} to {high}, not {level!r}")


def bad_data(model: str, why: object) -> PacketError:
    """For bytes that are not what the model makes."""
    return PacketError(DropCause.BAD_COMPRESSION, f"not {model} data: {why}")


def too_large(model: str, limit: int) -> PacketError:
    """For data that would become more than the limit."""
    return PacketError(DropCause.BAD_COMPRESSION, f"{model} data of more than {limit} bytes")
