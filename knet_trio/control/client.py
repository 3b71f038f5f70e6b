"""The client of a control socket, for Trio programs."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final, TypeVar, final

import attrs
import trio

from knet_trio import HandleDiagnosis, HandleStatistics, LinkDiagnosis, LinkStatistics
from knet_trio._constructors import NoPublicConstructor, construct
from knet_trio._opening import opens
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
"""The longest answer in bytes: 65536 hosts with a link each fit."""

_WHY: Final = {
    errno.ENOENT: "there is no such socket: check that the program runs and serves this path",
    errno.ECONNREFUSED: "no program listens there: the one that made the socket has ended",
    errno.EACCES: "it belongs to another user: run this as that user or as root",
    errno.ENOTSOCK: "it is not a socket",
}


@attrs.define(eq=False)
class _AwaitedAnswer:
    """A request that waits for its answer."""

    over: trio.Event = attrs.field(factory=trio.Event)
    answer: dict[str, Any] | None = None


@final
class ControlClient(metaclass=NoPublicConstructor):
    """A connection to a program that serves its handle. Returned by ``connect_control``.

    Several tasks may use the client at once. Every method may raise these errors:

    - ``ControlRequestError``: the program answered with an error
    - ``ControlProtocolError``: the answer is not valid
    - ``trio.BrokenResourceError``: the program has ended or closed the connection

    Cancelling a call does not undo it: the program may have carried it out.

    Attributes:
        hello: The first line of the program: its versions, host id, process id and methods.
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
        """Return the metrics of the handle, its hosts and their links."""
        return _decode(HandleMetrics, await self.request("metrics"))

    async def statistics(self) -> HandleStatistics:
        """Return the counters of the handle."""
        return _decode(HandleStatistics, await self.request("statistics"))

    async def link_statistics(self, host: int | str, link: int) -> LinkStatistics:
        """Return the counters of a link.

        Args:
            host: The id or the name of the host.
            link: The id of the link.
        """
        return _decode(LinkStatistics, await self.request("statistics", host=host, link=link))

    async def explain(self, host: int | str | None = None, link: int | None = None) -> str:
        """Return an explanation of the state of the handle, a host or a link, for people.

        Args:
            host: The id or the name of a host, None for the handle.
            link: The id of a link to that host, None for the host.
        """
        answer = await self.request("explain", host=host, link=link)
        return _decode(Explanation, answer).text

    async def history(self, host: int | str, link: int) -> LinkHistory:
        """Return when a link last went up and down, and why.

        Args:
            host: The id or the name of the host.
            link: The id of the link.
        """
        return _decode(LinkHistory, await self.request("history", host=host, link=link))

    async def set(
        self, name: str, value: Json, *, host: int | str | None = None, link: int | None = None
    ) -> Json:
        """Change a setting of the handle, a host or a link.

        Args:
            name: The name of the setting. ``docs/control-protocol.md`` lists them.
            value: The new value.
            host: The id or the name of a host, None for a setting of the handle.
            link: The id of a link to that host, None for a setting of the host.

        Returns:
            The new value.
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
            host: The id or the name of the host.
            link: The id of a link, None for all links.
            count: The number of pings over each link, 1 to 1000.
            interval: Seconds between two pings, 0.01 to 3600.

        Returns:
            The results, for each link.
        """
        answer = await self.request("ping", host=host, link=link, count=count, interval=interval)
        return _decode(HostPing, answer)

    async def diagnose(self) -> HandleDiagnosis:
        """Return possible faults of the handle."""
        return _decode(HandleDiagnosis, await self.request("diagnose"))

    async def diagnose_link(self, host: int | str, link: int) -> LinkDiagnosis:
        """Return possible faults of a link.

        Args:
            host: The id or the name of the host.
            link: The id of the link.
        """
        return _decode(LinkDiagnosis, await self.request("diagnose", host=host, link=link))

    async def discover_mtu(self, host: int | str, link: int) -> int:
        """Make the program search for the path MTU of a link now, and wait for the result.

        Args:
            host: The id or the name of the host.
            link: The id of the link.

        Returns:
            The bytes of a message that fit in one packet; 0 if the link is down or carries no data.
        """
        return _decode(PathReport, await self.request("discover_mtu", host=host, link=link)).mtu

    async def observe(self, seconds: float) -> LoopReport:
        """Make the program measure how late its event loop runs, and wait for the result.

        Args:
            seconds: How long to observe, in seconds, 0.1 to 60.
        """
        return _decode(LoopReport, await self.request("observe", seconds=seconds))

    async def rekey(self, **parameters: Json) -> Json:
        """Make the program change the key of the cluster, if it offers that.

        Args:
            **parameters: The parameters, passed to the program unchanged.

        Returns:
            The result of the program.
        """
        return await self.request("rekey", **parameters)

    async def reload(self, **parameters: Json) -> Json:
        """Make the program read its configuration again, if it offers that.

        Args:
            **parameters: The parameters, passed to the program unchanged.

        Returns:
            The result of the program.
        """
        return await self.request("reload", **parameters)

    async def request(self, method: str, **parameters: Json) -> Json:
        """Send a request and wait for its result.

        Args:
            method: The name of the method.
            **parameters: The parameters of the method.

        Returns:
            The result, as JSON.

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

    @opens("client.events() as events")
    async def events(self) -> AsyncGenerator[ControlEvents]:
        """Receive the events of the handle from now on, while the block runs.

        ::

            async with client.events() as events:
                async for event in events:
                    ...

        If the reader is too slow, the oldest events are dropped, and a ``MissedEvents`` with their
        number is received instead.

        Yields:
            The events, an async iterator.
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
                # Events that arrive before the answer are dropped.
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
        """Handle a line that the program sent. For internal use.

        Raises:
            ControlProtocolError: The line is not valid.
            ControlRequestError: The program ended the connection with an error.
        """
        try:
            message = load(line)
        except MisfitError as error:
            raise ControlProtocolError(f"the other side sent invalid JSON: {error}") from None
        if not isinstance(message, dict):
            raise ControlProtocolError("the other side sent a line that is not a JSON object")
        kind = message.get("event")
        if isinstance(kind, str):
            # A later release may have other events.
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
        """Make all waiting calls fail, since the connection was lost. For internal use."""
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
    """The events of a program's handle. Returned by ``ControlClient.events``."""

    _MADE_BY = "ControlClient.events()"

    def __init__(self, queue: EventQueue) -> None:
        self._queue = queue

    async def receive(self) -> ControlEvent:
        """Wait for the next event and return it.

        Raises:
            trio.BrokenResourceError: The connection was lost.
        """
        return await self._queue.take()

    def __aiter__(self) -> ControlEvents:
        return self

    async def __anext__(self) -> ControlEvent:
        return await self.receive()


@opens("connect_control(path) as client")
async def connect_control(path: str | os.PathLike[str]) -> AsyncGenerator[ControlClient]:
    """Connect to a program that serves its handle with ``serve_control``, while the block runs.

    ::

        async with connect_control("/run/my-program/node.sock") as client:
            print(await client.explain())

    Args:
        path: The path of the socket. ``find_control_sockets`` returns those in the usual places.

    Yields:
        The client.

    Raises:
        ControlSocketError: No program answers at the path; the message says why.
        ControlRequestError: The program refuses this user, or has too many clients.
        ControlProtocolError: The program speaks another version of the protocol.
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
    """Return the errno that explains why connecting to ``path`` failed."""
    number = error.errno or 0
    # For a file of another type the system returns the errno of a socket without listener.
    return errno.ENOTSOCK if number == errno.ECONNREFUSED and not Path(path).is_socket() else number


async def _receive_hello(reader: LineReader, path: Path) -> Hello:
    try:
        line = await reader.read()
        if line is None:
            raise ControlSocketError(f"the program at {path} closed the connection at once")
        message = load(line)
    except trio.BrokenResourceError:
        raise ControlSocketError(f"the program at {path} closed the connection at once") from None
    except (MisfitError, LineTooLongError):
        raise ControlProtocolError(
            f"the program at {path} does not speak the control protocol: give the control socket"
            " of a knet_trio program"
        ) from None
    if isinstance(message, dict) and "error" in message:
        raise _request_error(message["error"])
    version = message.get("knet_trio_control") if isinstance(message, dict) else None
    if version != PROTOCOL_VERSION:
        spoken = "no version" if version is None else f"version {dump(version)}"
        raise ControlProtocolError(
            f"the program at {path} speaks {spoken} of the control protocol, and this release"
            f" version {PROTOCOL_VERSION}: use the release of knet_trio that the program uses"
        )
    return _decode(Hello, message)


async def _send_lines(lines: trio.MemoryReceiveChannel[bytes], stream: trio.SocketStream) -> None:
    """Send each line completely, even if the task that waits for its answer is cancelled."""
    async with lines:
        async for line in lines:
            try:
                await stream.send_all(line)
            except trio.BrokenResourceError:
                # Reading fails as well, and reports the loss to all tasks.
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
        raise ControlProtocolError(
            f"the other side sent an invalid {kind.__name__}: {error}"
        ) from None


def _request_error(error: Json) -> ControlRequestError:
    parts = error if isinstance(error, dict) else {}
    code, message = parts.get("code"), parts.get("message")
    return ControlRequestError(
        code if isinstance(code, str) else ErrorCode.REFUSED.value,
        message if isinstance(message, str) else "the other side gave no reason",
    )
