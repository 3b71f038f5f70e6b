"""A change of the key in progress, in words."""

from __future__ import annotations

from typing import Final

from knet_trio.cli.names import title_of
from knet_trio.control import HandleReport

PHASE_WORDS: Final[dict[str | None, str]] = {
    None: "only has the old key",
    "set": "accepts the new key beside the old one",
    "use": "uses the new key, and accepts the old one",
    "clear": "only has the new key",
}
"""What a host has done, by the last phase that it has confirmed."""


def describe_key_change(report: HandleReport) -> str | None:
    """Return who began the change in progress and how far this host is; None for no change."""
    change = report.key_change
    if change is None:
        return None
    names = {host.host_id: host.name for host in report.hosts}
    began_by = title_of(change.began_by, names.get(change.began_by, str(change.began_by)))
    if change.began_by == report.host_id:
        began_by = "this host"
    # A later release may have other phases.
    state = PHASE_WORDS.get(change.phase, f"is in phase {change.phase}")
    return f"a change of the key, begun by {began_by}, is in progress: this host {state}"
