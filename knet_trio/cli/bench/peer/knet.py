"""knet_trio's peer."""

from __future__ import annotations

import struct
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

import attrs
import trio

from knet_trio import (
    Channel,
    CompressConfig,
    CryptoConfig,
    Handle,
    Link,
    LinkPolicy,
    open_handle,
)
from knet_trio.cli.bench.peer.commands import (
    Answer,
    Arguments,
    Command,
    CommandError,
    Span,
    cpu_seconds,
    usage,
)
from knet_trio.cli.bench.peer.credits import (
    DRAIN,
    PROBE_MESSAGE,
    Credits,
    credit_message,
    is_probe,
)
from knet_trio.cli.bench.peer.payload import payload

DATA: Final = 0
CONTROL: Final = 1
QUIET: Final = 2

# More than any window: the window is what bounds.
RECEIVE_BUFFER: Final = 16384
# At most this many messages in one call.
CHUNK: Final = 128
# How often those who wait for others look at the clock.
_POLL: Final = 0.02
_PATIENCE: Final = 1.0
_LZ4_LEVEL: Final = 1
_STAMP: Final = struct.Struct(">QQ")


@attrs.define
class _Sink:
    size: int
    step: int
    received: int = 0
    wrong: int = 0
    reported: int = 0
    span: Span = attrs.field(init=False)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)


@attrs.define
class _Collected:
    seen: set[int] = attrs.field(factory=set[int])
    latencies: list[float] = attrs.field(factory=list[float])
    repeated: int = 0
    pause: float = 0.0
    last: float = 0.0
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)


@attrs.define(eq=False)
class _Node:
    handle: Handle
    data: Channel
    control: Channel
    quiet: Channel
    links: list[Link] = attrs.field(factory=list[Link])
    enabled_at: float = 0.0
    sink: _Sink | None = None
    collected: _Collected | None = None
    credits: Credits | None = None
    # Set, and followed by a new one, when there are new credits.
    news: trio.Event = attrs.field(factory=trio.Event)


@asynccontextmanager
async def open_knet_peer() -> AsyncGenerator[dict[str, Command]]:
    """The commands of a peer that has handles of knet_trio."""
    async with trio.open_nursery() as nursery:
        yield _Peer(nursery).commands
        nursery.cancel_scope.cancel()


class _Peer:
    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._nodes: dict[int, _Node] = {}
        self.commands: Final[dict[str, Command]] = {
            "usage": usage,
            "handle": self.open,
            "host": self.add_host,
            "link": self.add_link,
            "enable": self.enable,
            "up": self.wait_up,
            "status": self.status,
            "sink": self.start_sink,
            "sunk": self.end_sink,
            "source": self.source,
            "echo": self.start_echo,
            "roundtrip": self.round_trip,
            "stream": self.stream,
            "collect": self.start_collecting,
            "collected": self.end_collecting,
        }

    def _node(self, arguments: Arguments) -> _Node:
        node = self._nodes.get(arguments.integer("handle", 1))
        if node is None:
            raise CommandError("there is no such handle")
        return node

    # Setting up.

    async def open(self, arguments: Arguments) -> Answer:
        self._nodes[arguments.integer("id", 1)] = await self._nursery.start(self._hold, arguments)
        return {"ok": True}

    async def _hold(self, arguments: Arguments, task_status: trio.TaskStatus[_Node]) -> None:
        cipher, compress = arguments.text("cipher"), arguments.text("compress")
        key = bytes.fromhex(arguments.text("key"))
        async with open_handle(
            arguments.integer("id", 1),
            crypto=CryptoConfig(key, cipher, arguments.text("hash")) if cipher else None,
            compress=CompressConfig(compress, _LZ4_LEVEL) if compress else None,
            hedge=arguments.text("hedge", "1") == "1",
        ) as handle:
            data, control, quiet = (
                handle.open_channel(channel, receive_buffer=RECEIVE_BUFFER)
                for channel in (DATA, CONTROL, QUIET)
            )
            node = _Node(handle, data, control, quiet)
            task_status.started(node)
            await self._control(node)

    async def _control(self, node: _Node) -> None:
        while True:
            for message in await node.control.receive_many():
                if not is_probe(message.data):
                    if node.credits is not None:
                        node.credits.take(message.data, time.monotonic())
                elif node.sink is not None:
                    await self._report(node, node.sink)
            node.news.set()
            node.news = trio.Event()

    async def _report(self, node: _Node, sink: _Sink) -> None:
        sink.reported = sink.received
        await node.control.send(credit_message(node.handle.host_id, sink.received))

    async def add_host(self, arguments: Arguments) -> Answer:
        policy = LinkPolicy(arguments.text("policy", "passive"))
        self._node(arguments).handle.add_host(arguments.integer("id", 2), policy=policy)
        return {"ok": True}

    async def add_link(self, arguments: Arguments) -> Answer:
        node = self._node(arguments)
        enabled = arguments.text("enabled", "1") == "1"
        link = await node.handle.get_host(arguments.integer("host", 2)).add_link(
            arguments.integer("id", 0),
            arguments.address("src"),
            arguments.address("dst"),
            priority=arguments.integer("priority"),
            ping_interval=arguments.number("ping", 1.0),
            pong_timeout=arguments.number("timeout", 2.0),
            pong_count=arguments.integer("pongs", 2),
            enabled=enabled,
        )
        node.links.append(link)
        if enabled:
            node.enabled_at = time.monotonic()
        return {"ok": True}

    async def enable(self, arguments: Arguments) -> Answer:
        node = self._node(arguments)
        host = node.handle.get_host(arguments.integer("host", 2))
        node.enabled_at = time.monotonic()
        host.links[arguments.integer("id", 0)].enabled = True
        return {"ok": True}

    async def wait_up(self, arguments: Arguments) -> Answer:
        node = self._node(arguments)
        for link in node.links:
            await link.wait_connected()
        seconds = time.monotonic() - node.enabled_at
        while node.handle.data_mtu < arguments.integer("mtu"):  # noqa: ASYNC110  # asked once
            await trio.sleep(_POLL)
        return {"seconds": seconds, "mtu": node.handle.data_mtu}

    async def status(self, arguments: Arguments) -> Answer:
        node = self._node(arguments)
        states = [link.status for link in node.links]
        drops = node.handle.statistics().drops
        return {
            "links": len(states),
            "connected": sum(state.connected for state in states),
            "downs": sum(state.stats.down_count for state in states),
            "mtu": node.handle.data_mtu,
            "drops": {str(cause): times for cause, times in drops.items() if times},
        }

    # Throughput.

    async def start_sink(self, arguments: Arguments) -> Answer:
        node = self._node(arguments)
        sink = _Sink(arguments.integer("size"), arguments.integer("step", 1))
        sink.span = Span(arguments.number("begin"), arguments.number("end"), lambda: sink.received)
        node.sink = sink
        take = self._take_one if arguments.text("mode") == "one" else self._take_many
        self._nursery.start_soon(take, node, sink)
        self._nursery.start_soon(sink.span.watch)
        return {"ok": True}

    async def _take_many(self, node: _Node, sink: _Sink) -> None:
        size = sink.size
        with sink.scope:
            while True:
                messages = await node.data.receive_many()
                sink.received += len(messages)
                sink.wrong += sum([len(message.data) != size for message in messages])
                if sink.received - sink.reported >= sink.step:
                    await self._report(node, sink)

    async def _take_one(self, node: _Node, sink: _Sink) -> None:
        size = sink.size
        with sink.scope:
            while True:
                message = await node.data.receive()
                sink.received += 1
                sink.wrong += len(message.data) != size
                if sink.received - sink.reported >= sink.step:
                    await self._report(node, sink)

    async def end_sink(self, arguments: Arguments) -> Answer:
        sink = self._node(arguments).sink
        if sink is None:
            raise CommandError("there is no sink")
        sink.scope.cancel()
        return {"received": sink.received, "wrong": sink.wrong, **sink.span.answer()}

    async def source(self, arguments: Arguments) -> Answer:
        node = self._node(arguments)
        now = time.monotonic()
        credits = node.credits = Credits(
            arguments.integer("window", 1), arguments.integer("sinks", 1), now
        )
        span = Span(arguments.number("begin"), arguments.number("end"), lambda: credits.sent)
        message = payload(arguments.text("payload", "random"), arguments.integer("size"))
        hand_over = self._one_by_one if arguments.text("mode") == "one" else self._at_once
        async with trio.open_nursery() as nursery:
            nursery.start_soon(span.watch)
            stop = arguments.number("stop")
            chunk = [message] * CHUNK
            while (now := time.monotonic()) < stop:
                if (room := credits.room) <= 0:
                    await self._wait_news(node, credits, draining=False)
                elif room < CHUNK:
                    await hand_over(node, credits, chunk[:room])
                else:
                    await hand_over(node, credits, chunk)
            while credits.in_flight and time.monotonic() < stop + DRAIN:
                await self._wait_news(node, credits, draining=True)
        node.credits = None
        return {"sent": credits.sent, "given_up": credits.given_up, **span.answer()}

    async def _at_once(self, node: _Node, credits: Credits, messages: list[bytes]) -> None:
        await node.data.send_many(messages)
        credits.sent += len(messages)

    async def _one_by_one(self, node: _Node, credits: Credits, messages: list[bytes]) -> None:
        for message in messages:
            await node.data.send(message)
            credits.sent += 1

    async def _wait_news(self, node: _Node, credits: Credits, *, draining: bool) -> None:
        if credits.must_probe(time.monotonic(), draining=draining):
            await node.control.send(PROBE_MESSAGE)
        with trio.move_on_after(_POLL):
            await node.news.wait()

    # Round trips.

    async def start_echo(self, arguments: Arguments) -> Answer:
        self._nursery.start_soon(self._echo, self._node(arguments))
        return {"ok": True}

    async def _echo(self, node: _Node) -> None:
        while True:
            message = await node.data.receive()
            await node.data.send(message.data)

    async def round_trip(self, arguments: Arguments) -> Answer:
        node = self._node(arguments)
        message = payload("random", arguments.integer("size", 64))
        cpu, began = cpu_seconds(), time.monotonic()
        until = began + arguments.number("seconds", 1.0)
        samples: list[float] = []
        lost = 0
        while time.monotonic() < until:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_watchdog, nursery.cancel_scope, lambda: len(samples))
                while (sent := time.perf_counter()) and time.monotonic() < until:
                    await node.data.send(message)
                    await node.data.receive()
                    samples.append(time.perf_counter() - sent)
                nursery.cancel_scope.cancel()
            if nursery.cancel_scope.cancelled_caught and time.monotonic() < until:
                lost += 1
        return {
            "lost": lost,
            "seconds": time.monotonic() - began,
            "cpu": cpu_seconds() - cpu,
            "samples_us": [round(sample * 1e6, 1) for sample in samples],
        }

    # A stream of numbered messages, at a rate.

    async def stream(self, arguments: Arguments) -> Answer:
        node = self._node(arguments)
        rest = payload("random", arguments.integer("size", 64) - _STAMP.size)
        interval = 1 / arguments.number("rate", 100.0)
        total = int(arguments.number("seconds", 1.0) / interval)
        first = trio.current_time()
        for number in range(total):
            await trio.sleep_until(first + number * interval)
            await node.quiet.send(_STAMP.pack(number, time.monotonic_ns()) + rest)
        return {"sent": total, "refused": 0}

    async def start_collecting(self, arguments: Arguments) -> Answer:
        node = self._node(arguments)
        node.collected = _Collected()
        self._nursery.start_soon(self._collect, node, node.collected)
        return {"ok": True}

    async def _collect(self, node: _Node, collected: _Collected) -> None:
        with collected.scope:
            async for message in node.quiet:
                at = time.monotonic()
                number, sent = _STAMP.unpack_from(message.data)
                if number in collected.seen:
                    collected.repeated += 1
                    continue
                if collected.seen:
                    collected.pause = max(collected.pause, at - collected.last)
                collected.seen.add(number)
                collected.last = at
                collected.latencies.append(at - sent * 1e-9)

    async def end_collecting(self, arguments: Arguments) -> Answer:
        collected = self._node(arguments).collected
        if collected is None:
            raise CommandError("nothing is collected")
        collected.scope.cancel()
        return {
            "received": len(collected.seen),
            "repeated": collected.repeated,
            "pause": collected.pause,
            "latencies_us": [round(latency * 1e6, 1) for latency in collected.latencies],
        }


async def _watchdog(scope: trio.CancelScope, done: Callable[[], int]) -> None:
    """Cancel ``scope`` when nothing gets done any more."""
    for _ in count():
        before = done()
        await trio.sleep(_PATIENCE)
        if done() == before:
            scope.cancel()
