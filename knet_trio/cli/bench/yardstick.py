"""The machine's own yardstick: what a few small things cost, measured beside everything else.

Figures of two machines, or of two hours on one, can be compared by it.
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

# Readings whose greatest is so many times their least say that the machine was not the same.
MOST_MOVE: Final = 1.2

_REPETITIONS: Final = 8
# For the beginning and the end of a run, where there is more time.
LONG_REPETITIONS: Final = 40
# So many each time take about half a millisecond: shorter than the system lets a process run.
_CHECKPOINTS: Final = 100
_DATAGRAMS: Final = 150
_LOOPS: Final = 10_000
_SEALS: Final = 100

_DATAGRAM: Final = bytes(64)
# A second, as the kernel's `struct timeval`.
_PATIENCE: Final = struct.pack("ll", 1, 0)
_ROOM: Final = 2048
# Whole blocks, of about what goes into a packet on Ethernet.
SEALED_BYTES: Final = 1408
_BLOCK: Final = 16
_KEY: Final = bytes(range(32))

# Seconds for one of each part, by its key.
Reading = Mapping[str, float]


@attrs.frozen
class Part:
    """One of the things that a reading times; ``scale`` turns seconds into ``unit``."""

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
# What messages are measured in.
UNIT: Final = PARTS[1]


async def read(repetitions: int = _REPETITIONS) -> Reading:
    """Return the best of some repetitions of each part, in seconds.

    With the default it takes some 20 ms, without letting other tasks run for most of them. The
    parts take turns, so that a disturbance does not meet all repetitions of one.
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
        # Not by settimeout, which looks before each call whether there is something.
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
    """Readings, one after the other."""

    readings: list[Reading] = attrs.field(factory=list[Reading])

    async def read(self, repetitions: int = _REPETITIONS) -> None:
        """Take a reading more."""
        self.readings.append(await read(repetitions))

    def spread(self, part: Part) -> Spread:
        """Return the spread of a part, in its unit, of one reading at least."""
        return Spread.of(reading[part.key] * part.scale for reading in self.readings)

    def move(self, part: Part) -> float:
        """Return how many times the least reading of a part the greatest is."""
        spread = self.spread(part)
        return spread.greatest / spread.least

    @property
    def moved(self) -> Sequence[Part]:
        """The parts that moved by more than ``MOST_MOVE``: the machine was not the same."""
        return [part for part in PARTS if self.readings and self.move(part) > MOST_MOVE]

    def of(self, metric_unit: str, value: float) -> float | None:
        """Return the time that a value means in sendto+recv, None for one that means none.

        ``metric_unit`` is that of a time, or of a rate: then it is the time for one.
        """
        seconds = _seconds(metric_unit, value)
        if seconds is None or not self.readings:
            return None
        return seconds * UNIT.scale / self.spread(UNIT).median

    def as_json(self) -> dict[str, Any]:
        """Return it with plain values for JSON."""
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
