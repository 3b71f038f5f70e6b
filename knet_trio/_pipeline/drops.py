"""Messages that went no further, on their way out."""

from __future__ import annotations

from knet_trio._logs.log import HandleLog
from knet_trio._logs.names import LogSubsystem
from knet_trio._pipeline.filtering import log_filter_error
from knet_trio._state.context import Context
from knet_trio.errors import DestinationError, FilterError, SealError, SendError
from knet_trio.message import Direction


def count_lost(context: Context, error: SendError, messages: int = 1) -> None:
    """Count ``messages`` that ``error`` stopped, and tell the log."""
    context.counters.drop(error.cause, messages)
    _log_lost(context.log, error)


def _log_lost(log: HandleLog, error: SendError) -> None:
    why = error.args[0]
    if isinstance(error, FilterError):
        log_filter_error(log, error, Direction.TX)
    elif isinstance(error, SealError):
        cause = error.__cause__
        log.error(LogSubsystem.CRYPTO, "a message is lost: %s", why, key=repr(cause), cause=cause)
    elif isinstance(error, DestinationError):
        log.warning(LogSubsystem.FILTER, "a message is lost: %s", why, key=error.cause)
    else:
        log.debug(LogSubsystem.TX, "a message is not sent: %s", why, key=error.cause)
