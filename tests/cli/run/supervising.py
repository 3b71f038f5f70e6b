"""Hosts that run as services, with a test in the place of systemd."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import trio

from tests.cli.commands import COMMAND, environment
from tests.cluster import PATIENCE
from tests.cluster.files import write_file
from tests.ports import free_udp_port
from tests.programs import Program

LAB: Final = """\
[cluster]
name = "lab"
key_file = "lab.key"
port = {port}
[cluster.links]
ping_interval = 0.1
pong_timeout = 2.0
pong_count = 1

[[hosts]]
id = 1
name = "alpha"
links = ["127.0.0.1"]
[[hosts]]
id = 2
name = "beta"
links = ["127.0.0.2"]

[[channels]]
channel = 2
socket = "events-{{id}}.data"
[control]
socket = "lab-{{id}}.sock"
"""
GAMMA: Final = '[[hosts]]\nid = 3\nname = "gamma"\nlinks = ["127.0.0.3"]\n'


@attrs.define
class Lab:
    """A cluster file, and what is beside it.

    Attributes:
        path: The file.
        text: What is in it.
    """

    path: Path
    text: str

    def write(self, text: str) -> None:
        """Have something else in the file."""
        self.text = text
        self.path.write_text(text)

    def channel(self, host_id: int) -> Path:
        """The socket of channel 2 on a host."""
        return self.path.with_name(f"events-{host_id}.data")

    def control(self, host_id: int) -> Path:
        """The control socket of a host."""
        return self.path.with_name(f"lab-{host_id}.sock")


def make_lab(directory: Path, more: str = "") -> Lab:
    """Two hosts on this machine, which may have a third one, at a port that is free."""
    port = free_udp_port("127.0.0.1", "127.0.0.2", "127.0.0.3")
    text = LAB.format(port=port) + more
    return Lab(write_file(directory, text), text)


class Service(Program):
    """A host that runs, what it prints, and what it tells its manager."""

    def __init__(self, process: trio.Process, manager: trio.socket.SocketType) -> None:
        super().__init__(process)
        self.process = process
        self._manager = manager
        self._line = ""

    async def next_notification(self) -> dict[str, str]:
        """What the manager is told next, signs of life left out."""
        while True:
            assignments = await self.next_assignments()
            if assignments != {"WATCHDOG": "1"}:
                return assignments

    async def next_assignments(self) -> dict[str, str]:
        """What the manager is told next."""
        with trio.fail_after(PATIENCE):
            message = await self._manager.recv(4096)
        assignments = dict(line.split("=", 1) for line in message.decode().split("\n"))
        self._line = assignments.get("STATUS", self._line)
        return assignments

    async def wait_status(self, status: str) -> None:
        """Wait for a line about the state of the host."""
        while self._line != status:
            await self.next_notification()


@asynccontextmanager
async def running(
    file: Path,
    host: str,
    *options: str,
    abstract: bool = False,
    within: Sequence[str] = (),
    **changes: str,
) -> AsyncGenerator[Service]:
    """Run a host as a service, and wait until it is ready.

    Args:
        file: The cluster file.
        host: Which of its hosts.
        options: Of the command.
        abstract: Whether the socket of the manager has no place in the file system.
        within: A command before it, such as ``ip netns exec x``.
        changes: Environment variables.
    """
    place = str(file.with_name(f"notify-{host}"))
    manager = trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with manager:
        await manager.bind(f"\0{place}" if abstract else place)
        notify = {"NOTIFY_SOCKET": f"@{place}" if abstract else place}
        process = await trio.lowlevel.open_process(
            [*within, *COMMAND, "run", str(file), "--host", host, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment({**notify, **changes}),
        )
        service = Service(process, manager)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(service.read)
                first = await service.next_notification()
                assert first["READY"] == "1"
                yield service
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                if process.returncode is None:
                    process.kill()
                await process.wait()
                assert process.stdout is not None
                await process.stdout.aclose()
