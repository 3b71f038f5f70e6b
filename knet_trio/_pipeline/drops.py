"""Counting messages that are dropped on their way out."""

from __future__ import annotations

from collections.abc import Iterable

from knet_trio._state.context import Context
from knet_trio._state.send_lane import GivenUp, LaneItem
from knet_trio.errors import DropCause, FilterError, HostDownError, SendError


def count_lost(context: Context, error: SendError, messages: int = 1) -> None:
    """Count ``messages`` that were dropped because of ``error``, and log that."""
    why = error.args[0]
    cause = error.__cause__
    if isinstance(error, FilterError):
        key = ("out", type(cause).__name__)
        context.refuse(error.cause, "out", why, times=messages, key=key, error=cause)
    else:
        key = ("", type(cause).__name__)
        context.refuse(error.cause, why, times=messages, key=key, error=cause)


def count_failed(context: Context, host_id: int, why: str, messages: int) -> None:
    """Count ``messages`` for a host that were given up, with ``why`` in the log."""
    context.refuse(DropCause.SEND_FAILED, host_id, why, times=messages, key=host_id)


def count_unreachable(context: Context, host_id: int, messages: int) -> None:
    """Count ``messages`` that were dropped because a host is unreachable."""
    why = f"host {host_id} is unreachable"
    context.refuse(DropCause.HOST_DOWN, why, times=messages, key=host_id)


def give_up_unreachable(context: Context, host_id: int, items: Iterable[LaneItem]) -> None:
    """Give up the messages left in ``items``, since their host is unreachable."""
    why = HostDownError(f"host {host_id} is not reachable any more")
    left = end_items(items, why)
    if left:
        count_unreachable(context, host_id, left)


def end_items(items: Iterable[LaneItem], error: GivenUp) -> int:
    """End ``items`` with ``error``, which wakes the tasks that wait for them.

    Returns:
        The number of messages to count as dropped.
    """
    left = 0
    for item in items:
        # A ``send_sync`` that has sent nothing raises instead.
        if item.started or not item.urgent:
            left += item.left
        item.end(error)
    return left
