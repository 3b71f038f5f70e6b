"""The differences between two versions of a cluster file, as text for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

import attrs

from knet_trio._state.turns import Turns
from knet_trio.cluster._crypto_names import CryptoNames
from knet_trio.cluster._plan import HostPlan, LinkPlan
from knet_trio.cluster.records import (
    Cluster,
    ClusterChannel,
    ClusterControl,
    ClusterMetrics,
    ClusterTap,
)
from knet_trio.config import CompressConfig, CryptoConfig


@attrs.frozen
class Change:
    """A difference between two versions of a file. Keys of the cluster are never shown.

    Attributes:
        key: The setting, such as ``cluster.hedge`` or ``hosts.2.links.0.priority``.
        before: The old value as text, None if it was missing.
        after: The new value as text, None if it was removed.
    """

    key: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.key}: added, {self.after}"
        if self.after is None:
            return f"{self.key}: removed, it was {self.before}"
        if self.before == self.after:
            return f"{self.key}: changed, {self.after}"
        return f"{self.key}: {self.after}, it was {self.before}"


# Fields of Cluster that are not shown by _show.
_OTHERWISE: Final = {
    *("hosts", "links", "path", "policy", "is_corosync", "warnings"),
    *("key_file", "key_change"),
}
_OUTSIDE: Final = {"tap", "channels", "control", "metrics"}
_SETTINGS: Final = (
    "transport",
    "priority",
    "ping_interval",
    "pong_timeout",
    "latency_samples",
    "pong_count",
    "high_priority",
    "enabled",
)


async def find_changes(
    old: Cluster,
    new: Cluster,
    before: dict[int, HostPlan],
    after: dict[int, HostPlan],
    turns: Turns,
) -> tuple[Change, ...]:
    """Return all differences that affect one host, letting other tasks run meanwhile.

    Args:
        old: The old version.
        new: The new version.
        before: The plan of the host for the old version, by host id.
        after: The plan of the host for the new version, by host id.
        turns: The turns of the reload.
    """
    changes: list[Change] = []
    for field in attrs.fields(Cluster):
        name = field.name
        values = getattr(old, name), getattr(new, name)
        if name in _OTHERWISE or values[0] == values[1]:
            continue
        key = name if name in _OUTSIDE else f"cluster.{name}"
        changes.append(Change(key, *map(_show, values)))
    if old.policy is not new.policy:
        changes.append(Change("cluster.policy", old.policy.value, new.policy.value))
    for host_id in sorted(before.keys() | after.keys()):
        changes += _compare_hosts(before.get(host_id), after.get(host_id))
        if turns.is_over():
            await turns.give_up()
    return tuple(changes)


def _compare_hosts(old: HostPlan | None, new: HostPlan | None) -> Iterable[Change]:
    if old is None or new is None:
        plan = old or new
        assert plan is not None
        shown = ", ".join([plan.name, *(link.describe() for link in plan.links.values())])
        key = f"hosts.{plan.host_id}"
        return [Change(key, None, shown) if old is None else Change(key, shown, None)]
    key = f"hosts.{new.host_id}"
    changes: list[Change] = []
    if old.name != new.name:
        changes.append(Change(f"{key}.name", old.name, new.name))
    for link_id in sorted(old.links.keys() | new.links.keys()):
        link_key = f"{key}.links.{link_id}"
        changes += _compare_links(link_key, old.links.get(link_id), new.links.get(link_id))
    return changes


def _compare_links(key: str, old: LinkPlan | None, new: LinkPlan | None) -> Iterable[Change]:
    shown = [None if plan is None else plan.describe() for plan in (old, new)]
    if shown[0] != shown[1]:
        yield Change(key, shown[0], shown[1])
    if old is None or new is None:
        return
    for name in _SETTINGS:
        before, after = (getattr(plan.settings, name) for plan in (old, new))
        if before != after:
            yield Change(f"{key}.{name}", _show(before), _show(after))
    if old.allow != new.allow:
        yield Change(f"{key}.allow", *(_show_allow(plan) for plan in (old, new)))


def _show_allow(plan: LinkPlan) -> str:
    entries = (("" if entry.accept else "not ") + entry.describe() for entry in plan.allow)
    return ", ".join(entries) or "nobody"


def _show(value: object) -> str | None:
    if value is None or value in ((), ""):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, CryptoConfig):
        return f"a key with {CryptoNames.of(value).describe()}"
    if isinstance(value, CompressConfig):
        level = "" if value.level is None else f", level {value.level}"
        return f"{value.model}{level}, over {value.threshold} bytes"
    if isinstance(value, tuple):
        parts = map(_show, cast("tuple[object, ...]", value))
        return ", ".join(part for part in parts if part is not None)
    if isinstance(value, ClusterTap | ClusterChannel | ClusterControl | ClusterMetrics):
        fields = attrs.asdict(value, recurse=False)
        shown = (f"{name}={field}" for name, field in fields.items() if field not in (None, ()))
        return " ".join(shown) or "default"
    return str(value)
