"""What runs beside the handle, as a cluster file names it: channels, tap, control, metrics."""

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
"""What the machine may be the cause of. Anything else is a bug."""

Opening: TypeAlias = Callable[[], AbstractAsyncContextManager[object]]


@attrs.frozen
class ControlActions:
    """What is done for clients of the control socket that ask for it.

    Attributes:
        reload: Reads the file again.
        rekey: Changes the key of all hosts.
    """

    reload: Action
    rekey: Action


@attrs.frozen
class HostPart:
    """Something that runs beside the handle.

    Attributes:
        key: What it is, whatever the file says of it: ``channels.2``, ``tap``, ``control``.
        title: What it is called in the log.
        settings: What the file says of it: if that differs, it is another one.
        open: Opens it, for as long as a block lasts.
        has_successor_beside: Whether another one of the same key can run at the same time.
        linger: Seconds for which it is still there when another one has taken its place.
    """

    key: str
    title: str
    settings: object
    open: Opening = attrs.field(eq=False)
    has_successor_beside: bool = False
    linger: float = 0.0


class RunningPart:
    """A part that runs, in a task of its own.

    Attributes:
        part: What it is.
        ended: Set when it runs no more, also if it has failed.
    """

    def __init__(self, part: HostPart) -> None:
        self.part: Final = part
        self.ended: Final = trio.Event()
        self._leave = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Open it, and close it when it is told to.

        What fails before it is open is raised. What fails later is logged, and the other parts go
        on.
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
        """Have it closed."""
        self._leave.set()

    async def stop(self) -> None:
        """Have it closed, and wait for that."""
        self.leave()
        await self.ended.wait()


def _find_trouble(error: BaseException) -> BaseException | None:
    """Return what is not a bug in an error, None if there is a bug in it."""
    if isinstance(error, EXPECTED):
        return error
    if isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        if group.split(EXPECTED)[1] is None:
            return first_of(group)
    return None


def plan_parts(handle: Handle, cluster: Cluster, actions: ControlActions) -> dict[str, HostPart]:
    """Return what the file wants to run on this host, by the keys.

    Args:
        handle: The handle, opened by ``open_cluster``.
        cluster: The version of the file.
        actions: What clients of the control socket may ask for.
    """
    parts = [_plan_channel(handle, channel) for channel in cluster.channels]
    if cluster.tap is not None:
        title = f"the tap {cluster.tap.name}"
        parts.append(
            HostPart("tap", title, cluster.tap, partial(open_cluster_tap, handle, cluster.tap))
        )
    if cluster.metrics is not None:
        parts.append(_plan_metrics(handle, cluster.metrics))
    path = cluster.control.get_socket(handle.host_id) or find_control_place(cluster, handle.host_id)
    if path is not None:
        parts.append(_plan_control(handle, path, actions))
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


def _plan_control(handle: Handle, path: Path, actions: ControlActions) -> HostPart:
    opening = partial(serve_control, handle, path, rekey=actions.rekey, reload=actions.reload)
    title = f"the control socket {path}"
    # Whoever asked for the reload is to get an answer, over the old one.
    return HostPart("control", title, path, opening, has_successor_beside=True, linger=1.0)


def find_control_place(cluster: Cluster, host_id: int) -> Path | None:
    """Return where commands find the control socket of a host whose file does not say it.

    The name has the host's id in it, since several hosts of one file may run on a machine. None if
    there is no directory for it.
    """
    directories = control_directories()
    name = "knet" if cluster.path is None else cluster.path.stem
    return directories[0] / f"{name}-{host_id}.sock" if directories else None
