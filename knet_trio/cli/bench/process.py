"""The process of a peer, as an object that takes commands."""

from __future__ import annotations

import json
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final

import trio

from knet_trio.cli.bench.namespaces import within

# Seconds for a peer to end by itself before it is killed.
_GRACE: Final = 5.0
_READ: Final = 65536
_LAST_WORDS: Final = 2000
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")

# -P: modules in the working directory must not replace Python's.
PYTHON_PEER: Final = (sys.executable, "-P", "-m", "knet_trio.cli.bench.peer")


class BenchError(Exception):
    """The bench cannot go on. The message says why, and what to do."""


class PeerError(BenchError):
    """A peer refused a command or ended. The message has its error."""


class BenchPeer(ABC):
    """One of the two sides of a measurement."""

    @abstractmethod
    async def call(self, command: str, **arguments: object) -> dict[str, Any]:
        """Send a command and wait for its answer.

        Args:
            command: The name of the command.
            arguments: The arguments of the command.

        Returns:
            The answer.

        Raises:
            PeerError: The peer refused the command, or ended.
        """


class _Pending:
    def __init__(self) -> None:
        self.done = trio.Event()
        self.answer: dict[str, Any] | None = None


class PeerProcess(BenchPeer):
    """The process of a peer. Returned by ``open_peer``."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._numbers = count(1)
        self._pending: dict[int, _Pending] = {}
        self._stderr = b""
        self._ended = False
        self._sending = trio.Lock()

    async def call(self, command: str, **arguments: object) -> dict[str, Any]:
        """Send a command and wait for its answer: see ``BenchPeer.call``."""
        number = next(self._numbers)
        pending = self._pending[number] = _Pending()
        words = [str(number), command, *(f"{name}={arguments[name]}" for name in arguments)]
        stdin = self._process.stdin
        assert stdin is not None
        try:
            async with self._sending:
                await stdin.send_all(f"{' '.join(words)}\n".encode())
        except trio.BrokenResourceError:
            self._end()
        if self._ended:
            pending.done.set()
        await pending.done.wait()
        del self._pending[number]
        answer = pending.answer
        if answer is None:
            raise PeerError(f"a peer ended during the command {command}: {self._last_words()}")
        if "error" in answer:
            raise PeerError(str(answer["error"]))
        return answer

    def resident_bytes(self) -> int:
        """Return the resident memory of the process, in bytes."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * _PAGE

    def run_on(self, cpu: int) -> None:
        """Bind the process, and the threads it will start, to one CPU."""
        os.sched_setaffinity(self._process.pid, {cpu})

    async def read(self) -> None:
        """Read the answers of the process until it ends."""
        stdout = self._process.stdout
        assert stdout is not None
        rest: list[bytes] = []
        while data := await stdout.receive_some(_READ):
            head, newline, tail = data.rpartition(b"\n")
            if not newline:
                rest.append(bytes(tail))
                continue
            lines = b"".join([*rest, head]).split(b"\n")
            rest = [bytes(tail)]
            for line in lines:
                answer: dict[str, Any] = json.loads(line)
                pending = self._pending[answer["id"]]
                pending.answer = answer
                pending.done.set()
        self._end()

    async def read_errors(self) -> None:
        """Read the standard error of the process, and keep its end."""
        stderr = self._process.stderr
        assert stderr is not None
        while data := await stderr.receive_some(_READ):
            self._stderr = (self._stderr + data)[-_LAST_WORDS:]

    async def kill(self) -> None:
        """Kill the process, so that it cannot close anything."""
        self._process.kill()
        await self._process.wait()

    async def aclose(self) -> None:
        """Close the standard input, so that the process ends; kill it if it does not."""
        stdin = self._process.stdin
        assert stdin is not None
        with trio.CancelScope(shield=True):
            await stdin.aclose()
            with trio.move_on_after(_GRACE):
                await self._process.wait()
                return
            self._process.kill()
            await self._process.wait()

    def _end(self) -> None:
        self._ended = True
        for pending in self._pending.values():
            pending.done.set()

    def _last_words(self) -> str:
        text = self._stderr.decode(errors="replace").strip()
        # The last line of a traceback is the error.
        return re.split(r"\n", text)[-1] if text else "without a message"


@asynccontextmanager
async def open_peer(
    command: Sequence[str], *, namespace: str | None = None, cpu: int | None = None
) -> AsyncGenerator[PeerProcess]:
    """Start the process of a peer; leaving the block ends it.

    Args:
        command: The program and its arguments.
        namespace: The name of its network namespace, None for that of this process.
        cpu: The only CPU that it may use, None for all.

    Yields:
        The peer.
    """
    if namespace is not None:
        # The command replaces `ip` in its process, so that the process is the peer itself.
        command = within(namespace, *command)
    # In a session of its own, because Ctrl-C is for the bench, which then ends it.
    process = await trio.lowlevel.open_process(
        command, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
    )
    peer = PeerProcess(process)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.read)
        nursery.start_soon(peer.read_errors)
        try:
            if cpu is not None:
                peer.run_on(cpu)
            yield peer
        finally:
            await peer.aclose()
            nursery.cancel_scope.cancel()
