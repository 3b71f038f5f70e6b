"""Dropped packets and messages, and what to do about them, as text."""

from __future__ import annotations

from collections.abc import Mapping

from knet_trio._state.refusals import ADVICE, LastDrop
from knet_trio.errors import DropCause


def explain_drops(
    drops: Mapping[DropCause, int],
    last_drops: Mapping[DropCause, LastDrop],
    now: float,
    advice: Mapping[DropCause, str] = ADVICE,
) -> list[str]:
    """Return a line for each cause for which something was dropped, or for several with one text.

    Args:
        drops: The number of packets or messages that were dropped, by cause.
        last_drops: The last drop of each cause, if known.
        now: The time in seconds.
        advice: What to do about each cause. Other causes are left out.
    """
    # Packets of one kind may be dropped for several causes, such as noise: these are one line.
    together: dict[str, list[DropCause]] = {}
    for cause in advice:
        if drops.get(cause):
            last = last_drops.get(cause)
            together.setdefault(str(cause if last is None else last), []).append(cause)
    lines: list[str] = []
    for text, causes in together.items():
        what_to_do = advice[causes[0]]
        known = [last_drops[cause].at for cause in causes if cause in last_drops]
        if known:
            what_to_do = f"{text}; {what_to_do} (last {now - max(known):.1f} s ago)"
        counts = ", ".join(f"{cause} x {drops[cause]}" for cause in causes)
        lines.append(f"  {counts}: {what_to_do}")
    return lines
