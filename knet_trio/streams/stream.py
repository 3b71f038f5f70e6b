"""A stream to another host, as Trio knows streams."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, final

import trio

from knet_trio import InvalidArgumentError
from knet_trio.streams._core.receiving_half import ReceivingStage
from knet_trio.streams._core.stream_state import FailureCause
from knet_trio.streams._core.wire import RECEIVING, SENDING, Code
from knet_trio.streams._stream_user import UsedStream, check_bytes, let_go

if TYPE_CHECKING:
    from knet_trio import BytesLike

_READ_AT_ONCE: Final = 256 * 1024


@final
class HostStream(trio.abc.HalfCloseableStream):
    """A stream of bytes to another host, over all its links.

    ``Streams.connect`` makes it on one side, ``StreamListener.accept`` on the other. What is sent
    arrives whole, in order and once, or a call raises ``trio.BrokenResourceError`` with the reason.

    The two directions are independent. Calls are full checkpoints.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_ended",
        "_receiving",
        "_sending",
        "_told",
        "_torn",
        "_used",
    )

    def __init__(self, used: UsedStream) -> None:
        self._used = used
        self._closed = False
        self._ended = False
        # Whether a task is in such a call, and whether one has raised what is wrong.
        self._sending = self._receiving = False
        self._told = False
        # Whether a part of what a call was to send has been sent, and the rest has not.
        self._torn = False

    def __repr__(self) -> str:
        return f"<HostStream to host {self.host_id}{' closed' if self._closed else ''}>"

    @property
    def host_id(self) -> int:
        """The id of the host on the other side."""
        return self._used.pump.host_id

    async def send_all(self, data: BytesLike) -> None:
        """Send all bytes.

        Returns when the last of them wait to be sent, 2 MiB at most; less where many streams to the
        host wait, as all of them hold 64 MiB and a little at most. Cancelled, it may have sent a
        beginning of them.

        Raises:
            trio.BrokenResourceError: The stream has failed.
            trio.ClosedResourceError: The stream was closed here, or ``send_eof`` was called.
            trio.BusyResourceError: Another task is sending on it.
            InvalidArgumentError: ``data`` is not bytes.
        """
        with self._alone_in_sending():
            view = check_bytes(data)
            try:
                await self._send(view)
            finally:
                let_go(view)

    async def _send(self, view: bytes | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self._check_open()
        if self._ended:
            raise trio.ClosedResourceError("send_eof was called on this stream")
        sending = self._used.state.sending
        before = sending.written
        try:
            await self._used.write(view)
        except trio.BrokenResourceError:
            self._told = True
            self._check_open()
            raise
        except BaseException:
            # Cancelled, or a KeyboardInterrupt.
            self._torn |= before < sending.written < before + len(view)
            raise

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there may be room for more. Raises what ``send_all`` does."""
        with self._alone_in_sending():
            await trio.lowlevel.checkpoint()
            self._check_open()
            if self._ended:
                raise trio.ClosedResourceError("send_eof was called on this stream")
            try:
                await self._used.wait_for_room()
            except trio.BrokenResourceError:
                self._told = True
                self._check_open()
                raise

    async def send_eof(self) -> None:
        """End what this side sends; the other side reads what is left, and then the end.

        Raises what ``send_all`` does, but nothing if it was called before.
        """
        with self._alone_in_sending():
            await trio.lowlevel.checkpoint()
            self._check_open()
            if self._ended:
                return
            self._used.check_sending()
            self._ended = True
            self._used.finish()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return bytes that have arrived, at least one; ``b""`` at the end.

        Args:
            max_bytes: How many at most; None for as many as are there, up to 256 KiB.

        Raises:
            trio.BrokenResourceError: The stream has failed.
            trio.ClosedResourceError: The stream was closed here.
            trio.BusyResourceError: Another task is receiving on it.
            InvalidArgumentError: ``max_bytes`` is not positive.
            TypeError: ``max_bytes`` is no integer.
        """
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this stream")
        self._receiving = True
        try:
            limit = _READ_AT_ONCE if max_bytes is None else _check_max_bytes(max_bytes)
            await trio.lowlevel.checkpoint()
            used = self._used
            state = used.state
            receiving = state.receiving
            while True:
                self._check_open()
                if receiving.available:
                    data = used.connection.read(state, limit, trio.current_time())
                    used.pump.flush()
                    return data
                if receiving.stage is ReceivingStage.WHOLE:
                    used.connection.end_read(state)
                    used.pump.flush()
                if receiving.stage is ReceivingStage.DONE:
                    return b""
                if state.receiving_failure is not None:
                    self._told = True
                    raise used.pump.error(state.receiving_failure)
                await used.wait_news()
        finally:
            self._receiving = False

    async def aclose(self) -> None:
        """Close both directions.

        Waits until all that was sent has arrived, so the other side has to go on reading. What it
        sends is not wanted any more, and its next ``send_all`` raises. Cancelled, it does not wait;
        what was sent still arrives.

        If a ``send_all`` is under way, or was cancelled in the middle, the other side is told that
        something is missing, where it would find the end. (After ``send_eof`` it finds the end.)

        Raises:
            trio.BrokenResourceError: What was sent may not have arrived, and no call has said so.
        """
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        used = self._used
        sending = used.state.sending
        if self._sending or (self._torn and not self._ended):
            # The other side must not take what has come for all there is.
            used.reset(SENDING, Code.CANCELLED, "it was closed in the middle of something")
        used.reset(RECEIVING, Code.CLOSED)
        used.finish()
        # Those who wait find it closed.
        used.touched()
        await trio.lowlevel.checkpoint()
        while not sending.is_over:
            await used.wait_news()
        self._check_grace()

    def _check_grace(self) -> None:
        """Raise what was wrong when the stream was closed, if nobody knows."""
        failure = self._used.state.sending_failure
        if failure is None or self._told or not self._used.state.sending.written:
            return
        if failure.cause in (FailureCause.CLOSED, FailureCause.CLOSED_HERE):
            return
        raise self._used.pump.error(failure)

    @contextmanager
    def _alone_in_sending(self) -> Generator[None, None, None]:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            yield
        finally:
            self._sending = False

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")


def _check_max_bytes(max_bytes: object) -> int:
    if not isinstance(max_bytes, int) or isinstance(max_bytes, bool):
        # As Trio's own streams have it.
        raise TypeError(f"max_bytes is {type(max_bytes).__name__}, not an integer or None")
    if max_bytes < 1:
        raise InvalidArgumentError(f"max_bytes {max_bytes} is not a positive integer")
    return max_bytes
