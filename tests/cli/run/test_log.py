"""Lines of the log, wherever they go."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from knet_trio.cli.run import log as log_module
from knet_trio.cli.run.log import (
    JournalFormatter,
    JsonFormatter,
    LineFormatter,
    LineWriter,
    is_journal,
)


def record(level: int, text: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("knet_trio.link", level, "", 0, text, args, None)


@contextmanager
def pipe() -> Generator[tuple[int, int]]:
    ours, theirs = os.pipe()
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


def test_lines_for_people() -> None:
    line = LineFormatter().format(record(logging.WARNING, "link %d is down", 3))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  warning  link 3 is down", line)


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7)],
)
def test_each_line_in_the_journal_has_its_priority(level: int, priority: int) -> None:
    assert JournalFormatter().format(record(level, "a")) == f"<{priority}>a"
    failed = record(level, "it has failed")
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        failed.exc_info = sys.exc_info()
    lines = JournalFormatter().format(failed).splitlines()
    assert len(lines) > 2
    assert all(line.startswith(f"<{priority}>") for line in lines)


def test_objects() -> None:
    said = json.loads(JsonFormatter().format(record(logging.INFO, "%s is up", "it")))
    assert said.pop("time") > 0
    assert said == {"level": "info", "logger": "knet_trio.link", "message": "it is up"}


def test_the_journal_is_known_by_its_file() -> None:
    with pipe() as (_, theirs):
        status = os.fstat(theirs)
        stream = f"{status.st_dev}:{status.st_ino}"
        assert is_journal(theirs, {"JOURNAL_STREAM": stream})
        assert not is_journal(theirs, {"JOURNAL_STREAM": f"{stream}0"})
        assert not is_journal(theirs, {})


def test_who_does_not_read_holds_up_nobody_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_ROOM", 10)
    with pipe() as (ours, theirs):
        writer = LineWriter(theirs, logging.Formatter())
        for number in range(100):
            writer.emit(record(logging.INFO, "%d " + "x" * 30_000, number))
        read: list[bytes] = []

        def read_all() -> None:
            while not read or b"the end" not in read[-1]:
                read.append(os.read(ours, 1 << 20))

        reader = threading.Thread(target=read_all)
        reader.start()
        while b"".join(read).count(b"\n") < 10:
            continue
        writer.emit(record(logging.INFO, "the end"))
        writer.finish()
        reader.join()
    *lines, last = b"".join(read).decode().splitlines()
    assert last == "the end"
    # There is room again whenever the thread has taken a line: each gap has a notice of its own.
    following, notices = 0, 0
    for line in lines:
        first, words = line.split(maxsplit=1)
        if words.startswith("lines before this one were lost"):
            following += int(first)
            notices += 1
        else:
            assert int(first) == following
            following += 1
    assert following == 100
    assert notices
