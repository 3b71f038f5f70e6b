"""The peer of QUIC, with aioquic and its own layer over asyncio, in a thread beside Trio.

aioquic accepts writes without a limit on unsent data. So a source waits for reports of the sink, as
sources of messages do.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import attrs
import trio
from aioquic.asyncio.client import connect  # pyright: ignore[reportUnknownVariableType]
from aioquic.asyncio.server import serve  # pyright: ignore[reportUnknownVariableType]
from aioquic.quic.configuration import QuicConfiguration

from knet_trio.cli.bench.peer.certificate import make_certificate
from knet_trio.cli.bench.peer.commands import (
    Answer,
    Arguments,
    Command,
    CommandError,
    Span,
    cpu_seconds,
    usage,
)
from knet_trio.cli.bench.peer.payload import payload

_ALPN: Final = ["knet-trio-bench"]
_BLOCK: Final = 64 * 1024
_READ: Final = 256 * 1024
# The largest number of bytes on their way, and the number after which the sink reports.
_WINDOW: Final = 1024 * 1024
_STEP: Final = _WINDOW // 8
_COUNT: Final = struct.Struct(">Q")

_Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def open_quic_peer() -> AsyncGenerator[dict[str, Command]]:
    """Open a peer with QUIC, and yield its commands."""
    async with trio.open_nursery() as nursery:
        yield _QuicPeer(nursery).commands
        nursery.cancel_scope.cancel()


@attrs.define
class _QuicDrain:
    span: Span = attrs.field(init=False)
    received: int = 0


class _QuicPeer:
    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._drain: _QuicDrain | None = None
        self.commands: Final[dict[str, Command]] = {
            "usage": usage,
            "handle": _accept,
            "host": _accept,
            "link": _accept,
            "up": _accept,
            "drain": self.drain,
            "drained": self.end_drain,
            "feed": self.feed,
            "answer": self.answer,
            "ask": self.ask,
        }

    async def drain(self, arguments: Arguments) -> Answer:
        """Carry out ``drain``: read the next stream."""
        drain = self._drain = _QuicDrain()
        drain.span = Span(
            arguments.number("begin"), arguments.number("end"), lambda: drain.received
        )
        await self._nursery.start(_serve, arguments, partial(_read, drain))
        return {"ok": True}

    async def end_drain(self, arguments: Arguments) -> Answer:
        """Carry out ``drained``: return the number of bytes read."""
        if self._drain is None:
            raise CommandError("no stream was read")
        return {"received": self._drain.received, **self._drain.span.answer()}

    async def feed(self, arguments: Arguments) -> Answer:
        """Carry out ``feed``: write a stream until ``stop``."""
        return await trio.to_thread.run_sync(
            partial(asyncio.run, _feed(arguments)), abandon_on_cancel=True
        )

    async def answer(self, arguments: Arguments) -> Answer:
        """Carry out ``answer``: send back the data of each stream."""
        await self._nursery.start(_serve, arguments, _answer)
        return {"ok": True}

    async def ask(self, arguments: Arguments) -> Answer:
        """Carry out ``ask``: send each request on a stream of its own, as HTTP/3 does."""
        return await trio.to_thread.run_sync(
            partial(asyncio.run, _ask(arguments)), abandon_on_cancel=True
        )


async def _serve(
    arguments: Arguments, handler: _Handler, task_status: trio.TaskStatus[None]
) -> None:
    """Run ``handler`` in a task for each stream that is opened."""
    ready = trio.Event()

    async def run() -> None:
        tasks: set[asyncio.Future[Any]] = set()

        def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(handler(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        certificate, key = make_certificate()
        configuration = QuicConfiguration(
            is_client=False, alpn_protocols=_ALPN, certificate=certificate, private_key=key
        )
        host, port = arguments.address("at")
        await serve(host, port, configuration=configuration, stream_handler=start)
        trio.from_thread.run_sync(ready.set)
        await asyncio.Event().wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            partial(trio.to_thread.run_sync, lambda: asyncio.run(run()), abandon_on_cancel=True)
        )
        await ready.wait()
        task_status.started()


async def _read(
    drain: _QuicDrain, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    reported = 0
    while data := await reader.read(_READ):
        drain.received += len(data)
        drain.span.look()
        if drain.received - reported >= _STEP:
            reported = drain.received
            writer.write(_COUNT.pack(reported))


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read())
    writer.write_eof()


async def _feed(arguments: Arguments) -> Answer:
    block = payload("random", _BLOCK)
    sent = arrived = 0
    span = Span(arguments.number("begin"), arguments.number("end"), lambda: sent)
    stop = arguments.number("stop")
    host, port = arguments.address("at")
    async with connect(host, port, configuration=_client_configuration()) as client:
        reader, writer = await client.create_stream()
        while time.monotonic() < stop:
            if sent - arrived < _WINDOW:
                writer.write(block)
                sent += _BLOCK
                await asyncio.sleep(0)
            else:
                (arrived,) = _COUNT.unpack(await reader.readexactly(_COUNT.size))
            span.look()
    return {"sent": sent, **span.answer()}


async def _ask(arguments: Arguments) -> Answer:
    question = payload("random", arguments.integer("size", 100))
    samples: list[float] = []
    host, port = arguments.address("at")
    async with connect(host, port, configuration=_client_configuration()) as client:
        cpu, began = cpu_seconds(), time.monotonic()
        until = began + arguments.number("seconds", 1.0)
        while (asked := time.perf_counter()) and time.monotonic() < until:
            reader, writer = await client.create_stream()
            writer.write(question)
            writer.write_eof()
            if await reader.read() != question:
                raise CommandError("an answer was wrong")
            samples.append(time.perf_counter() - asked)
        seconds, cpu = time.monotonic() - began, cpu_seconds() - cpu
    return {
        "seconds": seconds,
        "cpu": cpu,
        "samples_us": [round(sample * 1e6, 1) for sample in samples],
    }


def _client_configuration() -> QuicConfiguration:
    return QuicConfiguration(is_client=True, alpn_protocols=_ALPN, verify_mode=ssl.CERT_NONE)


async def _accept(arguments: Arguments) -> Answer:
    return {"ok": True, "seconds": 0.0, "mtu": 0}
