"""Streams that other hosts open."""

from __future__ import annotations

from typing import Final, final

import trio

from knet_trio._constructors import NoPublicConstructor, construct
from knet_trio.streams._core.connection import Connection
from knet_trio.streams._core.stream_state import StreamState
from knet_trio.streams._core.wire import Code
from knet_trio.streams._fair_queue import FairQueue
from knet_trio.streams._host_pump import HostPump
from knet_trio.streams._stream_user import BOTH, UsedStream, reset_all
from knet_trio.streams.stream import HostStream

BACKLOG: Final = 64
"""Streams of one host that are accepted before the program takes them."""


@final
class StreamListener(trio.abc.Listener[HostStream], metaclass=NoPublicConstructor):
    """A listener for the streams that other hosts open; returned by ``Streams.listener``.

    Up to 64 streams of each host are accepted in advance; further ``connect`` calls of that host
    wait. ``accept`` takes streams round-robin over the hosts.
    """

    _MADE_BY = "Streams.listener()"
    __slots__ = ("__weakref__", "_closed", "_queue")

    def __init__(self) -> None:
        self._queue: FairQueue[UsedStream] = FairQueue(
            "this listener was closed", _is_over, lambda _: None
        )
        self._closed = False

    def offer(self, pump: HostPump, connection: Connection, state: StreamState) -> None:
        """Offer a stream that a host has opened. For internal use."""
        if self._closed:
            connection.reset(state, BOTH, Code.REFUSED, "its listener was closed")
            return
        if self._queue.count(pump.host_id) < BACKLOG:
            connection.accept(state, trio.current_time())
        self._queue.put(pump.host_id, UsedStream(pump, connection, state))

    async def accept(self) -> HostStream:
        """Wait for a stream that another host opens, and accept it.

        A full checkpoint. If cancelled, no stream is taken.

        Returns:
            The stream, which the caller has to close.

        Raises:
            trio.ClosedResourceError: The listener was closed.
        """
        used = await self._queue.take()
        while used.state.is_over:
            # The other host has already given it up.
            used = await self._queue.take()
        used.connection.accept(used.state, trio.current_time())
        used.pump.flush()
        return construct(HostStream, used)

    def close(self) -> None:
        """Refuse the streams that were not accepted, and all later ones."""
        self._closed = True
        reset_all(self._queue.close(), Code.REFUSED, "its listener was closed")

    async def aclose(self) -> None:
        """Close the listener as ``close`` does, and execute a checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()

    @property
    def is_closed(self) -> bool:
        """True if the listener was closed."""
        return self._closed


def _is_over(used: UsedStream) -> bool:
    """Return whether a stream may be dropped if there are too many."""
    # A stream of an ended connection may still have bytes to read. But on its next connection the
    # other host may open as many streams again, and so on.
    return used.state.is_over or used.connection.failure is not None
