"""A node on a fake network whose log says everything."""

from __future__ import annotations

from collections.abc import Callable

from knet_trio._logs.log import HandleLog
from tests.state.fakes import ME, World


def no_reminders(action: Callable[[float], None], deadline: float) -> None:
    """Nobody is called again."""


def make_world(*, level: str = "debug", fd: int | None = None) -> World:
    world = World()
    context = world.context
    # Nothing of the world has taken hold of the log yet.
    context.log = HandleLog(ME, level=level, fd=fd, remind=context.heartbeats.set)
    return world
