"""The streams of a handle over one of its channels."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack
from types import MappingProxyType
from typing import Final, final

import trio

from knet_trio import (
    BytesLike,
    Destination,
    Handle,
    InvalidArgumentError,
)
from knet_trio._constructors import NoPublicConstructor, construct
from knet_trio._opening import opens
from knet_trio.streams._asking import ask, open_stream, send_message
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
# Messages of the channel that wait for the receiving task, which itself never waits.
_RECEIVE_BUFFER: Final = 4096


@final
class Streams(metaclass=NoPublicConstructor):
    """Streams, requests and messages to and from other hosts; returned by ``open_streams``.

    A host is given by its id, its name or its ``Host`` object. All calls are full checkpoints.
    """

    _MADE_BY = "knet_trio.streams.open_streams()"
    __slots__ = ("__weakref__", "_state")

    def __init__(self, state: StreamsState) -> None:
        self._state = state

    def __repr__(self) -> str:
        return f"<Streams over channel {self._state.channel.channel} of host {self._state.host_id}>"

    # Streams.

    async def connect(self, host: Destination) -> HostStream:
        """Open a stream to a host that has its ``listener()`` open.

        Waits until the host is reachable, ``patience`` seconds at most. If cancelled, no stream is
        opened.

        Args:
            host: The host to connect to.

        Returns:
            The stream, which the caller has to close.

        Raises:
            RefusedError: The host has no listener. A subclass of trio.BrokenResourceError.
            trio.BrokenResourceError: The host is not reachable or does not answer.
            trio.ClosedResourceError: The streams were closed here.
            UnknownHostError: The handle does not have the host.
            InvalidArgumentError: ``host`` is this host itself, or of another handle.
        """
        await trio.lowlevel.checkpoint()
        return construct(HostStream, await open_stream(self._state.pump(host)))

    def listener(self) -> AbstractAsyncContextManager[StreamListener]:
        """Accept streams that other hosts open, for the duration of the block.

        Streams that were not accepted when the block ends are refused.

        ::

            async with streams.listener() as listener:
                await trio.serve_listeners(handler, [listener])

        Yields:
            The listener.

        Raises:
            BusyError: A listener is open already.
            trio.ClosedResourceError: The streams were closed here.
        """
        return self._listening()

    @opens("streams.listener() as listener")
    async def _listening(self) -> AsyncGenerator[StreamListener, None]:
        self._check_free(StreamKind.STREAM)
        listener = construct(StreamListener)
        self._state.takers.set(StreamKind.STREAM, listener)
        try:
            await trio.lowlevel.checkpoint()
            yield listener
        finally:
            self._state.takers.remove(StreamKind.STREAM)
            listener.close()

    # Requests.

    async def request(self, host: Destination, data: BytesLike) -> bytes:
        """Send a request to a host that has its ``requests()`` open, and return the answer.

        The host handles the request at most once, whatever is retransmitted. After
        trio.BrokenResourceError itself or HandlerError, the request may have been handled or not.
        If cancelled, the host is notified; the request may have been handled or not.

        Args:
            host: The host to send the request to.
            data: The request.

        Returns:
            The answer.

        Raises:
            RefusedError: The host refused the request; nothing was done.
            HandlerError: The host failed while it handled the request.
            trio.BrokenResourceError: The host is not reachable, has restarted, or the answer has
                more than ``max_size`` bytes.
            trio.ClosedResourceError: The streams were closed here.
            UnknownHostError: The handle does not have the host.
            InvalidArgumentError: ``data`` is not bytes or has more than ``max_size``; or ``host``
                is this host itself, or of another handle.
        """
        view = check_bytes(data, self._state.max_size)
        try:
            # Waiting for the answer completes the checkpoint.
            await trio.lowlevel.checkpoint_if_cancelled()
            return await ask(self._state.pump(host), view, self._state.max_size)
        finally:
            if type(view) is not bytes:
                let_go(view)

    def requests(self) -> AbstractAsyncContextManager[RequestReceiver]:
        """Receive requests from other hosts, for the duration of the block.

        ::

            async with streams.requests() as requests:
                async for request in requests:
                    await request.answer(request.data.upper())

        Requests can be answered in any order and by any task. Requests that are not answered when
        the block ends fail with HandlerError at the host that sent them. If an exception ends the
        block, that error names the exception.

        Yields:
            The receiver of the requests.

        Raises:
            BusyError: ``requests()`` is open already.
            trio.ClosedResourceError: The streams were closed here.
        """
        return self._taking_requests()

    @opens("streams.requests() as requests")
    async def _taking_requests(self) -> AsyncGenerator[RequestReceiver, None]:
        self._check_free(StreamKind.REQUEST)
        requests = construct(RequestReceiver, self._state.max_size)
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
        """Send a message to a host that has its ``messages()`` open.

        Returns once the message is in that host's queue, and waits while the queue is full.
        Messages that are sent one after the other arrive in that order. If cancelled, the message
        may have arrived or not.

        Args:
            host: The host to send the message to.
            data: The message.

        Raises:
            RefusedError: The host does not take messages.
            trio.BrokenResourceError: The host is not reachable or has restarted; the message may
                have arrived.
            trio.ClosedResourceError: The streams were closed here.
            UnknownHostError: The handle does not have the host.
            InvalidArgumentError: ``data`` is not bytes or has more than ``max_size``; or ``host``
                is this host itself, or of another handle.
        """
        view = check_bytes(data, self._state.max_size)
        try:
            # Waiting for the answer completes the checkpoint.
            await trio.lowlevel.checkpoint_if_cancelled()
            await send_message(self._state.pump(host), view)
        finally:
            if type(view) is not bytes:
                let_go(view)

    def messages(self) -> AbstractAsyncContextManager[MessageReceiver]:
        """Receive messages that other hosts send with ``send``, for the duration of the block.

        Messages still in the queue when the block ends are dropped, although their senders have
        been notified of their arrival.

        ::

            async with streams.messages() as messages:
                async for message in messages:
                    print(message.source, message.data)

        Yields:
            The receiver of the messages.

        Raises:
            BusyError: ``messages()`` is open already.
            trio.ClosedResourceError: The streams were closed here.
        """
        return self._taking_messages()

    @opens("streams.messages() as messages")
    async def _taking_messages(self) -> AsyncGenerator[MessageReceiver, None]:
        self._check_free(StreamKind.MESSAGE)
        messages = construct(MessageReceiver, self._state.channel.channel, self._state.max_size)
        self._state.takers.set(StreamKind.MESSAGE, messages)
        try:
            await trio.lowlevel.checkpoint()
            yield messages
        finally:
            self._state.takers.remove(StreamKind.MESSAGE)
            messages.close()

    def refused(self) -> Mapping[str, int]:
        """Return the number of refused packets by cause, 0 for a cause that did not occur."""
        return MappingProxyType({str(fault): self._state.faults[fault] for fault in Fault})

    def _check_free(self, kind: StreamKind) -> None:
        self._state.check_open()
        self._state.takers.check(kind)


@opens("open_streams(handle, channel=7) as streams")
async def open_streams(
    handle: Handle,
    *,
    channel: int | None = None,
    patience: float = DEFAULT_PATIENCE,
    max_size: int = DEFAULT_MAX_SIZE,
) -> AsyncGenerator[Streams, None]:
    """Open streams to and from other hosts, over a channel of a handle.

    The other hosts must do the same, with the same channel. At the normal end of the block, the
    exit waits until everything sent has arrived, and gives up after a second without progress.
    Then, or at once if an exception or a cancellation ends the block, all streams are closed and
    the other hosts are notified. The channel is free then; packets of the streams that are still on
    their way are discarded for 3 seconds, and counted in ``Streams.refused()`` as
    ``no_connection``. The block owns a nursery, so errors leave it in exception groups.

    Args:
        handle: The handle.
        channel: The channel, 0 to 31, which must not be open yet; None for the first free one.
        patience: The timeout for a host that sends nothing or acknowledges nothing [seconds], 0.1
            to 86400. After it, all streams with the host fail.
        max_size: The largest request, answer or message, sent or received [bytes].

    Yields:
        The streams.

    Raises:
        BusyError: The channel is open already.
        InvalidArgumentError: An argument is out of range.
    """
    _check_handle(handle)
    patience = _check_number("patience", patience, 0.1, 86400)
    max_size = int(_check_number("max_size", max_size, 1, 2**40))
    opened = handle.open_channel(channel, receive_buffer=_RECEIVE_BUFFER)
    with ExitStack() as at_end:
        at_end.callback(opened.close)
        async with trio.open_nursery() as nursery:
            state = StreamsState(handle, opened, nursery, patience, max_size)
            # After the end of the nursery: its tasks use the channel.
            at_end.callback(state.close_channel)
            state.start()
            register(handle, state)
            try:
                yield construct(Streams, state)
                await state.linger()
            finally:
                unregister(handle, state)
                state.close()
                nursery.cancel_scope.cancel()


def _check_handle(handle: object) -> None:
    if not isinstance(handle, Handle):
        raise InvalidArgumentError(f"streams need a Handle, not {type(handle).__name__}")


def _check_number(name: str, value: object, low: float, high: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise InvalidArgumentError(
        f"{name} {value!r} is not valid: give a number from {low:g} to {high:g}"
    )
