"""The log of a running host: lines on standard error, in the journal, or JSON.

A thread writes the lines, since a reader that stops must not delay a heartbeat. Lines that find no
room are dropped and counted.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import select
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final

from knet_trio.cli.units import format_time

LOGGER: Final = logging.getLogger("knet_trio.run")
"""The logger of the command itself."""

# Lines that wait for the thread, at most.
_ROOM: Final = 4096
# Seconds to write the last lines in, at the end.
_LAST_WORDS: Final = 1.0
# The syslog priority of a record, for the journal: that of the first level it reaches.
_PRIORITIES: Final = (
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.NOTSET, 7),
)


class LineFormatter(logging.Formatter):
    """Lines for people: time, level and message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, with a traceback below it if it has one."""
        time = format_time(record.created)
        return f"{time}  {record.levelname.lower():<7}  {super().format(record)}"


class JournalFormatter(logging.Formatter):
    """Lines for the journal, which adds the time: each begins with its priority."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record; each line of a traceback has the priority too."""
        priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
        lines = super().format(record).splitlines() or [""]
        return "\n".join(f"<{priority}>{line}" for line in lines)


class JsonFormatter(logging.Formatter):
    """A JSON object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object: ``time``, ``level``, ``logger`` and ``message``."""
        fields = {
            "time": round(record.created, 6),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": super().format(record),
        }
        return json.dumps(fields)


class LineWriter(logging.Handler):
    """A handler whose thread writes records to a file descriptor, so that logging never waits.

    Args:
        fd: The file descriptor.
        formatter: Makes lines of records.
    """

    def __init__(self, fd: int, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._fd = fd
        self._lines: queue.Queue[str | None] = queue.Queue(_ROOM)
        self._lost = 0
        # A daemon thread, so that the process can end even if nobody reads the other end.
        self._thread = threading.Thread(target=self._write, name="knet-trio log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record for the thread, or drop and count it if there is no room."""
        try:
            if self._lost:
                self._lines.put_nowait(self._notice())
                self._lost = 0
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._lost += 1
        except Exception:
            # As in all handlers: a record that cannot be formatted raises nothing.
            self.handleError(record)

    def _notice(self) -> str:
        text = "%d lines before this one were lost: nobody reads the log fast enough"
        level = logging.WARNING
        record = logging.LogRecord(LOGGER.name, level, "", 0, text, (self._lost,), None)
        return self.format(record)

    def finish(self) -> None:
        """Wait a moment until all lines are written."""
        try:
            self._lines.put(None, timeout=_LAST_WORDS)
        except queue.Full:
            return
        self._thread.join(_LAST_WORDS)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            if line is None:
                return
            rest = memoryview(f"{line}\n".encode(errors="backslashreplace"))
            while rest:
                try:
                    rest = rest[os.write(self._fd, rest) :]
                except BlockingIOError:
                    select.select([], [self._fd], [])
                except OSError:
                    # The reader has gone; another one may come.
                    self._lost += 1
                    break


def is_journal(fd: int, environment: Mapping[str, str]) -> bool:
    """Return whether a file descriptor is systemd's journal, according to ``$JOURNAL_STREAM``."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


@contextmanager
def open_log(*, as_json: bool) -> Generator[None]:
    """Write the log while the block runs: JSON to standard output, or lines to standard error."""
    if as_json:
        writer = LineWriter(1, JsonFormatter())
    elif is_journal(2, os.environ):
        writer = LineWriter(2, JournalFormatter())
    else:
        writer = LineWriter(2, LineFormatter())
    logger = logging.getLogger("knet_trio")
    before = logger.level
    # The cluster file sets the level of the handle.
    logger.setLevel(logging.DEBUG)
    logger.addHandler(writer)
    try:
        yield
    finally:
        logger.removeHandler(writer)
        logger.setLevel(before)
        writer.finish()
