"""Carries frames between the tap devices of two namespaces, as badly as it is told to.

`python -m tests.network.relay '{"names": [...], "wires": 2, "seed": 1}'`. Wire i joins `tap{i}` of
both namespaces. stdin carries one command a line, stdout one answer a line, both JSON. The end of
input ends the process. One thread waits for frames, commands and the next frame that is due.

Only UDP is treated badly: a network without working ARP would be another test.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import random
import select
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from knet_trio._devices import attach_tap
from tests.interop.namespaces import inside
from tests.network.frames import ETHERNET, find_datagram, find_message, flip_bit

# Source: linux/if_tun.h.
TUNSETCARRIER: Final = 0x400454E2

MOST_AT_ONCE: Final = 64
# Seconds for which a frame is held back so that others get in front of it.
REORDER_HOLD: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What happens to the datagrams of a wire in one direction.

    `loss`, `duplicate`, `reorder` and `corrupt` are probabilities, `delay` seconds. `rate` is bytes
    a second, 0 for any number, and `queue` the bytes that may wait for their turn. Packets larger
    than `mtu` vanish, 0 for none.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    delay: float = 0.0
    rate: float = 0.0
    queue: int = 0
    mtu: int = 0


@dataclass
class Tallies:
    """What became of the datagrams of a wire in one direction.

    `seen` came in. Of these `lost`, `too_large` and `queue_full` went no further; the others, with
    the copies, are `passed`, or `refused` by the device they went to. `data` has the same counters
    for packets with data in clear alone, and `begun`: of how many messages some packet has passed,
    where packets keep their order.
    """

    all: Counter[str] = field(default_factory=Counter[str])
    data: Counter[str] = field(default_factory=Counter[str])


class Direction:
    """One way over a wire: what enters at one tap leaves by another."""

    def __init__(self) -> None:
        self.conditions = Conditions()
        self.tallies = Tallies()
        self.free_at = 0.0
        """When all that waits for its turn is through."""
        self.newest = -1
        """The highest number of a frame that has left."""
        self.message = b""
        """What message the last packet with data was of."""


class Tap:
    """One end of a wire. Its device may vanish, and come again."""

    def __init__(self, namespace: str, device: str) -> None:
        self.namespace, self.device = namespace, device
        self.fd = -1

    def attach(self) -> None:
        """Take the device, which has a carrier from now on."""
        with inside(self.namespace):
            self.fd = attach_tap(self.device)

    def detach(self) -> None:
        """Let go of a device, or of the file of one that is gone."""
        os.close(self.fd)
        self.fd = -1

    def set_carrier(self, on: bool) -> None:
        """Plug the cable in, or pull it out."""
        fcntl.ioctl(self.fd, TUNSETCARRIER, struct.pack("I", on))


class Due(NamedTuple):
    """A frame that leaves when its time has come; those of one time in their order."""

    when: float
    number: int
    frame: bytes
    wire: int
    toward: int
    message: bytes | None


class Relay:
    """All wires, and what is on its way."""

    def __init__(self, names: list[str], wires: int, seed: int) -> None:
        self.taps = [[Tap(name, f"tap{i}") for name in names] for i in range(wires)]
        self.directions = [[Direction(), Direction()] for _ in range(wires)]
        self.chance = random.Random(seed)
        self._due: list[Due] = []
        self._numbers = 0
        self._places: dict[int, tuple[int, int]] = {}
        self._poll = select.epoll()
        self._poll.register(0, select.EPOLLIN)
        self._commands = bytearray()
        for wire in range(wires):
            for side in (0, 1):
                self._attach(wire, side)

    def run(self) -> None:
        """Until the input ends."""
        while True:
            for fd, _ in self._poll.poll(self._patience()):
                if fd:
                    self._read_frames(fd)
                elif not self._read_commands():
                    return
            self._send_due()

    def _patience(self) -> float | None:
        if not self._due:
            return None
        return max(0.0, self._due[0].when - time.monotonic())

    # Frames.

    def _read_frames(self, fd: int) -> None:
        if fd not in self._places:
            # A command before it, of the same moment, was to let it go.
            return
        wire, side = self._places[fd]
        for _ in range(MOST_AT_ONCE):
            try:
                frame = os.read(fd, 65536)
            except BlockingIOError:
                return
            except OSError:
                # The device was deleted.
                self._detach(wire, side)
                return
            self._take(frame, wire, 1 - side)

    def _take(self, frame: bytes, wire: int, toward: int) -> None:
        """Decide what becomes of a frame that came in."""
        datagram = find_datagram(frame)
        if datagram is None:
            self._write(frame, wire, toward)
            return
        way = self.directions[wire][toward]
        bad = way.conditions
        message = find_message(frame, datagram)
        self._count(way, "seen", message)
        if bad.mtu and len(frame) - ETHERNET > bad.mtu:
            self._count(way, "too_large", message)
            return
        if self.chance.random() < bad.loss:
            self._count(way, "lost", message)
            return
        if self.chance.random() < bad.corrupt:
            frame = flip_bit(frame, datagram, self.chance)
            self._count(way, "corrupted", message)
        copies = 1
        if self.chance.random() < bad.duplicate:
            copies = 2
            self._count(way, "duplicated", message)
        now = time.monotonic()
        for _ in range(copies):
            when = self._turn(way, len(frame), now)
            if when is None:
                self._count(way, "queue_full", message)
                continue
            if self.chance.random() < bad.reorder:
                when += REORDER_HOLD
            due = Due(when + bad.delay, self._numbers, frame, wire, toward, message)
            self._numbers += 1
            heapq.heappush(self._due, due)

    @staticmethod
    def _turn(way: Direction, size: int, now: float) -> float | None:
        """When a frame is through the narrow place, None if there is no room to wait before it."""
        rate = way.conditions.rate
        start = max(now, way.free_at)
        if not rate:
            # Behind what waits from when there was one.
            return start
        if (start - now) * rate + size > way.conditions.queue:
            return None
        way.free_at = start + size / rate
        return way.free_at

    def _send_due(self) -> None:
        while self._due and self._due[0].when <= time.monotonic():
            self._deliver(heapq.heappop(self._due))

    def _deliver(self, due: Due) -> None:
        way = self.directions[due.wire][due.toward]
        if due.number < way.newest:
            self._count(way, "reordered", due.message)
        way.newest = max(way.newest, due.number)
        passed = self._write(due.frame, due.wire, due.toward)
        self._count(way, "passed" if passed else "refused", due.message)
        if passed and due.message is not None:
            way.tallies.data["begun"] += due.message != way.message
            way.message = due.message

    def _write(self, frame: bytes, wire: int, toward: int) -> bool:
        tap = self.taps[wire][toward]
        if tap.fd < 0:
            return False
        try:
            os.write(tap.fd, frame)
        except OSError:
            # The interface is down, or deleted and not read from yet.
            return False
        return True

    @staticmethod
    def _count(way: Direction, fate: str, message: bytes | None) -> None:
        way.tallies.all[fate] += 1
        if message is not None:
            way.tallies.data[fate] += 1

    # Commands.

    def _read_commands(self) -> bool:
        """Carry out what has come; False at the end of the input."""
        chunk = os.read(0, 65536)
        self._commands += chunk
        *lines, rest = bytes(self._commands).split(b"\n")
        self._commands = bytearray(rest)
        for line in lines:
            command = json.loads(line)
            answer = getattr(self, f"do_{command.pop('do')}")(**command)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        return bool(chunk)

    def do_set(self, wire: int, toward: int, conditions: dict[str, Any]) -> None:
        """Treat what comes in from now on like that. What is on its way goes its way."""
        self.directions[wire][toward].conditions = Conditions(**conditions)

    def do_tallies(self, wire: int, toward: int) -> dict[str, Any]:
        """What became of all that has been seen so far."""
        return vars(self.directions[wire][toward].tallies)

    def do_waiting(self) -> int:
        """How many frames are on their way."""
        return len(self._due)

    def do_carrier(self, wire: int, side: int, on: bool) -> None:
        """Pull out the cable of one side, or plug it in."""
        self.taps[wire][side].set_carrier(on)

    def do_attach(self, wire: int, side: int) -> None:
        """Take a device that was made again."""
        if self.taps[wire][side].fd >= 0:
            self._detach(wire, side)
        self._attach(wire, side)

    def _attach(self, wire: int, side: int) -> None:
        tap = self.taps[wire][side]
        tap.attach()
        self._places[tap.fd] = wire, side
        self._poll.register(tap.fd, select.EPOLLIN)

    def _detach(self, wire: int, side: int) -> None:
        tap = self.taps[wire][side]
        del self._places[tap.fd]
        self._poll.unregister(tap.fd)
        tap.detach()


def main() -> None:
    relay = Relay(**json.loads(sys.argv[1]))
    print(json.dumps("ready"), flush=True)
    relay.run()


if __name__ == "__main__":
    main()
