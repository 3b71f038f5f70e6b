"""Our handle in a process of its own, driven as a C node is: see tests/interop/c_process.

So the tests have one kind of peer, which runs either library. It has the commands that they use.
"""

from __future__ import annotations

import base64
import inspect
import json
import sys
from collections.abc import Callable
from typing import Any, Final

import attrs
import trio

from knet_trio import (
    AclEntry,
    Channel,
    CryptoConfig,
    DataMtuChanged,
    Handle,
    HostStatusChanged,
    KnetError,
    Link,
    LinkPolicy,
    open_handle,
)
from tests.interop.pairs import RECEIVE_BUFFER, Stream

STDIN: Final = 0
STDOUT: Final = 1


class Node:
    """The handle, and a method for each command."""

    def __init__(self, handle: Handle, nursery: trio.Nursery) -> None:
        self.handle = handle
        self._nursery = nursery
        self._channels: dict[int, Channel] = {}
        self._stream: Stream | None = None
        self._streams = 0
        self._lines_in, self._lines_out = trio.open_memory_channel[dict[str, Any]](1000)

    # The pipes.

    async def put(self, line: dict[str, Any]) -> None:
        """Write a line when its turn has come."""
        await self._lines_in.send(line)

    async def write(self) -> None:
        """Write what is put, until cancelled."""
        async with trio.lowlevel.FdStream(STDOUT) as stream:
            async for line in self._lines_out:
                await stream.send_all(json.dumps(line).encode() + b"\n")

    async def serve(self) -> None:
        """Carry out one command after the other, to the end of the input."""
        rest = b""
        async with trio.lowlevel.FdStream(STDIN) as stream:
            async for chunk in stream:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    await self.put(await self._answer(json.loads(line)))

    async def _answer(self, command: dict[str, Any]) -> dict[str, Any]:
        number = command.pop("id")
        method: Callable[..., Any] = getattr(self, f"do_{command.pop('do')}")
        try:
            result = method(**command)
            if inspect.isawaitable(result):
                result = await result
            return {"id": number, "result": result}
        except KnetError as error:
            return {"id": number, "error": {"errno": error.errno, "message": str(error)}}

    async def write_events(self) -> None:
        """Put what libknet would call back for, until cancelled."""
        async with self.handle.events() as events:
            async for event in events:
                match event:
                    case HostStatusChanged(host_id=host_id, reachable=reachable):
                        fields = {"host_id": host_id, "reachable": reachable}
                        await self.put({"event": "host_status", **fields})
                    case DataMtuChanged(data_mtu=data_mtu):
                        await self.put({"event": "data_mtu", "data_mtu": data_mtu})
                    case _:
                        continue

    # Messages.

    def do_add_channel(self, channel: int) -> int:
        opened = self.handle.open_channel(channel, receive_buffer=RECEIVE_BUFFER)
        self._channels[channel] = opened
        self._nursery.start_soon(self._receive, opened)
        return opened.channel

    async def _receive(self, channel: Channel) -> None:
        while True:
            messages = await channel.receive_many(256)
            burst = [(one.channel, base64.b64encode(one.data).decode()) for one in messages]
            await self.put({"event": "messages", "messages": burst})

    async def do_send(self, data: str, channel: int) -> None:
        await self._channels[channel].send(base64.b64decode(data))

    def do_send_numbered(
        self, count: int, size: int, interval_seconds: float, start: int, channel: int
    ) -> int:
        self._stream = Stream(self._channels[channel], size, interval_seconds, start, count)
        self._streams += 1
        self._nursery.start_soon(self._run_stream, self._stream, self._streams)
        return self._streams

    async def _run_stream(self, stream: Stream, number: int) -> None:
        await stream.run()
        done = {"event": "stream_done", "stream": number, "sent": stream.sent, "error": None}
        await self.put(done)

    async def do_stop_stream(self) -> int:
        if self._stream is None:
            return 0
        await self._stream.stop()
        return self._stream.sent

    # The handle.

    async def do_set_forwarding(self, enabled: bool) -> None:
        await self.handle.set_forwarding(enabled)

    def do_set_crypto(self, model: str, cipher: str, hash: str, key: str, slot: int) -> None:
        self.handle.set_crypto(CryptoConfig(base64.b64decode(key), cipher, hash, model), slot)

    def do_use_crypto(self, slot: int) -> None:
        self.handle.use_crypto(slot)

    def do_clear_traffic(self, allow: bool) -> None:
        self.handle.allow_clear_traffic = allow

    def do_set_pmtud_interval(self, seconds: int) -> None:
        self.handle.pmtud_interval = seconds

    def do_data_mtu(self) -> int:
        return self.handle.data_mtu

    def do_statistics(self) -> dict[str, Any]:
        statistics = self.handle.statistics()
        return {**attrs.asdict(statistics), "drops": dict(statistics.drops)}

    # Hosts and links.

    def do_add_host(self, host_id: int) -> None:
        self.handle.add_host(host_id)

    def do_set_policy(self, host_id: int, policy: str) -> None:
        self.handle.hosts[host_id].policy = LinkPolicy(policy)

    async def do_set_link_config(
        self,
        host_id: int,
        link_id: int,
        src: tuple[str, int],
        dst: tuple[str, int] | None,
        transport: str,
        high_priority: bool,
    ) -> None:
        await self.handle.hosts[host_id].add_link(
            link_id,
            (src[0], src[1]),
            None if dst is None else (dst[0], dst[1]),
            transport=transport,
            high_priority=high_priority,
            enabled=False,
        )

    def _link(self, host_id: int, link_id: int) -> Link:
        return self.handle.hosts[host_id].links[link_id]

    def do_set_ping_timers(
        self, host_id: int, link_id: int, interval: int, timeout: int, precision: int
    ) -> None:
        link = self._link(host_id, link_id)
        link.set_ping_timers(interval / 1000, timeout / 1000, precision)

    def do_set_pong_count(self, host_id: int, link_id: int, pong_count: int) -> None:
        self._link(host_id, link_id).pong_count = pong_count

    def do_set_priority(self, host_id: int, link_id: int, priority: int) -> None:
        self._link(host_id, link_id).priority = priority

    def do_set_link_enable(self, host_id: int, link_id: int, enabled: bool) -> None:
        self._link(host_id, link_id).enabled = enabled

    async def do_clear_link(self, host_id: int, link_id: int) -> None:
        await self._link(host_id, link_id).remove()

    def do_add_acl(
        self, host_id: int, link_id: int, kind: str, first: str, second: None, accept: bool
    ) -> None:
        assert kind == "address"
        self._link(host_id, link_id).acl.append(AclEntry.address(first, accept=accept))

    def do_link_status(self, host_id: int, link_id: int) -> dict[str, Any]:
        status = self._link(host_id, link_id).status
        plain = attrs.asdict(status)
        plain["stats"]["transitions"] = dict(status.stats.transitions)
        return plain


async def run(host_id: int) -> None:
    async with open_handle(host_id) as handle, trio.open_nursery() as nursery:
        node = Node(handle, nursery)
        nursery.start_soon(node.write)
        nursery.start_soon(node.write_events)
        await node.put({"event": "ready"})
        await node.serve()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(run, json.loads(sys.argv[1])["host_id"])
