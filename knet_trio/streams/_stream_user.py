"""What everybody who uses a stream needs: to wait for news of it, and to write."""

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
# With more than this to be sent, the task of the host sends it, many packets at once.
_LITTLE: Final = 64 * 1024


def check_bytes(data: object, limit: int | None = None) -> bytes | memoryview:
    """Return ``data`` as bytes, in place; raise InvalidArgumentError if it is none, or too long."""
    if type(data) is bytes and (limit is None or len(data) <= limit):
        return data
    if not isinstance(data, bytes | bytearray | memoryview):
        advice = ": encode it first" if isinstance(data, str) else ""
        raise InvalidArgumentError(f"bytes can be sent, not {type(data).__name__}{advice}")
    view = memoryview(cast("bytes", data))
    # Only what lies in one place can be taken for bytes in place.
    view = view.cast("B") if view.c_contiguous and view.nbytes else memoryview(view.tobytes())
    if limit is not None and len(view) > limit:
        raise InvalidArgumentError(
            f"{len(view)} bytes are more than the {limit} of max_size: use a stream"
        )
    return view


def let_go(data: bytes | memoryview) -> None:
    """Want no more of what ``check_bytes`` has returned: its owner may make it longer or shorter.

    An exception may keep it for long, else.
    """
    if isinstance(data, memoryview):
        data.release()


class UsedStream:
    """A stream that a part of the program uses.

    Attributes:
        pump: Of its host.
        connection: Its connection.
        state: Its state.
        news: Rings when something has changed.
    """

    __slots__ = ("__weakref__", "connection", "news", "pump", "state")

    def __init__(self, pump: HostPump, connection: Connection, state: StreamState) -> None:
        self.pump = pump
        self.connection = connection
        self.state = state
        self.news = Bell()
        state.owner = self

    def touched(self) -> None:
        """Wake those who wait for news."""
        if self.news.waiting:
            self.news.ring()

    async def wait_news(self) -> None:
        """Wait until something has changed."""
        await self.news.wait()

    def check_sending(self) -> None:
        """Raise the error for a stream on which nothing can be sent any more."""
        if self.state.sending_failure is not None:
            raise self.pump.error(self.state.sending_failure)
        if self.state.sending.stage is SendingStage.RESET:
            raise trio.ClosedResourceError("this stream was closed")

    async def write(self, data: BytesLike | memoryview, *, last: bool = False) -> None:
        """Hand over bytes; return when all have been, the last of them maybe not sent yet.

        With ``last`` they are the last.
        """
        with memoryview(data).cast("B") as view:
            await self._write(view, last=last)

    async def _write(self, view: memoryview, *, last: bool) -> None:
        sending = self.state.sending
        # What cannot change is sent from where it is.
        keeps = isinstance(view.obj, bytes)
        start, end = 0, len(view)
        while start < end:
            room = await self.wait_for_room()
            stop = min(start + min(room, _WRITTEN_AT_ONCE), end)
            part = view[start:stop] if keeps else bytes(view[start:stop])
            self.connection.write(self.state, part)
            start = stop
            if last and stop == end:
                # In one packet with its bytes, if they are few.
                self.connection.finish(self.state)
            self.pump.flush(bulk=sending.unsent > _LITTLE)
        if last and not view:
            self.finish()
        if sending.unsent >= LOW_WATER:
            await self.wait_for_room()

    async def wait_for_room(self) -> int:
        """Wait until there is room for more to be sent; return for how many bytes."""
        self.check_sending()
        while not (room := self.connection.room(self.state)):
            self.state.writer_waits = True
            await self.news.wait()
            self.check_sending()
        return room

    def finish(self) -> None:
        """End what this side sends."""
        self.connection.finish(self.state)
        self.pump.flush()

    def reset(self, halves: int, code: Code, reason: str = "") -> None:
        """End halves of it before their time."""
        self.connection.reset(self.state, halves, code, reason)
        self.pump.flush()


def reset_all(streams: Iterable[UsedStream], code: Code, reason: str) -> None:
    """End both halves of streams before their time, in as few packets as that takes."""
    pumps: dict[HostPump, None] = {}
    for used in streams:
        used.connection.reset(used.state, BOTH, code, reason)
        pumps[used.pump] = None
    for pump in pumps:
        pump.flush()
