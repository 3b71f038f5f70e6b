"""The client of a control socket, for Trio programs."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar, final

import attrs
import trio

from knet_trio import HandleDiagnosis, HandleStatistics, LinkDiagnosis, LinkStatistics
from knet_trio._constructors import NoPublicConstructor, construct
from knet_trio.control.codec import Json, MisfitError, dump, from_json, load
from knet_trio.control.errors import (
    ControlProtocolError,
    ControlRequestError,
    ControlSocketError,
    ErrorCode,
)
from knet_trio.control.event_queue import EventQueue
from knet_trio.control.lines import PROTOCOL_VERSION, LineReader, LineTooLongError
from knet_trio.control.records import (
    EVENT_TYPES,
    ControlEvent,
    Explanation,
    HandleMetrics,
    HandleReport,
    Hello,
    HostPing,
    LinkHistory,
    LoopReport,
    PathReport,
)
from knet_trio.control.socket_file import check_path

T = TypeVar("T")

MAX_ANSWER: Final = 256 * 1024 * 1024
"""Bytes of an answer at most: 65536 hosts with a link each fit."""

_WHY: Final = {
    errno.ENOENT: "there is no such socket: does the program run, and serve this path?",
    errno.ECONNREFUSED: "nobody listens there: the program that made it has ended",
    errno.EACCES: "it is another user's: be that user, or root",
    errno.ENOTSOCK: "it is no socket",
}


@attrs.define(eq=False)
class _AwaitedAnswer:
    """A request that waits for its answer."""

    over: trio.Event = attrs.field(factory=trio.Event)
    answer: dict[str, Any] | None = None


@final
class ControlClient(metaclass=NoPublicConstructor):
    """A connection to a program that serves its handle. ``connect_control`` makes it.

    Several tasks may use it at once. When the program ends or closes the connection, whoever waits
    gets ``trio.BrokenResourceError``. A call that is cancelled may have been carried out.

    Attributes:
        hello: What the program said of itself.
    """

    _MADE_BY = "knet_trio.control.connect_control()"

    def __init__(self, hello: Hello, outbox: trio.MemorySendChannel[bytes]) -> None:
        self.hello = hello
        self._outbox = outbox
        self._pending: dict[int, _AwaitedAnswer] = {}
        self._last_id = 0
        self._listeners: set[EventQueue] = set()
        self._why_lost: str | None = None
        self._switching = trio.Lock()

    async def status(self) -> HandleReport:
        """Return the state of the handle, its hosts and their links."""
        return _decode(HandleReport, await self.request("status"))

    async def metrics(self) -> HandleMetrics:
        """Return what can be measured of the handle, its hosts and their links."""
        return _decode(HandleMetrics, await self.request("metrics"))

    async def statistics(self) -> HandleStatistics:
        """Return the counters of the handle."""
        return _decode(HandleStatistics, await self.request("statistics"))

    async def link_statistics(self, host: int | str, link: int) -> LinkStatistics:
        """Return the counters of a link."""
        return _decode(LinkStatistics, await self.request("statistics", host=host, link=link))

    async def explain(self, host: int | str | None = None, link: int | None = None) -> str:
        """Return why the handle, a host or a link is as it is, in words."""
        answer = await self.request("explain", host=host, link=link)
        return _decode(Explanation, answer).text

    async def history(self, host: int | str, link: int) -> LinkHistory:
        """Return when a link went up and down last, and why."""
        return _decode(LinkHistory, await self.request("history", host=host, link=link))

    async def set(
        self, name: str, value: Json, *, host: int | str | None = None, link: int | None = None
    ) -> Json:
        """Change a setting of the handle, a host or a link, and return its value from then on.

        ``docs/control-protocol.md`` has their names.
        """
        return await self.request("set", name=name, value=value, host=host, link=link)

    async def ping(
        self,
        host: int | str,
        link: int | None = None,
        *,
        count: int = 1,
        interval: float = 1.0,
    ) -> HostPing:
        """Ping a host over one link or all of them, and wait for the pongs.

        Args:
            host: Its id or its name.
            link: The id of the only link, None for all.
            count: How many pings over each, up to 1000.
            interval: Seconds from one to the next.
        """
        answer = await self.request("ping", host=host, link=link, count=count, interval=interval)
        return _decode(HostPing, answer)

    async def diagnose(self) -> HandleDiagnosis:
        """Return what may be wrong with the handle."""
        return _decode(HandleDiagnosis, await self.request("diagnose"))

    async def diagnose_link(self, host: int | str, link: int) -> LinkDiagnosis:
        """Return what may be wrong with a link."""
        return _decode(LinkDiagnosis, await self.request("diagnose", host=host, link=link))

    async def discover_mtu(self, host: int | str, link: int) -> int:
        """Have the path MTU of a link searched for, and return the bytes that a packet carries."""
        return _decode(PathReport, await self.request("discover_mtu", host=host, link=link)).mtu

    async def observe(self, seconds: float) -> LoopReport:
        """Have the program look for so long how late its event loop comes round."""
        return _decode(LoopReport, await self.request("observe", seconds=seconds))

    async def rekey(self, **parameters: Json) -> Json:
        """Have the program change the key of the cluster, if it offers that."""
        return await self.request("rekey", **parameters)

    async def reload(self, **parameters: Json) -> Json:
        """Have the program read its configuration again, if it offers that."""
        return await self.request("reload", **parameters)

    async def request(self, method: str, **parameters: Json) -> Json:
        """Send any request and return its result as JSON has it.

        Raises:
            ControlRequestError: The program answered with an error.
            trio.BrokenResourceError: The connection was lost.
        """
        self._check()
        self._last_id += 1
        request_id = self._last_id
        pending = self._pending[request_id] = _AwaitedAnswer()
        try:
            line = dump({"id": request_id, "method": method, "params": parameters}) + "\n"
            try:
                await self._outbox.send(line.encode("ascii"))
            except trio.BrokenResourceError:
                self._check()
                raise
            await pending.over.wait()
        finally:
            del self._pending[request_id]
        if pending.answer is None:
            raise trio.BrokenResourceError(self._why_lost)
        if "error" in pending.answer:
            raise _request_error(pending.answer["error"])
        result: Json = pending.answer.get("result")
        return result

    @asynccontextmanager
    async def events(self) -> AsyncGenerator[ControlEvents]:
        """Receive everything that happens from now on.

        ::

            async with client.events() as events:
                async for event in events:
                    ...

        A slow reader loses the oldest events, and receives a MissedEvents that says how many.
        """
        queue = EventQueue()
        async with self._switching:
            self._listeners.add(queue)
            try:
                if len(self._listeners) == 1:
                    await self.request("events")
            except BaseException:
                self._listeners.discard(queue)
                raise
        try:
            yield construct(ControlEvents, queue)
        finally:
            self._listeners.discard(queue)
            if not self._listeners and self._why_lost is None:
                # What comes until then is of use to nobody, and is dropped.
                with trio.CancelScope(shield=True), trio.move_on_after(1.0):
                    await self._stop_events()

    async def _stop_events(self) -> None:
        async with self._switching:
            if not self._listeners:
                try:
                    await self.request("events", on=False)
                except trio.BrokenResourceError:
                    await trio.lowlevel.checkpoint()

    # What arrives.

    def take_line(self, line: bytes) -> None:
        """For the package itself: act on a line that the program sent.

        Raises:
            ControlProtocolError: It is none that a program sends.
        """
        try:
            message = load(line)
        except MisfitError as error:
            raise ControlProtocolError(f"the other side sent no JSON: {error}") from None
        if not isinstance(message, dict):
            raise ControlProtocolError("the other side sent something that is no object")
        kind = message.get("event")
        if isinstance(kind, str):
            # A later release may have others.
            if kind in EVENT_TYPES:
                event = _decode(EVENT_TYPES[kind], message)
                for queue in self._listeners:
                    queue.put(event)
            return
        request_id = message.get("id")
        if request_id is None and "error" in message:
            raise _request_error(message["error"])
        pending = self._pending.get(request_id) if type(request_id) is int else None
        if pending is not None:
            pending.answer = message
            pending.over.set()

    def lose(self, why: str) -> None:
        """For the package itself: the connection was lost."""
        self._why_lost = why
        for pending in self._pending.values():
            pending.over.set()
        for queue in self._listeners:
            queue.end(why)

    def _check(self) -> None:
        if self._why_lost is not None:
            raise trio.BrokenResourceError(self._why_lost)


@final
class ControlEvents(metaclass=NoPublicConstructor):
    """The events of a program's handle. ``ControlClient.events`` makes it."""

    _MADE_BY = "ControlClient.events()"

    def __init__(self, queue: EventQueue) -> None:
        self._queue = queue

    async def receive(self) -> ControlEvent:
        """Wait for the next event and take it.

        Raises:
            trio.BrokenResourceError: The connection was lost.
        """
        return await self._queue.take()

    def __aiter__(self) -> ControlEvents:
        return self

    async def __anext__(self) -> ControlEvent:
        return await self.receive()


@asynccontextmanager
async def connect_control(path: str | os.PathLike[str]) -> AsyncGenerator[ControlClient]:
    """Connect to a program that serves its handle by ``serve_control``.

    ::

        async with connect_control("/run/my-program/node.sock") as client:
            print(await client.explain())

    Args:
        path: The socket. ``find_control_sockets`` finds those in the usual places.

    Raises:
        ControlSocketError: There is nobody to talk to, and why.
        ControlRequestError: The program does not let this user, or one more client, in.
        ControlProtocolError: It speaks another version of the protocol.
    """
    stream = await _connect(Path(path))
    async with stream:
        reader = LineReader(stream, MAX_ANSWER)
        hello = await _receive_hello(reader, Path(path))
        outbox, lines = trio.open_memory_channel[bytes](0)
        client = construct(ControlClient, hello, outbox)
        async with trio.open_nursery() as nursery, outbox:
            nursery.start_soon(_send_lines, lines, stream)
            nursery.start_soon(_read_lines, reader, client)
            yield client
            nursery.cancel_scope.cancel()


async def _connect(path: Path) -> trio.SocketStream:
    text = check_path(path)
    sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    try:
        await sock.connect(text)
    except OSError as error:
        sock.close()
        number = _find_errno(error, text)
        why = _WHY.get(number, os.strerror(number))
        raise ControlSocketError(f"cannot connect to {path}: {why}", errno=number) from None
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


def _find_errno(error: OSError, path: str) -> int:
    """Return why it cannot be connected to a path."""
    number = error.errno or 0
    # To the system a file of another type is one more socket that nobody listens at.
    return errno.ENOTSOCK if number == errno.ECONNREFUSED and not Path(path).is_socket() else number


async def _receive_hello(reader: LineReader, path: Path) -> Hello:
    try:
        line = await reader.read()
        if line is None:
            raise ControlSocketError(f"the program at {path} hung up without a word")
        message = load(line)
    except trio.BrokenResourceError:
        raise ControlSocketError(f"the program at {path} hung up without a word") from None
    except (MisfitError, LineTooLongError):
        raise ControlProtocolError(f"what listens at {path} is no knet_trio program") from None
    if isinstance(message, dict) and "error" in message:
        raise _request_error(message["error"])
    version = message.get("knet_trio_control") if isinstance(message, dict) else None
    if version != PROTOCOL_VERSION:
        spoken = "no version" if version is None else f"version {dump(version)}"
        raise ControlProtocolError(
            f"what listens at {path} speaks {spoken} of the control protocol, and this release"
            f" {PROTOCOL_VERSION}: use the knet_trio that the program uses"
        )
    return _decode(Hello, message)


async def _send_lines(lines: trio.MemoryReceiveChannel[bytes], stream: trio.SocketStream) -> None:
    """Send lines, each whole, whatever becomes of those who wait for the answers."""
    async with lines:
        async for line in lines:
            try:
                await stream.send_all(line)
            except trio.BrokenResourceError:
                # Reading ends as well, and says so to all.
                return


async def _read_lines(reader: LineReader, client: ControlClient) -> None:
    why = "the program has closed the connection"
    try:
        while (line := await reader.read()) is not None:
            client.take_line(line)
    except (ControlProtocolError, ControlRequestError) as error:
        why = str(error)
    except LineTooLongError:
        why = f"the program has sent a line of more than {MAX_ANSWER} bytes"
    except trio.BrokenResourceError:
        why = "the connection was lost"
    client.lose(why)


def _decode(kind: type[T], value: Json) -> T:
    try:
        return from_json(kind, value, "the answer")
    except MisfitError as error:
        raise ControlProtocolError(f"the other side sent no {kind.__name__}: {error}") from None


def _request_error(error: Json) -> ControlRequestError:
    parts = error if isinstance(error, dict) else {}
    code, message = parts.get("code"), parts.get("message")
    return ControlRequestError(
        code if isinstance(code, str) else ErrorCode.REFUSED.value,
        message if isinstance(message, str) else "the other side gave no reason",
    )
