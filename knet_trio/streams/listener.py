"""Streams that other hosts open."""

from __future__ import annotations

from typing import Final, final

import trio

from knet_trio.streams._core.connection import Connection
from knet_trio.streams._core.stream_state import StreamState
from knet_trio.streams._core.wire import Code
from knet_trio.streams._fair_queue import FairQueue
from knet_trio.streams._host_pump import HostPump
from knet_trio.streams._stream_user import BOTH, UsedStream, reset_all
from knet_trio.streams.stream import HostStream

BACKLOG: Final = 64
"""Streams of a host that are accepted before the program has taken them."""


@final
class StreamListener(trio.abc.Listener[HostStream]):
    """Takes the streams that other hosts open. ``Streams.listener`` makes it.

    Up to 64 streams of each host are accepted before the program takes them; those that open more
    wait. ``accept`` goes round the hosts.
    """

    __slots__ = ("__weakref__", "_closed", "_queue")

    def __init__(self) -> None:
        self._queue: FairQueue[UsedStream] = FairQueue(
            "this listener was closed", _is_over, lambda _: None
        )
        self._closed = False

    def offer(self, pump: HostPump, connection: Connection, state: StreamState) -> None:
        """For the package itself: take a stream that a host has opened."""
        if self._closed:
            connection.reset(state, BOTH, Code.REFUSED, "its listener was closed")
            return
        if self._queue.count(pump.host_id) < BACKLOG:
            connection.accept(state, trio.current_time())
        self._queue.put(pump.host_id, UsedStream(pump, connection, state))

    async def accept(self) -> HostStream:
        """Wait for a stream that another host opens, and take it. A full checkpoint.

        Raises:
            trio.ClosedResourceError: The listener was closed.
        """
        used = await self._queue.take()
        while used.state.is_over:
            # Whoever opened it has given it up.
            used = await self._queue.take()
        used.connection.accept(used.state, trio.current_time())
        used.pump.flush()
        return HostStream(used)

    def close(self) -> None:
        """Refuse what was not taken, and all that is opened from now on."""
        self._closed = True
        reset_all(self._queue.close(), Code.REFUSED, "its listener was closed")

    async def aclose(self) -> None:
        """Do what ``close`` does, and a checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed


def _is_over(used: UsedStream) -> bool:
    """Return whether a stream may be thrown away if there are too many."""
    # All there is to read may have come on a connection that has ended since. But then the other
    # side may open as many streams again on the next one, and so on.
    return used.state.is_over or used.connection.failure is not None
