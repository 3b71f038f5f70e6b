"""The command as a process, beside a host that runs in the test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import trio

from tests.cluster import PATIENCE

COMMAND: Final = [sys.executable, "-W", "error", "-m", "knet_trio"]


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without what points to sockets, or has a say about colours."""
    unwanted = (
        "KNET_TRIO_SOCKET",
        "RUNTIME_DIRECTORY",
        "XDG_RUNTIME_DIR",
        "NO_COLOR",
        "FORCE_COLOR",
        "COLUMNS",
    )
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {**kept, **(changes or {})}


@attrs.frozen
class Done:
    """What became of a command."""

    status: int
    output: str
    errors: str


async def run(*arguments: object, within: Sequence[str] = (), **changes: str) -> Done:
    """Run the command to its end.

    Args:
        arguments: Its arguments.
        within: A command before it, such as ``ip netns exec x``.
        changes: Environment variables.
    """
    with trio.fail_after(PATIENCE):
        done = await trio.run_process(
            [*within, *COMMAND, *map(str, arguments)],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=environment(changes),
        )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


@asynccontextmanager
async def started(
    *arguments: object, stdin: int = subprocess.DEVNULL, within: Sequence[str] = ()
) -> AsyncGenerator[trio.Process]:
    """Run the command beside the block, with pipes for what it prints.

    Args:
        arguments: Its arguments.
        stdin: Where its standard input comes from.
        within: A command before it, such as ``ip netns exec x``.
    """
    process = await trio.lowlevel.open_process(
        [*within, *COMMAND, *map(str, arguments)],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    try:
        yield process
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
            for pipe in (process.stdout, process.stderr):
                assert pipe is not None
                await pipe.aclose()


def socket_of(path: Path) -> tuple[str, str]:
    """The option that names a socket."""
    return "--socket", str(path)
