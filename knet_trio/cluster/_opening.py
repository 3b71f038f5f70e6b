"""Opening of the handle that a cluster file describes."""

from __future__ import annotations

import importlib
import os
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from traceback import clear_frames
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

import attrs
import trio

from knet_trio._opening import opens
from knet_trio._state.turns import Turns
from knet_trio.cluster._load import load_cluster
from knet_trio.cluster._own_host import find_own_host_in_turns
from knet_trio.cluster._plan import HostPlan, LinkPlan, plan_hosts_in_turns
from knet_trio.cluster.records import Cluster
from knet_trio.errors import InvalidArgumentError, KnetError
from knet_trio.handle import Handle, open_handle
from knet_trio.host import Host
from knet_trio.message import Filter


@attrs.define(eq=False)
class OpenedCluster:
    """The state of a handle that ``open_cluster`` opened.

    Attributes:
        cluster: The version of the file that the handle runs.
        lock: Held during a reload.
    """

    cluster: Cluster
    lock: trio.Lock = attrs.field(factory=trio.Lock)


_opened: Final[WeakKeyDictionary[Handle, OpenedCluster]] = WeakKeyDictionary()


def open_cluster(
    path_or_cluster: str | os.PathLike[str] | Cluster, *, host: int | str | None = None
) -> AbstractAsyncContextManager[Handle]:
    """Open the handle of this host with all hosts and links of a cluster file.

    ::

        async with open_cluster("lab.toml") as handle:
            ...

    The block ends as that of ``open_handle``. The program opens channels itself, and also the tap,
    the sockets for local programs, control and metrics, if the file has them.

    Args:
        path_or_cluster: The file, or the result of ``load_cluster`` for it.
        host: The id or the name of this host. None finds the host whose address this machine has.

    Yields:
        The handle.

    Raises:
        ClusterFileError: The file is not valid; the error has all mistakes.
        UnknownHostError: The file has no host ``host``.
        InvalidArgumentError: No host of the file, or several, have an address of this machine.
        TransportError: The system refuses an address.
        KnetError: A link or the handle cannot be opened with these settings.
    """
    return _open_cluster(path_or_cluster, host)


def get_cluster(handle: Handle) -> Cluster:
    """Return the version of the cluster file that a handle runs.

    Args:
        handle: A handle that ``open_cluster`` opened.

    Raises:
        InvalidArgumentError: ``open_cluster`` did not open the handle.
    """
    return get_opened(handle).cluster


def get_opened(handle: Handle) -> OpenedCluster:
    """Return the state of a handle.

    Raises:
        InvalidArgumentError: ``open_cluster`` did not open the handle.
    """
    opened = _opened.get(handle)
    if opened is None:
        raise InvalidArgumentError("the handle has no cluster file: open it with open_cluster")
    return opened


@opens("open_cluster('lab.toml') as handle")
async def _open_cluster(
    path_or_cluster: str | os.PathLike[str] | Cluster, host: int | str | None
) -> AsyncGenerator[Handle, None]:
    if isinstance(path_or_cluster, Cluster):
        cluster = path_or_cluster
        await trio.lowlevel.checkpoint()
    else:
        cluster = await load_in_thread(path_or_cluster)
    opened = OpenedCluster(cluster)
    # This frame lives as long as the handle, but a replaced key must not.
    del cluster, path_or_cluster
    failed: KnetError | None = None
    turns = Turns()
    try:
        try:
            me = await find_own_host_in_turns(opened.cluster, host, turns)
            options = make_options(opened.cluster)
        except BaseException as error:
            # A stored error keeps the frames of its traceback alive, and the keys in them.
            clear_frames(error.__traceback__)
            raise
        opening = open_handle(me.host_id, crypto=opened.cluster.crypto, **options)
        async with opening as handle:
            try:
                if opened.cluster.accept_crypto is not None:
                    handle.set_crypto(opened.cluster.accept_crypto, 2)
                for plan in (await plan_hosts_in_turns(opened.cluster, me, turns)).values():
                    await add_planned_host(handle, plan)
            except KnetError as error:
                # Raised after the handle has ended, and so not in an exception group.
                failed = error
            else:
                _opened[handle] = opened
                yield handle
        if failed is not None:
            raise failed
    finally:
        del opened, failed


async def load_in_thread(path: str | os.PathLike[str]) -> Cluster:
    """Call ``load_cluster`` in a thread.

    Cancelling does not wait for a resolver that does not answer, and drops the result.
    """
    return await trio.to_thread.run_sync(load_cluster, path, abandon_on_cancel=True)


def make_options(cluster: Cluster) -> dict[str, Any]:
    """Return the options of ``open_handle`` that the file sets, without the key."""
    return {
        "allow_clear_traffic": cluster.allow_clear_traffic,
        "compress": cluster.compress,
        "accept_compression": cluster.accept_compression,
        "filter": None if cluster.filter is None else find_filter(cluster.filter),
        "forwarding": cluster.forwarding,
        "access_lists": cluster.access_lists,
        "privileged": cluster.privileged,
        "mtu": cluster.mtu,
        "pmtud_interval": cluster.pmtud_interval,
        "reconnect_interval": cluster.reconnect_interval,
        "hedge": cluster.hedge,
        "dscp": cluster.dscp,
        "log_fd": cluster.log_fd,
        "log_level": cluster.log_level,
    }


def find_filter(name: str) -> Filter:
    """Import the module of ``module:function`` and return the function.

    Raises:
        InvalidArgumentError: The module does not exist, fails when imported, or has no such
            function.
    """
    module, _, function = name.partition(":")
    try:
        found: object = importlib.import_module(module)
        for part in function.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise InvalidArgumentError(f"the filter {name!r} cannot be found: {error}") from error
    except Exception as error:
        # A bug of that module must not end the running program.
        raise InvalidArgumentError(
            f"the module of the filter {name!r} fails: {type(error).__name__}: {error}"
        ) from error
    return cast("Filter", found)


async def add_planned_host(handle: Handle, plan: HostPlan, name: str | None = None) -> Host:
    """Add a host with all its links, or nothing on an error."""
    host = handle.add_host(plan.host_id, name=name or plan.name, policy=plan.policy)
    try:
        for link in plan.links.values():
            await add_planned_link(host, link)
    except BaseException:
        with trio.CancelScope(shield=True):
            await host.remove()
        raise
    return host


async def add_planned_link(host: Host, plan: LinkPlan) -> None:
    """Add a link with its access list, or nothing on an error.

    Raises:
        KnetError: The link cannot be added; the text names the link.
    """
    settings = plan.settings
    try:
        link = await host.add_link(
            settings.link_id,
            plan.src,
            plan.dst,
            transport=settings.transport,
            priority=settings.priority,
            ping_interval=settings.ping_interval,
            pong_timeout=settings.pong_timeout,
            latency_samples=settings.latency_samples,
            pong_count=settings.pong_count,
            high_priority=settings.high_priority,
            enabled=settings.enabled,
        )
    except KnetError as error:
        error.args = (f"link {settings.link_id} to host {host.host_id}: {error.args[0]}",)
        raise
    try:
        for entry in plan.allow:
            link.acl.append(entry)
    except BaseException:
        with trio.CancelScope(shield=True):
            await link.remove()
        raise
