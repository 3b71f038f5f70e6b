"""One of two hosts, run by us or by the C library: the same commands, and the same counters.

What a test does with two hosts of the C library it can so do with one of ours in the place of
either, and compare what both libraries count.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import attrs
import trio

from knet_trio import (
    Broadcast,
    Channel,
    CompressConfig,
    CryptoConfig,
    Drop,
    FilterPacket,
    FilterResult,
    Handle,
    Host,
    KnetError,
    LinkPolicy,
    Unicast,
    open_handle,
)
from tests.interop.c_node import Address, CCrypto, CNode, open_c_node
from tests.interop.libknet import HandleStats, LinkStats

Record = dict[str, int]
"""Fields of one host, by libknet's names."""

PING_INTERVAL: Final = 0.1
PONG_TIMEOUT: Final = 2.0
# Nothing happens by the clock any more.
NEVER: Final = 3600
POLL: Final = 0.02
REFUSED: Final = b"refused"
"""The message that a filter set by `set_filter` is for."""


def _is_compared(name: str) -> bool:
    """Whether a field is the same number after the same traffic, whenever that was."""
    return not any(part in name for part in ("size", "_time_", "latency", "last_"))


HANDLE_FIELDS: Final = tuple(
    field[0]
    for field in HandleStats._fields_
    if _is_compared(field[0]) or field[0].endswith("_size_bytes")
)
LINK_FIELDS: Final = tuple(field[0] for field in LinkStats._fields_ if _is_compared(field[0]))
STATUS_FIELDS: Final = ("enabled", "connected", "dynconnected", "mtu", "proto_overhead")


class Events(NamedTuple):
    """How often a link went up and down, and how many times of day are kept of that."""

    ups: int
    downs: int
    up_times: int
    down_times: int


class Side(ABC):
    """A host with links to one other host, on channel 0."""

    def __init__(self) -> None:
        self.ends: dict[int, tuple[Address, Address]] = {}
        """The addresses of its links, also of those that were removed."""

    @property
    def links(self) -> int:
        """How many links it has had."""
        return len(self.ends)

    @abstractmethod
    async def add_link(self, link_id: int, src: Address, dst: Address) -> None:
        """Add a link, and take it into use."""

    @abstractmethod
    async def remove_link(self, link_id: int) -> None:
        """Remove a link."""

    @abstractmethod
    async def set_enabled(self, link_id: int, enabled: bool) -> None:
        """Take a link into use or out of use."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Send to everybody, or where the filter says."""

    @abstractmethod
    async def fail_to_send_sync(self, data: bytes) -> None:
        """Send in step, which is refused."""

    @abstractmethod
    async def send_sync(self, data: bytes) -> None:
        """Send in step, with a filter that says to whom."""

    @abstractmethod
    async def receive(self) -> bytes:
        """The next message."""

    @abstractmethod
    async def set_compress(self, model: str, level: int) -> None:
        """Compress from now on."""

    @abstractmethod
    async def set_filter(self, target: Sequence[int] | None) -> None:
        """Answer the message `REFUSED` with these hosts, or with an error; all else with all."""

    @abstractmethod
    async def set_forwarding(self, enabled: bool) -> None:
        """Turn data forwarding on or off."""

    @abstractmethod
    async def set_mtu(self, mtu: int) -> None:
        """Fix the MTU of the interfaces."""

    @abstractmethod
    async def set_policy(self, policy: str) -> None:
        """Set how links to the other host are chosen."""

    @abstractmethod
    async def stop_clock(self) -> None:
        """Send no ping and no probe any more."""

    @abstractmethod
    async def clear_statistics(self) -> None:
        """Set all counters to zero."""

    @abstractmethod
    async def handle_record(self) -> Record:
        """The counters of the handle."""

    @abstractmethod
    async def link_record(self, link_id: int) -> Record:
        """The counters of a link, and its status."""

    @abstractmethod
    async def events(self, link_id: int) -> Events:
        """How often a link went up and down."""

    async def wait_link(self, link_id: int, **wanted: int) -> Record:
        """Until these fields of a link are at least that; all of them."""
        while True:
            record = await self.link_record(link_id)
            if all(record[name] >= value for name, value in wanted.items()):
                return record
            await trio.sleep(POLL)

    async def wait_down(self, link_id: int) -> None:
        """Until a link is down."""
        while (await self.link_record(link_id))["connected"]:  # noqa: ASYNC110
            await trio.sleep(POLL)

    async def record(self) -> Record:
        """All counters of the host; those of link 1 with `link 1` before their names."""
        record = await self.handle_record()
        for link_id in range(self.links):
            prefix = f"link {link_id} "
            fields = await self.link_record(link_id)
            record |= {prefix + name: value for name, value in fields.items()}
        return record


class CSide(Side):
    """A host of the C library."""

    def __init__(self, node: CNode, other: int) -> None:
        super().__init__()
        self.node = node
        self._other = other

    async def add_link(self, link_id: int, src: Address, dst: Address) -> None:
        await self.node.add_link(
            self._other,
            link_id,
            src,
            dst,
            priority=link_id,
            ping_interval=PING_INTERVAL,
            pong_timeout=PONG_TIMEOUT,
        )
        self.ends[link_id] = src, dst

    async def remove_link(self, link_id: int) -> None:
        await self.node.clear_link(self._other, link_id)

    async def set_enabled(self, link_id: int, enabled: bool) -> None:
        await self.node.set_link_enable(self._other, link_id, enabled)

    async def send(self, data: bytes) -> None:
        await self.node.send(data)

    async def fail_to_send_sync(self, data: bytes) -> None:
        try:
            await self.node.send_sync(data)
        except OSError:
            return
        raise AssertionError("the C library has sent it")

    async def send_sync(self, data: bytes) -> None:
        await self.node.send_sync(data)

    async def receive(self) -> bytes:
        return (await self.node.receive())[1]

    async def set_compress(self, model: str, level: int) -> None:
        await self.node.set_compress(model, level)

    async def set_filter(self, target: Sequence[int] | None) -> None:
        await self.node.set_filter("error" if target is None else target, only=REFUSED)

    async def set_forwarding(self, enabled: bool) -> None:
        await self.node.set_forwarding(enabled)

    async def set_mtu(self, mtu: int) -> None:
        await self.node.set_mtu(mtu)

    async def set_policy(self, policy: str) -> None:
        await self.node.set_policy(self._other, policy)

    async def stop_clock(self) -> None:
        await self.node.set_pmtud_interval(NEVER)
        for link_id in range(self.links):
            await self.node.set_ping_timers(
                self._other, link_id, ping_interval=NEVER, pong_timeout=2 * NEVER
            )

    async def clear_statistics(self) -> None:
        await self.node.clear_statistics()

    async def handle_record(self) -> Record:
        found = await self.node.statistics()
        record = {name: int(found[name]) for name in HANDLE_FIELDS}
        # It counts 8 bytes of each message's header along.
        record["rx_compressed_size_bytes"] -= 8 * record["rx_compressed_packets"]
        return record

    async def link_record(self, link_id: int) -> Record:
        status = await self.node.link_status(self._other, link_id)
        stats: Mapping[str, Any] = status["stats"]
        record = {name: int(stats[name]) for name in LINK_FIELDS}
        return record | {name: int(status[name]) for name in STATUS_FIELDS}

    async def events(self, link_id: int) -> Events:
        stats = (await self.node.link_status(self._other, link_id))["stats"]
        times = [sum(map(bool, stats[name])) for name in ("last_up_times", "last_down_times")]
        return Events(stats["up_count"], stats["down_count"], *times)


class OurSide(Side):
    """A host of ours."""

    def __init__(self, handle: Handle, other: Host) -> None:
        super().__init__()
        self._handle = handle
        self._host = other
        self._channel: Channel = handle.open_channel(0)

    async def add_link(self, link_id: int, src: Address, dst: Address) -> None:
        await self._host.add_link(
            link_id,
            src,
            dst,
            priority=link_id,
            ping_interval=PING_INTERVAL,
            pong_timeout=PONG_TIMEOUT,
            pong_count=1,
        )
        self.ends[link_id] = src, dst

    async def remove_link(self, link_id: int) -> None:
        await self._host.links[link_id].remove()

    async def set_enabled(self, link_id: int, enabled: bool) -> None:
        self._host.links[link_id].enabled = enabled

    async def send(self, data: bytes) -> None:
        await self._channel.send(data)

    async def fail_to_send_sync(self, data: bytes) -> None:
        try:
            await self._channel.send_sync(data)
        except KnetError:
            return
        raise AssertionError("we have sent it")

    async def send_sync(self, data: bytes) -> None:
        await self._channel.send_sync(data)

    async def receive(self) -> bytes:
        return (await self._channel.receive()).data

    async def set_compress(self, model: str, level: int) -> None:
        self._handle.set_compress(CompressConfig(model, level))

    async def set_filter(self, target: Sequence[int] | None) -> None:
        def decide(packet: FilterPacket) -> FilterResult:
            if packet.data != REFUSED:
                return Broadcast()
            return Drop() if target is None else Unicast(target)

        self._handle.set_filter(decide)

    async def set_forwarding(self, enabled: bool) -> None:
        await self._handle.set_forwarding(enabled)

    async def set_mtu(self, mtu: int) -> None:
        self._handle.mtu = mtu

    async def set_policy(self, policy: str) -> None:
        self._host.policy = LinkPolicy(policy)

    async def stop_clock(self) -> None:
        self._handle.pmtud_interval = NEVER
        links = list(self._host.links.values())
        sent = [link.status.stats.tx_ping_packets for link in links]
        for link in links:
            link.set_ping_timers(NEVER, 2 * NEVER, 2048)
        # The one that was due next still comes in its time, and those after it do not.
        for link, before in zip(links, sent, strict=True):
            await self.wait_link(link.link_id, tx_ping_packets=before + 1)

    async def clear_statistics(self) -> None:
        self._handle.clear_statistics(links=True)

    async def handle_record(self) -> Record:
        found = attrs.asdict(self._handle.statistics(), recurse=False)
        return {name: found[name] for name in HANDLE_FIELDS}

    async def link_record(self, link_id: int) -> Record:
        status = self._host.links[link_id].status
        found = attrs.asdict(status.stats)
        record = {name: int(found[name]) for name in LINK_FIELDS}
        return record | {name: int(getattr(status, name)) for name in STATUS_FIELDS}

    async def events(self, link_id: int) -> Events:
        stats = self._host.links[link_id].status.stats
        times = len(stats.last_up_times), len(stats.last_down_times)
        return Events(stats.up_count, stats.down_count, *times)


@asynccontextmanager
async def open_side(
    program: str, host_id: int, other: int, crypto: CCrypto | None, namespace: str | None = None
) -> AsyncGenerator[Side, None]:
    """A host that knows the other one; `program` is `C` or `ours`."""
    if program == "C":
        async with open_c_node(host_id, crypto=crypto, namespace=namespace) as node:
            await node.add_host(other)
            yield CSide(node, other)
        return
    config = None
    if crypto is not None:
        config = CryptoConfig(crypto.key, crypto.cipher, crypto.hash, crypto.model)
    async with open_handle(host_id, crypto=config, hedge=False) as handle:
        yield OurSide(handle, handle.add_host(other))
