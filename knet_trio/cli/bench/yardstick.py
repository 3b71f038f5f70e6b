"""The yardstick of the machine: the times of a few small operations, measured beside every case.

It makes figures of two machines, or of two hours on one machine, comparable.
"""

from __future__ import annotations

import hmac
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import trio
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from knet_trio.cli.bench.spread import Spread, plain

# The ratio of the greatest to the least reading above which the machine was not the same.
MOST_MOVE: Final = 1.2

_REPETITIONS: Final = 8
# For the beginning and the end of a run, where there is more time.
LONG_REPETITIONS: Final = 40
# Each of these numbers takes about half a millisecond, less than a time slice of the system.
_CHECKPOINTS: Final = 100
_DATAGRAMS: Final = 150
_LOOPS: Final = 10_000
_SEALS: Final = 100

_DATAGRAM: Final = bytes(64)
# One second, as a `struct timeval` of the kernel.
_PATIENCE: Final = struct.pack("ll", 1, 0)
_ROOM: Final = 2048
# Whole blocks, of about the payload of a packet on Ethernet.
SEALED_BYTES: Final = 1408
_BLOCK: Final = 16
_KEY: Final = bytes(range(32))

# The seconds that each part takes, by its key.
Reading = Mapping[str, float]


@attrs.frozen
class Part:
    """An operation that a reading times.

    Attributes:
        key: The key of the part.
        title: The title in tables.
        what: The operation, in words.
        unit: The unit in tables.
        scale: The number of units in a second.
    """

    key: str
    title: str
    what: str
    unit: str
    scale: float


PARTS: Final = (
    Part("checkpoint", "checkpoint", "a checkpoint of Trio, its loop once around", "µs", 1e6),
    Part("datagram", "sendto+recv", "64 bytes through a UDP socket to itself, loopback", "µs", 1e6),
    Part("loop", "loop", "a Python loop of `x += i & 3`, each time around", "ns", 1e9),
    Part("seal", "seal", f"AES-256-CBC and HMAC-SHA256 of {SEALED_BYTES} bytes", "µs", 1e6),
)
# The part that costs of messages are expressed in.
UNIT: Final = PARTS[1]


async def read(repetitions: int = _REPETITIONS) -> Reading:
    """Return the best of some repetitions of each part, in seconds.

    With the default this takes some 20 ms, and other tasks do not run for most of that time. The
    parts take turns, so that a disturbance does not hit all repetitions of one part.
    """
    encryptor = Cipher(algorithms.AES(_KEY), modes.CBC(bytes(_BLOCK))).encryptor()
    text, sealed = bytes(SEALED_BYTES), bytearray(SEALED_BYTES + _BLOCK - 1)

    def seal() -> None:
        for _ in range(_SEALS):
            encryptor.update_into(text, sealed)
            hmac.digest(_KEY, text, "sha256")

    best = {part.key: float("inf") for part in PARTS}

    def note(key: str, began: float, times: int) -> None:
        best[key] = min(best[key], (time.perf_counter() - began) / times)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        # Not settimeout, which polls before each call.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _PATIENCE)
        for _ in range(repetitions):
            began = time.perf_counter()
            for _ in range(_CHECKPOINTS):
                await trio.lowlevel.checkpoint()
            note("checkpoint", began, _CHECKPOINTS)
            began = time.perf_counter()
            _datagrams(sock)
            note("datagram", began, _DATAGRAMS)
            began = time.perf_counter()
            _loop()
            note("loop", began, _LOOPS)
            began = time.perf_counter()
            seal()
            note("seal", began, _SEALS)
    return best


def _datagrams(sock: socket.socket) -> None:
    address = sock.getsockname()
    for _ in range(_DATAGRAMS):
        sock.sendto(_DATAGRAM, address)
        sock.recv(_ROOM)


def _loop() -> int:
    x = 0
    for i in range(_LOOPS):
        x += i & 3
    return x


@attrs.define
class Yardstick:
    """A series of readings.

    Attributes:
        readings: The readings, in order.
    """

    readings: list[Reading] = attrs.field(factory=list[Reading])

    async def read(self, repetitions: int = _REPETITIONS) -> None:
        """Take another reading."""
        self.readings.append(await read(repetitions))

    def spread(self, part: Part) -> Spread:
        """Return the spread of a part over all readings, one at least, in its unit."""
        return Spread.of(reading[part.key] * part.scale for reading in self.readings)

    def move(self, part: Part) -> float:
        """Return the ratio of the greatest reading of a part to the least."""
        spread = self.spread(part)
        return spread.greatest / spread.least

    @property
    def moved(self) -> Sequence[Part]:
        """The parts that moved by more than ``MOST_MOVE``: the machine was not the same."""
        return [part for part in PARTS if self.readings and self.move(part) > MOST_MOVE]

    def of(self, metric_unit: str, value: float) -> float | None:
        """Return a value in times of ``sendto+recv``.

        Args:
            metric_unit: The unit of the value: that of a time, or ``1/s`` for a rate, of which the
                time for one is taken.
            value: The value.

        Returns:
            The time, None for other units, a rate of 0, or without readings.
        """
        seconds = _seconds(metric_unit, value)
        if seconds is None or not self.readings:
            return None
        return seconds * UNIT.scale / self.spread(UNIT).median

    def as_json(self) -> dict[str, Any]:
        """Return the readings and their spreads as a JSON object."""
        return {
            part.key: {
                "unit": part.unit,
                **self.spread(part).as_json(),
                "moved": self.move(part) > MOST_MOVE,
                "readings": [plain(reading[part.key] * part.scale) for reading in self.readings],
            }
            for part in (PARTS if self.readings else ())
        }


def _seconds(unit: str, value: float) -> float | None:
    if unit == "1/s":
        return 1 / value if value else None
    factor = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}.get(unit)
    return None if factor is None else value * factor
