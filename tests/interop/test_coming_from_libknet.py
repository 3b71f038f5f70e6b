"""The programs of docs/coming-from-libknet.md: each in C with its Python twin as the other node."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Final

import pytest
import trio

from tests.interop.conftest import need
from tests.ports import free_udp_port

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = ROOT / "docs" / "coming-from-libknet.md"
NAMES: Final = ("greet", "talk", "rekey")
LIMIT: Final = 60.0
COMPILER: Final = "gcc"

Command = list[str]
Programs = dict[str, tuple[Command, Command]]
"""By its name the command of the program in C, and that of its twin."""

# The addresses of C's links and of Python's, in the order in which the programs take them.
NETWORKS: Final = (("127.0.0.1", "127.0.0.2"), ("127.1.0.1", "127.1.0.2"))
C: Final = 0
PYTHON: Final = 1
both_ways = pytest.mark.parametrize("first", [C, PYTHON], ids=["c-first", "python-first"])


def blocks() -> list[tuple[str, str, str]]:
    """Language, name and text of each program, in the order of the document."""
    found = re.findall(
        r"^```(c|python)\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE
    )
    programs: list[tuple[str, str, str]] = []
    for language, text in found:
        name = re.match(r"(?:/\*|#) (\w+)\.", text)
        assert name, f"a program begins with its name in a comment, this one does not:\n{text}"
        programs.append((language, name[1], text))
    return programs


def compiler_missing() -> str | None:
    """None when programs with libknet can be compiled here, else what to install."""
    install = "apt-get install gcc libc6-dev libknet-dev"
    if shutil.which(COMPILER) is None:
        return f"there is no C compiler here: {install}"
    done = subprocess.run(
        [COMPILER, "-fsyntax-only", "-x", "c", "-"],
        input="#include <stdio.h>\n#include <libknet.h>\n",
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    if done.returncode:
        return f"the headers are not here ({done.stderr.strip()}): {install}"
    return None


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """All of them, compiled without a warning."""
    need(compiler_missing())
    place = tmp_path_factory.mktemp("programs")
    for language, name, text in blocks():
        source = place / f"{name}.{'c' if language == 'c' else 'py'}"
        source.write_text(text)
        if language == "c":
            done = subprocess.run(
                [COMPILER, "-Wall", "-Werror", "-o", place / name, source, "-lknet"],
                capture_output=True,
                text=True,
                timeout=LIMIT,
                check=False,
            )
            assert done.returncode == 0, done.stderr
    python = [sys.executable, "-W", "error"]
    return {name: ([str(place / name)], [*python, str(place / f"{name}.py")]) for name in NAMES}


class Program:
    """One that runs. What it has printed is in `lines`."""

    def __init__(self, process: trio.Process) -> None:
        self.lines: list[str] = []
        self._process = process
        self._changed = trio.Event()
        self._ended = False

    async def read(self) -> None:
        assert self._process.stdout is not None
        rest = ""
        async for chunk in self._process.stdout:
            *lines, rest = (rest + chunk.decode()).split("\n")
            self.lines += lines
            self._notify()
        self._ended = True
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Until the condition, of its lines, is true; fails when it has ended before."""
        while not condition():
            assert not self._ended, f"it has ended, having printed {self.lines}"
            await self._changed.wait()

    async def wait_line(self, line: str) -> None:
        await self.wait(lambda: line in self.lines)

    def beginning(self, text: str) -> list[str]:
        return [line for line in self.lines if line.startswith(text)]

    async def wait_beginning(self, text: str, count: int) -> list[str]:
        """Until it has printed so many lines that begin so, in all; these lines."""
        await self.wait(lambda: len(self.beginning(text)) >= count)
        return self.beginning(text)

    async def say(self, line: str) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(f"{line}\n".encode())

    async def wait_end(self) -> None:
        """Until it has ended by itself, and well."""
        await self.wait(lambda: self._ended)
        assert await self._process.wait() == 0

    async def finish(self) -> None:
        """End its input, and so it."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        await self.wait_end()


@asynccontextmanager
async def running(command: Sequence[str]) -> AsyncGenerator[Program, None]:
    """A program that is gone when the block ends, however it ends."""
    process = await trio.lowlevel.open_process(command, stdin=PIPE, stdout=PIPE, cwd=ROOT)
    program = Program(process)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(program.read)
            yield program
            nursery.cancel_scope.cancel()
    except BaseException:
        # To stderr, where pytest shows it with the failure.
        print(f"{' '.join(command)} printed {program.lines}", file=sys.stderr)
        raise
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                await stream.aclose()


def free_port() -> str:
    """A UDP port that nobody has on any of the addresses."""
    return str(free_udp_port(*(address for network in NETWORKS for address in network)))


def commands(pair: tuple[Command, Command], links: int = 1) -> list[Command]:
    """How to run the program in C as host 1 and its twin as host 2, to each other."""
    port = free_port()
    c, python = pair
    there = [network[::-1] for network in NETWORKS]
    return [
        [*c, "1", "2", port, *(address for network in NETWORKS[:links] for address in network)],
        [*python, "2", "1", port, *(address for network in there[:links] for address in network)],
    ]


def test_each_program_has_its_twin_which_is_shorter() -> None:
    found = blocks()
    assert [(language, name) for language, name, _ in found] == [
        (language, name) for name in NAMES for language in ("c", "python")
    ]
    for (_, _, original), (_, _, twin) in zip(found[::2], found[1::2], strict=True):
        assert len(twin.splitlines()) < len(original.splitlines())


def test_without_a_compiler_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt-get install gcc" in (compiler_missing() or "")


def test_without_the_headers_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / COMPILER
    fake.write_text("#!/bin/sh\necho libknet.h: No such file >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = compiler_missing() or ""
    assert "libknet.h: No such file" in missing
    assert "apt-get install" in missing


@both_ways
async def test_greet(programs: Programs, first: int) -> None:
    pair = commands(programs["greet"], links=2)
    with trio.fail_after(LIMIT):
        async with running(pair[first]) as one, running(pair[1 - first]) as other:
            await one.wait_end()
            await other.wait_end()
    c, python = (one, other) if first == C else (other, one)
    assert c.lines == ["received: hello from 2"]
    assert python.lines == ["received: hello from 1"]


@both_ways
async def test_talk(programs: Programs, first: int) -> None:
    pair = commands(programs["talk"])
    with trio.fail_after(LIMIT):
        async with running(pair[first]) as one:
            await one.say("9 hello?")
            await one.say("no number")
            refusals = await one.wait_beginning("not sent: ", 2)
            for refusal, words in zip(
                refusals,
                (("Host is down", "EINVAL"), ("Bad address", "EFAULT")),
                strict=True,
            ):
                assert words[first] in refusal
            async with running(pair[1 - first]) as other:
                mine, peers = first + 1, 2 - first
                await one.wait_line(f"host {peers} is reachable")
                await other.wait_line(f"host {mine} is reachable")
                await one.say(f"{peers} hello")
                await other.wait_line(f"received: {peers} hello")
                await other.say(f"{mine} hello yourself")
                await one.wait_line(f"received: {mine} hello yourself")

                def same_mtu() -> bool:
                    mtus = [program.beginning("data MTU ")[-1:] for program in (one, other)]
                    return bool(mtus[0]) and mtus[0] == mtus[1]

                # Either may be the one that is told later.
                async with trio.open_nursery() as nursery:
                    for program in (one, other):
                        nursery.start_soon(wait_any, program, same_mtu, nursery.cancel_scope)
                await other.finish()
            await one.finish()


async def wait_any(
    program: Program, condition: Callable[[], bool], scope: trio.CancelScope
) -> None:
    await program.wait(condition)
    scope.cancel()


@both_ways
async def test_rekey(programs: Programs, first: int) -> None:
    pair = commands(programs["rekey"])
    with trio.fail_after(LIMIT):
        async with running(pair[first]) as one, running(pair[1 - first]) as other:
            for program in (one, other):
                await program.wait_line("reachable")
            for word in ("go", "prepare", "switch", "forget"):
                for program in (one, other):
                    await program.say(word)
                    await program.wait_line(f"done: {word}")
                # With what is in force now, messages flow both ways.
                for program in (one, other):
                    await program.wait_beginning("so far ", len(program.beginning("so far ")) + 2)
            for program in (one, other):
                await program.say("stop")
            for program in (one, other):
                (line,) = await program.wait_beginning("received ", 1)
                received, total = re.findall(r"\d+", line)
                assert received == total
                assert int(total) >= 200
            for program in (one, other):
                await program.finish()
