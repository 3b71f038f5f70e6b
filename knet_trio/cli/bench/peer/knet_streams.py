"""The streams of knet_trio's peer: ``knet_trio.streams`` over its handles."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

from knet_trio import Handle
from knet_trio.cli.bench.peer.commands import Answer, Arguments, Command, CommandError
from knet_trio.cli.bench.peer.handles import OpenHandles
from knet_trio.cli.bench.peer.payload import payload
from knet_trio.cli.bench.peer.streaming import Ask, Handler, Streaming
from knet_trio.streams import RequestReceiver, Streams, open_streams

_CHANNEL: Final = 7


class KnetStreams:
    """Commands for streams, requests and acknowledged messages of the handles.

    The other host of a handle is the one that ``to`` names.
    """

    def __init__(
        self, handles: OpenHandles, nursery: trio.Nursery, channel: int = _CHANNEL
    ) -> None:
        self._handles = handles
        self._channel = channel
        self._nursery = nursery
        self._opened: dict[int, Streams] = {}
        self.commands: Final[dict[str, Command]] = {
            **Streaming(self, nursery).commands,
            "hear": self.hear,
            "tell": self.tell,
        }

    async def _find(self, arguments: Arguments) -> Streams:
        """Return the streams of a handle, which its first command opens."""
        handle = self._handles.find(arguments).handle
        if handle.host_id not in self._opened:
            self._opened[handle.host_id] = await self._nursery.start(_hold, handle, self._channel)
        return self._opened[handle.host_id]

    async def connect(self, arguments: Arguments) -> trio.abc.Stream:
        """Open a stream to the host."""
        return await (await self._find(arguments)).connect(arguments.integer("to"))

    async def serve(
        self,
        arguments: Arguments,
        handler: Handler,
        task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Call ``handler`` with each stream that a host opens."""
        streams = await self._find(arguments)
        async with streams.listener() as listener:
            await trio.serve_listeners(handler, [listener], task_status=task_status)

    async def answer(
        self,
        arguments: Arguments,
        task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer requests, in the task that receives them."""
        streams = await self._find(arguments)
        async with streams.requests() as requests:
            task_status.started(None)
            await _answer_all(requests)

    @asynccontextmanager
    async def asking(self, arguments: Arguments) -> AsyncGenerator[Ask]:
        """Yield a function that sends a request to the host."""
        streams = await self._find(arguments)
        yield partial(streams.request, arguments.integer("to"))

    async def hear(self, arguments: Arguments) -> Answer:
        """Carry out ``hear``: receive acknowledged messages."""
        await self._nursery.start(self._hear, arguments)
        return {"ok": True}

    async def _hear(self, arguments: Arguments, task_status: trio.TaskStatus[None]) -> None:
        streams = await self._find(arguments)
        async with streams.messages() as messages:
            task_status.started()
            async for _ in messages:
                pass

    async def tell(self, arguments: Arguments) -> Answer:
        """Carry out ``tell``: send messages for ``seconds``, in ``tasks`` tasks."""
        streams = await self._find(arguments)
        to = arguments.integer("to")
        message = payload("random", arguments.integer("size", 100))
        sent = 0
        began = time.monotonic()
        until = began + arguments.number("seconds", 1.0)

        async def send_on() -> None:
            nonlocal sent
            while time.monotonic() < until:
                await streams.send(to, message)
                sent += 1

        broken: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(arguments.integer("tasks", 1)):
                    nursery.start_soon(send_on)
        except* trio.BrokenResourceError as errors:
            # An error raised here would leave in an exception group.
            broken = errors.exceptions[0]
        if broken is not None:
            raise CommandError(f"a message failed: {broken}") from broken
        return {"count": sent, "seconds": time.monotonic() - began}


async def _hold(handle: Handle, channel: int, task_status: trio.TaskStatus[Streams]) -> None:
    async with open_streams(handle, channel=channel) as streams:
        task_status.started(streams)
        await trio.sleep_forever()


async def _answer_all(requests: RequestReceiver) -> None:
    async for request in requests:
        await request.answer(request.data)
