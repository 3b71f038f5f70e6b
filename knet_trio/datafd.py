"""Data fds: file descriptors of the program, used as channels.

The bytes of each read are sent as a message on the channel, and each message received on it is
written. So a program, a tap device or a pipe takes part without using knet_trio itself.

All operations use a duplicate of the program's descriptor. Its number stays valid until it is
closed here, whatever the program does with its own descriptor.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import select
import socket
import stat
import struct
import termios
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import attrs
import trio

from knet_trio._core.onwire import MAX_MESSAGE
from knet_trio._logs.names import LogSubsystem
from knet_trio._pipeline.batches import cut
from knet_trio._pipeline.transmitter import Transmitter
from knet_trio._state.channel_queue import ChannelQueue
from knet_trio._state.context import Context
from knet_trio.config import DEFAULT_RECEIVE_BUFFER, check_integer
from knet_trio.errors import BusyError, DropCause, InvalidArgumentError, TransportError
from knet_trio.events import ChannelError
from knet_trio.message import Direction, Message

# The largest number of messages read or written in one wake-up: about a millisecond of work.
BATCH: Final = 64
# The bytes after which reading pauses: the sockets of peers have to hold what is sent at once.
BATCH_BYTES: Final = 256 * 1024
# The send buffer of a socket pair, in bytes, for many large messages; the system may grant less.
PAIR_BUFFER: Final = 8 * 1024 * 1024
# Not in the socket module. Source: asm-generic/socket.h.
SO_SNDBUFFORCE: Final = 32
# Seconds between two events for a descriptor without room.
FULL_TOLD_EVERY: Final = 1.0

# libknet's structure before a message, with the layout of a C compiler: its own size, the host id
# of the sender, and padding.
_RETURN_INFO: Final = struct.Struct("@NH0N")


@attrs.frozen
class Datafd:
    """A file descriptor used as a channel. Returned by ``Handle.add_datafd``.

    Attributes:
        fd: The descriptor of the program, or its end of the socket pair that was made for it.
        channel: The channel, 0 to 31.
        return_info: True if each message read from ``fd`` has libknet's structure with its sender
            before it.
    """

    fd: int
    channel: int
    return_info: bool = False


class DatafdState:
    """The state of a data fd.

    Attributes:
        datafd: The record for the program.
        queue: The messages that were received and not yet written.
    """

    def __init__(self, datafd: Datafd, fd: int, context: Context, transmitter: Transmitter) -> None:
        self.datafd = datafd
        self.queue: ChannelQueue = ChannelQueue(DEFAULT_RECEIVE_BUFFER, context.turns)
        self._fd = fd
        self._keeps_messages_apart = _keeps_messages_apart(fd)
        # The error that left the last message unfinished.
        self._cut_short: int | None = None
        # The time of the last event for lack of room.
        self._full_reported = -math.inf
        self._context = context
        self._transmitter = transmitter

    async def run(self) -> None:
        """Carry messages in both directions, until closed or cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, name="read")
            nursery.start_soon(self._write, name="write")

    def close(self) -> None:
        """Stop using the descriptor. Messages read before are still sent."""
        lost = self.queue.close()
        if lost:
            self._context.counters.drop(DropCause.NO_CHANNEL, lost)
        fd, self._fd = self._fd, -1
        # The program's descriptor keeps the file open, so closing ours would not end the polling.
        trio.lowlevel.notify_closing(fd)
        os.close(fd)

    async def _read(self) -> None:
        """Send what is read, until reading ends or fails.

        While a message waits for room, nothing more is read, so that the writer at the other end
        has to wait.
        """
        ended = False
        error: OSError | None = None
        while not ended:
            batch: list[bytes] = []
            try:
                if not await self._wait(trio.lowlevel.wait_readable):
                    return
                ended = self._drain(batch)
            except OSError as failure:
                ended, error = True, failure
            if not await self._send(batch):
                return
        self._report(Direction.TX, error)

    async def _send(self, batch: list[bytes]) -> bool:
        """Send the messages of ``batch``; return False if the handle ended before all were sent."""
        # The messages that are not sent yet, and those among them that ``send`` has not received.
        left = behind = len(batch)

        def note_waiting(messages: int) -> None:
            nonlocal left
            left = messages + behind

        try:
            for messages in cut(batch) if batch else ():
                behind -= len(messages)
                await self._transmitter.send(messages, self.datafd.channel, on_wait=note_waiting)
                left = behind
        except trio.ClosedResourceError:
            # No error is raised here: the handle reports why it has ended.
            return False
        finally:
            if left:
                self._context.counters.drop(DropCause.SEND_FAILED, left)
        return True

    def _drain(self, batch: list[bytes]) -> bool:
        """Read available messages into ``batch``, up to a bound; return True at the end of data."""
        # One more byte shows that a message is too long, which would be cut off otherwise.
        size = MAX_MESSAGE + self._keeps_messages_apart
        taken = 0
        for _ in range(BATCH):
            try:
                data = os.read(self._fd, size)
            except BlockingIOError:
                return False
            taken += len(data)
            if 0 < len(data) <= MAX_MESSAGE:
                batch.append(data)
            elif not data and self._at_end():
                return True
            else:
                self._context.refuse(
                    DropCause.MESSAGE_SIZE,
                    self.datafd.channel,
                    len(data) or "no",
                    key=self.datafd.channel,
                )
            if taken >= BATCH_BYTES:
                break
        return False

    def _at_end(self) -> bool:
        """Return whether an empty read meant the end of the data, and not an empty message."""
        if not self._keeps_messages_apart:
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLRDHUP)
        # The other end may be closed while messages are still to be read.
        return bool(poll.poll(0)) and not any(fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4)))

    async def _write(self) -> None:
        """Write the messages of the queue, one after the other."""
        reported: int | None = None
        while True:
            try:
                messages = await self.queue.take_many(BATCH)
            except trio.ClosedResourceError:
                return
            left = len(messages)
            try:
                for message in messages:
                    try:
                        if not await self._write_whole(self._framed(message)):
                            return
                    except OSError as error:
                        self._context.counters.drop(DropCause.CHANNEL_ERROR)
                        # Not for each message: other events would be lost.
                        if error.errno != reported:
                            self._report(Direction.RX, error)
                        reported = error.errno
                    else:
                        reported = None
                    left -= 1
            finally:
                # A message that was written in part counts, too.
                if left:
                    self._context.counters.drop(DropCause.NO_CHANNEL, left)

    def _framed(self, message: Message) -> bytes:
        """Return the bytes that are written for a message."""
        if not self.datafd.return_info:
            return message.data
        return _RETURN_INFO.pack(_RETURN_INFO.size, message.source) + message.data

    async def _write_whole(self, data: bytes) -> bool:
        """Write a whole message; return False if the data fd was closed.

        Raises:
            OSError: The descriptor refuses the message. It may accept the next one: a device
                refuses a frame for its size, or while it is down.
        """
        if self._cut_short is not None:
            raise OSError(self._cut_short, os.strerror(self._cut_short))
        rest = memoryview(data)
        while rest:
            if self._fd < 0:
                return False
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError as error:
                self._report_full(error)
                await self._wait(trio.lowlevel.wait_writable)
            except OSError as error:
                if len(rest) < len(data):
                    # The reader would take the next message for the missing part.
                    self._cut_short = error.errno
                raise
        return True

    async def _wait(self, ready: Callable[[int], Awaitable[None]]) -> bool:
        """Wait until the descriptor is ready; return False if it was closed."""
        if self._fd >= 0:
            with suppress(trio.ClosedResourceError):
                await ready(self._fd)
        return self._fd >= 0

    def _report_full(self, error: BlockingIOError) -> None:
        """Report, once a second at most, that a message waits for room in the descriptor."""
        now = self._context.now()
        if now < self._full_reported + FULL_TOLD_EVERY:
            return
        self._full_reported = now
        channel = self.datafd.channel
        self._context.publish(ChannelError(channel, Direction.RX, error.with_traceback(None)))
        self._context.log.info(
            LogSubsystem.HANDLE,
            "fd %d of channel %d has no room, so messages wait: read from its other end",
            self.datafd.fd,
            channel,
            key=("no room", channel),
        )

    def _report(self, direction: Direction, error: OSError | None) -> None:
        if self._fd < 0:
            return
        fd, channel = self.datafd.fd, self.datafd.channel
        self._context.publish(ChannelError(channel, direction, error))
        if error is None:
            self._context.log.info(
                LogSubsystem.HANDLE, "fd %d of channel %d has ended", fd, channel
            )
        else:
            self._context.log.warning(
                LogSubsystem.HANDLE,
                "fd %d of channel %d cannot be %s: %s",
                fd,
                channel,
                "read" if direction is Direction.TX else "written to",
                error.strerror,
                key=(DropCause.CHANNEL_ERROR, channel, direction),
            )


class Datafds:
    """The data fds of one handle.

    Args:
        context: The context of the handle.
        transmitter: Sends the messages.
        channels: The queues of all channels in use, by channel number.
        nursery: The nursery for the task of each data fd.
    """

    def __init__(
        self,
        context: Context,
        transmitter: Transmitter,
        channels: dict[int, ChannelQueue],
        nursery: trio.Nursery,
    ) -> None:
        self._context = context
        self._transmitter = transmitter
        self._channels = channels
        self._nursery = nursery
        self._states: dict[int, DatafdState] = {}
        # The program's ends of the pairs made here, with their status at that time.
        self._pairs: dict[int, os.stat_result] = {}

    def add(self, fd: int | None, channel: int, *, return_info: bool = False) -> Datafd:
        """Use ``fd``, or a new socket pair, as a channel. On an error, nothing has changed.

        Args:
            fd: The descriptor; None makes a socket pair.
            channel: The number of the channel.
            return_info: As for ``Handle.add_datafd``.
        """
        if fd is None:
            fd, own = _open_pair()
            self._pairs[fd] = os.fstat(fd)
        else:
            if check_integer("fd", fd, 0, 2**31 - 1) == 0:
                raise InvalidArgumentError(
                    "fd 0 is standard input, and libknet's value for a new socket pair: leave it"
                    " out for a pair, or give a duplicate of it"
                )
            if fd in self._states:
                raise BusyError(
                    f"fd {fd} is channel {self.get_channel(fd)} already: remove it first",
                    errno=errno.EEXIST,
                )
            own = _take_up(fd)
        datafd = Datafd(fd, channel, return_info)
        state = DatafdState(datafd, own, self._context, self._transmitter)
        self._states[fd] = state
        self._channels[channel] = state.queue
        self._nursery.start_soon(state.run, name=f"datafd {fd}")
        return datafd

    def remove(self, fd: int) -> None:
        """Stop using ``fd`` at once, and close it if it belongs to a pair made here."""
        state = self._find(fd)
        del self._states[fd]
        del self._channels[state.datafd.channel]
        state.close()
        made = self._pairs.pop(fd, None)
        if made is not None:
            _close_if_same(fd, made)

    def close(self) -> None:
        """Stop using all data fds."""
        for fd in list(self._states):
            self.remove(fd)

    def get_channel(self, fd: int) -> int:
        """Return the channel of a data fd."""
        return self._find(fd).datafd.channel

    def get_fd(self, channel: int) -> int:
        """Return the data fd of a channel."""
        for fd, state in self._states.items():
            if state.datafd.channel == channel:
                return fd
        raise InvalidArgumentError(f"channel {channel!r} has no data fd: add one with add_datafd")

    def _find(self, fd: int) -> DatafdState:
        try:
            return self._states[fd]
        except KeyError:
            raise InvalidArgumentError(
                f"fd {fd!r} is not a data fd of this handle: add it with add_datafd"
            ) from None


def _keeps_messages_apart(fd: int) -> bool:
    """Return whether ``fd`` is a socket that preserves message boundaries."""
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return False
    sock = socket.socket(fileno=fd)
    kind = sock.type
    sock.detach()
    return kind != socket.SOCK_STREAM


def _take_up(fd: int) -> int:
    """Return a duplicate of the program's ``fd``, after making that non-blocking, close-on-exec."""
    try:
        own = os.dup(fd)
        try:
            # The system cannot poll regular files, which are always ready.
            with select.epoll() as epoll:
                epoll.register(own, 0)
            os.set_blocking(own, False)
            os.set_inheritable(fd, False)
        except BaseException:
            os.close(own)
            raise
    except OSError as error:
        if error.errno == errno.EBADF:
            raise InvalidArgumentError(
                f"fd {fd} is not open: give an open descriptor", errno=errno.EBADF
            ) from None
        if error.errno == errno.EPERM:
            raise InvalidArgumentError(
                f"fd {fd} cannot be polled, like all regular files: give a socket, a pipe or a"
                " device",
                errno=errno.EPERM,
            ) from None
        raise TransportError.from_os_error(f"cannot make fd {fd} a channel", error) from error
    return own


def _open_pair() -> tuple[int, int]:
    """Return the program's and our end of a socket pair that preserves message boundaries."""
    try:
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            for sock in pair:
                sock.setblocking(False)
                _grow(sock)
        except BaseException:
            for sock in pair:
                sock.close()
            raise
    except OSError as error:
        raise TransportError.from_os_error("cannot make a socket pair", error) from error
    theirs, ours = pair
    return theirs.detach(), ours.detach()


def _grow(sock: socket.socket) -> None:
    # For local sockets, only the send buffer counts.
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, PAIR_BUFFER)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PAIR_BUFFER)


def _close_if_same(fd: int, made: os.stat_result) -> None:
    """Close the program's end of a pair, unless the program has closed it and reused its number."""
    try:
        same = os.path.samestat(os.fstat(fd), made)
    except OSError:
        return
    if same:
        trio.lowlevel.notify_closing(fd)
        os.close(fd)
