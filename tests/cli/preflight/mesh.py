"""Hosts in namespaces, all joined by a switch for each link, and faults between them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Mapping
from contextlib import AbstractContextManager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, ClassVar, Final

import attrs
import trio

from knet_trio.cli.commands import knet_trio
from tests.interop.namespaces import NamespacePair, built, inside

NAMES: Final = ("alpha", "beta", "gamma")
LINKS: Final = 2
PORT: Final = 5405
# Short, and long enough for hosts that are started one after the other on a busy machine.
WAIT: Final = 20.0
SECONDS: Final = 0.5
# Far more than all cases together take.
LIMIT: Final = 120.0

TOTEM: Final = """\
totem {{
  version: 2
  cluster_name: lab
  transport: knet
  crypto_cipher: {cipher}
  crypto_hash: {hash}
  keyfile: {key}
  token: 5000
  {more}
}}
"""


class Mesh(NamespacePair):
    """A namespace for each host, and one for the switches. Link i is `veth{i}` at every host."""

    SUFFIXES: ClassVar[tuple[str, ...]] = ("a", "b", "c", "switch")

    def __init__(self) -> None:
        super().__init__(LINKS)

    @property
    def hosts(self) -> range:
        """The numbers of the hosts, from 0 on."""
        return range(len(self.SUFFIXES) - 1)

    def _join(self, i: int) -> None:
        switch = len(self.SUFFIXES) - 1
        self.ip(switch, "link", "add", f"br{i}", "type", "bridge")
        self.ip(switch, "link", "set", f"br{i}", "up")
        for side in self.hosts:
            port = f"p{side}-{i}"
            end = ("type", "veth", "peer", "name", port, "netns", self.names[switch])
            self.ip(side, "link", "add", self.device(i), *end)
            self.plug(side, i, i)
            self.ip(switch, "link", "set", port, "up")

    def plug(self, side: int, i: int, switch: int) -> None:
        """Plug the cable of a host's link into that switch."""
        self.ip(len(self.SUFFIXES) - 1, "link", "set", f"p{side}-{i}", "master", f"br{switch}")

    def build(self, mtu: int) -> None:
        """Make the namespaces and what joins them."""
        super().build(mtu)
        for side in self.hosts[2:]:
            for i in range(self.links):
                self._dress(side, i, mtu)


def open_mesh() -> AbstractContextManager[Mesh]:
    """Make three hosts with two links; gone when the block ends."""
    return built(Mesh())


@attrs.frozen(kw_only=True)
class Conf:
    """The corosync.conf of one host.

    Attributes:
        key: The bytes of its authkey.
        swapped: The hosts whose two addresses it mistakes for each other.
        cipher: The name of its cipher.
        hash: The name of its hash.
        more: More lines for `totem`.
    """

    key: bytes = b"k" * 256
    cipher: str = "aes256"
    hash: str = "sha256"
    swapped: tuple[int, ...] = ()
    more: str = ""

    def write(self, directory: Path) -> Path:
        """Write it, with its key, and return where it is."""
        directory.mkdir(exist_ok=True)
        key = directory / "authkey"
        key.unlink(missing_ok=True)
        key.write_bytes(self.key)
        key.chmod(0o400)
        file = directory / "corosync.conf"
        totem = TOTEM.format(cipher=self.cipher, hash=self.hash, key=key, more=self.more)
        file.write_text(totem + "nodelist {\n" + "".join(map(self._node, range(3))) + "}\n")
        return file

    def _node(self, side: int) -> str:
        rings = (1, 0) if side in self.swapped else (0, 1)
        addresses = "".join(
            f"    ring{number}_addr: {Mesh.v4(side, i)}\n" for number, i in enumerate(rings)
        )
        return f"  node {{\n    nodeid: {side + 1}\n    name: {NAMES[side]}\n{addresses}  }}\n"


@attrs.frozen
class Said:
    """What preflight said on a host.

    Attributes:
        status: Its exit status.
        output: What it printed.
        errors: What it said beside.
    """

    status: int
    output: str
    errors: str

    @property
    def json(self) -> dict[str, Any]:
        """The object that it printed."""
        found: dict[str, Any] = json.loads(self.output)
        return found

    @property
    def codes(self) -> list[str]:
        """The codes of its findings."""
        return [finding["code"] for finding in self.json["findings"]]

    @property
    def verdict(self) -> dict[str, Any]:
        """What has to be the same on all hosts."""
        same = ("name", "ok", "status", "hosts", "missing", "links", "findings", "ping_interval")
        return {name: self.json[name] for name in same}

    def of_links(self, name: str) -> set[Any]:
        """The values of that member of all links."""
        return {link[name] for link in self.json["links"]}


async def preflight(
    mesh: Mesh,
    files: Mapping[int, Path],
    *options: object,
    as_json: bool = True,
) -> dict[int, Said]:
    """Run it on hosts, each with its file, and return what each said."""
    said: dict[int, Said] = {}

    async def run(side: int, file: Path) -> None:
        process = await start(mesh, side, file, *options, as_json=as_json)
        said[side] = await finish(process)

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            for side, file in files.items():
                nursery.start_soon(run, side, file)
    return said


# The command is imported once, and each host is a fork of that: most of what it costs to start.
_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["knet_trio.cli.preflight.command"])


@attrs.define(eq=False)
class Running:
    """The command on a host.

    Attributes:
        process: Its process.
        output: The file with what it prints.
        errors: The file with what it says beside.
    """

    process: ForkServerProcess
    output: Path
    errors: Path

    def interrupt(self) -> None:
        """Send it Ctrl-C."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGINT)


async def start(
    mesh: Mesh, side: int, file: Path, *options: object, as_json: bool = True
) -> Running:
    """Start it on a host; `finish` ends it."""
    wanted = ["--wait", WAIT, "--seconds", SECONDS, "--host", NAMES[side], *options]
    if as_json:
        wanted.append("--json")
    arguments = ["preflight", str(file), *map(str, wanted)]
    output, errors = file.with_name("output"), file.with_name("errors")
    errors.touch()
    process = _FORKS.Process(target=_run, args=(mesh.names[side], arguments, output, errors))
    process.start()
    await trio.lowlevel.checkpoint()
    return Running(process, output, errors)


def _run(namespace: str, arguments: list[str], output: Path, errors: Path) -> None:
    """Run the command in a namespace, in a process of its own, as a shell would."""
    with inside(namespace):
        for descriptor, path in ((1, output), (2, errors)):
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, descriptor)
            os.close(opened)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        knet_trio(arguments)


async def finish(running: Running) -> Said:
    """Wait until it has ended, and return what it said."""
    process = running.process
    try:
        await trio.lowlevel.wait_readable(process.sentinel)
    finally:
        if process.is_alive():
            process.kill()
        process.join()
    status = process.exitcode
    process.close()
    assert status is not None
    said = Said(status, running.output.read_text(), running.errors.read_text())
    assert "Traceback" not in said.errors, said.errors
    return said


def write_files(directory: Path, default: Conf, **others: Conf) -> dict[int, Path]:
    """Write the file of each host, which is `default` if it is not named."""
    directory.mkdir(exist_ok=True)
    return {
        side: others.get(name, default).write(directory / name) for side, name in enumerate(NAMES)
    }
