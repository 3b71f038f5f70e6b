"""Commands for streams and requests, over any kind of stream.

``drain`` and ``drained`` read a stream and return its facts, ``feed`` writes a stream; ``answer``
and ``ask`` are the two sides of requests.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import attrs
import trio

from knet_trio.cli.bench.peer.commands import (
    Answer,
    Arguments,
    Command,
    CommandError,
    Span,
    cpu_seconds,
)
from knet_trio.cli.bench.peer.payload import payload

BLOCK: Final = 256 * 1024
# Seconds: shorter pauses are noise, and too many.
_PAUSE: Final = 0.002
_NUMBER: Final = struct.Struct(">Q")

Handler = Callable[[trio.abc.Stream], Awaitable[None]]
Ask = Callable[[bytes], Awaitable[bytes]]


class Streamer(Protocol):
    """A maker of streams to and from the other process."""

    async def connect(self, arguments: Arguments) -> trio.abc.Stream:
        """Open a stream to the other process, whose ``serve`` runs."""
        ...

    async def serve(
        self,
        arguments: Arguments,
        handler: Handler,
        task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Call ``handler`` with each stream that the other process opens."""
        ...

    async def answer(
        self,
        arguments: Arguments,
        task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer each request with its own data."""
        ...

    def asking(self, arguments: Arguments) -> AbstractAsyncContextManager[Ask]:
        """Yield a function that sends a request to the other process, whose ``answer`` runs."""
        ...


class _Digest(Protocol):
    """A hash that is being computed."""

    def update(self, data: bytes | bytearray, /) -> None: ...

    def hexdigest(self) -> str: ...


@attrs.define
class _Drain:
    """The data that arrives on a stream.

    Attributes:
        digest: The hash of the data, None if none is computed.
        span: The measurement.
        received: The number of bytes.
        pauses: When each pause began, and its length in seconds.
        ended: Set at the end of the stream.
    """

    digest: _Digest | None
    span: Span = attrs.field(init=False)
    received: int = 0
    pauses: list[tuple[float, float]] = attrs.field(factory=list[tuple[float, float]])
    ended: trio.Event = attrs.field(factory=trio.Event)


class Streaming:
    """Commands for the streams of a streamer."""

    def __init__(self, streamer: Streamer, nursery: trio.Nursery) -> None:
        self._streamer = streamer
        self._nursery = nursery
        self._drain: _Drain | None = None
        self.commands: Final[dict[str, Command]] = {
            "drain": self.drain,
            "drained": self.end_drain,
            "feed": self.feed,
            "answer": self.answer,
            "ask": self.ask,
        }

    async def drain(self, arguments: Arguments) -> Answer:
        """Carry out ``drain``: read the next stream; with ``check=1`` compute its hash."""
        drain = _Drain(_hash(arguments))
        drain.span = Span(
            arguments.number("begin"), arguments.number("end"), lambda: drain.received
        )
        self._drain = drain
        self._nursery.start_soon(drain.span.watch)
        await self._nursery.start(self._streamer.serve, arguments, self._read)
        return {"ok": True}

    async def _read(self, stream: trio.abc.Stream) -> None:
        drain = self._drain
        if drain is None:
            raise CommandError("no stream is expected: call drain first")
        last = time.monotonic()
        async with stream:
            while data := await stream.receive_some():
                now = time.monotonic()
                if now - last > _PAUSE:
                    drain.pauses.append((last, now - last))
                last = now
                drain.received += len(data)
                if drain.digest is not None:
                    drain.digest.update(data)
        drain.ended.set()

    async def end_drain(self, arguments: Arguments) -> Answer:
        """Carry out ``drained``: wait for the end of the stream, and return its facts."""
        drain = self._drain
        if drain is None:
            raise CommandError("no stream was read")
        await drain.ended.wait()
        await drain.span.wait_watched()
        return {
            "received": drain.received,
            "digest": "" if drain.digest is None else drain.digest.hexdigest(),
            "pauses": drain.pauses,
            **drain.span.answer(),
        }

    async def feed(self, arguments: Arguments) -> Answer:
        """Carry out ``feed``: write a stream without pause until ``stop``, then end it.

        With ``check=1`` all blocks differ, and the answer has the hash of the stream.
        """
        digest = _hash(arguments)
        sent = 0
        span = Span(arguments.number("begin"), arguments.number("end"), lambda: sent)
        block = bytearray(payload("random", BLOCK))
        whole = bytes(block)
        stop = arguments.number("stop")
        broken: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(span.watch)
                stream = await self._streamer.connect(arguments)
                while time.monotonic() < stop:
                    if digest is not None:
                        _NUMBER.pack_into(block, 0, sent)
                        whole = bytes(block)
                        digest.update(whole)
                    await stream.send_all(whole)
                    sent += BLOCK
                await stream.aclose()
        except* trio.BrokenResourceError as errors:
            # An error raised here would leave in an exception group.
            broken = errors.exceptions[0]
        if broken is not None:
            raise CommandError(f"the stream broke: {broken}") from broken
        return {
            "sent": sent,
            "digest": "" if digest is None else digest.hexdigest(),
            **span.answer(),
        }

    async def answer(self, arguments: Arguments) -> Answer:
        """Carry out ``answer``: answer each request with its own data."""
        await self._nursery.start(self._streamer.answer, arguments)
        return {"ok": True}

    async def ask(self, arguments: Arguments) -> Answer:
        """Carry out ``ask``: send one request after the other for ``seconds``."""
        question = payload("random", arguments.integer("size", 100))
        samples: list[float] = []
        try:
            async with self._streamer.asking(arguments) as ask:
                cpu, began = cpu_seconds(), time.monotonic()
                until = began + arguments.number("seconds", 1.0)
                while (asked := time.perf_counter()) and time.monotonic() < until:
                    if await ask(question) != question:
                        raise CommandError("an answer was wrong")
                    samples.append(time.perf_counter() - asked)
                seconds, cpu = time.monotonic() - began, cpu_seconds() - cpu
        except trio.BrokenResourceError as error:
            raise CommandError(f"a request failed: {error}") from error
        return {
            "seconds": seconds,
            "cpu": cpu,
            "samples_us": [round(sample * 1e6, 1) for sample in samples],
        }


def _hash(arguments: Arguments) -> _Digest | None:
    return hashlib.sha256() if arguments.integer("check") else None
