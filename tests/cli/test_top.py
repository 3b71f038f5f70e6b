"""``top`` in a terminal: a pty, and what is drawn there put together again."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import termios
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.cli.commands import COMMAND, environment, run, socket_of
from tests.cluster import PATIENCE
from tests.control.serving import open_served


class Terminal:
    """A terminal with a program in it."""

    def __init__(self, ours: int, process: trio.Process) -> None:
        self._ours = ours
        self.process = process
        self.raw = ""

    async def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until what has been drawn since the last such call has ``pattern`` in it."""
        seen = ""
        with trio.move_on_after(PATIENCE):
            while True:
                await trio.lowlevel.wait_readable(self._ours)
                part = os.read(self._ours, 65536).decode(errors="replace")
                self.raw += part
                seen += part
                found = re.search(pattern, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen))
                if found is not None:
                    return found
        raise AssertionError(f"no {pattern!r} in {seen!r}")

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    async def rest(self) -> str:
        """All that is drawn until the program ends."""
        while True:
            await trio.lowlevel.wait_readable(self._ours)
            try:
                self.raw += os.read(self._ours, 65536).decode(errors="replace")
            except OSError:
                # This is how a terminal ends on Linux.
                return self.raw


@asynccontextmanager
async def open_terminal(path: Path) -> AsyncGenerator[Terminal]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    before = termios.tcgetattr(theirs)
    process = await trio.lowlevel.open_process(
        [*COMMAND, "top", "--interval", "0.1", *socket_of(path)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        # So that the signal of another size gets there.
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env=environment({"TERM": "xterm-256color"}),
    )
    try:
        terminal = Terminal(ours, process)
        with trio.fail_after(PATIENCE):
            yield terminal
            # The shell finds its terminal as it left it.
            assert termios.tcgetattr(theirs) == before
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
        os.close(ours)
        os.close(theirs)


async def test_it_shows_and_changes_a_running_host(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served, open_terminal(served.path) as terminal:
        await terminal.wait_for(r"me \(1\) +0\* up")
        terminal.press("d")
        await terminal.wait_for("disable link 0 to me")
        enabled = [served.link.enabled]
        terminal.press("y")
        await terminal.wait_for(r"me \(1\) +0  off")
        enabled.append(served.link.enabled)
        terminal.press("e")
        await terminal.wait_for(r"me \(1\) +0\* up")
        enabled.append(served.link.enabled)
        assert enabled == [True, False, True]
        terminal.press("h")
        found = await terminal.wait_for(r"when it went up and down[^$]*?ago +(\w+)")
        # The latest first.
        assert found[1] == "up"
        await terminal.wait_for("it was disabled here")
        terminal.press("h")
        await terminal.wait_for("HOST")
        terminal.resize(50, 10)
        await terminal.wait_for("1-1 of 1 by host; link 0 to me")
        terminal.press("q")
        assert await terminal.process.wait() == 0
        # The screen that was there before is back, and the cursor.
        assert "\x1b[?1049h" in terminal.raw


async def test_it_ends_with_the_host_and_says_so(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        async with open_served(tmp_path) as served:
            terminal = await nursery.start(hold, served.path)
        with trio.fail_after(PATIENCE):
            assert await terminal.process.wait() == 3
        nursery.cancel_scope.cancel()


async def hold(path: Path, task_status: trio.TaskStatus[Terminal]) -> None:
    async with open_terminal(path) as terminal:
        await terminal.wait_for("HOST")
        task_status.started(terminal)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(terminal.wait_for, "the program has closed the connection")
        await trio.sleep_forever()


async def test_ctrl_c_leaves_the_terminal_in_order(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served, open_terminal(served.path) as terminal:
        await terminal.wait_for("HOST")
        terminal.press("\x03")
        await terminal.wait_for("ended by SIGINT")
        assert await terminal.process.wait() == 128 + signal.SIGINT
        assert "\x1b[?1049l" in terminal.raw


async def test_without_a_terminal_it_says_what_to_use(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        done = await run("top", *socket_of(served.path))
        assert (done.status, done.output) == (2, "")
        assert done.errors == "knet-trio: top needs a terminal: use status, or top --json\n"


async def test_json_is_a_line_at_each_interval(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        options = ("--json", "--count", 3, "--interval", 0.1)
        done = await run("top", *options, *socket_of(served.path))
        assert (done.status, done.errors) == (0, "")
        reports = [json.loads(line) for line in done.output.splitlines()]
        rates = [report["hosts"][0]["links"][0]["tx_data_rate"] for report in reports]
        assert rates == [None, 0, 0]
        assert reports[0]["at"] < reports[1]["at"] < reports[2]["at"]
