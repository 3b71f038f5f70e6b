"""Counting messages that are dropped on their way out."""

from __future__ import annotations

from knet_trio._state.context import Context
from knet_trio.errors import FilterError, SendError


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
