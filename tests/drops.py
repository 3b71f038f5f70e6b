"""Comparing what was dropped."""

from __future__ import annotations

from collections.abc import Mapping

from knet_trio.errors import DropCause


def counted(drops: Mapping[DropCause, int]) -> dict[DropCause, int]:
    """Return the causes that something was dropped for."""
    return {cause: times for cause, times in drops.items() if times}
