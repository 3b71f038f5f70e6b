"""Hosts on a simulated network with model ``aead``, and somebody who has recorded all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import trio

from knet_trio import CryptoConfig, LinkPolicy, open_handle
from knet_trio._crypto.aead import VERSION, read_header_untrusted
from knet_trio.testing import PacketRecord, SimulatedNetwork

KEY: Final = bytes(range(200))
AEAD: Final = CryptoConfig(KEY, model="aead")
PATIENCE: Final = 60.0
ELSEWHERE: Final = ("10.9.9.9", 6666)

INTERVAL: Final = 0.2
TIMEOUT: Final = 0.5


def at(host_id: int, link_id: int = 0) -> tuple[str, int]:
    """Where a host has a link."""
    return f"10.{link_id}.0.{host_id % 250}", 5405


class Tape:
    """All packets on a network, and that no counter of a life was used for two of them."""

    def __init__(self, network: SimulatedNetwork) -> None:
        self.records: list[PacketRecord] = []
        self._network = network
        self._sealed: dict[tuple[bytes, int], bytes] = {}
        network.trace = self._note

    def _note(self, record: PacketRecord) -> None:
        self.records.append(record)
        header = read_header_untrusted(record.data) if record.data[0] == VERSION else None
        if header is not None:
            name = (header.life, header.counter)
            assert self._sealed.setdefault(name, record.data) == record.data

    def take(self) -> list[PacketRecord]:
        """What was recorded since this was called last."""
        records, self.records = self.records, []
        return records

    def play(
        self,
        records: Iterable[PacketRecord],
        *,
        source: tuple[str, int] | None = None,
        to: tuple[str, int] | None = None,
    ) -> None:
        """Send packets again at once, as they were sent or from and to other addresses."""
        for record in records:
            self._network.inject(record.data, source or record.source, to or record.destination)

    async def play_slowly(self, records: Iterable[PacketRecord], pause: float = 0.0005) -> None:
        """Send packets again one after the other."""
        for record in records:
            self.play([record])
            await trio.sleep(pause)

    async def loop(self, records: list[PacketRecord], pause: float = 0.005) -> None:
        """Send packets again and again, ten at a time, until cancelled."""
        while True:
            for start in range(0, len(records), 10):
                self.play(records[start : start + 10])
                self.play(records[start : start + 2], source=ELSEWHERE)
                await trio.sleep(pause)


class Node:
    """A host, over all its lives.

    Attributes:
        received: The messages that it has got, over all lives.
    """

    def __init__(
        self,
        host_id: int,
        peers: Iterable[int],
        *,
        links: int = 1,
        policy: LinkPolicy = LinkPolicy.PASSIVE,
        crypto: CryptoConfig | None = AEAD,
        dynamic: bool = False,
        place: int | None = None,
    ) -> None:
        self.host_id = host_id
        self.received: list[bytes] = []
        self._peers = [peer for peer in peers if peer != host_id]
        self._links = links
        self._policy = policy
        self._crypto = crypto
        self._dynamic = dynamic
        # The id whose address it has.
        self._place = host_id if place is None else place
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Live, from opening a handle to closing it."""
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        try:
            async with open_handle(self.host_id, crypto=self._crypto) as handle:
                self.handle = handle
                channel = handle.open_channel(0, receive_buffer=100_000)
                self.channel = channel
                for peer in self._peers:
                    host = handle.add_host(peer, policy=self._policy)
                    for link in range(self._links):
                        dst = None if self._dynamic else at(peer, link)
                        added = await host.add_link(
                            link,
                            at(self._place, link),
                            dst,
                            ping_interval=INTERVAL,
                            pong_timeout=TIMEOUT,
                            pong_count=2,
                        )
                        if dst is None:
                            handle.access_lists = False
                        del added
                task_status.started()
                with self._scope:
                    async for message in channel:
                        self.received.append(bytes(message.data))
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """End this life."""
        self._scope.cancel()
        await self._ended.wait()

    async def reaches_all(self) -> None:
        """Wait until it reaches its peers."""
        for host in self.handle.hosts.values():
            await host.wait_reachable()

    def downs(self) -> int:
        """How often a link went down in this life."""
        return sum(
            link.status.stats.down_count
            for host in self.handle.hosts.values()
            for link in host.links.values()
        )

    def drops(self) -> dict[str, int]:
        """What was dropped, by cause."""
        drops = self.handle.statistics().drops
        return {cause.value: count for cause, count in drops.items() if count}


class Mesh:
    """Hosts that reach each other, and the tape."""

    def __init__(self, network: SimulatedNetwork, nodes: list[Node], nursery: trio.Nursery) -> None:
        self.network = network
        self.tape = Tape(network)
        self.nodes = {node.host_id: node for node in nodes}
        self.nursery = nursery
        self.sent: dict[int, list[bytes]] = {node.host_id: [] for node in nodes}
        self._count = 0

    def __getitem__(self, host_id: int) -> Node:
        return self.nodes[host_id]

    async def start(self, *host_ids: int) -> None:
        """Begin lives, and wait until all hosts that live reach each other."""
        for host_id in host_ids:
            await self.nursery.start(self[host_id].run)
        with trio.fail_after(PATIENCE):
            for node in self.nodes.values():
                await node.reaches_all()

    async def send(self, source: int, *to: int, size: int = 10) -> None:
        """Send a message that is like no other, to hosts or to everybody."""
        self._count += 1
        data = b"%d from %d " % (self._count, source) + b"x" * size
        await self[source].channel.send(data, to=list(to) or None)
        for host_id in to or self.nodes:
            if host_id != source:
                self.sent[host_id].append(data)

    async def chat(self, rounds: int = 10) -> None:
        """Send messages of all kinds from each host to each other, and wait for them."""
        for number in range(rounds):
            for source in self.nodes:
                await self.send(source, size=number * 400 % 3000)
                for to in self.nodes:
                    if to != source:
                        await self.send(source, to, size=number % 3)
            await trio.sleep(0.01)
        await trio.sleep(0.2)

    def check(self, host_ids: Iterable[int] = ()) -> None:
        """Every message has come once, and nothing else."""
        for host_id in host_ids or self.nodes:
            received, sent = Counter(self[host_id].received), Counter(self.sent[host_id])
            assert (received - sent, sent - received) == (Counter(), Counter())


@asynccontextmanager
async def open_mesh(
    network: SimulatedNetwork,
    *host_ids: int,
    make: Callable[[int], Node] | None = None,
) -> AsyncGenerator[Mesh]:
    """Open hosts that reach each other."""
    nodes = [make(host_id) if make else Node(host_id, host_ids) for host_id in host_ids]
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        mesh = Mesh(network, nodes, nursery)
        await mesh.start(*host_ids)
        yield mesh
        nursery.cancel_scope.cancel()
