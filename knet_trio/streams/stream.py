"""A stream to another host, with Trio's stream interface."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, final

import trio

from knet_trio import InvalidArgumentError
from knet_trio._constructors import NoPublicConstructor
from knet_trio.streams._core.receiving_half import ReceivingStage
from knet_trio.streams._core.stream_state import FailureCause
from knet_trio.streams._core.wire import RECEIVING, SENDING, Code
from knet_trio.streams._stream_user import UsedStream, check_bytes, let_go

if TYPE_CHECKING:
    from knet_trio import BytesLike

_READ_AT_ONCE: Final = 256 * 1024


@final
class HostStream(trio.abc.HalfCloseableStream, metaclass=NoPublicConstructor):
    """A reliable stream of bytes to another host, over all its links.

    ``Streams.connect`` returns one, and ``StreamListener.accept`` returns its other end. The bytes
    arrive complete, in order and once, or a call raises ``trio.BrokenResourceError`` with the
    reason.

    The two directions are independent. All calls are full checkpoints.
    """

    _MADE_BY = "Streams.connect() or StreamListener.accept()"
    __slots__ = (
        "__weakref__",
        "_closed",
        "_ended",
        "_raised",
        "_receiving",
        "_sending",
        "_torn",
        "_used",
    )

    def __init__(self, used: UsedStream) -> None:
        self._used = used
        self._closed = False
        self._ended = False
        # Whether a task is in such a call; whether a call has raised the failure already.
        self._sending = self._receiving = False
        self._raised = False
        # Whether a call was interrupted after it had buffered a part of its bytes.
        self._torn = False

    def __repr__(self) -> str:
        return f"<HostStream to host {self.host_id}{' closed' if self._closed else ''}>"

    @property
    def host_id(self) -> int:
        """The id of the other host."""
        return self._used.pump.host_id

    async def send_all(self, data: BytesLike) -> None:
        """Send all bytes.

        Returns when at most the last 2 MiB are still in the send buffer. The buffer is smaller
        while many streams to the host are busy: all of them together hold little more than 64 MiB.
        If cancelled, a part of the bytes may have been sent.

        Args:
            data: The bytes to send.

        Raises:
            trio.BrokenResourceError: The stream has failed.
            trio.ClosedResourceError: The stream was closed here, or ``send_eof`` was called.
            trio.BusyResourceError: Another task is sending on this stream.
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
            self._raised = True
            self._check_open()
            raise
        except BaseException:
            # Cancelled, or a KeyboardInterrupt.
            self._torn |= before < sending.written < before + len(view)
            raise

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room in the send buffer.

        Raises:
            trio.BrokenResourceError: The stream has failed.
            trio.ClosedResourceError: The stream was closed here, or ``send_eof`` was called.
            trio.BusyResourceError: Another task is sending on this stream.
        """
        with self._alone_in_sending():
            await trio.lowlevel.checkpoint()
            self._check_open()
            if self._ended:
                raise trio.ClosedResourceError("send_eof was called on this stream")
            try:
                await self._used.wait_for_room()
            except trio.BrokenResourceError:
                self._raised = True
                self._check_open()
                raise

    async def send_eof(self) -> None:
        """End the sending direction; the other host reads the remaining bytes, then the end.

        Does nothing if it was called before.

        Raises:
            trio.BrokenResourceError: The stream has failed.
            trio.ClosedResourceError: The stream was closed here.
            trio.BusyResourceError: Another task is sending on this stream.
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
        """Wait for bytes and return those that have arrived.

        If cancelled, no bytes are lost.

        Args:
            max_bytes: The largest number of bytes to return; None for all that have arrived, up to
                256 KiB.

        Returns:
            At least one byte; ``b""`` at the end of the stream.

        Raises:
            trio.BrokenResourceError: The stream has failed.
            trio.ClosedResourceError: The stream was closed here.
            trio.BusyResourceError: Another task is receiving on this stream.
            InvalidArgumentError: ``max_bytes`` is not positive.
            TypeError: ``max_bytes`` is not an integer.
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
                    self._raised = True
                    raise used.pump.error(state.receiving_failure)
                await used.wait_changed()
        finally:
            self._receiving = False

    async def aclose(self) -> None:
        """Close both directions.

        Waits until everything sent has arrived, so the other host has to go on reading. Its bytes
        are no longer wanted, so its next ``send_all`` raises. If cancelled, this call does not
        wait; the bytes sent still arrive.

        If a ``send_all`` is under way or was cancelled in the middle, the other host gets an error
        in place of the end of the stream. (After ``send_eof`` it gets the end.)

        Raises:
            trio.BrokenResourceError: Bytes sent may not have arrived, and no call has raised yet.
        """
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        used = self._used
        sending = used.state.sending
        if self._sending or (self._torn and not self._ended):
            # The other host must not take the bytes that arrived for the whole.
            used.reset(SENDING, Code.CANCELLED, "it closed the stream in the middle of send_all")
        used.reset(RECEIVING, Code.CLOSED)
        used.finish()
        # Waiting tasks find the stream closed.
        used.touched()
        await trio.lowlevel.checkpoint()
        while not sending.is_over:
            await used.wait_changed()
        self._check_grace()

    def _check_grace(self) -> None:
        """Raise the failure of a closed stream that no call has raised yet."""
        failure = self._used.state.sending_failure
        if failure is None or self._raised or not self._used.state.sending.written:
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
        # Trio's own streams raise TypeError too.
        raise TypeError(f"max_bytes is {type(max_bytes).__name__}, not an integer or None")
    if max_bytes < 1:
        raise InvalidArgumentError(
            f"max_bytes {max_bytes} is not valid: give a positive integer or None"
        )
    return max_bytes
