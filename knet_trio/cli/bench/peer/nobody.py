"""Addresses that nobody listens at."""

from __future__ import annotations

from typing import Final

# "discard", which nothing on loopback serves any more.
_PORT: Final = 9
_EACH: Final = 250


def nobody(number: int) -> tuple[str, int]:
    """An address that refuses packets, another for each number up to 62,500."""
    high, low = divmod(number, _EACH)
    return f"127.1.{high}.{low + 1}", _PORT
