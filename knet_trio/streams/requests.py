"""Requests of other hosts, each with one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, final

import trio

from knet_trio import InvalidArgumentError
from knet_trio._constructors import NoPublicConstructor, construct
from knet_trio.streams._collecting import Collector, Whole, take_whole
from knet_trio.streams._core.connection import Connection
from knet_trio.streams._core.stream_state import Failure, StreamState
from knet_trio.streams._core.wire import Code
from knet_trio.streams._fair_queue import FairQueue
from knet_trio.streams._host_pump import HostPump
from knet_trio.streams._stream_user import BOTH, UsedStream, check_bytes, let_go, reset_all

if TYPE_CHECKING:
    from knet_trio import BytesLike


@final
class HostRequest(metaclass=NoPublicConstructor):
    """A request of another host, to be answered or refused once.

    Use it as an async context manager to make the request fail if the block ends without an
    answer or a refusal: the other host's ``request`` then raises HandlerError, which names the
    exception if the block raised one.

    Attributes:
        source: The id of the host that sent the request.
        data: The request.
    """

    _MADE_BY = "RequestReceiver.receive()"
    __slots__ = ("__weakref__", "_answered", "_limit", "_unanswered", "_used", "data", "source")

    def __init__(
        self, used: UsedStream, data: bytes, limit: int, unanswered: dict[HostRequest, None]
    ) -> None:
        self.source: int = used.pump.host_id
        self.data: bytes = data
        self._used = used
        self._limit = limit
        self._answered = False
        self._unanswered = unanswered
        unanswered[self] = None
        used.state.owner = _Asker(self, used, unanswered)

    def __repr__(self) -> str:
        return f"<HostRequest of host {self.source}: {len(self.data)} bytes>"

    @property
    def cancelled(self) -> bool:
        """True if nobody waits for the answer: the call was cancelled, or the host is gone."""
        return self._used.state.sending_failure is not None

    async def wait_cancelled(self) -> None:
        """Wait until nobody waits for the answer.

        Also returns once the answer has arrived.
        """
        await trio.lowlevel.checkpoint()
        while not self._used.state.sending.is_over:
            await self._used.wait_changed()

    async def answer(self, data: BytesLike) -> None:
        """Send the answer.

        Returns when all but the last 2 MiB of the answer have been sent. If cancelled meanwhile,
        the request fails with HandlerError at the other host.

        Args:
            data: The answer.

        Raises:
            trio.BrokenResourceError: Nobody waits for the answer.
            trio.ClosedResourceError: The request was answered or refused before, or the streams
                were closed.
            InvalidArgumentError: ``data`` is not bytes or has more than ``max_size``.
        """
        view, used = check_bytes(data, self._limit), self._used
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            used.check_sending()
            self._take_turn()
            try:
                if not used.pump.say(used.connection, used.state, view, trio.current_time()):
                    await used.write(view, last=True)
            except trio.Cancelled:
                used.reset(BOTH, Code.FAILED, "it was cancelled while it answered")
                raise
            await trio.lowlevel.cancel_shielded_checkpoint()
        finally:
            if type(view) is not bytes:
                let_go(view)

    async def refuse(self, reason: str = "") -> None:
        """Refuse the request: the other host's ``request`` raises RefusedError.

        A full checkpoint. If cancelled, the request is not refused.

        Args:
            reason: The reason, as the other host's error shows it.

        Raises:
            trio.ClosedResourceError: The request was answered or refused before.
            InvalidArgumentError: ``reason`` is not a string.
        """
        _check_reason(reason)
        await trio.lowlevel.checkpoint()
        self._take_turn()
        self._used.reset(BOTH, Code.REFUSED, reason)

    def fail(self, reason: str) -> None:
        """Make the request fail: the other host's ``request`` raises HandlerError.

        Does nothing if the request was answered or refused before.

        Args:
            reason: The reason, as the other host's error shows it.

        Raises:
            InvalidArgumentError: ``reason`` is not a string.
        """
        _check_reason(reason)
        if not self._answered:
            self.give_up().reset(BOTH, Code.FAILED, reason)

    def give_up(self) -> UsedStream:
        """Mark the request as answered, and return its stream to be reset. For internal use."""
        self._take_turn()
        return self._used

    def _take_turn(self) -> None:
        if self._answered:
            raise trio.ClosedResourceError("this request was answered or refused before")
        self._answered = True
        self._unanswered.pop(self, None)
        self._used.state.owner = self._used

    async def __aenter__(self) -> HostRequest:
        """Return the request."""
        try:
            await trio.lowlevel.checkpoint()
        except BaseException as error:
            # The end of the block, where the request would fail, is never reached.
            self.fail(describe_error(error))
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        """Make the request fail if it was neither answered nor refused."""
        if error is not None:
            self.fail(describe_error(error))
        elif not self._answered:
            try:
                await trio.lowlevel.checkpoint()
            finally:
                self.fail("the request was not answered")


class _Asker:
    """The owner of a request's stream while the program handles the request.

    The receiver keeps a reference to the request, to fail it on close. The reference is removed
    when nobody waits for the answer: a handler need not do anything with a cancelled request.
    """

    __slots__ = ("_request", "_unanswered", "_used")

    def __init__(
        self, request: HostRequest, used: UsedStream, unanswered: dict[HostRequest, None]
    ) -> None:
        self._request = request
        self._used = used
        self._unanswered = unanswered

    def touched(self) -> None:
        used = self._used
        if used.state.sending_failure is not None:
            self._unanswered.pop(self._request, None)
            # The stream may stay alive with packets that were lost; the request must not.
            used.state.owner = used
        used.touched()


@final
class RequestReceiver(trio.abc.ReceiveChannel[HostRequest], metaclass=NoPublicConstructor):
    """A queue of the requests of other hosts; returned by ``Streams.requests``.

    ``async for`` and ``receive`` return each complete request once, round-robin over the hosts.
    """

    _MADE_BY = "Streams.requests()"
    __slots__ = ("__weakref__", "_closed", "_limit", "_queue", "_unanswered")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: FairQueue[tuple[UsedStream, Collector | Whole]] = FairQueue(
            "this request receiver was closed",
            lambda item: item[0].state.sending_failure is not None,
            lambda item: item[1].drop(),
        )
        # The reason of the close; None while open.
        self._closed: str | None = None
        # Requests that the program has taken and whose answers are waited for.
        self._unanswered: dict[HostRequest, None] = {}

    def offer(self, pump: HostPump, connection: Connection, state: StreamState) -> None:
        """Offer a request that a host has begun. For internal use."""
        if self._closed is not None:
            connection.reset(state, BOTH, Code.REFUSED, self._closed)
            return
        used = UsedStream(pump, connection, state)
        whole = take_whole(connection, state, pump.requests, self._limit)
        if whole is not None:
            self._queue.put(pump.host_id, (used, whole))
            return

        def done(failure: Failure | None) -> None:
            if failure is None and self._closed is None:
                state.owner = used
                self._queue.put(pump.host_id, (used, collector))
            elif failure is None:
                collector.drop()
                connection.reset(state, BOTH, Code.REFUSED, self._closed or "")
            elif not state.is_over:
                connection.reset(state, BOTH, Code.CANCELLED)

        collector = Collector(pump, connection, state, pump.requests, self._limit, done)
        state.owner = collector
        connection.widen(state, trio.current_time())
        collector.touched()

    async def receive(self) -> HostRequest:
        """Wait for a request and take it.

        A full checkpoint. If cancelled, no request is taken. Requests that were cancelled by their
        senders are skipped.

        Returns:
            The request, which the caller has to answer or refuse.

        Raises:
            trio.ClosedResourceError: The receiver was closed.
        """
        while True:
            used, collector = await self._queue.take()
            if isinstance(collector, Collector):
                await collector.join()
                if self._closed is not None:
                    # Closed meanwhile: the request is not handled.
                    collector.drop()
                    used.reset(BOTH, Code.REFUSED, self._closed)
                    raise trio.ClosedResourceError("this request receiver was closed")
            data = collector.data()
            if collector.drop():
                used.pump.flush()
            # A request that was cancelled while it was queued is not handled.
            if used.state.sending_failure is None:
                return construct(HostRequest, used, data, self._limit, self._unanswered)

    def close(self, reason: str = "it takes no requests any more") -> None:
        """Refuse the requests that were not taken, and fail those that were not answered.

        Args:
            reason: The reason, as the errors of the other hosts show it.
        """
        self._closed = self._closed or reason
        left = self._queue.close()
        for _, collector in left:
            collector.drop()
        reset_all([used for used, _ in left], Code.REFUSED, reason)
        unanswered = [request.give_up() for request in list(self._unanswered)]
        reset_all(unanswered, Code.FAILED, reason)

    async def aclose(self) -> None:
        """Close the receiver as ``close`` does, and execute a checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()


def _check_reason(reason: object) -> None:
    if not isinstance(reason, str):
        raise InvalidArgumentError(f"a reason is a string, not {type(reason).__name__}")


def describe_error(error: BaseException) -> str:
    """Return the text of an exception that is sent to the other host."""
    if isinstance(error, trio.Cancelled):
        return "it was cancelled"
    if isinstance(error, BaseExceptionGroup):
        errors = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return describe_error(errors[0])
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
