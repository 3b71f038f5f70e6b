"""Calling the user's filter, which may do anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from knet_trio._core.onwire import MAX_CHANNELS
from knet_trio._logs.log import HandleLog
from knet_trio._logs.names import LogSubsystem
from knet_trio.config import check_integer
from knet_trio.errors import FilterError
from knet_trio.message import Direction, Drop, Filter, FilterPacket, FilterResult


def ask_filter(decide: Filter, packet: FilterPacket) -> FilterResult:
    """Return what the user's filter answers.

    Raises:
        FilterError: It raised an exception, or its answer is not valid.
    """
    try:
        answer = cast("Callable[[FilterPacket], object]", decide)(packet)
        if not isinstance(answer, FilterResult):
            raise TypeError(f"a filter answers Broadcast, Unicast or Drop, not {answer!r}")
        if not isinstance(answer, Drop) and answer.channel is not None:
            check_integer("channel", answer.channel, 0, MAX_CHANNELS - 1)
    except Exception as error:
        raise FilterError(f"the filter failed: {error!r}") from error
    return answer


def log_filter_error(log: HandleLog, error: FilterError, direction: Direction) -> None:
    """Log that the user's filter failed, the first time with the traceback."""
    cause = error.__cause__
    log.error(
        LogSubsystem.FILTER,
        "a message on its way %s is lost: %s",
        "out" if direction is Direction.TX else "in",
        error.args[0],
        key=(direction, type(cause).__name__),
        cause=cause,
    )
