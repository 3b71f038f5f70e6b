"""The programs in ``examples/``, each in a process of its own that no test leaves behind."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from tests.cluster import PATIENCE

ROOT: Final = Path(__file__).parents[1]
EXAMPLES: Final = ROOT / "examples"


class Program:
    """A program that runs. What it prints, errors too, is read line by line."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._lines_in, self._lines = trio.open_memory_channel[str](10_000)
        self.said = ""

    async def read(self) -> None:
        """Read all that it prints, to the end."""
        assert self._process.stdout is not None
        rest = b""
        with self._lines_in:
            async for part in self._process.stdout:
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    text = line.decode()
                    self.said += f"{text}\n"
                    self._lines_in.send_nowait(text)

    async def line(self, pattern: str) -> re.Match[str]:
        """Wait for a line with ``pattern`` in it."""
        with trio.move_on_after(PATIENCE):
            async for line in self._lines:
                found = re.search(pattern, line)
                if found is not None:
                    return found
        raise AssertionError(f"no line with {pattern!r} in what was printed:\n{self.said}")

    async def say(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(f"{line}\n".encode())

    async def say_no_more(self) -> None:
        """End its standard input."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def status(self) -> int:
        """Wait for its end, and for the last it says; its exit status."""
        with trio.fail_after(PATIENCE):
            async for _ in self._lines:
                pass
            return await self._process.wait()


@asynccontextmanager
async def started(
    name: str, *arguments: object, within: Sequence[str] = ()
) -> AsyncGenerator[Program]:
    """Start an example, with a command such as ``ip netns exec x`` before it.

    It is killed if it has not ended by the end of the block.
    """
    command = [*within, sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    program = Program(process)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(program.read)
            yield program
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    await stream.aclose()


async def output(name: str, *arguments: object) -> str:
    """What an example prints that ends by itself, in success."""
    async with started(name, *arguments) as program:
        status = await program.status()
        assert status == 0, program.said
        return program.said
