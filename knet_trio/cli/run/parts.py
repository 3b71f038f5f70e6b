"""The parts of a host beside its handle, from the cluster file: channels, tap, control, metrics."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, cast

import attrs
import trio

from knet_trio import Handle, InvalidArgumentError, KnetError, format_address
from knet_trio.channel_socket import serve_channel
from knet_trio.cli.ending import describe_error, first_of
from knet_trio.cli.run.log import LOGGER
from knet_trio.cluster import Cluster, ClusterChannel, ClusterMetrics
from knet_trio.control import Action, control_directories, serve_control
from knet_trio.tap import open_cluster_tap

EXPECTED: Final = (KnetError, OSError, trio.ClosedResourceError)
"""Errors that the machine or the file may cause. Any other error is a bug."""

Opening: TypeAlias = Callable[[], AbstractAsyncContextManager[object]]


@attrs.frozen
class ControlActions:
    """Actions for clients of the control socket.

    Attributes:
        reload: Reads the file again.
        rekey: Changes the key of all hosts.
    """

    reload: Action
    rekey: Action


@attrs.frozen
class HostPart:
    """A part that runs beside the handle.

    Attributes:
        key: The name of the part, whatever its settings: ``channels.2``, ``tap``, ``control``.
        title: The name of the part in the log.
        settings: Its settings in the file: a part with other settings is another part.
        open: Returns a context manager; the part runs while its block does.
        has_successor_beside: True if another part with the same key can run at the same time.
        linger: The seconds that the part still runs after another one has replaced it.
    """

    key: str
    title: str
    settings: object
    open: Opening = attrs.field(eq=False)
    has_successor_beside: bool = False
    linger: float = 0.0


class RunningPart:
    """A part that runs in a task of its own.

    Attributes:
        part: The part.
        ended: Set when the part has ended, also after an error.
    """

    def __init__(self, part: HostPart) -> None:
        self.part: Final = part
        self.ended: Final = trio.Event()
        self._leave = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Open the part, and close it after ``leave``.

        Errors are raised until the part is open. Later, expected errors are logged, and the other
        parts go on.
        """
        is_open = False
        try:
            async with self.part.open():
                is_open = True
                task_status.started()
                await self._leave.wait()
        except BaseException as error:
            trouble = _find_trouble(error) if is_open else None
            if trouble is None:
                raise
            LOGGER.error(
                "%s has ended: %s; a reload starts it again",
                self.part.title,
                describe_error(trouble),
            )
        finally:
            self.ended.set()

    def leave(self) -> None:
        """Ask the part to close."""
        self._leave.set()

    async def stop(self) -> None:
        """Close the part, and wait until it has ended."""
        self.leave()
        await self.ended.wait()


def _find_trouble(error: BaseException) -> BaseException | None:
    """Return the expected error in ``error``, None if it has any other."""
    if isinstance(error, EXPECTED):
        return error
    if isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        if group.split(EXPECTED)[1] is None:
            return first_of(group)
    return None


def plan_parts(handle: Handle, cluster: Cluster, actions: ControlActions) -> dict[str, HostPart]:
    """Return the parts that the file names for this host, by their keys.

    Args:
        handle: The handle, opened by ``open_cluster``.
        cluster: The file.
        actions: The actions for clients of the control socket.
    """
    parts = [_plan_channel(handle, channel) for channel in cluster.channels]
    if cluster.tap is not None:
        title = f"the tap {cluster.tap.name}"
        parts.append(
            HostPart("tap", title, cluster.tap, partial(open_cluster_tap, handle, cluster.tap))
        )
    if cluster.metrics is not None:
        parts.append(_plan_metrics(handle, cluster.metrics))
    path = find_control_path(cluster, handle.host_id)
    if path is not None:
        names = {host.host_id: host.name for host in cluster.hosts}
        parts.append(_plan_control(handle, names.get(handle.host_id, ""), path, actions))
    return {part.key: part for part in parts}


def _plan_channel(handle: Handle, wanted: ClusterChannel) -> HostPart:
    path = wanted.get_socket(handle.host_id)
    opening = partial(
        serve_channel,
        handle,
        wanted.channel,
        path,
        mode=int(wanted.mode, 8),
        group=wanted.group,
        receive_buffer=wanted.receive_buffer,
    )
    title = f"channel {wanted.channel} at {path}"
    return HostPart(f"channels.{wanted.channel}", title, wanted, opening)


def _plan_metrics(handle: Handle, wanted: ClusterMetrics) -> HostPart:
    def opening() -> AbstractAsyncContextManager[object]:
        try:
            from knet_trio.metrics import serve_metrics
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            raise InvalidArgumentError(
                f"the file has [metrics], and {missing} is missing: pip install"
                " 'knet-trio[metrics]'"
            ) from error
        return serve_metrics(handle, wanted.listen)

    title = f"metrics at {format_address(wanted.listen)}"
    return HostPart("metrics", title, wanted, opening)


def _plan_control(handle: Handle, name: str, path: Path, actions: ControlActions) -> HostPart:
    opening = partial(
        serve_control,
        handle,
        path,
        rekey=actions.rekey,
        reload=actions.reload,
        name=name,
    )
    title = f"the control socket {path}"
    # A client that asked for the reload gets its answer over the old socket.
    return HostPart("control", title, path, opening, has_successor_beside=True, linger=1.0)


def find_control_path(cluster: Cluster, host_id: int) -> Path | None:
    """Return the path of the control socket of a host, None if there is no directory for it."""
    return cluster.control.get_socket(host_id) or find_control_place(cluster, host_id)


def find_control_place(cluster: Cluster, host_id: int) -> Path | None:
    """Return the default path of the control socket of a host, where commands look for it.

    The name has the host's id in it, since several hosts of one file may run on a machine.

    Returns:
        The path, None if there is no directory for control sockets.
    """
    directories = control_directories()
    name = "knet" if cluster.path is None else cluster.path.stem
    return directories[0] / f"{name}-{host_id}.sock" if directories else None
