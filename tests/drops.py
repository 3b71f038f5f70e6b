"""Comparing what was dropped."""

from __future__ import annotations

from collections.abc import Mapping

from knet_trio.errors import DropCause


def counted(drops: Mapping[DropCause, int]) -> dict[DropCause, int]:
    """Return the causes that something was dropped for."""
    return {cause: times for cause, times in drops.items() if times}


def counted_messages(drops: Mapping[DropCause, int]) -> dict[DropCause, int]:
    """Return the same without answers that came late, as they do on a busy machine."""
    late = (DropCause.UNEXPECTED_PONG, DropCause.UNEXPECTED_PMTUD_REPLY)
    return {cause: times for cause, times in counted(drops).items() if cause not in late}
