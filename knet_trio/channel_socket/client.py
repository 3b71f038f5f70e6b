"""A program that is connected to a channel's socket."""

from __future__ import annotations

import errno
import fcntl
import logging
import select
import socket
import termios
from collections import deque
from typing import Final

import trio

from knet_trio import Channel, Message
from knet_trio.channel_socket.statistics import ChannelSocketCounts, ChannelSocketLog
from knet_trio.control.socket_file import peer_of

MAX_MESSAGE: Final = 65536
"""The largest message [bytes]."""
QUEUE_BYTES: Final = 4 * 1024 * 1024
"""The largest number of bytes that wait for a program to read them."""

# Packets and bytes that one wake-up reads or writes: a fraction of a millisecond's work.
BATCH: Final = 64
BATCH_BYTES: Final = 256 * 1024
_GONE: Final = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)


class ChannelClient:
    """The connection of one program.

    Args:
        sock: The connection, non-blocking.
        channel: The channel that is served.
        limit: The largest number of messages that wait for the program.
        counts: The counters to update.
        log: The log.
    """

    def __init__(
        self,
        sock: socket.socket,
        channel: Channel,
        limit: int,
        counts: ChannelSocketCounts,
        log: ChannelSocketLog,
    ) -> None:
        self._sock = sock
        self._channel = channel
        self._limit = limit
        self._counts = counts
        self._log = log
        self._queue: deque[Message] = deque()
        self._queue_bytes = 0
        # Set while there is something to write.
        self._something = trio.Event()
        # The wait for packets of the program.
        self._reading = trio.CancelScope()
        self._ending = False
        self._written = trio.Event()
        self.pid: Final = peer_of(sock).pid
        """The process id of the program."""

    # From the program.

    async def serve(self) -> None:
        """Carry messages both ways, until the program hangs up or after ``end``."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._read()
                if self._ending:
                    await self._written.wait()
                nursery.cancel_scope.cancel()
        finally:
            # Messages that the program did not read.
            self._counts.no_client += len(self._queue)
            self._queue.clear()

    def end(self) -> None:
        """Make ``serve`` return once all sent packets are read and all waiting messages written."""
        self._ending = True
        self._reading.cancel()
        self._something.set()

    async def _read(self) -> None:
        """Send the program's packets over the channel, until it hangs up.

        While the channel has no room, no packets are read, so that the program has to wait.
        """
        ended = False
        while not ended:
            batch: list[bytes] = []
            ended = self._drain(batch)
            if batch:
                self._counts.unsent += len(batch)
                await self._channel.send_many(batch)
                self._counts.unsent -= len(batch)
                self._counts.sent += len(batch)
            elif self._ending:
                return
            elif not ended:
                with trio.CancelScope() as self._reading:
                    await trio.lowlevel.wait_readable(self._sock)
        # The program has hung up, so it reads nothing more either.
        self._ending = False

    def _drain(self, batch: list[bytes]) -> bool:
        """Read waiting packets into ``batch``, up to a bound; return True if it hung up."""
        taken = 0
        for _ in range(BATCH):
            try:
                # One byte more than the largest message, to detect packets that are cut off.
                data = self._sock.recv(MAX_MESSAGE + 1)
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                return True
            if 0 < len(data) <= MAX_MESSAGE:
                batch.append(data)
            elif not data and self._at_end():
                return True
            else:
                self._refuse(data)
            taken += len(data)
            if taken >= BATCH_BYTES:
                break
        return False

    def _at_end(self) -> bool:
        """Return whether an empty read was the end and not an empty packet."""
        poll = select.poll()
        poll.register(self._sock, select.POLLRDHUP)
        return bool(poll.poll(0)) and not any(fcntl.ioctl(self._sock, termios.FIONREAD, bytes(4)))

    def _refuse(self, data: bytes) -> None:
        self._counts.malformed += 1
        size = f"of more than {MAX_MESSAGE} bytes" if data else "of 0 bytes"
        self._log.say(
            logging.WARNING,
            f"process {self.pid} has sent a packet {size}, which was dropped: send 1 to"
            f" {MAX_MESSAGE} bytes",
            ("malformed", self.pid),
        )

    # To the program.

    def put(self, message: Message) -> None:
        """Queue a message for the program; drop and count it if the queue is full."""
        size = len(message.data)
        if len(self._queue) >= self._limit or self._queue_bytes + size > QUEUE_BYTES:
            self._drop("it does not read them fast enough")
            return
        self._queue.append(message)
        self._queue_bytes += size
        self._something.set()

    def _drop(self, why: str) -> None:
        self._counts.queue_full += 1
        self._log.say(
            logging.WARNING,
            f"a message to process {self.pid} was dropped: {why}",
            ("queue full", self.pid),
        )

    async def _write(self) -> None:
        """Write messages, until the program hangs up or, after ``end``, all are written."""
        while True:
            if not self._queue:
                if self._ending:
                    self._written.set()
                    return
                self._something = trio.Event()
                await self._something.wait()
            elif not await self._write_some():
                self._written.set()
                return

    async def _write_some(self) -> bool:
        """Write some messages in one turn; return False if the program has hung up."""
        given = 0
        for _ in range(min(BATCH, len(self._queue))):
            data = self._queue[0].data
            try:
                self._sock.send(data)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._sock)
                return True
            except OSError as error:
                if error.errno in _GONE:
                    await trio.lowlevel.checkpoint()
                    return False
                self._drop(error.strerror or str(error))
            self._queue.popleft()
            self._queue_bytes -= len(data)
            given += len(data)
            if given >= BATCH_BYTES:
                break
        await trio.lowlevel.checkpoint()
        return True
