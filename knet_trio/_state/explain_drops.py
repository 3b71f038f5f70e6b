"""Dropped packets and messages, and what to do about them, as text."""

from __future__ import annotations

from collections.abc import Mapping

from knet_trio._state.refusals import ADVICE, LastDrop
from knet_trio.errors import DropCause


def count_of(number: int, what: str) -> str:
    """Return a number with its noun: ``1 ping``, ``2 pings``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def explain_drops(
    drops: Mapping[DropCause, int],
    last_drops: Mapping[DropCause, LastDrop],
    now: float,
    advice: Mapping[DropCause, str] = ADVICE,
) -> list[str]:
    """Return a line for each cause for which something was dropped.

    Args:
        drops: The number of packets or messages that were dropped, by cause.
        last_drops: The last drop of each cause, if known.
        now: The time in seconds.
        advice: What to do about each cause. Other causes are left out.
    """
    lines: list[str] = []
    for cause, what_to_do in advice.items():
        if not drops.get(cause):
            continue
        last = last_drops.get(cause)
        text = what_to_do
        if last is not None:
            text = f"{last}; {what_to_do} (last {now - last.at:.1f} s ago)"
        lines.append(f"  {cause} x {drops[cause]}: {text}")
    return lines
