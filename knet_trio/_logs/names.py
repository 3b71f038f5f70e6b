"""Subsystems and levels of the log, by the names and numbers of libknet 1.25.

See knet_log_get_subsystem_name(3). Where the library differs from its manual pages, this module
does as the library: an unknown subsystem is called ``unknown``.
"""

from __future__ import annotations

import enum
from typing import Final

from knet_trio.config import check_integer
from knet_trio.errors import InvalidArgumentError, shown

MAX_ID: Final = 255


class LogSubsystem(enum.IntEnum):
    """The part of a handle that logs; libknet uses these names in lower case."""

    COMMON = 0
    HANDLE = 1
    HOST = 2
    LISTENER = 3
    LINK = 4
    TRANSPORT = 5
    CRYPTO = 6
    COMPRESS = 7
    FILTER = 19
    DSTCACHE = 20
    HEARTBEAT = 21
    PMTUD = 22
    TX = 23
    RX = 24
    LOOPBACK = 40
    UDP = 41
    SCTP = 42
    NSSCRYPTO = 60
    OPENSSLCRYPTO = 61
    ZLIBCOMP = 70
    LZ4COMP = 71
    LZ4HCCOMP = 72
    LZO2COMP = 73
    LZMACOMP = 74
    BZIP2COMP = 75
    ZSTDCOMP = 76
    UNKNOWN = 254


class LogLevel(enum.IntEnum):
    """The level of a message. A subsystem logs messages of its own level and of lower numbers."""

    ERROR = 0
    WARNING = 1
    INFO = 2
    DEBUG = 3


_SUBSYSTEM_NAMES: Final = {subsystem: subsystem.name.lower() for subsystem in LogSubsystem}
_SUBSYSTEMS: Final = {name: subsystem for subsystem, name in _SUBSYSTEM_NAMES.items()}
# The library writes two of the four names in capitals.
_LEVEL_NAMES: Final = {
    LogLevel.ERROR: "ERROR",
    LogLevel.WARNING: "WARNING",
    LogLevel.INFO: "info",
    LogLevel.DEBUG: "debug",
}
_LEVELS: Final = {name.lower(): level for level, name in _LEVEL_NAMES.items()}


def get_log_subsystem_name(id: int) -> str:
    """Return the name of a subsystem.

    See knet_log_get_subsystem_name(3).

    Args:
        id: The number of the subsystem, 0 to 255.

    Returns:
        The name; ``unknown`` if no subsystem has that number.

    Raises:
        InvalidArgumentError: ``id`` is out of range.
    """
    check_integer("subsystem id", id, 0, MAX_ID)
    return _SUBSYSTEM_NAMES[LogSubsystem(id) if id in _SUBSYSTEM_NAMES else LogSubsystem.UNKNOWN]


def get_log_subsystem_id(name: str) -> LogSubsystem:
    """Return the number of a subsystem.

    See knet_log_get_subsystem_id(3).

    Args:
        name: The name of the subsystem, in upper or lower case.

    Returns:
        The subsystem; ``UNKNOWN`` (254) if none has that name.

    Raises:
        InvalidArgumentError: ``name`` is not a string.
    """
    return _SUBSYSTEMS.get(_lower("subsystem", name), LogSubsystem.UNKNOWN)


def get_log_level_name(id: int) -> str:
    """Return the name of a log level.

    See knet_log_get_loglevel_name(3).

    Args:
        id: The number of the level, 0 to 255.

    Returns:
        The name; ``ERROR`` if no level has that number.

    Raises:
        InvalidArgumentError: ``id`` is out of range.
    """
    check_integer("log level id", id, 0, MAX_ID)
    return _LEVEL_NAMES[LogLevel(id) if id in _LEVEL_NAMES else LogLevel.ERROR]


def get_log_level_id(name: str) -> LogLevel:
    """Return the number of a log level.

    See knet_log_get_loglevel_id(3).

    Args:
        name: The name of the level, in upper or lower case.

    Returns:
        The level; ``ERROR`` (0) if none has that name.

    Raises:
        InvalidArgumentError: ``name`` is not a string.
    """
    return _LEVELS.get(_lower("log level", name), LogLevel.ERROR)


def find_subsystem(subsystem: int | str) -> LogSubsystem:
    """Return the subsystem with a name or number; raise InvalidArgumentError if there is none."""
    if isinstance(subsystem, str):
        found = _SUBSYSTEMS.get(subsystem.lower())
    else:
        number = check_integer("log subsystem", subsystem, 0, MAX_ID)
        found = LogSubsystem(number) if number in _SUBSYSTEM_NAMES else None
    if found is None:
        known = ", ".join(f"{name} ({member:d})" for name, member in _SUBSYSTEMS.items())
        raise InvalidArgumentError(
            f"log subsystem {shown(subsystem)} is not known; use one of {known}"
        )
    return found


def find_level(level: int | str) -> LogLevel:
    """Return the level with a name or number; raise InvalidArgumentError if there is none."""
    if isinstance(level, str):
        found = _LEVELS.get(level.lower())
    else:
        number = check_integer("log level", level, 0, MAX_ID)
        found = LogLevel(number) if number in _LEVEL_NAMES else None
    if found is None:
        known = ", ".join(f"{name} ({member:d})" for name, member in _LEVELS.items())
        raise InvalidArgumentError(f"log level {shown(level)} is not known; use one of {known}")
    return found


def _lower(what: str, name: object) -> str:
    if not isinstance(name, str):
        raise InvalidArgumentError(f"{what} name {shown(name)} is not valid: give a string")
    return name.lower()
