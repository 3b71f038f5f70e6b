"""The peer of contenders other than knet: blocking loops over a pipe, in a thread.

It has the commands for throughput and round trips; a pipe stands for a handle and its link.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import attrs
import trio

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
from knet_trio.cli.bench.peer.pipe import Pipe

# Messages between two checks of the clock and of the credits.
_BURST: Final = 64
_PATIENCE: Final = 1.0


@attrs.define
class _PlainSink:
    size: int
    step: int
    span: Span = attrs.field(init=False)
    received: int = 0
    wrong: int = 0
    stopped: bool = False


@asynccontextmanager
async def open_plain_peer(
    open_pipe: Callable[[str, str], Pipe],
) -> AsyncGenerator[dict[str, Command]]:
    """Open a peer whose link is a pipe, and yield its commands."""
    async with trio.open_nursery() as nursery:
        peer = _PlainPeer(open_pipe, nursery)
        yield peer.commands
        peer.stopped = True
        nursery.cancel_scope.cancel()


class _PlainPeer:
    def __init__(self, open_pipe: Callable[[str, str], Pipe], nursery: trio.Nursery) -> None:
        self._open_pipe = open_pipe
        self._nursery = nursery
        self._opened: Pipe | None = None
        self._sink: _PlainSink | None = None
        self.stopped = False
        self.commands: Final[dict[str, Command]] = {
            "usage": usage,
            "handle": self.accept,
            "host": self.accept,
            "link": self.open,
            "up": self.wait_up,
            "sink": self.start_sink,
            "sunk": self.end_sink,
            "source": self.source,
            "echo": self.start_echo,
            "roundtrip": self.round_trip,
        }

    @property
    def _pipe(self) -> Pipe:
        if self._opened is None:
            raise CommandError("there is no link")
        return self._opened

    async def accept(self, arguments: Arguments) -> Answer:
        return {"ok": True}

    async def open(self, arguments: Arguments) -> Answer:
        self._opened = self._open_pipe(arguments.text("src"), arguments.text("dst"))
        return {"ok": True}

    async def wait_up(self, arguments: Arguments) -> Answer:
        await _in_thread(partial(_greet, self._pipe, self))
        return {"seconds": 0.0, "mtu": 0}

    async def start_sink(self, arguments: Arguments) -> Answer:
        sink = self._sink = _PlainSink(arguments.integer("size"), arguments.integer("step", 1))
        sink.span = Span(arguments.number("begin"), arguments.number("end"), lambda: sink.received)
        self._nursery.start_soon(_in_thread, partial(_take, self._pipe, sink, self))
        return {"ok": True}

    async def end_sink(self, arguments: Arguments) -> Answer:
        sink = self._sink
        if sink is None:
            raise CommandError("there is no sink")
        sink.stopped = True
        return {"received": sink.received, "wrong": sink.wrong, **sink.span.answer()}

    async def source(self, arguments: Arguments) -> Answer:
        credits = Credits(arguments.integer("window", 1), 1, time.monotonic())
        span = Span(arguments.number("begin"), arguments.number("end"), lambda: credits.sent)
        message = payload(arguments.text("payload", "random"), arguments.integer("size"))
        stop = arguments.number("stop")
        await _in_thread(partial(_give, self._pipe, credits, span, message, stop))
        return {"sent": credits.sent, "given_up": credits.given_up, **span.answer()}

    async def start_echo(self, arguments: Arguments) -> Answer:
        self._nursery.start_soon(_in_thread, partial(_echo, self._pipe, self))
        return {"ok": True}

    async def round_trip(self, arguments: Arguments) -> Answer:
        message = payload("random", arguments.integer("size", 64))
        cpu, began = cpu_seconds(), time.monotonic()
        until = began + arguments.number("seconds", 1.0)
        samples: list[float] = []
        lost = await trio.to_thread.run_sync(
            _go_back_and_forth, self._pipe, message, until, samples
        )
        return {
            "lost": lost,
            "seconds": time.monotonic() - began,
            "cpu": cpu_seconds() - cpu,
            "samples_us": [round(sample * 1e6, 1) for sample in samples],
        }


async def _in_thread(run: Callable[[], None]) -> None:
    # When the peer ends, it does not wait for the loop.
    await trio.to_thread.run_sync(run, abandon_on_cancel=True)


def _greet(pipe: Pipe, peer: _PlainPeer) -> None:
    # A probe, because every command ignores or answers one that comes late.
    pipe.send(PROBE_MESSAGE)
    while pipe.receive() is None and not peer.stopped:
        pipe.send(PROBE_MESSAGE)
    # The other peer may have missed probes sent before it was there.
    pipe.send(PROBE_MESSAGE)


def _take(pipe: Pipe, sink: _PlainSink, peer: _PlainPeer) -> None:
    reported = 0
    while not (sink.stopped or peer.stopped):
        for _ in range(_BURST):
            message = pipe.receive()
            if message is None:
                break
            if len(message) == sink.size:
                sink.received += 1
                if sink.received - reported < sink.step:
                    continue
            elif not is_probe(message):
                sink.wrong += 1
                continue
            reported = sink.received
            pipe.send(credit_message(0, sink.received))
        sink.span.look()


def _give(pipe: Pipe, credits: Credits, span: Span, message: bytes, stop: float) -> None:
    while (now := time.monotonic()) < stop:
        room = min(credits.room, _BURST)
        for _ in range(room):
            pipe.send(message)
        credits.sent += max(0, room)
        _hear(pipe, credits, now, wait=credits.room <= 0, draining=False)
        span.look()
    while credits.in_flight and (now := time.monotonic()) < stop + DRAIN:
        _hear(pipe, credits, now, wait=True, draining=True)
    span.look()


def _hear(pipe: Pipe, credits: Credits, now: float, *, wait: bool, draining: bool) -> None:
    if credits.must_probe(now, draining=draining):
        pipe.send(PROBE_MESSAGE)
    message = pipe.receive() if wait else pipe.receive_now()
    while message is not None:
        credits.take(message, now)
        message = pipe.receive_now()


def _echo(pipe: Pipe, peer: _PlainPeer) -> None:
    while not peer.stopped:
        message = pipe.receive()
        if message is not None and not is_probe(message):
            pipe.send(message)


def _go_back_and_forth(pipe: Pipe, message: bytes, until: float, samples: list[float]) -> int:
    lost = 0
    while time.monotonic() < until:
        sent = time.perf_counter()
        pipe.send(message)
        while pipe.receive() != message:
            if time.perf_counter() > sent + _PATIENCE:
                lost += 1
                break
        else:
            samples.append(time.perf_counter() - sent)
    return lost
