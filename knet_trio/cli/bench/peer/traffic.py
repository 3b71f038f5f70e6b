"""The traffic of knet_trio's peers: sources, sinks, echoes, round trips, numbered messages."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from itertools import count
from typing import Final

import trio

from knet_trio import InvalidArgumentError
from knet_trio.cli.bench.peer.commands import (
    Answer,
    Arguments,
    Command,
    CommandError,
    Span,
    cpu_seconds,
)
from knet_trio.cli.bench.peer.credits import DRAIN, PROBE_MESSAGE, Credits
from knet_trio.cli.bench.peer.handles import Collected, OpenHandle, OpenHandles, Sink, report
from knet_trio.cli.bench.peer.payload import payload

# At most this many messages in one call.
CHUNK: Final = 128
# Seconds to wait for credits before the clock is checked.
_POLL: Final = 0.02
_PATIENCE: Final = 1.0
_TEN: Final = 10
# Seconds after its end at which a stream that is late is given up.
_LATE: Final = 5.0
# One byte more than the largest message.
TOO_LARGE: Final = 65537
_STAMP: Final = struct.Struct(">QQ")


class Traffic:
    """Commands for messages."""

    def __init__(self, handles: OpenHandles, nursery: trio.Nursery) -> None:
        self._handles = handles
        self._nursery = nursery
        self._prepared: list[bytes] = []
        self._spoilt = False
        self.commands: Final[dict[str, Command]] = {
            "sink": self.start_sink,
            "sunk": self.end_sink,
            "source": self.source,
            "pour": self.pour,
            "prepare": self.prepare,
            "burst": self.burst,
            "echo": self.start_echo,
            "roundtrip": self.round_trip,
            "stream": self.stream,
            "collect": self.start_collecting,
            "collected": self.end_collecting,
        }

    # Throughput.

    async def start_sink(self, arguments: Arguments) -> Answer:
        """Carry out ``sink``: count the messages that arrive."""
        opened = self._handles.find(arguments)
        sink = Sink(arguments.integer("size"), arguments.integer("step", 1))
        sink.span = Span(arguments.number("begin"), arguments.number("end"), lambda: sink.received)
        opened.sink = sink
        takers = {"one": self._take_one, "for": self._iterate}
        take = takers.get(arguments.text("mode"), self._take_many)
        self._nursery.start_soon(take, opened, sink)
        self._nursery.start_soon(sink.span.watch)
        return {"ok": True}

    async def _take_many(self, opened: OpenHandle, sink: Sink) -> None:
        size = sink.size
        with sink.scope:
            while True:
                messages = await opened.data.receive_many()
                sink.received += len(messages)
                sink.wrong += sum([len(message.data) != size for message in messages])
                if sink.received - sink.reported >= sink.step:
                    await report(opened, sink)

    async def _take_one(self, opened: OpenHandle, sink: Sink) -> None:
        size = sink.size
        with sink.scope:
            while True:
                message = await opened.data.receive()
                sink.received += 1
                sink.wrong += len(message.data) != size
                if sink.received - sink.reported >= sink.step:
                    await report(opened, sink)

    async def _iterate(self, opened: OpenHandle, sink: Sink) -> None:
        size = sink.size
        with sink.scope:
            async for message in opened.data:
                sink.received += 1
                sink.wrong += len(message.data) != size
                if sink.received - sink.reported >= sink.step:
                    await report(opened, sink)

    async def end_sink(self, arguments: Arguments) -> Answer:
        """Carry out ``sunk``: stop counting, and return the counts."""
        sink = self._handles.find(arguments).sink
        if sink is None:
            raise CommandError("there is no sink")
        # The loop may be so full that this command comes before the second mark.
        await sink.span.wait_watched()
        sink.scope.cancel()
        return {"received": sink.received, "wrong": sink.wrong, **sink.span.answer()}

    async def source(self, arguments: Arguments) -> Answer:
        """Carry out ``source``: send as many messages as credits allow, until ``stop``."""
        opened = self._handles.find(arguments)
        now = time.monotonic()
        credits = opened.credits = Credits(
            arguments.integer("window", 1), arguments.integer("sinks", 1), now
        )
        span = Span(arguments.number("begin"), arguments.number("end"), lambda: credits.sent)
        message = payload(arguments.text("payload", "random"), arguments.integer("size"))
        modes = {"one": self._one_by_one, "tens": self._in_tens}
        hand_over = modes.get(arguments.text("mode"), self._at_once)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(span.watch)
            stop = arguments.number("stop")
            chunk = [message] * CHUNK
            while (now := time.monotonic()) < stop:
                if (room := credits.room) <= 0:
                    await self._wait_credits(opened, credits, draining=False)
                elif room < CHUNK:
                    await hand_over(opened, credits, chunk[:room])
                else:
                    await hand_over(opened, credits, chunk)
            while credits.in_flight and time.monotonic() < stop + DRAIN:
                await self._wait_credits(opened, credits, draining=True)
        opened.credits = None
        return {"sent": credits.sent, "given_up": credits.given_up, **span.answer()}

    async def _at_once(self, opened: OpenHandle, credits: Credits, messages: list[bytes]) -> None:
        await opened.data.send_many(messages, to=opened.to)
        credits.sent += len(messages)

    async def _in_tens(self, opened: OpenHandle, credits: Credits, messages: list[bytes]) -> None:
        for begin in range(0, len(messages), _TEN):
            await self._at_once(opened, credits, messages[begin : begin + _TEN])

    async def _one_by_one(
        self, opened: OpenHandle, credits: Credits, messages: list[bytes]
    ) -> None:
        for message in messages:
            await opened.data.send(message, to=opened.to)
            credits.sent += 1

    async def _wait_credits(self, opened: OpenHandle, credits: Credits, *, draining: bool) -> None:
        if credits.must_probe(time.monotonic(), draining=draining):
            await opened.control.send(PROBE_MESSAGE, to=opened.to)
        with trio.move_on_after(_POLL):
            await opened.credited.wait()

    # Without credits.

    async def pour(self, arguments: Arguments) -> Answer:
        """Carry out ``pour``: send without pause for ``seconds``, ``batch`` messages a call."""
        opened = self._handles.find(arguments)
        to = arguments.hosts("to")
        message = payload("random", arguments.integer("size", 64))
        messages = [message] * arguments.integer("batch", 64)
        sent = 0
        with trio.move_on_after(arguments.number("seconds", 1.0)):
            while True:
                await opened.data.send_many(messages, to=to)
                sent += len(messages)
        return {"sent": sent}

    async def prepare(self, arguments: Arguments) -> Answer:
        """Carry out ``prepare``: make ``count`` messages for ``burst``.

        With ``spoil=1`` the last one is too large, so that all are checked and none is sent.
        """
        message = payload(arguments.text("payload", "random"), arguments.integer("size", 64))
        self._prepared = [message] * arguments.integer("count", 1)
        self._spoilt = bool(arguments.integer("spoil"))
        if self._spoilt:
            self._prepared[-1] = bytes(TOO_LARGE)
        return {"ok": True}

    async def burst(self, arguments: Arguments) -> Answer:
        """Carry out ``burst``: send the prepared messages in one call, for at most ``limit``."""
        channel = self._handles.find(arguments).data
        began, ended = time.monotonic(), False
        with trio.move_on_after(arguments.number("limit", 10.0)):
            try:
                await channel.send_many(self._prepared)
            except InvalidArgumentError:
                if not self._spoilt:
                    raise
            ended = True
        return {"ended": ended, "seconds": time.monotonic() - began}

    # Round trips.

    async def start_echo(self, arguments: Arguments) -> Answer:
        """Carry out ``echo``: send back the messages that arrive."""
        self._nursery.start_soon(self._echo, self._handles.find(arguments))
        return {"ok": True}

    async def _echo(self, opened: OpenHandle) -> None:
        while True:
            message = await opened.data.receive()
            await opened.data.send(message.data, to=opened.to)

    async def round_trip(self, arguments: Arguments) -> Answer:
        """Carry out ``roundtrip``: send a message when the one before has come back."""
        opened = self._handles.find(arguments)
        message = payload("random", arguments.integer("size", 64))
        cpu, began = cpu_seconds(), time.monotonic()
        until = began + arguments.number("seconds", 1.0)
        samples: list[float] = []
        lost = 0
        while time.monotonic() < until:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_watchdog, nursery.cancel_scope, lambda: len(samples))
                while (sent := time.perf_counter()) and time.monotonic() < until:
                    await opened.data.send(message, to=opened.to)
                    await opened.data.receive()
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
        """Carry out ``stream``: send ``rate`` numbered messages a second."""
        opened = self._handles.find(arguments)
        rest = payload("random", arguments.integer("size", 64) - _STAMP.size)
        interval = 1 / arguments.number("rate", 100.0)
        total = int(arguments.number("seconds", 1.0) / interval)
        to = arguments.hosts("to") or opened.to
        first = trio.current_time()
        sent = 0
        with trio.move_on_at(first + total * interval + _LATE):
            for number in range(total):
                await trio.sleep_until(first + number * interval)
                await opened.quiet.send(_STAMP.pack(number, time.monotonic_ns()) + rest, to=to)
                sent += 1
        return {"sent": sent, "refused": 0}

    async def start_collecting(self, arguments: Arguments) -> Answer:
        """Carry out ``collect``: receive numbered messages."""
        opened = self._handles.find(arguments)
        opened.collected = Collected()
        self._nursery.start_soon(self._collect, opened, opened.collected)
        return {"ok": True}

    async def _collect(self, opened: OpenHandle, collected: Collected) -> None:
        with collected.scope:
            async for message in opened.quiet:
                at = time.monotonic()
                if len(message.data) < _STAMP.size:
                    # From another sender.
                    continue
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
        """Carry out ``collected``: return the numbers of messages, the pause and the latencies."""
        collected = self._handles.find(arguments).collected
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
    """Cancel ``scope`` when ``done`` does not grow any more."""
    for _ in count():
        before = done()
        await trio.sleep(_PATIENCE)
        if done() == before:
            scope.cancel()
