"""Open streams, send requests and send messages: one stream for each call of the program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from knet_trio.streams._collecting import Collector, Whole, take_whole
from knet_trio.streams._core.receiving_half import ReceivingStage
from knet_trio.streams._core.stream_state import Failure, FailureCause, StreamState
from knet_trio.streams._core.wire import SENDING, Code, StreamKind
from knet_trio.streams._stream_user import BOTH, UsedStream

if TYPE_CHECKING:
    from knet_trio.streams._host_pump import HostPump

# Attempts to open a stream if the peer has just restarted.
_OPENINGS: Final = 3
_RETRIED: Final = (FailureCause.RESTARTED, FailureCause.FORGOTTEN)


async def open_stream(pump: HostPump) -> UsedStream:
    """Open a stream and wait until the peer accepts it.

    If cancelled, no stream is opened.
    """
    for _ in range(_OPENINGS - 1):
        used = UsedStream(pump, *await pump.open(StreamKind.STREAM))
        try:
            await _wait_accepted(used)
        except trio.BrokenResourceError:
            # Nothing was sent on the stream. If the peer has restarted since its last packet, a
            # new stream is as good.
            failure = used.state.sending_failure
            if failure is None or failure.cause not in _RETRIED:
                raise
        else:
            return used
    used = UsedStream(pump, *await pump.open(StreamKind.STREAM))
    await _wait_accepted(used)
    return used


async def _wait_accepted(used: UsedStream) -> None:
    try:
        used.pump.flush()
        while not used.state.accepted:
            used.check_sending()
            await used.wait_changed()
    except BaseException:
        used.reset(BOTH, Code.CANCELLED)
        raise
    used.connection.widen(used.state, trio.current_time())
    used.pump.flush()


async def ask(pump: HostPump, data: bytes | memoryview, limit: int) -> bytes:
    """Send a request and return the answer.

    If cancelled, the peer is notified.

    Args:
        pump: The pump of the host.
        data: The request.
        limit: The largest answer that is accepted, in bytes.

    Raises:
        trio.BrokenResourceError: The request failed.
    """
    now = trio.current_time()
    opened = pump.open_now(StreamKind.REQUEST, now)
    if opened is None:
        opened = await pump.open(StreamKind.REQUEST)
        now = trio.current_time()
    used = UsedStream(pump, *opened)
    state = used.state
    answer = _Answer(used, limit)
    try:
        if not pump.say(used.connection, state, data, now):
            await _write(used, data)
        while not answer.is_there:
            await used.changed.wait()
        if answer.failure is not None:
            raise pump.error(answer.failure)
        if answer.collector is not None:
            await answer.collector.join()
        return answer.data()
    except BaseException:
        used.reset(BOTH, Code.CANCELLED)
        raise
    finally:
        state.owner = None
        answer.drop()


async def send_message(pump: HostPump, data: bytes | memoryview) -> None:
    """Send a message and wait until the host confirms that it is in its queue."""
    now = trio.current_time()
    opened = pump.open_now(StreamKind.MESSAGE, now)
    if opened is None:
        opened = await pump.open(StreamKind.MESSAGE)
        now = trio.current_time()
    used = UsedStream(pump, *opened)
    state = used.state
    state.owner = _Receipt(used)
    try:
        if not pump.say(used.connection, state, data, now):
            await _write(used, data)
        while state.receiving.stage is not ReceivingStage.DONE:
            if state.receiving_failure is not None:
                raise pump.error(state.receiving_failure)
            await used.wait_changed()
    except BaseException:
        used.reset(BOTH, Code.CANCELLED)
        raise
    finally:
        state.owner = None


class _Answer:
    """The answer to a request, complete or still arriving; wakes the task that waits for it.

    Attributes:
        is_there: True once the answer is complete or has failed.
        failure: Why the answer failed; None if it did not.
        collector: Collects the answer; None if it comes in one packet.
    """

    __slots__ = ("_limit", "_used", "_whole", "collector", "failure", "is_there")

    def __init__(self, used: UsedStream, limit: int) -> None:
        self.is_there = False
        self.failure: Failure | None = None
        self._used = used
        self._limit = limit
        # Set if the answer comes in one packet.
        self._whole: Whole | None = None
        self.collector: Collector | None = None
        used.state.owner = self

    def data(self) -> bytes:
        """Return the answer, which must be complete."""
        answer = self._whole or self.collector
        return b"" if answer is None else answer.data()

    def drop(self) -> None:
        """Discard the answer and release its memory."""
        others_went_on = False
        if self._whole is not None:
            others_went_on = self._whole.drop()
        if self.collector is not None:
            self.collector.abandon()
            others_went_on = self.collector.drop()
        if others_went_on:
            # The bytes that the others have read give credit for more.
            self._used.pump.flush()

    def touched(self) -> None:
        """Take the bytes that have arrived and wake the task."""
        used = self._used
        if self.collector is None:
            self._begin(used.state)
        if self.collector is not None:
            self.collector.touched()
        if self.is_there:
            _give_up_rest(used)
        used.touched()

    def _begin(self, state: StreamState) -> None:
        """Take the answer if it is complete, else start to collect it."""
        used, share = self._used, self._used.pump.answers
        if self.is_there:
            return
        self._whole = take_whole(used.connection, state, share, self._limit)
        if self._whole is not None:
            self.is_there = True
        elif state.receiving_failure is not None:
            # Not a byte of the answer has arrived.
            self._note_end(state.receiving_failure)
        elif state.receiving.available or not state.receiving.wants_more:
            self.collector = Collector(
                used.pump, used.connection, state, share, self._limit, self._note_end
            )
            used.connection.widen(state, trio.current_time())

    def _note_end(self, failure: Failure | None) -> None:
        self.is_there = True
        self.failure = failure
        # The collector may have continued because another one left room, without a new packet.
        _give_up_rest(self._used)
        self._used.touched()


class _Receipt:
    """Waits for the empty answer by which the peer confirms that a message is in its queue.

    Args:
        used: The stream of the message.
    """

    __slots__ = ("_used",)

    def __init__(self, used: UsedStream) -> None:
        self._used = used

    def touched(self) -> None:
        """Note the confirmation if it has arrived, and wake the task."""
        used = self._used
        if used.state.receiving.stage is ReceivingStage.WHOLE:
            used.connection.end_read(used.state)
            _give_up_rest(used)
        used.touched()


def _give_up_rest(used: UsedStream) -> None:
    """Stop sending a request that has its answer.

    The caller that processed the answer's packets flushes the reset.
    """
    sending = used.state.sending
    if not sending.is_over and sending.next <= sending.written:
        reason = "nobody waits for the rest of it"
        used.connection.reset(used.state, SENDING, Code.CANCELLED, reason)


async def _write(used: UsedStream, data: bytes | memoryview) -> None:
    """Write the whole request, unless the peer stops reading it or has answered."""
    try:
        await used.write(data, last=True)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        # The receiving half has the reason, unless there is an answer already.
        if used.state.receiving.wants_more:
            raise
