"""The log of a handle: to Python's ``logging``, and to the reader of ``log_fd``."""

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

# Lists and plain names: a call that tells nothing must not cost the hashing of an enum's members.
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
"""Have something called, with the time, once a time has come."""


class _Said(NamedTuple):
    level: LogLevel
    subsystem: LogSubsystem
    message: str
    args: tuple[object, ...]


class HandleLog:
    """The log of one handle.

    ``message`` and ``args`` are formatted, as ``%`` does, only if the message is logged. What a
    peer, the network or the program can repeat as often as they like has a ``key``: of one
    subsystem and key the first message is logged, then how many there were. Arguments are plain
    values, since whoever collects records keeps them; no key of a cipher and no user's data may be
    among them.
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
        self._repeats: RateLimiter[_Said] = RateLimiter()
        self._remind = remind
        self._descriptor = LogDescriptor(fd) if fd else None
        self._lost = 0

    @property
    def lost(self) -> int:
        """How many records were lost because the descriptor had no room for them."""
        return self._lost if self._descriptor is None else self._descriptor.lost

    def get_level(self, subsystem: int | str) -> LogLevel:
        """Return the level of a subsystem; raise InvalidArgumentError if it is not known."""
        return self._levels[find_subsystem(subsystem)]

    def set_level(self, subsystem: int | str, level: int | str) -> None:
        """Log what a subsystem says up to ``level``; raise InvalidArgumentError if not known."""
        self._levels[find_subsystem(subsystem)] = find_level(level)

    def error(
        self,
        subsystem: LogSubsystem,
        message: str,
        *args: object,
        key: Hashable = None,
        cause: BaseException | None = None,
    ) -> None:
        """Log that something in this program is wrong, with the traceback of ``cause``."""
        self._say(_ERROR, subsystem, message, args, key, cause)

    def warning(
        self, subsystem: LogSubsystem, message: str, *args: object, key: Hashable = None
    ) -> None:
        """Log what an administrator should know."""
        if self._levels[subsystem] >= _WARNING:
            self._say(_WARNING, subsystem, message, args, key)

    def info(
        self, subsystem: LogSubsystem, message: str, *args: object, key: Hashable = None
    ) -> None:
        """Log that something has changed."""
        if self._levels[subsystem] >= _INFO:
            self._say(_INFO, subsystem, message, args, key)

    def debug(
        self, subsystem: LogSubsystem, message: str, *args: object, key: Hashable = None
    ) -> None:
        """Log what helps to find the cause of a problem."""
        if self._levels[subsystem] >= _DEBUG:
            self._say(_DEBUG, subsystem, message, args, key)

    def tell(
        self,
        level: LogLevel,
        subsystem: LogSubsystem,
        message: str,
        *args: object,
        key: Hashable = None,
        cause: BaseException | None = None,
        times: int = 1,
    ) -> None:
        """Log, on a level that is a variable, what has happened ``times`` times."""
        if self._levels[subsystem] >= level:
            self._say(level, subsystem, message, args, key, cause, times)

    def close(self) -> None:
        """Log what has been counted, and write no more to the descriptor."""
        for repeated in self._repeats.end():
            self._tell_repeated(repeated)
        if self._descriptor is not None:
            self._descriptor.close()
            self._lost = self._descriptor.lost
            self._descriptor = None

    def _say(
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
        said = _Said(level, subsystem, message, args)
        if key is not None:
            if not self._repeats.first((subsystem, key), said, trio.current_time(), times):
                return
            self._remind(self._tell_counts, self._repeats.deadline)
        self._tell(said, cause)

    def _tell(self, said: _Said, cause: BaseException | None = None) -> None:
        level, subsystem, message, objects = said
        # Whoever keeps records must not keep links and their sockets with them.
        args = tuple(arg if isinstance(arg, int | float | str) else str(arg) for arg in objects)
        # The caller of error(), warning() and so on is whom a record names as its place.
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

    def _tell_repeated(self, repeated: Repeated[_Said]) -> None:
        last = repeated.last
        self._tell(last._replace(message=f"{last.message} %s", args=(*last.args, repeated.text)))

    def _tell_counts(self, now: float) -> None:
        for repeated in self._repeats.due(now):
            self._tell_repeated(repeated)
        self._remind(self._tell_counts, self._repeats.deadline)
