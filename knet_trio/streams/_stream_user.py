"""A stream in use: waiting for changes, writing, ending."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, cast

import trio

from knet_trio import InvalidArgumentError
from knet_trio.streams._bell import Bell
from knet_trio.streams._core.connection import Connection
from knet_trio.streams._core.packet_builder import LOW_WATER
from knet_trio.streams._core.sending_half import SendingStage
from knet_trio.streams._core.stream_state import StreamState
from knet_trio.streams._core.wire import RECEIVING, SENDING, Code

if TYPE_CHECKING:
    from knet_trio import BytesLike
    from knet_trio.streams._host_pump import HostPump

BOTH: Final = SENDING | RECEIVING
_WRITTEN_AT_ONCE: Final = 1 << 20
# Above this many unsent bytes the host's task sends them, many packets at once.
_LITTLE: Final = 64 * 1024


def check_bytes(data: object, limit: int | None = None) -> bytes | memoryview:
    """Return ``data`` as bytes or a view of bytes, without a copy where possible.

    Raises:
        InvalidArgumentError: ``data`` is not bytes, or has more than ``limit`` bytes.
    """
    if type(data) is bytes and (limit is None or len(data) <= limit):
        return data
    if not isinstance(data, bytes | bytearray | memoryview):
        advice = ": encode it first" if isinstance(data, str) else ""
        raise InvalidArgumentError(f"data is {type(data).__name__}, not bytes{advice}")
    view = memoryview(cast("bytes", data))
    # Only contiguous memory can be cast without a copy.
    view = view.cast("B") if view.c_contiguous and view.nbytes else memoryview(view.tobytes())
    if limit is not None and len(view) > limit:
        raise InvalidArgumentError(
            f"{len(view)} bytes are more than the {limit} of max_size: use a stream"
        )
    return view


def let_go(data: bytes | memoryview) -> None:
    """Release a view that ``check_bytes`` returned, so that its owner can resize the buffer.

    Otherwise a traceback could keep the view alive.
    """
    if isinstance(data, memoryview):
        data.release()


class UsedStream:
    """A stream that the program uses.

    Attributes:
        pump: The pump of the stream's host.
        connection: The connection of the stream.
        state: The state of the stream.
        changed: Rings when the state has changed.
    """

    __slots__ = ("__weakref__", "changed", "connection", "pump", "state")

    def __init__(self, pump: HostPump, connection: Connection, state: StreamState) -> None:
        self.pump: HostPump = pump
        self.connection: Connection = connection
        self.state: StreamState = state
        self.changed: Bell = Bell()
        state.owner = self

    def touched(self) -> None:
        """Wake the tasks that wait for a change."""
        if self.changed.waiting:
            self.changed.ring()

    async def wait_changed(self) -> None:
        """Wait until the state has changed."""
        await self.changed.wait()

    def check_sending(self) -> None:
        """Raise an error if the stream can no longer send.

        Raises:
            trio.BrokenResourceError: The stream has failed.
            trio.ClosedResourceError: The stream was closed here.
        """
        if self.state.sending_failure is not None:
            raise self.pump.error(self.state.sending_failure)
        if self.state.sending.stage is SendingStage.RESET:
            raise trio.ClosedResourceError("this stream was closed")

    async def write(self, data: BytesLike | memoryview, *, last: bool = False) -> None:
        """Write bytes; return when all are buffered, the last of them maybe not sent yet.

        Args:
            data: The bytes.
            last: True to end the sending half after them.
        """
        with memoryview(data).cast("B") as view:
            await self._write(view, last=last)

    async def _write(self, view: memoryview, *, last: bool) -> None:
        sending = self.state.sending
        # Immutable bytes are sent without a copy.
        keeps = isinstance(view.obj, bytes)
        start, end = 0, len(view)
        while start < end:
            room = await self.wait_for_room()
            stop = min(start + min(room, _WRITTEN_AT_ONCE), end)
            part = view[start:stop] if keeps else bytes(view[start:stop])
            self.connection.write(self.state, part)
            start = stop
            if last and stop == end:
                # So that the end goes in one packet with a few bytes.
                self.connection.finish(self.state)
            self.pump.flush(bulk=sending.unsent > _LITTLE)
        if last and not view:
            self.finish()
        if sending.unsent >= LOW_WATER:
            await self.wait_for_room()

    async def wait_for_room(self) -> int:
        """Wait until there is room in the send buffer; return the room in bytes."""
        self.check_sending()
        while not (room := self.connection.room(self.state)):
            self.state.writer_waits = True
            await self.changed.wait()
            self.check_sending()
        return room

    def finish(self) -> None:
        """End the sending half; everything written before still arrives."""
        self.connection.finish(self.state)
        self.pump.flush()

    def reset(self, halves: int, code: Code, reason: str = "") -> None:
        """Abort halves of the stream and notify the peer."""
        self.connection.reset(self.state, halves, code, reason)
        self.pump.flush()


def reset_all(streams: Iterable[UsedStream], code: Code, reason: str) -> None:
    """Abort both halves of several streams, in as few packets as possible."""
    pumps: dict[HostPump, None] = {}
    for used in streams:
        used.connection.reset(used.state, BOTH, code, reason)
        pumps[used.pump] = None
    for pump in pumps:
        pump.flush()
