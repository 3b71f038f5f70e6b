"""Hosts in processes of their own, on loopback, each with a key file of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final

import trio

from tests.cluster import KEY
from tests.cluster.files import write_key
from tests.ports import free_udp_port

ROOT: Final = Path(__file__).parents[2]
SERVICE_CHANNEL: Final = 31
HEAD: Final = f"""\
[cluster]
key_file = "lab.key"
service_channel = {SERVICE_CHANNEL}
[cluster.links]
ping_interval = 0.1
pong_timeout = 3.0
pong_count = 1
"""


def write_clusters(directory: Path, ports: dict[int, int]) -> dict[int, Path]:
    """Write the cluster file and the key once for each host; return the files."""
    text = HEAD + "".join(
        f'[[hosts]]\nid = {host_id}\nname = "host{host_id}"\nlinks = ["127.0.0.1:{port}"]\n'
        for host_id, port in ports.items()
    )
    files: dict[int, Path] = {}
    for host_id in ports:
        own = directory / str(host_id)
        own.mkdir()
        write_key(own / "lab.key", KEY[:256])
        files[host_id] = own / "lab.toml"
        files[host_id].write_text(text)
    return files


class HostProcess:
    """One host."""

    def __init__(self, host_id: int, file: Path, rate: float) -> None:
        self.host_id = host_id
        self.file = file
        self.socket = file.with_name("c.sock")
        self._rate = rate
        self._buffer = b""
        self.process: trio.Process | None = None

    async def start(self) -> None:
        arguments = [str(self.file), str(self.host_id), str(self.socket), str(self._rate)]
        command = [sys.executable, "-m", "tests.rekeying.host_process", *arguments]
        self._buffer = b""
        self.process = await trio.lowlevel.open_process(command, stdin=PIPE, stdout=PIPE, cwd=ROOT)
        assert await self.read() == {"ready": True}

    async def read(self) -> dict[str, Any]:
        """The next line that it says."""
        assert self.process is not None
        assert self.process.stdout is not None
        while b"\n" not in self._buffer:
            some = await self.process.stdout.receive_some()
            assert some, f"host {self.host_id} has ended"
            self._buffer += some
        line, _, self._buffer = self._buffer.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said

    async def call(self, do: str, **arguments: object) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdin is not None
        await self.process.stdin.send_all(json.dumps({"do": do, **arguments}).encode() + b"\n")
        return await self.read()

    async def kill(self) -> None:
        """Kill it, by SIGKILL."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()
        await self.close()

    async def close(self) -> None:
        assert self.process is not None
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            await pipe.aclose()

    @property
    def key(self) -> bytes:
        """What is in its key file."""
        return self.file.with_name("lab.key").read_bytes()

    @property
    def is_changing(self) -> bool:
        """Whether a change of its key is under way."""
        return self.file.with_name("lab.key.rekey").exists()


@asynccontextmanager
async def open_hosts(
    directory: Path, count: int, *, rate: float
) -> AsyncGenerator[dict[int, HostProcess]]:
    """Start that many hosts, which reach each other."""
    ports = {host_id: free_udp_port() for host_id in range(1, count + 1)}
    files = write_clusters(directory, ports)
    hosts = {host_id: HostProcess(host_id, file, rate) for host_id, file in files.items()}
    try:
        async with trio.open_nursery() as nursery:
            for host in hosts.values():
                nursery.start_soon(host.start)
        await wait_reachable(hosts)
        yield hosts
    finally:
        with trio.CancelScope(shield=True):
            for host in hosts.values():
                if host.process is not None and host.process.returncode is None:
                    await host.kill()


async def wait_reachable(hosts: dict[int, HostProcess]) -> None:
    """Wait until all reach each other, and count their messages from then on."""
    for host in hosts.values():
        others = [one for one in hosts if one != host.host_id]
        await host.call("wait", hosts=others)
    for host in hosts.values():
        await host.call("count")
