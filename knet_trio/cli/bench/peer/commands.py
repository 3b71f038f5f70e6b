"""The commands of a peer, read from stdin and answered on stdout."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from resource import RUSAGE_SELF, getrusage
from typing import Any, Final

import attrs
import trio

from knet_trio import KnetError

Answer = Mapping[str, Any]
Command = Callable[["Arguments"], Awaitable[Answer]]

_READ: Final = 65536


class CommandError(Exception):
    """A command cannot be carried out. The message says why."""


@attrs.frozen
class Arguments:
    """The arguments of a command.

    Attributes:
        values: The arguments as text, by their names.
    """

    values: Mapping[str, str]

    def text(self, name: str, default: str = "") -> str:
        """Return the argument as text."""
        return self.values.get(name, default)

    def number(self, name: str, default: float = 0.0) -> float:
        """Return the argument as a number."""
        return float(self.values.get(name, default))

    def integer(self, name: str, default: int = 0) -> int:
        """Return the argument as a whole number."""
        return int(self.values.get(name, default))

    def hosts(self, name: str) -> list[int] | None:
        """Return the argument, host ids separated by commas, as numbers; None if not given."""
        words = self.values.get(name)
        return None if words is None else list(map(int, words.split(",")))

    def address(self, name: str) -> tuple[str, int]:
        """Return the argument, ``host:port``, as an address."""
        host, _, port = self.values[name].rpartition(":")
        return host, int(port)


def cpu_seconds() -> float:
    """Return the CPU time that this process has used, in seconds."""
    used = getrusage(RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def usage(arguments: Arguments) -> Answer:
    """Carry out ``usage``: return the time, and the CPU time used until now."""
    return {"now": time.monotonic(), "cpu": cpu_seconds()}


@attrs.define
class Span:
    """The messages and the CPU time between two times.

    Attributes:
        begin: The first time.
        end: The second time.
        count: Returns the number of messages.
    """

    begin: float
    end: float
    count: Callable[[], int]
    _marks: list[tuple[float, float, int]] = attrs.field(factory=list[tuple[float, float, int]])
    _watched: trio.Event = attrs.field(factory=trio.Event)

    @property
    def next_mark(self) -> float | None:
        """The time at which ``mark`` has to be called next, None after both."""
        return (self.begin, self.end, None)[len(self._marks)]

    def mark(self) -> None:
        """Note the time, the CPU time and the count."""
        self._marks.append((time.monotonic(), cpu_seconds(), self.count()))

    async def watch(self) -> None:
        """Wait for both times and mark them."""
        while (moment := self.next_mark) is not None:
            await trio.sleep(max(0.0, moment - time.monotonic()))
            self.mark()
        self._watched.set()

    async def wait_watched(self) -> None:
        """Wait until ``watch``, in another task, has marked both times, perhaps late."""
        await self._watched.wait()

    def look(self) -> None:
        """Mark a time that has come; for loops that do not run under Trio."""
        moment = self.next_mark
        if moment is not None and time.monotonic() >= moment:
            self.mark()

    def answer(self) -> dict[str, Any]:
        """Return seconds, count and CPU seconds, all zero before the end."""
        if len(self._marks) < 2:
            return {"seconds": 0.0, "count": 0, "cpu": 0.0}
        first, last = self._marks
        return {
            "seconds": last[0] - first[0],
            "count": last[2] - first[2],
            "cpu": last[1] - first[1],
        }


async def serve(commands: Mapping[str, Command]) -> None:
    """Carry out commands until stdin ends, each in a task of its own."""
    async with trio.open_nursery() as nursery:
        async for line in _lines():
            number, name, *words = line.split()
            values = dict(word.split("=", 1) for word in words)
            nursery.start_soon(_run, commands, int(number), name, Arguments(values))
        nursery.cancel_scope.cancel()


async def carry_out(commands: Mapping[str, Command], name: str, arguments: Arguments) -> Answer:
    """Carry out a command, and return its answer, with ``error`` if it fails."""
    try:
        command = commands.get(name)
        if command is None:
            raise CommandError(f"this peer cannot {name}")
        return await command(arguments)
    except (CommandError, KnetError, OSError, ValueError, LookupError, ArithmeticError) as error:
        return {"error": f"{name}: {error}"}


async def _run(
    commands: Mapping[str, Command], number: int, name: str, arguments: Arguments
) -> None:
    _say({"id": number, **await carry_out(commands, name, arguments)})


def _say(answer: Answer) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def _lines() -> AsyncIterator[str]:
    # A copy: closing the stream must not close the descriptor that sys.stdin has.
    async with trio.lowlevel.FdStream(os.dup(0)) as stream:
        rest = b""
        while data := await stream.receive_some(_READ):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line.decode()
