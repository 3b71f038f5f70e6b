"""The server of a control socket.

::

    serve_control -> watch: the events of the handle, to the queue of each client that wants them
                  -> a client -> read requests, a few at a time -> answer each in its own task
                              -> push events
                  -> the program's functions for rekey and reload

A slow client delays only itself. A client that does not read is sent nothing more, and the events
it misses are counted. Further requests are not read while ``MAX_AT_ONCE`` are being answered. A
status is generated while it is sent. So the memory for a client is bounded by its events, one line
of a request, and a piece of each answer.
"""

from __future__ import annotations

import math
import os
import select
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Final, cast

import attrs
import trio

from knet_trio import Handle, __version__
from knet_trio._opening import opens
from knet_trio.control.codec import dump, to_json
from knet_trio.control.errors import ErrorCode
from knet_trio.control.event_queue import EventQueue, describe_event
from knet_trio.control.lines import PROTOCOL_VERSION, LineReader, LineTooLongError
from knet_trio.control.methods import Action, ControlMethods
from knet_trio.control.protocol import (
    MAX_AT_ONCE,
    MAX_CLIENTS,
    MAX_REQUEST,
    STUCK,
    ControlRequest,
    EventParameters,
    RequestRefusedError,
    answer_head,
    answer_line,
    check_method,
    error_line,
    event_line,
    parse_request,
    read_parameters,
)
from knet_trio.control.records import EVENT_TYPES, Hello
from knet_trio.control.socket_file import open_listener, peer_of

_PIECE: Final = 16384
# Seconds to send a client the reason why it is refused.
_FAREWELL: Final = 1.0
# Seconds between two checks whether a client that has shut down sending has hung up.
_HANG_UP_PERIOD: Final = 0.5
_EVENT_NAMES: Final = {kind: name for name, kind in EVENT_TYPES.items()}


@opens("serve_control(handle, path)")
async def serve_control(
    handle: Handle,
    path: str | os.PathLike[str],
    *,
    rekey: Action | None = None,
    reload: Action | None = None,
    name: str = "",
) -> AsyncGenerator[None]:
    """Serve ``handle`` to other processes at a Unix socket, while the block runs.

    The socket has mode 0600, and only root and the user of this process may connect. An existing
    socket that no program listens at is replaced. The directory is created if only the last part of
    its path is missing.

    ::

        async with open_handle(1) as handle, serve_control(handle, "/run/my-program/node.sock"):
            ...

    ``rekey`` and ``reload`` are functions of this program. They take the parameters of the request
    and return the result, both as JSON. A KnetError, OSError or ValueError that they raise is
    reported to the client; any other error is raised from the block. They go on if the client hangs
    up meanwhile.

    Args:
        handle: The handle, which should outlive the block.
        path: The path of the socket, up to 107 bytes.
        rekey: Changes the key of the cluster, None if this program does not offer that.
        reload: Reads the configuration again, None if this program does not offer that.
        name: The name of this host, which commands show; empty for none.

    Raises:
        ControlSocketError: Another program serves the path, a file of another type is there, or
            the system refuses.
    """
    async with open_listener(Path(path)) as listener, trio.open_nursery() as nursery:
        methods = ControlMethods(handle, nursery, {"rekey": rekey, "reload": reload})
        server = _Server(handle, methods, name)
        await nursery.start(server.watch)
        nursery.start_soon(server.serve, listener)
        yield
        nursery.cancel_scope.cancel()


class _Server:
    """Accepts clients, and passes the events on to them."""

    def __init__(self, handle: Handle, methods: ControlMethods, name: str) -> None:
        self._handle = handle
        self._methods = methods
        self._name = name
        self._queues: set[EventQueue] = set()
        self._clients: set[_Client] = set()

    async def watch(self, task_status: trio.TaskStatus[None]) -> None:
        """Pass each event to every client that wants events, until the handle ends."""
        async with self._handle.events() as events:
            task_status.started()
            async for event in events:
                if self._queues:
                    described = describe_event(self._handle, event)
                    for queue in self._queues:
                        queue.put(described)

    async def serve(self, listener: trio.SocketListener) -> None:
        """Accept clients until cancelled."""
        async with listener:
            await trio.serve_listeners(self._let_in, [listener])

    async def _let_in(self, stream: trio.SocketStream) -> None:
        async with stream:
            refusal = self._find_refusal(stream)
            if refusal is not None:
                await self._turn_away(stream, refusal)
                return
            client = _Client(self._handle, self._methods, self._name, stream, self._queues)
            self._clients.add(client)
            try:
                await client.serve()
            finally:
                self._clients.discard(client)

    async def _turn_away(self, stream: trio.SocketStream, refusal: RequestRefusedError) -> None:
        with trio.move_on_after(_FAREWELL):
            try:
                await _send_all(stream, error_line(None, refusal))
            except trio.BrokenResourceError:
                # The client has closed the connection itself.
                await trio.lowlevel.checkpoint()

    def _find_refusal(self, stream: trio.SocketStream) -> RequestRefusedError | None:
        """Return the reason to refuse a client, None to accept it."""
        uid, ours = peer_of(stream.socket).uid, os.geteuid()
        if uid not in (0, ours):
            return RequestRefusedError(
                ErrorCode.NOT_ALLOWED,
                f"user {uid} may not connect to this program: run this as root or as user {ours}",
            )
        if len(self._clients) < MAX_CLIENTS:
            return None
        slowest = min(self._clients, key=lambda client: client.sending_since)
        if trio.current_time() - slowest.sending_since < STUCK:
            return RequestRefusedError(
                ErrorCode.TOO_MANY_CLIENTS,
                f"{MAX_CLIENTS} clients are connected, the most at once: close one first",
            )
        # The slowest client does not read its answers: it makes room.
        self._clients.discard(slowest)
        slowest.scope.cancel()
        return None


@attrs.define(eq=False)
class _Client:
    """The connection of a client.

    Attributes:
        scope: Cancelled to end the connection.
        sending_since: The time since when a line is being sent, infinite while none is.
    """

    _handle: Handle
    _methods: ControlMethods
    _name: str
    _stream: trio.SocketStream
    _queues: set[EventQueue]
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    sending_since: float = math.inf
    _sending: trio.Lock = attrs.field(factory=trio.Lock)
    _at_once: trio.Semaphore = attrs.field(factory=lambda: trio.Semaphore(MAX_AT_ONCE))
    _queue: EventQueue = attrs.field(factory=EventQueue)
    _pushes: bool = False

    async def serve(self) -> None:
        """Answer requests and push events until the client hangs up."""
        hello = Hello(
            knet_trio_control=PROTOCOL_VERSION,
            package=__version__,
            host_id=self._handle.host_id,
            pid=os.getpid(),
            methods=tuple(sorted(["events", *self._methods.names])),
            name=self._name,
        )
        with self.scope:
            try:
                async with trio.open_nursery() as nursery:
                    await self._send(dump(to_json(hello)) + "\n")
                    async with trio.open_nursery() as answers:
                        await self._read(answers, nursery)
                        nursery.start_soon(self._watch_hang_up)
                    nursery.cancel_scope.cancel()
            finally:
                self._queues.discard(self._queue)

    async def _read(self, answers: trio.Nursery, pushing: trio.Nursery) -> None:
        """Read requests until there are no more, and start a task to answer each."""
        reader = LineReader(self._stream, MAX_REQUEST)
        while True:
            try:
                line = await reader.read()
                if line is None:
                    return
                request = parse_request(line)
            except LineTooLongError:
                refusal = RequestRefusedError(
                    ErrorCode.LINE_TOO_LONG, f"a request may have {MAX_REQUEST} bytes at most"
                )
                await self._send(error_line(None, refusal))
                return
            except RequestRefusedError as refusal:
                await self._send(error_line(None, refusal))
                return
            except trio.BrokenResourceError:
                # The client is gone and reads no answers.
                self.scope.cancel()
                return
            await self._at_once.acquire()
            answers.start_soon(self._answer, request, pushing)

    async def _watch_hang_up(self) -> None:
        """End the connection when the client has hung up, not only shut down sending."""
        poll = select.poll()
        # With an empty event mask, poll reports only errors and hang-ups.
        poll.register(self._stream.socket, 0)
        while not poll.poll(0):  # noqa: ASYNC110  # Trio waits for no such event
            await trio.sleep(_HANG_UP_PERIOD)
        self.scope.cancel()

    async def _answer(self, request: ControlRequest, pushing: trio.Nursery) -> None:
        try:
            result: object = None
            if request.method == "events":
                self._switch_events(request, pushing)
            else:
                result = await self._methods.call(request)
            if isinstance(result, AsyncGenerator):
                await self._stream_answer(request, cast("AsyncGenerator[str]", result))
            else:
                await self._send(answer_line(request.request_id, result))
        except RequestRefusedError as refusal:
            await self._send(error_line(request.request_id, refusal))
        finally:
            self._at_once.release()

    async def _stream_answer(self, request: ControlRequest, pieces: AsyncGenerator[str]) -> None:
        """Send an answer while it is generated."""
        async with aclosing(pieces), self._sending:
            text = answer_head(request.request_id)
            async for piece in pieces:
                text += piece
                if len(text) >= _PIECE:
                    await self._send_unlocked(text)
                    text = ""
            await self._send_unlocked(text + "}\n")

    # Events.

    def _switch_events(self, request: ControlRequest, pushing: trio.Nursery) -> None:
        """Send events from now on, or none any more."""
        parameters = read_parameters(check_method(request), request)
        assert isinstance(parameters, EventParameters)
        if not parameters.on:
            self._queues.discard(self._queue)
            self._queue.clear()
            return
        self._queues.add(self._queue)
        if not self._pushes:
            self._pushes = True
            pushing.start_soon(self._push)

    async def _push(self) -> None:
        """Send the events of the queue until cancelled."""
        while True:
            event = await self._queue.take()
            await self._send(event_line(_EVENT_NAMES[type(event)], event))

    # Sending.

    async def _send(self, line: str) -> None:
        async with self._sending:
            await self._send_unlocked(line)

    async def _send_unlocked(self, text: str) -> None:
        self.sending_since = trio.current_time()
        try:
            await _send_all(self._stream, text)
        except trio.BrokenResourceError:
            self.scope.cancel()
            # The cancellation of the scope is raised here.
            await trio.lowlevel.checkpoint()
        finally:
            self.sending_since = math.inf


async def _send_all(stream: trio.SocketStream, text: str) -> None:
    await stream.send_all(text.encode("ascii"))
