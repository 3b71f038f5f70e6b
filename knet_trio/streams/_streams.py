"""The streams of a handle over one of its channels."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import MappingProxyType
from typing import Final, final

import trio

from knet_trio import (
    BytesLike,
    Destination,
    Handle,
    InvalidArgumentError,
)
from knet_trio.streams._asking import ask, open_stream, tell
from knet_trio.streams._core.faults import Fault
from knet_trio.streams._core.wire import StreamKind
from knet_trio.streams._stream_user import check_bytes, let_go
from knet_trio.streams._streams_state import StreamsState
from knet_trio.streams.listener import StreamListener
from knet_trio.streams.messages import MessageReceiver
from knet_trio.streams.requests import RequestReceiver, describe_error
from knet_trio.streams.statistics import register, unregister
from knet_trio.streams.stream import HostStream

DEFAULT_PATIENCE: Final = 30.0
DEFAULT_MAX_SIZE: Final = 64 * 1024 * 1024
# Messages of the channel that wait for the receiving task, which waits for nobody.
_RECEIVE_BUFFER: Final = 4096


@final
class Streams:
    """Streams, requests and messages to and from other hosts. ``open_streams`` makes it.

    Hosts are named by ids, names or ``Host`` objects. Calls are full checkpoints.
    """

    __slots__ = ("__weakref__", "_state")

    def __init__(self, state: StreamsState) -> None:
        self._state = state

    def __repr__(self) -> str:
        return f"<Streams over channel {self._state.channel.channel} of host {self._state.host_id}>"

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
        return HostStream(await open_stream(self._state.pump(host)))

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
        self._state.takers.set(StreamKind.STREAM, listener)
        try:
            await trio.lowlevel.checkpoint()
            yield listener
        finally:
            self._state.takers.remove(StreamKind.STREAM)
            listener.close()

    # Requests.

    async def request(self, host: Destination, data: BytesLike) -> bytes:
        """Ask a host, whose ``requests()`` have to be open, and return its answer.

        It is done once at most, whatever is sent again. When this raises trio.BrokenResourceError
        itself or HandlerError, it may have been done, or not. Cancelled, the other side is told.

        Raises:
            RefusedError: The host refuses it; nothing was done.
            HandlerError: The host failed while it worked on it.
            trio.BrokenResourceError: The host cannot be reached, has started again, or answers more
                than ``max_size``.
            trio.ClosedResourceError: The streams were closed here.
            UnknownHostError: The handle does not have the host.
            InvalidArgumentError: ``data`` is not bytes, or has more than ``max_size``.
        """
        view = check_bytes(data, self._state.max_size)
        try:
            # To wait for the answer is a full one.
            await trio.lowlevel.checkpoint_if_cancelled()
            return await ask(self._state.pump(host), view, self._state.max_size)
        finally:
            if type(view) is not bytes:
                let_go(view)

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
        requests = RequestReceiver(self._state.max_size)
        self._state.takers.set(StreamKind.REQUEST, requests)
        reason = "it takes no requests any more"
        try:
            await trio.lowlevel.checkpoint()
            yield requests
        except BaseException as error:
            reason = describe_error(error)
            raise
        finally:
            self._state.takers.remove(StreamKind.REQUEST)
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
        view = check_bytes(data, self._state.max_size)
        try:
            # To wait for the answer is a full one.
            await trio.lowlevel.checkpoint_if_cancelled()
            await tell(self._state.pump(host), view)
        finally:
            if type(view) is not bytes:
                let_go(view)

    def messages(self) -> AbstractAsyncContextManager[MessageReceiver]:
        """Take the messages that other hosts send with ``send``, as long as the block lasts.

        What is still in the queue when it ends is dropped, though its senders were told that it is
        there.

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
        messages = MessageReceiver(self._state.channel.channel, self._state.max_size)
        self._state.takers.set(StreamKind.MESSAGE, messages)
        try:
            await trio.lowlevel.checkpoint()
            yield messages
        finally:
            self._state.takers.remove(StreamKind.MESSAGE)
            messages.close()

    def refused(self) -> Mapping[str, int]:
        """Return how many packets were refused, by cause; 0 where there were none."""
        return MappingProxyType({str(fault): self._state.faults[fault] for fault in Fault})

    def _check_free(self, kind: StreamKind) -> None:
        self._state.check_open()
        self._state.takers.check(kind)


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
        patience: After so many seconds in which a host is not heard of, or acknowledges nothing,
            what is open with it has failed. 0.1 to 86400.
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
            state = StreamsState(handle, opened, nursery, patience, max_size)
            state.start()
            register(handle, state)
            try:
                yield Streams(state)
                await state.linger()
            finally:
                unregister(handle, state)
                state.close()
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
