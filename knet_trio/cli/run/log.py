"""The log of a host that runs: lines on standard error, in the journal, or JSON.

A thread writes them, since whoever reads the other end may stop to, and that must hold up no
heartbeat. Lines that find no room are lost, and counted.
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
"""What the command itself logs to."""

_ROOM: Final = 4096
# Seconds for the last lines to be written at the end.
_LAST_WORDS: Final = 1.0
# From the levels of logging to those of syslog, which the journal has: the first that is reached.
_PRIORITIES: Final = (
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.NOTSET, 7),
)


class LineFormatter(logging.Formatter):
    """Lines for people: time, level, and what is said."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, with a traceback below it if it has one."""
        time = format_time(record.created)
        return f"{time}  {record.levelname.lower():<7}  {super().format(record)}"


class JournalFormatter(logging.Formatter):
    """Lines for the journal, which has the time by itself: each begins with its priority."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record; each line of a traceback has the priority too."""
        priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
        lines = super().format(record).splitlines() or [""]
        return "\n".join(f"<{priority}>{line}" for line in lines)


class JsonFormatter(logging.Formatter):
    """A JSON object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object: ``time``, ``level``, ``logger`` and ``message``."""
        said = {
            "time": round(record.created, 6),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": super().format(record),
        }
        return json.dumps(said)


class LineWriter(logging.Handler):
    """Has a thread write records to a descriptor, and never waits for it."""

    def __init__(self, fd: int, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._fd = fd
        self._lines: queue.Queue[str | None] = queue.Queue(_ROOM)
        self._lost = 0
        # A daemon: if nobody reads the other end, the process can end all the same.
        self._thread = threading.Thread(target=self._write, name="knet-trio log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand over a record, or lose it if there is no room."""
        try:
            if self._lost:
                self._lines.put_nowait(self._notice())
                self._lost = 0
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._lost += 1
        except Exception:
            # As every handler does it: what is wrong with a line harms nobody.
            self.handleError(record)

    def _notice(self) -> str:
        text = "%d lines before this one were lost: nobody reads the log fast enough"
        level = logging.WARNING
        record = logging.LogRecord(LOGGER.name, level, "", 0, text, (self._lost,), None)
        return self.format(record)

    def finish(self) -> None:
        """Wait, a moment, until all is written."""
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
                    # The reader has gone. A later one may be there.
                    self._lost += 1
                    break


def is_journal(fd: int, environment: Mapping[str, str]) -> bool:
    """Return whether a descriptor leads to systemd's journal, as ``$JOURNAL_STREAM`` says."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


@contextmanager
def open_log(*, as_json: bool) -> Generator[None]:
    """Write what is logged while the block runs: JSON to standard output, else to the error."""
    if as_json:
        writer = LineWriter(1, JsonFormatter())
    elif is_journal(2, os.environ):
        writer = LineWriter(2, JournalFormatter())
    else:
        writer = LineWriter(2, LineFormatter())
    logger = logging.getLogger("knet_trio")
    before = logger.level
    # How much a handle says is up to the cluster file.
    logger.setLevel(logging.DEBUG)
    logger.addHandler(writer)
    try:
        yield
    finally:
        logger.removeHandler(writer)
        logger.setLevel(before)
        writer.finish()
