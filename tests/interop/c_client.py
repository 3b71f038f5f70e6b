"""The process behind a C node: commands to it, answers and events from it, and its end."""

from __future__ import annotations

import base64
import json
import math
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import trio

# An orderly end frees the handle, which takes about half a second.
CLOSE_LIMIT: Final = 10.0


class CNodeDiedError(RuntimeError):
    """The process of the C node has ended; the message carries its last words."""


@dataclass(frozen=True)
class LogLine:
    """One line of libknet's log. `level` is 0 error, 1 warning, 2 info, 3 debug."""

    subsystem: str
    level: int
    message: str


class CProcess:
    """What every command needs: lines out, lines in, and who waits for them."""

    def __init__(self, host_id: int, process: trio.Process) -> None:
        self.host_id: Final = host_id
        self.logs: Final[deque[LogLine]] = deque(maxlen=10000)
        """What libknet logged, as far as its level lets it."""
        self.events: Final[deque[dict[str, Any]]] = deque(maxlen=10000)
        """Every event but messages and log lines, oldest first."""
        self.reachable: Final[dict[int, bool]] = {}
        """What libknet last notified of each host."""
        self.last_data_mtu = 0
        """What libknet last notified of the data MTU."""
        self._process = process
        self._stderr = b""
        self._died: CNodeDiedError | None = None
        self._next_id = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._writing = trio.Lock()
        self._changed = trio.Event()
        self._message_in, self._message_out = trio.open_memory_channel[tuple[int, bytes]](math.inf)

    # The process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while the process runs, else its exit status (negative: the signal)."""
        return self._process.returncode

    async def kill(self) -> None:
        """End the process by SIGKILL: the peer sees a node that died without a word."""
        self._process.kill()
        await self._process.wait()
        await self.wait_until(lambda: self._died is not None)

    def suspend(self) -> None:
        """Stop the process where it is: the node falls silent and forgets nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a suspended process go on."""
        self._process.send_signal(signal.SIGCONT)

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        async for chunk in self._process.stderr:
            self._stderr = (self._stderr + chunk)[-65536:]

    async def _read_stdout(self) -> None:
        assert self._process.stdout is not None
        rest = bytearray()
        async for chunk in self._process.stdout:
            # Only the new part is searched: a line of many large messages comes in many chunks.
            if b"\n" not in chunk:
                rest += chunk
                continue
            *lines, tail = bytes(rest + chunk).split(b"\n")
            rest = bytearray(tail)
            for line in lines:
                self._take(json.loads(line))
            self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def _take(self, line: dict[str, Any]) -> None:
        kind = line.get("event")
        if kind is None:
            self._answers[line["id"]] = line
        elif kind == "messages":
            for channel, data in line["messages"]:
                self._message_in.send_nowait((channel, base64.b64decode(data)))
        elif kind == "log":
            self.logs.append(LogLine(line["subsystem"], line["level"], line["message"]))
        else:
            self.events.append(line)
            if kind == "host_status":
                self.reachable[line["host_id"]] = line["reachable"]
            elif kind == "data_mtu":
                self.last_data_mtu = line["data_mtu"]

    async def serve(self) -> None:
        """Read until the process ends, then let everybody who waits know."""
        try:
            # Shielded: a cancelled test still ends in order, for which its output must be read.
            # The process, and so this, is ended by `end`.
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read_stderr)
                    nursery.start_soon(self._read_stdout)
                await self._process.wait()
        finally:
            self._died = CNodeDiedError(
                f"C node {self.host_id} (pid {self.pid}) has ended with status "
                f"{self._process.returncode}\n{self.report()}"
            )
            self._message_in.close()
            self._notify()

    def report(self) -> str:
        """What the process wrote to stderr and the last log lines, for a failure's message."""
        lines = [f"stderr: {self._stderr.decode(errors='replace').strip() or '(nothing)'}"]
        lines += [f"log: [{line.subsystem}] {line.message}" for line in list(self.logs)[-20:]]
        return "\n".join(lines)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Until the condition, looked at whenever the process has said something."""
        while not condition():
            if self._died is not None:
                raise self._died
            await self._changed.wait()
        await trio.lowlevel.checkpoint()

    async def start(self) -> None:
        """Wait until the process has its handle and takes commands."""
        await self.wait_event(lambda event: event["event"] == "ready")
        self.last_data_mtu = await self.call("data_mtu")

    async def end(self) -> None:
        """Orderly when it listens, by force when not; in any case it is gone afterwards."""
        with trio.CancelScope(shield=True):
            if self._process.returncode is None:
                self.resume()
                assert self._process.stdin is not None
                await self._process.stdin.aclose()
                with trio.move_on_after(CLOSE_LIMIT):
                    await self._process.wait()
                if self._process.returncode is None:
                    self._process.kill()
                await self._process.wait()

    async def call(self, command: str, /, **arguments: Any) -> Any:
        """One command to the process (see `c_process`), and its answer."""
        if self._died is not None:
            raise self._died
        number, self._next_id = self._next_id, self._next_id + 1
        line = json.dumps({"id": number, "do": command, **arguments}).encode() + b"\n"
        assert self._process.stdin is not None
        # Half a line would spoil the next command: what was begun is written in full.
        async with self._writing:
            try:
                with trio.CancelScope(shield=True):
                    await self._process.stdin.send_all(line)
            except trio.BrokenResourceError:
                await self.wait_until(lambda: False)
        await self.wait_until(lambda: number in self._answers)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise OSError(answer["error"]["errno"], answer["error"]["message"])
        return answer["result"]

    async def wait_event(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Until an event has come (or had come) that fulfils the condition; that event."""
        await self.wait_until(lambda: any(condition(event) for event in self.events))
        return next(event for event in self.events if condition(event))

    # Messages

    async def receive(self) -> tuple[int, bytes]:
        """The next message: its channel and its bytes. Waits for one."""
        try:
            return await self._message_out.receive()
        except trio.EndOfChannel:
            assert self._died is not None
            raise self._died from None

    def receive_nowait(self) -> tuple[int, bytes]:
        """The next message if one is here, else `trio.WouldBlock`."""
        return self._message_out.receive_nowait()

    async def receive_count(self, count: int) -> list[bytes]:
        """That many messages, whatever their channel."""
        return [(await self.receive())[1] for _ in range(count)]
