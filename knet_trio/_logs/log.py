"""The log of a handle: to Python's ``logging`` and to ``log_fd``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Final, NamedTuple

import trio

from knet_trio._core.rate_limit import RateLimiter, Repeated
from knet_trio._logs.descriptor import LogDescriptor
from knet_trio._logs.names import (
    LogLevel,
    LogSubsystem,
    find_level,
    find_subsystem,
    get_log_subsystem_name,
)

DEFAULT_LEVEL: Final = LogLevel.INFO

# Lists and plain names: a call that logs nothing must not cost the hashing of enum members.
_LOGGERS: Final = [
    logging.getLogger(f"knet_trio.{get_log_subsystem_name(subsystem)}")
    for subsystem in range(max(LogSubsystem) + 1)
]
_LOGGING_LEVELS: Final = [logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG]
_ERROR: Final = LogLevel.ERROR
_WARNING: Final = LogLevel.WARNING
_INFO: Final = LogLevel.INFO
_DEBUG: Final = LogLevel.DEBUG

Remind = Callable[[Callable[[float], None], float], None]
"""A function that schedules a call of its first argument, with the time, at a given time."""


class _Record(NamedTuple):
    level: LogLevel
    subsystem: LogSubsystem
    message: str
    args: tuple[object, ...]


class HandleLog:
    """The log of one handle.

    ``message`` and ``args`` are formatted as by ``%``, and only if the message is logged. Messages
    that a peer, the network or the program can repeat without limit have a ``key``: with the same
    subsystem and key, the first is logged, then the number of repetitions. Arguments are converted
    to plain values, since collectors keep records. They must not include crypto keys or user data.

    Args:
        host_id: The id of this host.
        level: The level of all subsystems at first; None for INFO.
        fd: The descriptor for libknet's records; None or 0 for none.
        remind: Schedules the logging of counts.
    """

    def __init__(
        self,
        host_id: int,
        *,
        level: int | str | None = None,
        fd: int | None = None,
        remind: Remind,
    ) -> None:
        default = DEFAULT_LEVEL if level is None else find_level(level)
        self._host_id = host_id
        self._levels = [default] * len(_LOGGERS)
        self._repeats: RateLimiter[_Record] = RateLimiter()
        self._remind = remind
        self._descriptor = LogDescriptor(fd) if fd else None
        self._lost = 0

    @property
    def lost(self) -> int:
        """The number of records dropped because the descriptor had no room for them."""
        return self._lost if self._descriptor is None else self._descriptor.lost

    def get_level(self, subsystem: int | str) -> LogLevel:
        """Return the level of a subsystem. See knet_log_get_loglevel(3).

        Raises:
            InvalidArgumentError: The subsystem is unknown.
        """
        return self._levels[find_subsystem(subsystem)]

    def set_level(self, subsystem: int | str, level: int | str) -> None:
        """Set the level of a subsystem. See knet_log_set_loglevel(3).

        Raises:
            InvalidArgumentError: The subsystem or the level is unknown.
        """
        self._levels[find_subsystem(subsystem)] = find_level(level)

    def error(
        self,
        subsystem: LogSubsystem,
        message: str,
        *args: object,
        key: Hashable = None,
        cause: BaseException | None = None,
    ) -> None:
        """Log an error of this program or its system, with the traceback of ``cause``."""
        self._log(_ERROR, subsystem, message, args, key, cause)

    def warning(
        self, subsystem: LogSubsystem, message: str, *args: object, key: Hashable = None
    ) -> None:
        """Log a problem that an administrator should know of."""
        if self._levels[subsystem] >= _WARNING:
            self._log(_WARNING, subsystem, message, args, key)

    def info(
        self, subsystem: LogSubsystem, message: str, *args: object, key: Hashable = None
    ) -> None:
        """Log a change."""
        if self._levels[subsystem] >= _INFO:
            self._log(_INFO, subsystem, message, args, key)

    def debug(
        self, subsystem: LogSubsystem, message: str, *args: object, key: Hashable = None
    ) -> None:
        """Log details that help to find the cause of a problem."""
        if self._levels[subsystem] >= _DEBUG:
            self._log(_DEBUG, subsystem, message, args, key)

    def log(
        self,
        level: LogLevel,
        subsystem: LogSubsystem,
        message: str,
        *args: object,
        key: Hashable = None,
        cause: BaseException | None = None,
        times: int = 1,
    ) -> None:
        """Log, at the given level, an event that has happened ``times`` times."""
        if self._levels[subsystem] >= level:
            self._log(level, subsystem, message, args, key, cause, times)

    def close(self) -> None:
        """Log the counts of repeated messages, and stop writing to the descriptor."""
        for repeated in self._repeats.end():
            self._write_repeated(repeated)
        if self._descriptor is not None:
            self._descriptor.close()
            self._lost = self._descriptor.lost
            self._descriptor = None

    def _log(
        self,
        level: LogLevel,
        subsystem: LogSubsystem,
        message: str,
        args: tuple[object, ...],
        key: Hashable,
        cause: BaseException | None = None,
        times: int = 1,
    ) -> None:
        wanted = _LOGGERS[subsystem].isEnabledFor(_LOGGING_LEVELS[level])
        if self._descriptor is None and not wanted:
            return
        record = _Record(level, subsystem, message, args)
        if key is not None:
            if not self._repeats.first((subsystem, key), record, trio.current_time(), times):
                return
            self._remind(self._write_counts, self._repeats.deadline)
        self._write(record, cause)

    def _write(self, record: _Record, cause: BaseException | None = None) -> None:
        level, subsystem, message, objects = record
        # A record that is kept must not keep a link and its sockets alive.
        args = tuple(arg if isinstance(arg, int | float | str) else str(arg) for arg in objects)
        # stacklevel: the record names the caller of error(), warning() and so on as its place.
        _LOGGERS[subsystem].log(
            _LOGGING_LEVELS[level],
            f"[host %d] {message}",
            self._host_id,
            *args,
            exc_info=cause,
            stacklevel=4,
        )
        if self._descriptor is not None:
            self._descriptor.write(subsystem, level, message % args)

    def _write_repeated(self, repeated: Repeated[_Record]) -> None:
        last = repeated.last
        self._write(last._replace(message=f"{last.message} %s", args=(*last.args, repeated.text)))

    def _write_counts(self, now: float) -> None:
        for repeated in self._repeats.due(now):
            self._write_repeated(repeated)
        self._remind(self._write_counts, self._repeats.deadline)
