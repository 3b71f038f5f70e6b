"""Pairs of hosts in two namespaces, each with a fault of its own, for the doctor to look at.

All are in one process, with ports of their own, so that many are looked at in one set-up.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any, Final

import attrs
import trio

from knet_trio import CryptoConfig, Handle, Host, Link, open_handle
from knet_trio.control import serve_control
from tests.cli.commands import environment
from tests.cluster import PATIENCE
from tests.network.wires import Wires

HERE: Final = 0
THERE: Final = 1
KEY: Final = bytes(range(200))
CRYPTO: Final = CryptoConfig(KEY)
PING_INTERVAL: Final = 0.1
PONG_TIMEOUT: Final = 1.0
_ports = itertools.count(6000, 10)
_ids = itertools.count(2)
_sockets = itertools.count()


@attrs.frozen
class Patients:
    """Host 1, which is looked at, and host 2.

    Attributes:
        a: Host 1, in the namespace HERE.
        b: Host 2, in the namespace THERE.
        to_b: Host 2 as host 1 has it.
        to_a: Host 1 as host 2 has it.
        port: That of the links on both sides; more of them follow.
        path: The control socket of host 1.
    """

    a: Handle
    b: Handle
    to_b: Host
    to_a: Host
    port: int
    path: Path

    @property
    def link(self) -> Link:
        """Link 0 of host 1."""
        return self.to_b.links[0]


class Ward:
    """Where they lie: two namespaces with wires between them."""

    def __init__(self, wires: Wires, directory: Path) -> None:
        self.wires = wires
        self._directory = directory
        # A thread is in one namespace at a time.
        self._inside = trio.Lock()

    def address(self, side: int, wire: int = 0) -> str:
        """The address of that side on a wire."""
        return self.wires.namespaces.v4(side, wire)

    def new_path(self) -> Path:
        """A path for a control socket."""
        return self._directory / f"{next(_sockets)}.sock"

    @asynccontextmanager
    async def open(
        self,
        wire: int | None = 0,
        *,
        here: dict[str, Any] | None = None,
        there: dict[str, Any] | None = None,
    ) -> AsyncGenerator[Patients]:
        """Two handles with these options; with link 0 over a wire, None for no link yet."""
        path = self.new_path()
        options: dict[str, Any] = {"crypto": CRYPTO, **(here or {})}
        async with (
            open_handle(1, **options) as a,
            self.meet(a, "beta", wire, path=path, **(there or {})) as pair,
            serve_control(a, path),
        ):
            yield pair

    @asynccontextmanager
    async def meet(
        self,
        a: Handle,
        name: str,
        wire: int | None = 0,
        *,
        path: Path | None = None,
        wrong_id: bool = False,
        **options: Any,
    ) -> AsyncGenerator[Patients]:
        """Another handle, which ``a`` has as a host of that name; the rest as in ``open``."""
        host_id = next(_ids)
        options = {"crypto": CRYPTO, **options}
        async with open_handle(host_id + 1000 * wrong_id, **options) as b:
            to_b, to_a = a.add_host(host_id, name=name), b.add_host(1)
            pair = Patients(a, b, to_b, to_a, next(_ports), path or Path())
            if wire is not None:
                await self.join(pair, wire=wire)
            yield pair

    async def join(
        self, pair: Patients, *, wire: int = 0, link_id: int = 0, **options: Any
    ) -> None:
        """Add a link on both sides."""
        await self.add(HERE, pair, wire=wire, link_id=link_id, **options)
        await self.add(THERE, pair, wire=wire, link_id=link_id, **options)

    async def add(
        self,
        side: int,
        pair: Patients,
        *,
        wire: int = 0,
        link_id: int = 0,
        port: int | None = None,
        to_port: int | None = None,
        dst: tuple[str, int] | str | None = "other side",
        **options: Any,
    ) -> Link:
        """Add a link on one side."""
        port = pair.port if port is None else port
        host = (pair.to_b, pair.to_a)[side]
        if dst == "other side":
            dst = self.address(1 - side, wire), port if to_port is None else to_port
        settings: dict[str, Any] = {
            "ping_interval": PING_INTERVAL,
            "pong_timeout": PONG_TIMEOUT,
            "pong_count": 1,
            **options,
        }
        src = self.address(side, wire), port
        async with self._inside:
            with self.wires.namespaces.inside(side):
                return await host.add_link(link_id, src, dst, **settings)

    async def new_socket(self, side: int) -> trio.socket.SocketType:
        """A UDP socket on that side."""
        async with self._inside:
            with self.wires.namespaces.inside(side):
                return trio.socket.socket(type=trio.socket.SOCK_DGRAM)

    def firewall(self, side: int, chain: str, *rule: str) -> AbstractContextManager[None]:
        """A rule of the firewall on that side, for UDP, while the block runs."""
        return self.wires.namespaces.rules(side, " ".join((chain, "-p udp", *rule)))


async def up(pair: Patients) -> None:
    """Return once link 0 is up on both sides, and its path MTU is known."""
    with trio.fail_after(PATIENCE):
        for host in (pair.to_b, pair.to_a):
            await host.links[0].wait_connected()
        await pair.link.discover_mtu()


@asynccontextmanager
async def open_program(path: Path, name: str) -> AsyncGenerator[Path]:
    """A program of ``tests.network.patients`` beside the block, and its control socket."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-W", "error", "-m", "tests.network.patients", name, path],
        stdin=DEVNULL,
        stdout=PIPE,
        env=environment(),
        cwd=Path(__file__).parents[2],
    )
    try:
        assert process.stdout is not None
        with trio.fail_after(PATIENCE):
            assert (await process.stdout.receive_some()).startswith(b"ready")
        yield path
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
            assert process.stdout is not None
            await process.stdout.aclose()
