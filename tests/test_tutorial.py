"""docs/tutorial.md, from top to bottom: its files written, its commands run, its output compared.

The environment of the tests takes the place of the one that the page installs.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import pytest

PAGE: Final = Path(__file__).parents[1] / "docs" / "tutorial.md"
# The shell that is entered, as opposed to a command that ends.
ENTER: Final = "unshare --map-root-user --net --mount bash"
# The same where that is refused, for root.
ENTER_AS_ROOT: Final = "unshare --net --mount bash"
# What can be asked again until it shows what is waited for.
LOOKS: Final = ("knet-trio status", "tail ", "grep ")
PATIENCE: Final = 30.0
# What differs from one run to the next.
CHANGING: Final = (
    # A link that is cut sooner than a reader would has a longer timeout.
    (r", \d+ times pong_timeout as the link is young", ""),
    (r"\d+(\.\d+)? ?(ms|s|%)(?=\W)", r"N \2"),
    (r"^dropped: .*", "dropped: …"),
    (r"^\d+ is here", "N is here"),
    (r"\bif\d+\b", "ifN"),
    (r"^(salt|fingerprint) [0-9a-f ]*", r"\1"),
    (r"fe80::\S+", "fe80::"),
    (r"\s+", " "),
)


def find_entrance() -> str | None:
    """Return the command that enters a shell with a network of its own, None if none does."""
    tried = "mount -t tmpfs tmpfs /run && ip netns add probe && ip link add probe type bridge"
    for command in (ENTER, ENTER_AS_ROOT):
        done = subprocess.run(
            [*command.split(), "-c", tried], capture_output=True, timeout=PATIENCE, check=False
        )
        if done.returncode == 0:
            return command
    return None


def steps() -> Iterator[tuple[str, str]]:
    """Yield the parts of the page: the name and the text of a file, or "" and a console."""
    text = PAGE.read_text()
    pattern = r"^(?:[^\n]*file\s`(\S+)`:\n\n```\w+|```console)\n(.*?)^```$"
    for found in re.finditer(pattern, text, re.DOTALL | re.MULTILINE):
        yield found[1] or "", found[2]


def commands(console: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the commands of a console, each with what it prints."""
    for part in re.split(r"^[$#] ", console, flags=re.MULTILINE)[1:]:
        command, *printed = part.splitlines()
        yield command, printed


def plain(lines: list[str]) -> list[str]:
    """Return lines without what differs from one run to the next."""
    done: list[str] = []
    for line in lines:
        for pattern, replacement in CHANGING:
            line = re.sub(pattern, replacement, line + " ").strip()
        done.append(line)
    return done


def matches(printed: list[str], expected: list[str]) -> bool:
    """Compare; a last line of three dots stands for whatever follows."""
    if expected[-1:] == ["…"]:
        printed, expected = printed[: len(expected) - 1], expected[:-1]
    return plain(printed) == plain(expected)


class Shell:
    """A shell that is given one command after the other."""

    def __init__(self, stdin: IO[str], stdout: IO[str]) -> None:
        self._stdin = stdin
        self._stdout = stdout

    def enter(self, command: str) -> None:
        """Start another shell in this one, and make sure that it has another network."""
        here = self.run("readlink /proc/self/ns/net")
        self._stdin.write(f"{command}\n")
        assert self.run("readlink /proc/self/ns/net") != here

    def run(self, command: str) -> list[str]:
        """Return what the command prints."""
        mark = "-- that was all --"
        self._stdin.write(f"{command}\necho '{mark}'\n")
        self._stdin.flush()
        lines: list[str] = []
        while (line := self._stdout.readline()) and line.rstrip("\n") != mark:
            lines.append(line.rstrip("\n"))
        assert line, f"the shell ended at {command!r}"
        return lines


@contextmanager
def open_shell(place: Path) -> Generator[Shell]:
    """A shell in a directory; whatever was started in it is gone in the end."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # Commands write as they do to a terminal of 80 columns, without colours.
    terminal = {"TTY_COMPATIBLE": "1", "TERM": "dumb"}
    environment = {**os.environ, **terminal, "PATH": path, "LC_ALL": "C.UTF-8"}
    # What runs several tests at once sets the size of its own terminal.
    for name in ("COLUMNS", "LINES"):
        environment.pop(name, None)
    with subprocess.Popen(
        ["bash", "--norc"],
        cwd=place,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Shell(process.stdin, process.stdout)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    entrance = find_entrance() if shutil.which("unshare") and shutil.which("ip") else None
    if entrance is None:
        pytest.skip("a shell with a network of its own is refused here")
    with open_shell(tmp_path) as shell:
        for name, text in steps():
            if name:
                (tmp_path / name).write_text(text)
                continue
            for command, expected in commands(text):
                if command == ENTER:
                    shell.enter(entrance)
                else:
                    follow(shell, command, expected)


def follow(shell: Shell, command: str, expected: list[str]) -> None:
    """Run one command of the page, again if that makes sense, until it prints what it should."""
    deadline = time.monotonic() + PATIENCE
    printed = shell.run(command)
    while not matches(printed, expected):
        again = command.startswith(LOOKS) and time.monotonic() < deadline
        assert again, f"{command}\nprinted  {plain(printed)}\nexpected {plain(expected)}"
        time.sleep(0.1)
        printed = shell.run(command)
