"""The processes of the hosts, as the driver has them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import attrs
import trio

from tests.interop.namespaces import within
from tests.soak.messages import Name
from tests.soak.node import Settings

ROOT: Final = __file__.rpartition("/tests/")[0]

Got = Callable[[int, Name], None]


class NodeProcess:
    """One of them. ``got`` is called for each message that its program was given."""

    def __init__(self, settings: Settings, namespace: str, got: Got) -> None:
        self.host = settings.host
        self._settings = settings
        self._namespace = namespace
        self._got = got
        self._process: trio.Process | None = None
        self._asked: dict[int, trio.Event] = {}
        self._answers: dict[int, Any] = {}
        self._count = 0
        self._turn = trio.Lock()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Run it until its input ends, or cancelled. An error of it comes out."""
        settings = json.dumps(attrs.asdict(self._settings))
        program = [sys.executable, "-m", "tests.soak.node", settings]
        async with trio.open_nursery() as nursery:
            self._process = await nursery.start(
                partial(
                    trio.run_process,
                    within(self._namespace, *program),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    cwd=ROOT,
                )
            )
            task_status.started()
            await self._read()

    async def ask(self, do: str, **arguments: Any) -> Any:
        """Have it carry out a command; what came of it."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._count += 1
        number = self._count
        answered = self._asked[number] = trio.Event()
        line = json.dumps({"id": number, "do": do, **arguments})
        async with self._turn:
            # Half a line would be worse than being late.
            with trio.CancelScope(shield=True):
                await self._process.stdin.send_all(line.encode() + b"\n")
        await answered.wait()
        del self._asked[number]
        return self._answers.pop(number)

    async def end(self) -> None:
        """Have it end by itself."""
        assert self._process is not None
        assert self._process.stdin is not None
        await self._process.stdin.aclose()

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        rest = b""
        async for chunk in self._process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for text in lines:
                line = json.loads(text)
                for name in line.get("got", ()):
                    self._got(self.host, Name(*name))
                if "done" in line:
                    self._answers[line["done"]] = line["result"]
                    self._asked[line["done"]].set()
