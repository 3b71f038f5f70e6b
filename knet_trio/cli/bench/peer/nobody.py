"""Addresses at which no program listens."""

from __future__ import annotations

from typing import Final

# "discard", which no program on loopback serves any more.
_PORT: Final = 9
_EACH: Final = 250


def nobody(number: int) -> tuple[str, int]:
    """Return an address that refuses packets, a different one for each number below 62,500."""
    high, low = divmod(number, _EACH)
    return f"127.1.{high}.{low + 1}", _PORT
