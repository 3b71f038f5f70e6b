"""Hosts with the store of ``examples/key_value.py``, on the simulated network."""

from __future__ import annotations

import random
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from examples.key_value import Client, Disk, Replica, open_store
from knet_trio import Handle, open_handle
from knet_trio.testing import Conditions, SimulatedNetwork, run

T = TypeVar("T")

# Seconds of simulated time that no test needs.
LIMIT = 600.0
MEMORY = Path("/dev/shm")


async def slow_disk(call: Callable[[], T]) -> T:
    """Stands for ``trio.to_thread.run_sync``, since runs with threads do not repeat exactly."""
    with trio.CancelScope(shield=True):
        await trio.sleep(random.uniform(0, 0.02))
    return call()


@contextmanager
def directory() -> Generator[Path]:
    """A directory, in memory if there is such a place: a thousand writes take seconds on disks."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


def simulate(main: Callable[[SimulatedNetwork], Awaitable[T]], *, seed: int = 1) -> T:
    """Run ``main`` on a simulated network, for a few minutes of its time at most."""

    async def limited(network: SimulatedNetwork) -> T:
        with trio.fail_after(LIMIT):
            return await main(network)

    return run(limited, seed=seed, conditions=Conditions(latency=0.005, jitter=0.005))


def address(host_id: int) -> str:
    return f"10.0.0.{host_id}"


class Member:
    """A host that can crash and start again."""

    def __init__(self, cluster: StoreCluster, host_id: int) -> None:
        self.host_id = host_id
        self.path = cluster.path / f"{host_id}.db"
        self._cluster = cluster
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._handle: Handle | None = None
        self._store: Replica | Client | None = None
        self._nursery: trio.Nursery | None = None

    @property
    def store(self) -> Replica | Client:
        assert self._store is not None, f"host {self.host_id} does not run"
        return self._store

    @property
    def is_running(self) -> bool:
        return self._store is not None

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run until it crashes."""
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        try:
            with self._scope:
                async with open_handle(self.host_id) as self._handle:
                    for host_id in self._cluster.members:
                        if host_id != self.host_id:
                            await self._handle.add_host(host_id).add_link(
                                0,
                                (address(self.host_id), 5405),
                                (address(host_id), 5405),
                                ping_interval=0.2,
                                pong_timeout=1,
                                pong_count=1,
                            )
                    copies = self._cluster.copies
                    async with (
                        open_store(self._handle, copies, self.path) as store,
                        trio.open_nursery() as nursery,
                    ):
                        self._store, self._nursery = store, nursery
                        task_status.started()
                        try:
                            await trio.sleep_forever()
                        finally:
                            # From now on nothing can be begun here.
                            self._store = self._nursery = None
        finally:
            self._handle = None
            self._ended.set()

    def start_soon(self, function: Callable[[], Awaitable[None]]) -> None:
        """Run something on the host, which ends when it crashes."""
        assert self._nursery is not None
        self._nursery.start_soon(function)

    async def crash(self) -> None:
        """End without a word: the others hear nothing more."""
        self._cluster.network.take_down(address(self.host_id))
        self._scope.cancel()
        with trio.CancelScope(shield=True):
            await self._ended.wait()

    async def start(self) -> None:
        """Start again, with what is on its disk."""
        self._cluster.network.bring_up(address(self.host_id))
        await self._cluster.nursery.start(self.run)

    async def wait_reachable(self, *host_ids: int) -> None:
        """Wait until it reaches these hosts."""
        assert self._handle is not None
        for host_id in host_ids:
            await self._handle.get_host(host_id).wait_reachable()

    async def wait_unreachable(self, *host_ids: int) -> None:
        """Wait until it knows that it does not reach these hosts."""
        assert self._handle is not None
        for host_id in host_ids:
            await self._handle.get_host(host_id).wait_unreachable()

    async def entries(self) -> dict[str, Any]:
        """What is on its disk, by key."""
        disk, found, seen = Disk(self.path), dict[str, Any](), 0
        while changes := await disk.since(seen):
            seen = changes[-1][0]
            found |= {entry[0]: entry for _, *entry in changes}
        disk.close()
        return found


class StoreCluster:
    """All hosts; those of ``copies`` have a copy."""

    def __init__(
        self,
        network: SimulatedNetwork,
        nursery: trio.Nursery,
        path: Path,
        copies: Iterable[int],
        clients: Iterable[int],
    ) -> None:
        self.network = network
        self.nursery = nursery
        self.path = path
        self.copies = list(copies)
        self.members: dict[int, Member] = {}
        for host_id in (*self.copies, *clients):
            self.members[host_id] = Member(self, host_id)

    def __getitem__(self, host_id: int) -> Member:
        return self.members[host_id]

    def partition(self, *groups: Iterable[int]) -> None:
        """Cut these groups of hosts from each other."""
        self.network.partition(*([address(host_id) for host_id in group] for group in groups))

    async def agreed(self) -> dict[str, Any]:
        """Wait until all copies are the same, and return what they have."""
        while True:
            found = [await self[host_id].entries() for host_id in self.copies]
            if all(entries == found[0] for entries in found):
                return found[0]
            await trio.sleep(1)


@asynccontextmanager
async def open_cluster(
    network: SimulatedNetwork,
    path: Path,
    *,
    copies: Iterable[int] = (1, 2, 3),
    clients: Iterable[int] = (),
) -> AsyncGenerator[StoreCluster]:
    """Hosts that all reach each other."""
    async with trio.open_nursery() as nursery:
        cluster = StoreCluster(network, nursery, path, copies, clients)
        for member in cluster.members.values():
            await nursery.start(member.run)
        for member in cluster.members.values():
            await member.wait_reachable(*(set(cluster.members) - {member.host_id}))
        yield cluster
        nursery.cancel_scope.cancel()
