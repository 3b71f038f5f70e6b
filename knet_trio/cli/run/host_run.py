"""A host that runs until a signal: its handle, its parts, and reloads of its file."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from ipaddress import ip_address
from traceback import clear_frames
from typing import Any, Final

import attrs
import trio

from knet_trio import Handle, InvalidArgumentError
from knet_trio._state.turns import Turns
from knet_trio.cli.ending import describe_error
from knet_trio.cli.names import title_of
from knet_trio.cli.run.links_up import LinksUp
from knet_trio.cli.run.log import LOGGER
from knet_trio.cli.run.parts import EXPECTED, ControlActions, find_control_path, plan_parts
from knet_trio.cli.run.supervisor import Supervisor
from knet_trio.cli.run.swapping import Parts
from knet_trio.cluster import (
    Cluster,
    ClusterFileError,
    ClusterHost,
    get_cluster,
    load_cluster,
    open_cluster,
    reload,
)
from knet_trio.cluster._own_host import find_own_host_in_turns
from knet_trio.control import ControlSocketError
from knet_trio.control.socket_file import find_listener
from knet_trio.rekeying import serve_rekeying

SIGNALS: Final = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)

_FAILED: Final = "the last reload has failed, see the log"


@attrs.define(eq=False)
class _Request:
    """A request to read the file again.

    Attributes:
        by: Who asks, in words.
        over: Set when the request is done.
        changes: The changes, in words.
        error: The error of a reload that failed, None for one that succeeded.
    """

    by: str
    over: trio.Event = attrs.field(factory=trio.Event)
    changes: list[str] = attrs.field(factory=list[str])
    error: Exception | None = None


class HostRun:
    """A host of a cluster file that runs until a signal.

    Args:
        file: The path of the file.
        host: The name or the id of the host, None for the one that this machine is.
        supervisor: The service manager to notify.
    """

    def __init__(self, file: str, host: str | None, supervisor: Supervisor) -> None:
        self._file = file
        self._host = host
        self._supervisor = supervisor
        self._leave = trio.Event()
        self._starting = trio.CancelScope()
        # Room for one: a request that waits is enough, since the file is read after it.
        self._requests, self._wanted = trio.open_memory_channel[_Request](1)
        self._hurried: signal.Signals | None = None

    async def run(self) -> signal.Signals | None:
        """Run the host until a signal.

        Returns:
            The second signal, if one came while the host was closing; else None.

        Raises:
            KnetError, OSError: The host cannot run; perhaps in exception groups.
        """
        with trio.open_signal_receiver(*SIGNALS) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow_signals, signals, nursery.cancel_scope)
                nursery.start_soon(self._supervisor.feed_watchdog)
                await self._serve()
                nursery.cancel_scope.cancel()
        return self._hurried

    async def _follow_signals(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        async for number in signals:
            name = signal.Signals(number).name
            if number == signal.SIGHUP:
                self._ask(_Request(name))
            elif self._leave.is_set():
                LOGGER.warning("leaving at once: %s again", name)
                self._hurried = signal.Signals(number)
                scope.cancel()
            else:
                LOGGER.info("leaving: %s", name)
                self._leave.set()
                self._starting.cancel()

    def _ask(self, request: _Request) -> None:
        try:
            self._requests.send_nowait(request)
        except trio.WouldBlock:
            LOGGER.info("the file will be read again anyway: %s", request.by)

    async def _serve(self) -> None:
        # Loaded here and not by open_cluster, for the warnings.
        cluster: Cluster | None = None
        with self._starting:
            cluster = await _load(self._file)
        if cluster is None:
            return
        for warning in cluster.warnings:
            LOGGER.warning("%s", warning.describe(self._file))
        me = await find_own_host_in_turns(cluster, self._host, Turns())
        _check_not_running(cluster, me)
        _warn_without_key(cluster, me)
        opening = open_cluster(cluster, host=me.host_id)
        # The cluster has a key, which this frame must not keep.
        del cluster
        async with (
            opening as handle,
            serve_rekeying(handle) as rekeying,
            trio.open_nursery() as nursery,
        ):
            parts = Parts(nursery)
            actions = ControlActions(self._reload_for_client, rekeying.answer_control)
            wanted = plan_parts(handle, get_cluster(handle), actions)
            if "control" not in wanted:
                LOGGER.warning(
                    "commands such as status cannot reach this host, as there is no directory for"
                    " its control socket: set $XDG_RUNTIME_DIR, or give a path in [control]"
                )
            await parts.start(wanted)
            await self._work(handle, parts, actions)
            await self._supervisor.notify("STOPPING=1", "STATUS=leaving")
            await parts.stop()
            nursery.cancel_scope.cancel()

    async def _work(self, handle: Handle, parts: Parts, actions: ControlActions) -> None:
        """Notify the service manager and reload the file on request, until a signal."""
        me = get_cluster(handle).get_host(handle.host_id)
        links = LinksUp(handle)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(links.watch)
            LOGGER.info("%s is running", title_of(me.host_id, me.name))
            await self._supervisor.notify("READY=1", f"STATUS={await links.describe()}")
            nursery.start_soon(self._notify_status, links)
            nursery.start_soon(self._take_over, handle, parts, actions, links)
            await self._leave.wait()
            nursery.cancel_scope.cancel()

    async def _notify_status(self, links: LinksUp) -> None:
        while True:
            line = await links.wait_changed()
            await self._supervisor.notify(f"STATUS={line}")

    # Reloads.

    async def _reload_for_client(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Reload the file for a client of the control socket, and return the changes."""
        if parameters:
            raise InvalidArgumentError(
                f"reload takes no parameters: leave out {', '.join(parameters)}"
            )
        request = _Request("a client of the control socket")
        await self._requests.send(request)
        await request.over.wait()
        if request.error is not None:
            raise request.error
        return {"changes": request.changes}

    async def _take_over(
        self, handle: Handle, parts: Parts, actions: ControlActions, links: LinksUp
    ) -> None:
        async for request in self._wanted:
            LOGGER.info("reading %s again: %s", self._file, request.by)
            await self._supervisor.notify_reloading()
            try:
                request.changes = await self._reload(handle, parts, actions)
            except EXPECTED as error:
                # The error would keep the frames that it passed, and the keys in them.
                clear_frames(error.__traceback__)
                request.error = error
                _log_failure(error)
                links.trouble = _FAILED
            else:
                links.trouble = ""
                for change in request.changes or ["nothing has changed"]:
                    LOGGER.info("reloaded: %s", change)
            links.recount()
            request.over.set()
            await self._supervisor.notify("READY=1", f"STATUS={await links.describe()}")

    async def _reload(self, handle: Handle, parts: Parts, actions: ControlActions) -> list[str]:
        """Apply the file as it is now, and return the changes."""
        cluster = await _load(self._file)
        for warning in cluster.warnings:
            LOGGER.warning("%s", warning.describe(self._file))
        before = get_cluster(handle).service_channel
        async with parts.swapped(plan_parts(handle, cluster, actions)):
            # The parts are started first, so that their errors come before links change.
            reloaded = await reload(handle, cluster)
        _warn_without_key(cluster, cluster.get_host(handle.host_id))
        if cluster.service_channel != before:
            LOGGER.warning("service_channel has changed: restart this host to use the new one")
        return [str(change) for change in reloaded.changes]


async def _load(file: str) -> Cluster:
    """Load a file in a thread, which is abandoned when cancelled: a resolver may not answer."""
    return await trio.to_thread.run_sync(load_cluster, file, abandon_on_cancel=True)


def _check_not_running(cluster: Cluster, me: ClusterHost) -> None:
    """Raise if another process serves this host: its error names the reason, not a port in use.

    Raises:
        ControlSocketError: Another process serves the control socket of this host.
    """
    path = find_control_path(cluster, me.host_id)
    by = None if path is None else find_listener(path)
    if by is not None:
        raise ControlSocketError(
            f"{title_of(me.host_id, me.name)} seems to be running already: {by} already serves"
            f" {path}: stop it first, or give this host another socket in [control]"
        )


def _warn_without_key(cluster: Cluster, me: ClusterHost) -> None:
    """Log a warning if there is no key, and other machines can send to this host."""
    if cluster.crypto is None and not all(
        link.address is not None and ip_address(link.address.host.partition("%")[0]).is_loopback
        for link in me.links
    ):
        LOGGER.warning(
            "packets are not encrypted: there is no key_file, so anybody who can send to these"
            " ports is a member; knet-trio keygen makes a key"
        )


def _log_failure(error: BaseException) -> None:
    """Log the error of a reload."""
    if isinstance(error, ClusterFileError):
        for mistake in error.mistakes:
            LOGGER.error("%s", mistake.describe(error.path))
        LOGGER.error("the file was not applied; this host goes on as before")
    else:
        LOGGER.error("the file was not applied: %s", describe_error(error))
