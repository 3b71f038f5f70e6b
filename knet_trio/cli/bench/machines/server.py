"""The server, which carries out the commands of one client at a time."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final, cast

import attrs
import trio

from knet_trio import Handle, Host, KnetError
from knet_trio.cli.bench.machine import Machine
from knet_trio.cli.bench.machines.place import Place
from knet_trio.cli.bench.machines.protocol import (
    MAX_SIZE,
    PATIENCE,
    ProtocolError,
    decode,
    encode,
)
from knet_trio.cli.bench.machines.side import TROUBLE, Side, open_side
from knet_trio.cli.bench.process import BenchError
from knet_trio.cli.ending import describe_error, first_of
from knet_trio.cluster import open_cluster
from knet_trio.streams import HostRequest, open_streams

Say = Callable[..., None]

_OVER: Final = "the server has ended the session"
_ENDED: Final = "the server has been ended"
# Seconds to wait for the last answers, and between checks for them.
_END_LIMIT: Final = 1.0
_POLL: Final = 0.01
_TOKEN_BYTES: Final = 16


class BenchServer:
    """The sessions of the server. Made and run by ``serve``."""

    def __init__(
        self, place: Place, handle: Handle, machine: Machine, nursery: trio.Nursery, say: Say
    ) -> None:
        self._place = place
        self._handle = handle
        self._machine = machine
        self._nursery = nursery
        self._say = say
        self._session: ClientSession | None = None
        self._unanswered: set[HostRequest] = set()

    async def take(self, request: HostRequest) -> None:
        """Answer a request."""
        self._unanswered.add(request)
        try:
            async with request:
                await request.answer(encode(await self._answer(request)))
        except trio.BrokenResourceError:
            # The client has gone and does not wait for the answer; `_watch` reports that.
            return
        finally:
            self._unanswered.discard(request)

    async def wait_answered(self) -> None:
        """Wait a moment until all requests are answered."""
        with trio.move_on_after(_END_LIMIT):
            while self._unanswered:  # noqa: ASYNC110  # asked once, at the end
                await trio.sleep(_POLL)

    async def _answer(self, request: HostRequest) -> dict[str, Any]:
        try:
            message = decode(request.data)
        except ProtocolError as error:
            self._say("refused", f"host {request.source} is refused: {error}", host=request.source)
            return {"error": str(error)}
        match message.get("do"):
            case "hello":
                return self._begin(request.source, str(message.get("knet_trio")))
            case _ if self._session is None or message.get("session") != self._session.name:
                return {"error": _OVER, "over": True}
            case "bye":
                self._end(self._session, "is done")
                return {}
            case "watch":
                session = self._session
                await session.over.wait()
                return {"error": session.why, "over": True}
            case _:
                return await self._session.answer(message)

    def _begin(self, source: int, version: str) -> dict[str, Any]:
        session = self._session
        # A client that begins again has lost its session.
        if session is not None and session.host.host_id != source:
            return {
                "error": f"the server is busy with {session.host.name}, and serves one client at a"
                " time: try again later"
            }
        if session is not None:
            self._end(session, "began again")
        host = self._handle.get_host(source)
        self._session = session = ClientSession(self._place, self._handle, host)
        self._nursery.start_soon(self._watch, session)
        self._say("begun", f"{host.name} begins, with knet_trio {version}", host=source)
        return {"session": session.name, "machine": attrs.asdict(self._machine)}

    async def _watch(self, session: ClientSession) -> None:
        """Run a session until it ends, or its host becomes unreachable."""
        with session.scope:
            async with trio.open_nursery() as nursery:
                session.nursery = nursery
                await session.host.wait_unreachable()
                self._end(session, "has vanished")

    def end(self) -> None:
        """Notify the client that the server ends."""
        if self._session is not None:
            self._end(self._session, "is notified that the server ends", _ENDED)

    def _end(self, session: ClientSession, how: str, why: str = _OVER) -> None:
        session.why = why
        session.over.set()
        session.scope.cancel()
        if self._session is session:
            self._session = None
            self._say("ended", f"{session.host.name} {how}", host=session.host.host_id)


@attrs.define(eq=False)
class _Case:
    """An open case.

    Attributes:
        side: This side of the case.
        scope: Cancels the case.
        calls: The scopes of the calls that are carried out.
        closed: Set when the case is closed.
        trouble: Why the case is closed.
    """

    side: Side
    scope: trio.CancelScope
    calls: set[trio.CancelScope] = attrs.field(factory=set[trio.CancelScope])
    closed: trio.Event = attrs.field(factory=trio.Event)
    trouble: str = "the case is over"


class ClientSession:
    """The session of a client: its cases, one after the other.

    Attributes:
        name: The name of the session, which all its requests have.
        host: The host of the client.
        scope: Cancels the tasks of the session.
        over: Set when the session has ended.
        why: Why the session has ended.
        nursery: The nursery of its tasks, None until it runs.
    """

    def __init__(self, place: Place, handle: Handle, host: Host) -> None:
        self.name: str = secrets.token_hex(_TOKEN_BYTES)
        self.host = host
        self.scope: trio.CancelScope = trio.CancelScope()
        self.over: trio.Event = trio.Event()
        self.why = _OVER
        self.nursery: trio.Nursery | None = None
        self._place = place
        self._handle = handle
        self._case: _Case | None = None

    async def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Carry out a request of the client, and return the answer."""
        match message:
            case {"do": "open"}:
                await self._close()
                # The session may have ended in the meantime.
                if self.nursery is not None and not self.over.is_set():
                    self._case = await self.nursery.start(self._hold)
                return {}
            case {"do": "close"}:
                await self._close()
                return {}
            case {"do": "call", "command": str(command)}:
                return await self._call(command, message.get("arguments"))
            case _:
                return {"error": f"the server cannot do {message.get('do')!r}"}

    async def _hold(self, task_status: trio.TaskStatus[_Case]) -> None:
        """Hold a case open until it is closed, or fails."""
        case: _Case | None = None
        channels = self._place.channels
        try:
            with trio.CancelScope() as scope:
                async with open_side(self._handle, self.host, channels) as side:
                    case = _Case(side, scope)
                    task_status.started(case)
                    try:
                        await trio.sleep_forever()
                    finally:
                        # Before the channels that the calls use are closed.
                        for call in case.calls:
                            call.cancel()
        except* TROUBLE as errors:
            # The client may have gone in the middle of a stream.
            if case is None:
                raise
            case.trouble = str(first_of(errors))
        finally:
            if case is not None:
                if self.over.is_set():
                    case.trouble = self.why
                case.closed.set()

    async def _close(self) -> None:
        case, self._case = self._case, None
        if case is not None:
            case.scope.cancel()
            await case.closed.wait()

    async def _call(self, command: str, given: object) -> dict[str, Any]:
        case, arguments = self._case, cast("dict[str, object]", given)
        if not isinstance(given, dict):
            return {"error": "a call needs arguments"}
        if case is None or case.closed.is_set():
            return {"error": "no case is open" if case is None else case.trouble}
        failed: BaseException | None = None
        with trio.CancelScope() as scope:
            case.calls.add(scope)
            try:
                return dict(await case.side.carry_out(command, arguments))
            except* (*TROUBLE, trio.ClosedResourceError) as errors:
                # The channels that it uses are closed when the client has gone.
                failed = first_of(errors)
            finally:
                case.calls.discard(scope)
        if failed is not None:
            return {"error": f"{command}: {failed}"}
        # The reason is known when the case is closed.
        await case.closed.wait()
        return {"error": case.trouble}


async def serve(place: Place, say: Say) -> None:
    """Serve clients, one after the other, until cancelled.

    Args:
        place: The hosts and links.
        say: Called with the name of each event, a line for people, and more facts.

    Raises:
        BenchError: The handle or its links cannot be opened.
    """
    failed: list[BenchError] = []
    ending, ended = trio.Event(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_serve, place, say, ending, ended, failed)
        try:
            await ended.wait()
        finally:
            ending.set()
    for error in failed:
        raise error


async def _serve(
    place: Place,
    say: Say,
    ending: trio.Event,
    ended: trio.Event,
    failed: list[BenchError],
) -> None:
    """Serve until ``ending`` is set, then notify the client, which may wait for an answer."""
    machine = Machine.look()
    with trio.CancelScope(shield=True):
        try:
            async with (
                open_cluster(place.cluster, host=place.me.host_id) as handle,
                open_streams(
                    handle, channel=place.service_channel, patience=PATIENCE, max_size=MAX_SIZE
                ) as streams,
                streams.requests() as requests,
                trio.open_nursery() as nursery,
            ):
                server = BenchServer(place, handle, machine, nursery, say)

                async def take_all() -> None:
                    async for request in requests:
                        nursery.start_soon(server.take, request)

                nursery.start_soon(take_all)
                say("serving", f"serving as {place.describe_host(place.me)}; Ctrl-C ends it")
                await ending.wait()
                server.end()
                await server.wait_answered()
                nursery.cancel_scope.cancel()
        except KnetError as error:
            # Raised before serving began; later errors come in exception groups.
            failed.append(BenchError(describe_error(error)))
        finally:
            ended.set()
