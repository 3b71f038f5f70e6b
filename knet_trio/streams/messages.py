"""Messages that are confirmed once they are in the receiver's queue."""

from __future__ import annotations

from typing import Final, final

import trio

from knet_trio import Message
from knet_trio._constructors import NoPublicConstructor
from knet_trio.streams._collecting import Collector, Whole, take_whole
from knet_trio.streams._core.connection import Connection
from knet_trio.streams._core.stream_state import Failure, StreamState
from knet_trio.streams._core.wire import Code
from knet_trio.streams._fair_queue import SWEPT, FairQueue
from knet_trio.streams._host_pump import HostPump
from knet_trio.streams._stream_user import BOTH, UsedStream, reset_all

QUEUED: Final = 64
"""Messages of one host in the queue; the senders of further ones wait."""
_CLOSED: Final = "it takes no messages any more"


@final
class MessageReceiver(trio.abc.ReceiveChannel[Message], metaclass=NoPublicConstructor):
    """A queue of the messages that other hosts send; returned by ``Streams.messages``.

    It holds up to 64 messages of each host, whose senders have been notified of the arrival.
    Further ``send`` calls of that host wait. ``async for`` and ``receive`` take messages
    round-robin over the hosts.
    """

    _MADE_BY = "Streams.messages()"
    __slots__ = ("__weakref__", "_channel", "_closed", "_limit", "_queue", "_waiting")

    def __init__(self, channel: int, limit: int) -> None:
        self._channel = channel
        self._limit = limit
        self._closed = False
        self._queue: FairQueue[tuple[UsedStream, Collector | Whole]] = FairQueue(
            # The senders know that these messages are in the queue, so none is dropped.
            "this message receiver was closed",
            lambda _: False,
            lambda _: None,
        )
        # Complete messages whose senders wait for room in the queue.
        self._waiting: dict[int, dict[UsedStream, Collector | Whole]] = {}

    def offer(self, pump: HostPump, connection: Connection, state: StreamState) -> None:
        """Offer a message that a host has begun. For internal use."""
        if self._closed:
            connection.reset(state, BOTH, Code.REFUSED, _CLOSED)
            return
        used = UsedStream(pump, connection, state)
        whole = take_whole(connection, state, pump.requests, self._limit)
        if whole is not None:
            self._add(used, whole)
            return

        def done(failure: Failure | None) -> None:
            if failure is None and not self._closed:
                state.owner = used
                self._add(used, collector)
            elif failure is None:
                collector.drop()
                connection.reset(state, BOTH, Code.REFUSED, _CLOSED)
            elif not state.is_over:
                connection.reset(state, BOTH, Code.CANCELLED)

        collector = Collector(pump, connection, state, pump.requests, self._limit, done)
        state.owner = collector
        connection.widen(state, trio.current_time())
        collector.touched()

    def _add(self, used: UsedStream, data: Collector | Whole) -> None:
        """Let a complete message wait for room in the queue."""
        host_id = used.pump.host_id
        waiting = self._waiting.setdefault(host_id, {})
        waiting[used] = data
        if len(waiting) >= SWEPT:
            # Most senders have given up; their number is unbounded while nobody takes a message.
            over = [each for each in waiting if each.state.sending_failure is not None]
            for each in over:
                waiting.pop(each).drop()
        self._queue_waiting(host_id)

    async def receive(self) -> Message:
        """Wait for a message and take it.

        A full checkpoint. If cancelled, no message is taken.

        Returns:
            The message, with the id of the host that sent it.

        Raises:
            trio.ClosedResourceError: The receiver was closed.
        """
        used, collector = await self._queue.take()
        if isinstance(collector, Collector):
            await collector.join()
        data = collector.data()
        host_id = used.pump.host_id
        collector.drop()
        self._queue_waiting(host_id)
        used.pump.flush()
        return Message(data, host_id, self._channel)

    def close(self) -> None:
        """Drop the messages that were not taken, and refuse later ones."""
        self._closed = True
        left = [collector for _, collector in self._queue.close()]
        refused: list[UsedStream] = []
        for waiting in self._waiting.values():
            left += waiting.values()
            refused += waiting
        self._waiting.clear()
        for collector in left:
            collector.drop()
        reset_all(refused, Code.REFUSED, _CLOSED)

    async def aclose(self) -> None:
        """Close the receiver as ``close`` does, and execute a checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()

    def _queue_waiting(self, host_id: int) -> None:
        """Move waiting messages of a host into the queue, as many as there is room for."""
        waiting = self._waiting.get(host_id, {})
        while waiting and self._queue.count(host_id) < QUEUED:
            used, collector = next(iter(waiting.items()))
            del waiting[used]
            if used.state.sending_failure is not None:
                # The sender gave it up before it was notified of the arrival.
                collector.drop()
                continue
            self._queue.put(host_id, (used, collector))
            # The end of the other direction is the confirmation that the sender waits for.
            used.connection.finish(used.state)
        if not waiting:
            self._waiting.pop(host_id, None)
