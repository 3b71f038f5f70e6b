"""What is sent, and what the two sides of a contender have to do."""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Iterator
from typing import Final

SIZE: Final = 64
INTERVAL: Final = 0.005
PING: Final = 0.1
TIMEOUT: Final = 0.3
"""Seconds, of every contender that has heartbeats."""
PORT: Final = 5405
_HEAD: Final = struct.Struct(">Qd")


def messages(seconds: float) -> Iterator[tuple[float, bytes]]:
    """Yield when to send a message, and the message; the clock is that of the whole machine."""
    began = time.monotonic()
    for number in range(round(seconds / INTERVAL)):
        due = began + number * INTERVAL
        yield due, _HEAD.pack(number, due).ljust(SIZE, b".")


def wait_for(due: float) -> None:
    """Sleep until then."""
    time.sleep(max(0.0, due - time.monotonic()))


class Log:
    """What has arrived, once each: when it was due to be sent, and when it came."""

    def __init__(self) -> None:
        self._arrivals: dict[int, tuple[float, float]] = {}

    def add(self, message: bytes) -> None:
        """Note a message."""
        number, sent = _HEAD.unpack_from(message)
        self._arrivals.setdefault(number, (sent, time.monotonic()))

    def report(self) -> None:
        """Print all of it in one line."""
        say(list(self._arrivals.values()))


def say(what: object) -> None:
    """Print a line for the program that measures."""
    print(json.dumps(what), flush=True)


def wait_word() -> None:
    """Wait for a line of the program that measures, or its end."""
    sys.stdin.readline()
