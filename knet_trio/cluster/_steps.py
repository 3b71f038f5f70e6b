"""The steps from one version of a cluster file to another, which can be undone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import attrs
import trio

from knet_trio._logs.names import LogSubsystem
from knet_trio.cluster._opening import add_planned_host, add_planned_link, find_filter
from knet_trio.cluster._plan import HostPlan, LinkPlan
from knet_trio.cluster.records import Cluster
from knet_trio.config import CryptoConfig
from knet_trio.errors import KnetError, UnknownLinkError
from knet_trio.handle import Handle
from knet_trio.host import Host
from knet_trio.link import Link

Act: TypeAlias = Callable[[], Awaitable[None]]
_Keys: TypeAlias = tuple[CryptoConfig | None, CryptoConfig | None]

# Settings that a running handle cannot change.
FIXED: Final = ("privileged", "log_fd", "accept_compression")
# Settings that are attributes of the handle of the same name.
_ATTRIBUTES: Final = (
    "allow_clear_traffic",
    "access_lists",
    "mtu",
    "pmtud_interval",
    "reconnect_interval",
    "hedge",
    "dscp",
)
# Settings that a link cannot change: it is removed and added again.
_LASTING: Final = ("transport", "high_priority")
_TIMERS: Final = ("ping_interval", "pong_timeout", "latency_samples")
_SETTABLE: Final = ("priority", "pong_count", "enabled")
_DEFAULT_LEVEL: Final = "info"


@attrs.frozen
class Step:
    """A change of a running handle.

    Attributes:
        name: The key of the setting.
        do: Makes the change. If it raises, nothing has changed, unless with NotPutBackError.
        undo: Reverts the change.
    """

    name: str
    do: Act
    undo: Act


class NotPutBackError(KnetError):
    """A link was removed to be replaced and cannot be restored; ``__cause__`` is the failure."""


def act(function: Callable[..., object], *arguments: Any) -> Act:
    """Return an async function that calls a synchronous one."""

    async def run() -> None:
        function(*arguments)

    return run


def swap(name: str, function: Callable[..., object], before: Any, after: Any) -> Step:
    """Return a step that calls ``function`` with the new value, or to undo with the old one."""
    return Step(name, act(function, after), act(function, before))


# The handle.


def make_handle_steps(handle: Handle, old: Cluster, new: Cluster) -> list[Step]:
    """Return the steps for the settings of the handle itself, without the key."""
    steps = [
        swap(f"cluster.{name}", _setter(handle, name), getattr(old, name), getattr(new, name))
        for name in _ATTRIBUTES
        if getattr(old, name) != getattr(new, name)
    ]
    if old.compress != new.compress:
        steps.append(swap("cluster.compress", handle.set_compress, old.compress, new.compress))
    if old.filter != new.filter:
        filters = [find_filter(name) if name else None for name in (old.filter, new.filter)]
        steps.append(swap("cluster.filter", handle.set_filter, *filters))
    if old.log_level != new.log_level:
        levels = [level or _DEFAULT_LEVEL for level in (old.log_level, new.log_level)]
        steps.append(swap("cluster.log_level", _set_level(handle), *levels))
    return steps


def _setter(target: object, name: str) -> Callable[[object], None]:
    return lambda value: setattr(target, name, value)


def _set_level(handle: Handle) -> Callable[[str], None]:
    def set_all(level: str) -> None:
        for subsystem in LogSubsystem:
            handle.set_log_level(subsystem, level)

    return set_all


def make_crypto_step(handle: Handle, old: Cluster, new: Cluster) -> Step | None:
    """Return the step for the key, None if it does not change."""
    before, after = (old.crypto, old.accept_crypto), (new.crypto, new.accept_crypto)
    if before == after:
        return None
    return Step(
        "cluster.key_file",
        act(_set_keys, handle, before, after),
        act(_set_keys, handle, after, before),
    )


def _set_keys(handle: Handle, before: _Keys, after: _Keys) -> None:
    """Seal with the first of ``after`` from now on, and open packets of both.

    The change is atomic: no packet is received before this returns. A configuration that does not
    change is not set again, since with model ``aead`` its slot would lose the confirmations.

    Args:
        handle: The handle.
        before: The configurations in the slot in use and in the other slot.
        after: The new configurations.
    """
    crypto, other = after
    used = handle.crypto_in_use
    first = used or 1
    there = {first: before[0], 3 - first: before[1]}
    if crypto is None:
        handle.use_crypto(0)
        handle.set_crypto(None, 1)
        handle.set_crypto(other, 2)
        return
    free = 3 - used if used else 1
    slot = next((one for one, config in there.items() if config == crypto), free)
    # If a name in the configuration is invalid, this raises before anything has changed.
    if crypto != there[slot]:
        handle.set_crypto(crypto, slot)
    handle.use_crypto(slot)
    if other is None or other != there[3 - slot]:
        handle.set_crypto(other, 3 - slot)


# Hosts and links.


def add_host_step(handle: Handle, plan: HostPlan, name: str) -> Step:
    """Return the step that adds a host with its links under ``name``."""

    async def do() -> None:
        await add_planned_host(handle, plan, name)

    async def undo() -> None:
        await handle.get_host(plan.host_id).remove()

    return Step(f"hosts.{plan.host_id}", do, undo)


def add_link_step(handle: Handle, host_id: int, plan: LinkPlan) -> Step:
    """Return the step that adds a link to an existing host."""
    link_id = plan.settings.link_id

    async def do() -> None:
        await add_planned_link(handle.get_host(host_id), plan)

    async def undo() -> None:
        await handle.get_host(host_id).remove_link(link_id)

    return Step(f"hosts.{host_id}.links.{link_id}", do, undo)


def replace_link_step(handle: Handle, host_id: int, old: LinkPlan, new: LinkPlan) -> Step:
    """Return the step that replaces a link."""
    link_id = new.settings.link_id

    async def replace(one: LinkPlan, other: LinkPlan) -> None:
        await trio.lowlevel.checkpoint()
        # A cancellation in between would leave the host without the link.
        with trio.CancelScope(shield=True):
            host = handle.get_host(host_id)
            if link_id in host.links:
                # The link is missing if it could not be restored before.
                await host.remove_link(link_id)
            try:
                await add_planned_link(host, other)
            except KnetError as error:
                await put_back(host, one, error)
                raise
            except BaseException:
                await add_planned_link(host, one)
                raise

    async def do() -> None:
        await replace(old, new)

    async def undo() -> None:
        await replace(new, old)

    return Step(f"hosts.{host_id}.links.{link_id}", do, undo)


async def put_back(host: Host, plan: LinkPlan, error: KnetError) -> None:
    """Restore a link that could not be replaced because of ``error``.

    Raises:
        NotPutBackError: The link cannot be added either.
    """
    try:
        await add_planned_link(host, plan)
    except KnetError as trouble:
        raise NotPutBackError(str(trouble.args[0]), errno=trouble.errno) from error


def is_lasting(old: LinkPlan, new: LinkPlan) -> bool:
    """Return whether a link can be kept and its other settings changed in place."""
    return (old.src, old.dst) == (new.src, new.dst) and all(
        getattr(old.settings, name) == getattr(new.settings, name) for name in _LASTING
    )


def change_link_steps(handle: Handle, host_id: int, old: LinkPlan, new: LinkPlan) -> list[Step]:
    """Return the steps for the changed settings of a link that is kept."""
    link_id = new.settings.link_id
    base = f"hosts.{host_id}.links.{link_id}"

    def find() -> Link:
        return _find_link(handle.get_host(host_id), link_id)

    def set_timers(values: tuple[float, float, int]) -> None:
        find().set_ping_timers(*values)

    def set_allow(plan: LinkPlan) -> None:
        acl = find().acl
        acl.clear()
        for entry in plan.allow:
            acl.append(entry)

    def setter(name: str) -> Callable[[object], None]:
        return lambda value: setattr(find(), name, value)

    steps = [
        swap(
            f"{base}.{name}", setter(name), getattr(old.settings, name), getattr(new.settings, name)
        )
        for name in _SETTABLE
        if getattr(old.settings, name) != getattr(new.settings, name)
    ]
    before, after = (tuple(getattr(plan.settings, name) for name in _TIMERS) for plan in (old, new))
    if before != after:
        steps.append(swap(f"{base}.ping_interval", set_timers, before, after))
    if old.allow != new.allow:
        steps.append(swap(f"{base}.allow", set_allow, old, new))
    return steps


def _find_link(host: Host, link_id: int) -> Link:
    link = host.links.get(link_id)
    if link is None:
        raise UnknownLinkError(
            f"the program has removed link {link_id} to host {host.host_id}: add it again first"
        )
    return link


def policy_step(handle: Handle, old: HostPlan, new: HostPlan) -> Step:
    """Return the step that changes the policy of a host."""

    def set_policy(plan: HostPlan) -> None:
        handle.get_host(plan.host_id).policy = plan.policy

    return swap(f"hosts.{new.host_id}.policy", set_policy, old, new)
