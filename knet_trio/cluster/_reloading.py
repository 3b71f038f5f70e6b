"""Reloading: a running handle is changed to another version of its file, completely or not at all.

Changes that can fail are made first, and can be undone: settings, the key, new hosts and links,
replaced links. When all of them are done, the changes that cannot fail follow: removal of links and
hosts, names, forwarding.
"""

from __future__ import annotations

import os
from traceback import clear_frames
from typing import Final

import attrs
import trio

from knet_trio._state.turns import Turns
from knet_trio.cluster._differences import Change, find_changes
from knet_trio.cluster._opening import get_opened, load_in_thread
from knet_trio.cluster._plan import HostPlan, plan_hosts_in_turns
from knet_trio.cluster._steps import (
    FIXED,
    NotPutBackError,
    Step,
    add_host_step,
    add_link_step,
    change_link_steps,
    is_lasting,
    make_crypto_step,
    make_handle_steps,
    policy_step,
    replace_link_step,
)
from knet_trio.cluster.errors import ReloadError
from knet_trio.cluster.records import Cluster
from knet_trio.errors import InvalidArgumentError, KnetError
from knet_trio.handle import Handle


@attrs.frozen
class Reloaded:
    """The result of a reload.

    Attributes:
        changes: All differences, in the order of the file's tables; empty if there are none. They
            include those of ``tap``, ``channels``, ``control``, ``metrics`` and
            ``cluster.service_channel``, which the program must apply itself.
    """

    changes: tuple[Change, ...] = ()

    def __str__(self) -> str:
        return "\n".join(map(str, self.changes)) or "nothing has changed"


async def reload(handle: Handle, cluster: str | os.PathLike[str] | Cluster) -> Reloaded:
    """Change a running handle to another version of its cluster file.

    Unchanged parts go on without losing messages. A link whose addresses, transport or
    ``high_priority`` differ is removed and added again; all other settings change in place. On an
    error, or when cancelled, all changes are undone.

    A new key is used at once, and the old one is dropped unless ``accept_crypto`` names it. So
    packets are lost between a host with the new file and one with the old file. To lose none, load
    three versions on every host, one after the other: the first accepts the new key, the second
    uses it and accepts the old one, the third has only the new one.

    Args:
        handle: A handle that ``open_cluster`` opened.
        cluster: The new version: the file, or the result of ``load_cluster`` for it.

    Returns:
        The changes.

    Raises:
        ClusterFileError: The file is not valid.
        ReloadError: A change cannot be made while the handle runs, or has failed; nothing has
            changed.
        InvalidArgumentError: ``open_cluster`` did not open the handle.
    """
    async with get_opened(handle).lock:
        if not isinstance(cluster, Cluster):
            cluster = await load_in_thread(cluster)
        try:
            return await _reload(handle, cluster)
        except BaseException as error:
            # A stored error keeps the frames of its traceback alive, and the keys in them.
            for one in (error, error.__cause__, error.__context__):
                clear_frames(None if one is None else one.__traceback__)
            raise
        finally:
            del cluster


async def _reload(handle: Handle, new: Cluster) -> Reloaded:
    opened = get_opened(handle)
    old = opened.cluster
    reasons = _find_reasons(handle, old, new)
    if reasons:
        raise ReloadError(reasons)
    turns = Turns()
    before = await plan_hosts_in_turns(old, old.get_host(handle.host_id), turns)
    after = await plan_hosts_in_turns(new, new.get_host(handle.host_id), turns)
    reasons = _find_taken(handle, before, after)
    if reasons:
        raise ReloadError(reasons)
    changes = await find_changes(old, new, before, after, turns)
    try:
        steps = await make_steps(handle, old, new, before, after, turns)
    except InvalidArgumentError as error:
        # The filter cannot be found.
        raise ReloadError([str(error.args[0])], errno=error.errno) from error
    await take_steps(steps)
    with trio.CancelScope(shield=True):
        await _finish(handle, before, after, turns)
        if old.forwarding != new.forwarding:
            await handle.set_forwarding(new.forwarding)
    opened.cluster = new
    return Reloaded(changes)


def _find_reasons(handle: Handle, old: Cluster, new: Cluster) -> list[str]:
    """Return the reasons why the handle cannot change to the new version."""
    reasons = [
        f"cluster.{name} cannot change while the host runs: restart the host"
        for name in FIXED
        if getattr(old, name) != getattr(new, name)
    ]
    keys = [(one.crypto, one.accept_crypto, one.key_change) for one in (old, new)]
    if keys[0] != keys[1] and (old.key_change or new.key_change) is not None:
        reasons.append("knet-trio rekey has changed the key since the file was read: reload again")
    if all(host.host_id != handle.host_id for host in new.hosts):
        reasons.append(f"the file has no host {handle.host_id}, this host: add it")
    return reasons


def _find_taken(
    handle: Handle, before: dict[int, HostPlan], after: dict[int, HostPlan]
) -> list[str]:
    """Return the conflicts with ids and names of hosts that the program added itself."""
    reasons: list[str] = []
    names = {plan.name for plan in after.values()}
    for host_id, host in handle.hosts.items():
        if host_id in before:
            continue
        if host_id in after:
            reasons.append(f"the program has added a host {host_id} itself: use another id")
        elif host.name in names:
            reasons.append(
                f"host {host_id}, which the program has added itself, already has the name"
                f" {host.name!r}: use another name"
            )
    return reasons


async def make_steps(
    handle: Handle,
    old: Cluster,
    new: Cluster,
    before: dict[int, HostPlan],
    after: dict[int, HostPlan],
    turns: Turns,
) -> list[Step]:
    """Return the steps that can fail, in the order in which they are done."""
    steps = make_handle_steps(handle, old, new)
    crypto = make_crypto_step(handle, old, new)
    if crypto is not None:
        steps.append(crypto)
    added: list[Step] = []
    replaced: list[Step] = []
    taken = {plan.name for plan in before.values()}
    for host_id, plan in after.items():
        if turns.is_over():
            await turns.give_up()
        known = before.get(host_id)
        if known is None:
            added.append(add_host_step(handle, plan, _make_room(plan.name, taken)))
            continue
        if known.policy is not plan.policy:
            steps.append(policy_step(handle, known, plan))
        for link_id, link in plan.links.items():
            other = known.links.get(link_id)
            if other is None:
                added.append(add_link_step(handle, host_id, link))
            elif not is_lasting(other, link):
                replaced.append(replace_link_step(handle, host_id, other, link))
            else:
                steps += change_link_steps(handle, host_id, other, link)
    return [*steps, *added, *replaced]


def _make_room(name: str, taken: set[str]) -> str:
    """Return a name that is not in ``taken``, and add it to the set.

    The result differs from ``name`` while a host has it that is to be removed or renamed.
    """
    while name in taken:
        name = f"{name}{_MARK}"[-_LONGEST:]
    taken.add(name)
    return name


_MARK: Final = "'"
# In characters of up to four bytes each, for names of up to 255 bytes.
_LONGEST: Final = 60


async def take_steps(steps: list[Step]) -> None:
    """Do all steps, or none: if a step fails, those before it are undone.

    Raises:
        ReloadError: A step has failed; its error is the cause.
    """
    taken: list[Step] = []
    try:
        for step in steps:
            # There may be a step for each of thousands of links.
            await trio.lowlevel.checkpoint()
            await step.do()
            taken.append(step)
    except BaseException as error:
        not_undone = await _take_back(taken)
        if not isinstance(error, KnetError):
            raise
        failed, name = error, steps[len(taken)].name
        if isinstance(error, NotPutBackError) and isinstance(error.__cause__, KnetError):
            failed = error.__cause__
            not_undone.append(f"{name}: {error.args[0]}")
        reason = f"{name}: {failed.args[0]}"
        raise ReloadError([reason], not_undone=not_undone, errno=failed.errno) from failed


async def _take_back(taken: list[Step]) -> list[str]:
    """Undo steps, the last first; return the errors."""
    failed: list[str] = []
    with trio.CancelScope(shield=True):
        for step in reversed(taken):
            await trio.lowlevel.checkpoint()
            try:
                await step.undo()
            except KnetError as error:
                failed.append(f"{step.name}: {error.args[0]}")
    return failed


async def _finish(
    handle: Handle, before: dict[int, HostPlan], after: dict[int, HostPlan], turns: Turns
) -> None:
    """Remove hosts and links that the file no longer has, and rename hosts."""
    for host_id, plan in before.items():
        if turns.is_over():
            await turns.give_up()
        host = handle.hosts.get(host_id)
        if host is None:
            continue
        if host_id not in after:
            await host.remove()
            continue
        for link_id in plan.links.keys() - after[host_id].links.keys():
            if link_id in host.links:
                await host.remove_link(link_id)
    await _rename(handle, after, turns)


async def _rename(handle: Handle, after: dict[int, HostPlan], turns: Turns) -> None:
    """Rename hosts, also if two of them swap their names."""
    wanted = {
        host_id: plan.name
        for host_id, plan in after.items()
        if host_id in handle.hosts and handle.hosts[host_id].name != plan.name
    }
    given = set(wanted.values())
    taken = {host.name for host in handle.hosts.values()} | given
    aside = {
        host_id: _make_room(str(host_id), taken)
        for host_id in wanted
        if handle.hosts[host_id].name in given
    }
    for names in (aside, wanted):
        for host_id, name in names.items():
            host = handle.hosts.get(host_id)
            if host is not None:
                host.name = name
            if turns.is_over():
                await turns.give_up()
