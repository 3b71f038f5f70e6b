"""Data fds: file descriptors of the program that are channels.

Each read from one is sent as a message on its channel, and what arrives there is written to it. So
a program, a tap device or a pipe takes part without knowing of knet_trio.

Everything is done on a duplicate of the program's descriptor. Its number stays ours until we close
it, whatever the program does with its own.
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

# What one wake-up may read or write: about a millisecond's work.
BATCH: Final = 64
# Reading stops at this many bytes too: the peers' sockets have to take what follows at once.
BATCH_BYTES: Final = 256 * 1024
# Room for many of the largest messages; the system may grant less.
PAIR_BUFFER: Final = 8 * 1024 * 1024
# Not named by the socket module. Source: asm-generic/socket.h.
SO_SNDBUFFORCE: Final = 32
# Seconds between two events that say that a descriptor has no room.
FULL_TOLD_EVERY: Final = 1.0

# libknet's structure in front of a message, as a C compiler lays it out: its own size, the sender's
# host id, and what fills it up.
_RETURN_INFO: Final = struct.Struct("@NH0N")


@attrs.frozen
class Datafd:
    """A file descriptor that is a channel. ``Handle.add_datafd`` makes it.

    Attributes:
        fd: The program's own descriptor, or its end of the socket pair that was made for it.
        channel: The channel, 0 to 31.
        return_info: Whether what says who sent it stands before each message that is read from
            ``fd``.
    """

    fd: int
    channel: int
    return_info: bool = False


class DatafdState:
    """What is behind a data fd.

    Attributes:
        datafd: The record that the program has.
        queue: What arrived and is not written yet.
    """

    def __init__(self, datafd: Datafd, fd: int, context: Context, transmitter: Transmitter) -> None:
        self.datafd = datafd
        self.queue: ChannelQueue = ChannelQueue(DEFAULT_RECEIVE_BUFFER, context.turns)
        self._fd = fd
        self._keeps_messages_apart = _keeps_messages_apart(fd)
        # The error that left the last message unfinished.
        self._cut_short: int | None = None
        # When it was told last that there is no room.
        self._full_told = -math.inf
        self._context = context
        self._transmitter = transmitter

    async def run(self) -> None:
        """Carry messages both ways, until closed or cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, name="read")
            nursery.start_soon(self._write, name="write")

    def close(self) -> None:
        """Use the descriptor no more. What was read before still goes out."""
        lost = self.queue.close()
        if lost:
            self._context.counters.drop(DropCause.NO_CHANNEL, lost)
        fd, self._fd = self._fd, -1
        # The program's descriptor keeps the file open, so closing ours would not end the polling.
        trio.lowlevel.notify_closing(fd)
        os.close(fd)

    async def _read(self) -> None:
        """Send what can be read, until that ends or fails.

        While what was read waits for room, nothing more is read, so whoever writes at the other end
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
        self._tell(Direction.TX, error)

    async def _send(self, batch: list[bytes]) -> bool:
        """Send what was read; return False if the handle has ended before all is handed over."""
        # Those that are not handed over, and of these the ones that ``send`` does not have yet.
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
            # Nobody is told here: it ends with what ends the handle.
            return False
        finally:
            if left:
                self._context.counters.drop(DropCause.SEND_FAILED, left)
        return True

    def _drain(self, batch: list[bytes]) -> bool:
        """Read into ``batch`` what is there, up to a bound; return whether that was the last."""
        # One byte more tells the messages that are too long, and would be cut off.
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
        """Return whether reading nothing meant the end, and not an empty message."""
        if not self._keeps_messages_apart:
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLRDHUP)
        # The other end may be closed with messages still to be read.
        return bool(poll.poll(0)) and not any(fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4)))

    async def _write(self) -> None:
        """Write what arrives, message by message."""
        told: int | None = None
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
                        # Once, and not with each message: other events would be lost for that.
                        if error.errno != told:
                            self._tell(Direction.RX, error)
                        told = error.errno
                    else:
                        told = None
                    left -= 1
            finally:
                # The one that is cut off too: nobody got the whole of it.
                if left:
                    self._context.counters.drop(DropCause.NO_CHANNEL, left)

    def _framed(self, message: Message) -> bytes:
        """Return what is written for a message."""
        if not self.datafd.return_info:
            return message.data
        return _RETURN_INFO.pack(_RETURN_INFO.size, message.source) + message.data

    async def _write_whole(self, data: bytes) -> bool:
        """Write a message to its end before anything else; return False if the data fd was closed.

        Raises:
            OSError: It is refused. The next one may be taken all the same: a device refuses a
                frame for its size, or while it is down.
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
                self._tell_full(error)
                await self._wait(trio.lowlevel.wait_writable)
            except OSError as error:
                if len(rest) < len(data):
                    # What came next would be taken for the missing part.
                    self._cut_short = error.errno
                raise
        return True

    async def _wait(self, ready: Callable[[int], Awaitable[None]]) -> bool:
        """Wait until the descriptor is ready; return False if it was closed."""
        if self._fd >= 0:
            with suppress(trio.ClosedResourceError):
                await ready(self._fd)
        return self._fd >= 0

    def _tell_full(self, error: BlockingIOError) -> None:
        """Tell, now and then, that there is no room for a message, which waits for some."""
        now = self._context.now()
        if now < self._full_told + FULL_TOLD_EVERY:
            return
        self._full_told = now
        channel = self.datafd.channel
        self._context.tell(ChannelError(channel, Direction.RX, error.with_traceback(None)))
        self._context.log.info(
            LogSubsystem.HANDLE,
            "fd %d of channel %d has no room, what arrives has to wait",
            self.datafd.fd,
            channel,
            key=("no room", channel),
        )

    def _tell(self, direction: Direction, error: OSError | None) -> None:
        if self._fd < 0:
            return
        fd, channel = self.datafd.fd, self.datafd.channel
        self._context.tell(ChannelError(channel, direction, error))
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
        channels: The queues of all channels in use, by their numbers.
        nursery: Where the task of each data fd runs.
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
        # The program's ends of the pairs made here, as they were then.
        self._pairs: dict[int, os.stat_result] = {}

    def add(self, fd: int | None, channel: int, *, return_info: bool = False) -> Datafd:
        """Make ``fd``, or a new socket pair, a channel. On an error nothing has changed."""
        if fd is None:
            fd, own = _open_pair()
            self._pairs[fd] = os.fstat(fd)
        else:
            if check_integer("fd", fd, 0, 2**31 - 1) == 0:
                raise InvalidArgumentError(
                    "fd 0 would be standard input: leave it out for a socket pair, or give a"
                    " duplicate of it"
                )
            if fd in self._states:
                raise BusyError(
                    f"fd {fd} is channel {self.get_channel(fd)}; remove it first",
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
        """Let go of ``fd`` at once, and close it if it is of a pair made here."""
        state = self._find(fd)
        del self._states[fd]
        del self._channels[state.datafd.channel]
        state.close()
        made = self._pairs.pop(fd, None)
        if made is not None:
            _close_if_same(fd, made)

    def close(self) -> None:
        """Let go of all data fds."""
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
        raise InvalidArgumentError(f"channel {channel!r} has no data fd; add_datafd gives it one")

    def _find(self, fd: int) -> DatafdState:
        try:
            return self._states[fd]
        except KeyError:
            raise InvalidArgumentError(f"fd {fd!r} is no data fd of this handle") from None


def _keeps_messages_apart(fd: int) -> bool:
    """Return whether ``fd`` is a socket that gives each message as it was sent."""
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return False
    sock = socket.socket(fileno=fd)
    kind = sock.type
    sock.detach()
    return kind != socket.SOCK_STREAM


def _take_up(fd: int) -> int:
    """Return a duplicate of the program's ``fd``, which is made non-blocking and close-on-exec."""
    try:
        own = os.dup(fd)
        try:
            # Regular files are always ready, and the system does not poll them.
            with select.epoll() as epoll:
                epoll.register(own, 0)
            os.set_blocking(own, False)
            os.set_inheritable(fd, False)
        except BaseException:
            os.close(own)
            raise
    except OSError as error:
        if error.errno == errno.EBADF:
            raise InvalidArgumentError(f"fd {fd} is not open", errno=errno.EBADF) from None
        if error.errno == errno.EPERM:
            raise InvalidArgumentError(
                f"fd {fd} cannot be waited for, as no regular file can: give a socket, a pipe or a"
                " device",
                errno=errno.EPERM,
            ) from None
        raise TransportError.from_os_error(f"cannot make fd {fd} a channel", error) from error
    return own


def _open_pair() -> tuple[int, int]:
    """Return the program's and our end of a socket pair that keeps messages apart."""
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
    # Between local sockets only the sender's buffer counts.
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, PAIR_BUFFER)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PAIR_BUFFER)


def _close_if_same(fd: int, made: os.stat_result) -> None:
    """Close the program's end of a pair, unless the program did: its number may be another's."""
    try:
        same = os.path.samestat(os.fstat(fd), made)
    except OSError:
        return
    if same:
        trio.lowlevel.notify_closing(fd)
        os.close(fd)
