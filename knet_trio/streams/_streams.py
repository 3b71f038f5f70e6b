"""The streams of a handle over one of its channels."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType
from typing import Final, final

import trio

from knet_trio import (
    BytesLike,
    Channel,
    Destination,
    Handle,
    Host,
    HostStatusChanged,
    InvalidArgumentError,
    LinkStatusChanged,
    Message,
)
from knet_trio.streams._asking import ask, open_stream, tell
from knet_trio.streams._core.conversation import Conversation
from knet_trio.streams._core.cubic import Cubic
from knet_trio.streams._core.faults import Fault
from knet_trio.streams._core.stream_state import Failure, FailureCause
from knet_trio.streams._core.wire import StreamKind
from knet_trio.streams._host_pump import HostPump
from knet_trio.streams._stream_user import check_bytes
from knet_trio.streams._takers import Takers
from knet_trio.streams.listener import StreamListener
from knet_trio.streams.messages import MessageReceiver
from knet_trio.streams.requests import RequestReceiver, describe_error
from knet_trio.streams.stream import HostStream

DEFAULT_PATIENCE: Final = 30.0
DEFAULT_MAX_SIZE: Final = 64 * 1024 * 1024
# Messages of the channel that wait for the receiving task, which waits for nobody.
_RECEIVE_BUFFER: Final = 4096
_RECEIVED_AT_ONCE: Final = 64
_RECEIVED_IN_A_ROW: Final = 8


@final
class Streams:
    """Streams, requests and messages to and from other hosts. ``open_streams`` makes it.

    Hosts are named by ids, names or ``Host`` objects. Calls are full checkpoints.
    """

    __slots__ = (
        "__weakref__",
        "_channel",
        "_closed",
        "_faults",
        "_handle",
        "_incarnation",
        "_max_size",
        "_nursery",
        "_patience",
        "_pumps",
        "_takers",
    )

    def __init__(
        self,
        handle: Handle,
        channel: Channel,
        nursery: trio.Nursery,
        patience: float,
        max_size: int,
    ) -> None:
        self._handle = handle
        self._channel = channel
        self._nursery = nursery
        self._patience = patience
        self._max_size = max_size
        self._incarnation = secrets.randbits(64)
        self._pumps: dict[int, HostPump] = {}
        self._faults: Counter[Fault] = Counter()
        self._takers = Takers()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Streams over channel {self._channel.channel} of host {self._handle.host_id}>"

    # Streams.

    async def connect(self, host: Destination) -> HostStream:
        """Open a stream to a host, whose ``listener()`` has to be open.

        Waits until the host can be reached, ``patience`` seconds at most. Cancelled, it has not
        opened any.

        Raises:
            RefusedError: The host has no listener. It is a trio.BrokenResourceError.
            trio.BrokenResourceError: The host cannot be reached, or does not answer.
            trio.ClosedResourceError: The streams were closed here.
            UnknownHostError: The handle does not have the host.
        """
        await trio.lowlevel.checkpoint()
        return HostStream(await open_stream(self._pump(host)))

    def listener(self) -> AbstractAsyncContextManager[StreamListener]:
        """Take the streams that other hosts open, as long as the block lasts.

        ::

            async with streams.listener() as listener:
                await trio.serve_listeners(handler, [listener])

        Raises:
            BusyError: There is a listener.
        """
        return self._listening()

    @asynccontextmanager
    async def _listening(self) -> AsyncGenerator[StreamListener, None]:
        self._check_free(StreamKind.STREAM)
        listener = StreamListener()
        self._takers.set(StreamKind.STREAM, listener)
        try:
            await trio.lowlevel.checkpoint()
            yield listener
        finally:
            self._takers.remove(StreamKind.STREAM)
            listener.close()

    # Requests.

    async def request(self, host: Destination, data: BytesLike) -> bytes:
        """Ask a host, whose ``requests()`` have to be open, and return its answer.

        It is done once at most, whatever is sent again. When this raises trio.BrokenResourceError
        itself or HandlerError, it may have been done, or not. Cancelled, the other side is told.

        Raises:
            RefusedError: The host refuses it; nothing was done.
            HandlerError: The host failed while it worked on it.
            trio.BrokenResourceError: The host cannot be reached, or has started again.
            trio.ClosedResourceError: The streams were closed here.
            UnknownHostError: The handle does not have the host.
            InvalidArgumentError: ``data`` is not bytes, or has more than ``max_size``.
        """
        view = check_bytes(data, self._max_size)
        # To wait for the answer is a full one.
        await trio.lowlevel.checkpoint_if_cancelled()
        return await ask(self._pump(host), view, self._max_size)

    def requests(self) -> AbstractAsyncContextManager[RequestReceiver]:
        """Take the requests of other hosts, as long as the block lasts.

        ::

            async with streams.requests() as requests:
                async for request in requests:
                    await request.answer(request.data.upper())

        Requests can be answered in any order, and by any tasks. Those that are not answered when
        the block ends have failed. If it ends by an exception, those who ask are told which.

        Raises:
            BusyError: There is one.
        """
        return self._taking_requests()

    @asynccontextmanager
    async def _taking_requests(self) -> AsyncGenerator[RequestReceiver, None]:
        self._check_free(StreamKind.REQUEST)
        requests = RequestReceiver(self._max_size)
        self._takers.set(StreamKind.REQUEST, requests)
        reason = "it takes no requests any more"
        try:
            await trio.lowlevel.checkpoint()
            yield requests
        except BaseException as error:
            reason = describe_error(error)
            raise
        finally:
            self._takers.remove(StreamKind.REQUEST)
            requests.close(reason)

    # Messages.

    async def send(self, host: Destination, data: BytesLike) -> None:
        """Send a message to a host, whose ``messages()`` have to be open.

        Returns when it is in the queue there, and waits while that is full. Messages that are sent
        one after the other arrive in that order. Cancelled, it may have arrived or not.

        Raises:
            RefusedError: The host takes no messages.
            trio.BrokenResourceError: The host cannot be reached, or has started again; the message
                may have arrived.
            trio.ClosedResourceError: The streams were closed here.
            UnknownHostError: The handle does not have the host.
            InvalidArgumentError: ``data`` is not bytes, or has more than ``max_size``.
        """
        view = check_bytes(data, self._max_size)
        # To wait for the answer is a full one.
        await trio.lowlevel.checkpoint_if_cancelled()
        await tell(self._pump(host), view)

    def messages(self) -> AbstractAsyncContextManager[MessageReceiver]:
        """Take the messages that other hosts send with ``send``, as long as the block lasts.

        ::

            async with streams.messages() as messages:
                async for message in messages:
                    print(message.source, message.data)

        Raises:
            BusyError: There is one.
        """
        return self._taking_messages()

    @asynccontextmanager
    async def _taking_messages(self) -> AsyncGenerator[MessageReceiver, None]:
        self._check_free(StreamKind.MESSAGE)
        messages = MessageReceiver(self._channel.channel, self._max_size)
        self._takers.set(StreamKind.MESSAGE, messages)
        try:
            await trio.lowlevel.checkpoint()
            yield messages
        finally:
            self._takers.remove(StreamKind.MESSAGE)
            messages.close()

    def refused(self) -> Mapping[str, int]:
        """Return how many packets were refused, by cause; 0 where there were none."""
        return MappingProxyType({str(fault): self._faults[fault] for fault in Fault})

    # For `open_streams`.

    def start(self) -> None:
        """For the package itself: begin to receive."""
        start = self._nursery.start_soon
        start(self._run, name="streams, receiving")
        start(self._watch, name="streams, events")
        start(self._takers.end_grace, name="streams, refusing")

    async def _run(self) -> None:
        try:
            while True:
                await self._receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            self.close("the handle has ended")

    async def _receive(self) -> None:
        """Take what has arrived, and send what follows from it.

        Those who are concerned are told at once. Acknowledgements, and what they let out, wait
        until nothing more is there: so many packets are acknowledged at once, and an answer takes
        the acknowledgement of the request along.
        """
        heard: dict[HostPump, None] = {}
        messages = await self._channel.receive_many(_RECEIVED_AT_ONCE)
        # Where much comes, sockets are given more than one chance to be read.
        patience = len(messages)
        for _ in range(_RECEIVED_IN_A_ROW):
            self._take(messages, heard)
            await trio.lowlevel.checkpoint()
            messages = self._more()
            if not messages and patience > 1:
                await trio.lowlevel.checkpoint()
                messages = self._more()
            if not messages:
                break
        else:
            self._take(messages, heard)
        for pump in heard:
            pump.flush()

    def _more(self) -> list[Message]:
        """Return messages that are there already."""
        messages: list[Message] = []
        receive = self._channel.receive_nowait
        with suppress(trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
            for _ in range(_RECEIVED_AT_ONCE):
                # One by one, so that none is lost when there are no more.
                messages.append(receive())  # noqa: PERF401
        return messages

    def _take(self, messages: list[Message], heard: dict[HostPump, None]) -> None:
        """Give packets to the conversations they are of, and add these to ``heard``."""
        now = trio.current_time()
        for source, of_source in groupby(messages, key=attrgetter("source")):
            pump = self._pump_of(source)
            if pump is not None:
                packets = [message.data for message in of_source]
                for error in pump.conversation.receive_many(packets, now):
                    self._faults[error.fault] += 1
                pump.notice()
                heard[pump] = None

    async def _watch(self) -> None:
        """Greet hosts that can be reached, and look after those whose links have changed."""
        async with self._handle.events() as events:
            for host in self._handle.hosts.values():
                if host.status.reachable:
                    self._greet(host.host_id)
            async for event in events:
                if isinstance(event, HostStatusChanged) and event.reachable:
                    self._greet(event.host_id)
                elif isinstance(event, LinkStatusChanged) and event.host_id in self._pumps:
                    self._pumps[event.host_id].hint()

    def _greet(self, host_id: int) -> None:
        pump = self._pump_of(host_id)
        if pump is not None:
            if pump.conversation.connection is None:
                pump.greet()
            else:
                pump.hint()

    async def linger(self) -> None:
        """For the package itself: wait until what was sent has arrived, while some of it does."""
        async with trio.open_nursery() as nursery:
            for pump in self._pumps.values():
                nursery.start_soon(pump.wait_idle)

    def close(self, reason: str = "") -> None:
        """For the package itself: end everything, and tell the hosts."""
        self._closed = True
        for pump in self._pumps.values():
            pump.close(Failure(FailureCause.CLOSED_HERE, reason))

    # Hosts.

    def _pump(self, host: Destination) -> HostPump:
        """Return the pump of a host that the program names."""
        if self._closed:
            raise trio.ClosedResourceError("the streams were closed here")
        found = self._handle.get_host(host.host_id if isinstance(host, Host) else host)
        if isinstance(host, Host) and found is not host:
            raise InvalidArgumentError(f"host {host.host_id} is another handle's, or was removed")
        pump = self._pump_of(found.host_id)
        if pump is None:
            raise InvalidArgumentError(
                f"host {found.host_id} is this host itself: streams lead to other hosts"
            )
        return pump

    def _pump_of(self, host_id: int) -> HostPump | None:
        pump = self._pumps.get(host_id)
        if pump is None and host_id != self._handle.host_id and not self._closed:
            conversation = Conversation(
                self._incarnation,
                patience=self._patience,
                # Where every packet is authenticated, nothing damaged gets here.
                checked=self._handle.allow_clear_traffic,
                congestion=Cubic,
            )
            pump = HostPump(host_id, self._handle, self._channel, conversation, self._takers.opened)
            self._pumps[host_id] = pump
            self._nursery.start_soon(pump.run, name=f"streams with host {host_id}")
        return pump

    def _check_free(self, kind: StreamKind) -> None:
        if self._closed:
            raise trio.ClosedResourceError("the streams were closed here")
        self._takers.check(kind)


@asynccontextmanager
async def open_streams(
    handle: Handle,
    *,
    channel: int | None = None,
    patience: float = DEFAULT_PATIENCE,
    max_size: int = DEFAULT_MAX_SIZE,
) -> AsyncGenerator[Streams, None]:
    """Open streams to and from other hosts, over a channel of a handle.

    The other hosts have to do the same, with the same channel. At the normal end of the block, what
    was sent before still arrives, as long as some of it does each second. Then, and when it ends
    otherwise, all streams are closed, and the other hosts are told. The block owns a nursery, so
    errors leave it in exception groups.

    Args:
        handle: The handle.
        channel: 0 to 31, which must not be open yet; None for the first that is free.
        patience: After so many seconds in which a host is not heard of, what is open with it has
            failed. 0.1 to 86400.
        max_size: How many bytes a request, an answer or a message may have, those of others too.

    Raises:
        BusyError: The channel is open.
        InvalidArgumentError: An argument is out of its range.
    """
    _check_handle(handle)
    patience = _check_number("patience", patience, 0.1, 86400)
    max_size = int(_check_number("max_size", max_size, 1, 2**40))
    opened = handle.open_channel(channel, receive_buffer=_RECEIVE_BUFFER)
    try:
        async with trio.open_nursery() as nursery:
            streams = Streams(handle, opened, nursery, patience, max_size)
            streams.start()
            try:
                yield streams
                await streams.linger()
            finally:
                streams.close()
                nursery.cancel_scope.cancel()
    finally:
        opened.close()


def _check_handle(handle: object) -> None:
    if not isinstance(handle, Handle):
        raise InvalidArgumentError(f"streams need a Handle, and {type(handle).__name__} is none")


def _check_number(name: str, value: object, low: float, high: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise InvalidArgumentError(f"{name} {value!r} is not {low:g} to {high:g}")
