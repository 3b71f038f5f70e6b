"""The two ends of a log: what `log_fd` was given, and what `logging` was."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import NamedTuple


class Record(NamedTuple):
    """One record as C programs read it."""

    text: str
    subsystem: int
    level: int


def decode(raw: bytes) -> list[Record]:
    assert len(raw) % 256 == 0
    records: list[Record] = []
    for text, subsystem, level in struct.iter_unpack("254sBB", raw):
        assert b"\0" in text
        records.append(Record(text.partition(b"\0")[0].decode(), subsystem, level))
    return records


class LogPipe:
    """A pipe for `log_fd`, and what came out of it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)

    def read_raw(self) -> bytes:
        raw = b""
        while True:
            try:
                raw += os.read(self.reader, 65536)
            except BlockingIOError:
                return raw

    def read(self) -> list[Record]:
        return decode(self.read_raw())

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


class Line(NamedTuple):
    """What `logging` was given: the logger's name below `knet_trio`, the level, the text."""

    logger: str
    level: str
    text: str


Logged = Callable[[], list[Line]]
"""Everything `logging` has been given since the last call."""
