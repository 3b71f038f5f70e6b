"""Messages that are acknowledged when they are in the receiver's queue."""

from __future__ import annotations

from typing import Final, final

import trio

from knet_trio import Message
from knet_trio.streams._collecting import Collector, Whole, take_whole
from knet_trio.streams._core.connection import Connection
from knet_trio.streams._core.stream_state import Failure, StreamState
from knet_trio.streams._core.wire import Code
from knet_trio.streams._fair_queue import SWEPT, FairQueue
from knet_trio.streams._host_pump import HostPump
from knet_trio.streams._stream_user import BOTH, UsedStream, reset_all

QUEUED: Final = 64
"""Messages of a host that wait until the program takes them; the senders of others wait."""
_CLOSED: Final = "it takes no messages any more"


@final
class MessageReceiver(trio.abc.ReceiveChannel[Message]):
    """Takes what other hosts send with ``Streams.send``. ``Streams.messages`` makes it.

    Up to 64 messages of each host wait in it; their senders have been told so. Those who send more
    wait. ``async for`` and ``receive`` go round the hosts.
    """

    __slots__ = ("__weakref__", "_channel", "_closed", "_limit", "_queue", "_waiting")

    def __init__(self, channel: int, limit: int) -> None:
        self._channel = channel
        self._limit = limit
        self._closed = False
        self._queue: FairQueue[tuple[UsedStream, Collector | Whole]] = FairQueue(
            # Its sender knows that it is in the queue, so none is thrown away.
            "these messages were closed",
            lambda _: False,
            lambda _: None,
        )
        # Those that are whole, and whose senders wait for room.
        self._waiting: dict[int, dict[UsedStream, Collector | Whole]] = {}

    def offer(self, pump: HostPump, connection: Connection, state: StreamState) -> None:
        """For the package itself: take a message that a host begins."""
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
        """Have a message that is whole wait for room in the queue."""
        host_id = used.pump.host_id
        waiting = self._waiting.setdefault(host_id, {})
        waiting[used] = data
        if len(waiting) >= SWEPT:
            # Most senders have given up, and more may without end, while nobody takes anything.
            over = [each for each in waiting if each.state.sending_failure is not None]
            for each in over:
                waiting.pop(each).drop()
        self._queue_waiting(host_id)

    async def receive(self) -> Message:
        """Wait for a message, and take it. A full checkpoint; cancelled, it has taken none.

        Raises:
            trio.ClosedResourceError: It was closed.
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
        """Drop what was not taken, and refuse what comes from now on."""
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
        """Do what ``close`` does, and a checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()

    def _queue_waiting(self, host_id: int) -> None:
        """Put as many messages of a host into the queue as there is room for."""
        waiting = self._waiting.get(host_id, {})
        while waiting and self._queue.count(host_id) < QUEUED:
            used, collector = next(iter(waiting.items()))
            del waiting[used]
            if used.state.sending_failure is not None:
                # Its sender has given it up before it knew that it has arrived.
                collector.drop()
                continue
            self._queue.put(host_id, (used, collector))
            # The sender waits for the end of the other direction.
            used.connection.finish(used.state)
        if not waiting:
            self._waiting.pop(host_id, None)
