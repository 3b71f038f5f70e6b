"""Serving a channel at a Unix socket.

::

    a program -> its client -> read packets -> the channel
    the channel -> deliver: to the queue of each client -> write packets -> each program

A program whose messages find no room in the channel waits alone: its packets are not read
meanwhile. A program that does not read delays nobody: when its queue is full, messages are dropped
for it alone.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import AsyncGenerator
from grp import getgrnam
from os import PathLike
from pathlib import Path
from typing import Final, final

import attrs
import trio

from knet_trio import Channel, Handle, InvalidArgumentError, Message
from knet_trio._constructors import NoPublicConstructor, construct
from knet_trio._opening import opens
from knet_trio.channel_socket.client import BATCH, ChannelClient
from knet_trio.channel_socket.errors import ChannelSocketError
from knet_trio.channel_socket.statistics import (
    ChannelSocketCounts,
    ChannelSocketLog,
    ChannelSocketStatistics,
)
from knet_trio.config import DEFAULT_RECEIVE_BUFFER, check_integer
from knet_trio.control.socket_file import MODE, SocketFile, open_socket_file
from knet_trio.errors import shown

MAX_CLIENTS: Final = 64
"""The largest number of connected programs."""
LAST_WORDS: Final = 1.0
"""Seconds at the end of the block in which pending messages are still passed on."""

# Messages given to clients in one turn.
_GIVEN_AT_ONCE: Final = 1024
# Seconds until accepting is tried again after the system had no room for a connection.
_PATIENCE: Final = 0.1
_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@opens("serve_channel(handle, 2, path) as channel_socket")
async def serve_channel(
    handle: Handle,
    channel: int,
    path: str | PathLike[str],
    *,
    mode: int = MODE,
    group: str | int | None = None,
    receive_buffer: int = DEFAULT_RECEIVE_BUFFER,
) -> AsyncGenerator[ChannelSocket]:
    """Let programs of this machine send and receive on a channel during the block.

    ::

        async with (
            open_handle(1) as handle,
            serve_channel(handle, 2, "/run/my-program/events.data"),
        ):
            ...

    The socket has type SOCK_SEQPACKET. Each packet that a program sends, of 1 to 65536 bytes, is
    sent as a message by ``Channel.send`` without ``to``. Each message that arrives on the channel
    goes to every connected program, as a packet. An existing socket that nobody listens at is
    replaced; its directory is created if only the last part of it is missing.

    At the normal end of the block, packets that programs have sent are passed on and waiting
    messages are written to the programs, as far as there is room within a second.

    Args:
        handle: The handle, which should outlive the block.
        channel: The channel, 0 to 31, not open yet.
        path: The path of the socket, up to 107 bytes.
        mode: The mode of the socket's file, which decides who may connect.
        group: The group of the file, by name or number; None for the group of this process.
        receive_buffer: The largest number of messages that wait in the channel, and for each
            program.

    Yields:
        The served channel, for its counters.

    Raises:
        BusyError: The channel is open already.
        ChannelSocketError: Another program serves the path, another file is there, or the system
            refuses.
        InvalidArgumentError: An argument is out of range, or the group does not exist.
    """
    wanted = SocketFile(
        Path(path),
        kind=socket.SOCK_SEQPACKET,
        mode=check_integer("mode", mode, 0, 0o777),
        group=_find_group(group),
        error=ChannelSocketError,
    )
    async with open_socket_file(wanted) as listener:
        opened = handle.open_channel(channel, receive_buffer=receive_buffer)
        try:
            async with trio.open_nursery() as nursery:
                server = construct(ChannelSocket, opened, receive_buffer)
                nursery.start_soon(server.run, listener)
                yield server
                await server.finish()
                nursery.cancel_scope.cancel()
            server.tell_lost()
        finally:
            opened.close()


def _find_group(group: str | int | None) -> int | None:
    if isinstance(group, str) and not group.isdecimal():
        try:
            return getgrnam(group).gr_gid
        except KeyError:
            raise InvalidArgumentError(
                f"group {shown(group)} does not exist on this machine: create it or give another"
            ) from None
    return None if group is None else check_integer("group", int(group), 0, 2**32 - 2)


@final
class ChannelSocket(metaclass=NoPublicConstructor):
    """A channel that is served to programs; returned by ``serve_channel``."""

    _MADE_BY = "knet_trio.channel_socket.serve_channel()"

    def __init__(self, channel: Channel, limit: int) -> None:
        self._channel = channel
        self._limit = limit
        self._clients: set[ChannelClient] = set()
        self._counts = ChannelSocketCounts()
        self._log = ChannelSocketLog(channel.channel)
        self._accepting = trio.CancelScope()
        self._empty = trio.Event()

    def __repr__(self) -> str:
        return f"<ChannelSocket of channel {self._channel.channel}: {len(self._clients)} clients>"

    def statistics(self) -> ChannelSocketStatistics:
        """Return the present counters."""
        return ChannelSocketStatistics(len(self._clients), **attrs.asdict(self._counts))

    async def run(self, listener: socket.socket) -> None:
        """Accept programs and carry their messages, until cancelled. For internal use.

        Args:
            listener: The listening socket.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._log.tell_counts)
            nursery.start_soon(self._deliver, listener, nursery)
            with self._accepting:
                while True:
                    await trio.lowlevel.wait_readable(listener)
                    if not self._let_in(listener, nursery):
                        await trio.sleep(_PATIENCE)

    async def finish(self) -> None:
        """Pass on pending messages, for a second at most. For internal use."""
        self._accepting.cancel()
        with trio.move_on_after(LAST_WORDS):
            try:
                while True:
                    self._give([self._channel.receive_nowait()])
                    await trio.lowlevel.checkpoint()
            except (trio.WouldBlock, trio.EndOfChannel):
                # All messages of the channel are given to the clients.
                for client in self._clients:
                    client.end()
            if self._clients:
                await self._empty.wait()

    def tell_lost(self) -> None:
        """Log how many packets were dropped at the end. For internal use."""
        unsent = self._counts.unsent
        if unsent:
            what = f"up to {unsent} packets of programs were not sent: no room in the channel"
            self._log.say(logging.WARNING, what, "unsent")

    def _let_in(self, listener: socket.socket, nursery: trio.Nursery) -> bool:
        """Accept all waiting connections; return False if the system has no room for one."""
        while True:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno in _NO_ROOM:
                    what = f"cannot accept a connection: {error.strerror}"
                    self._log.say(logging.ERROR, what, error.errno)
                    return False
                if error.errno != errno.ECONNABORTED:
                    raise
                continue
            if len(self._clients) >= MAX_CLIENTS:
                most = f"{MAX_CLIENTS} programs are connected, which is the most"
                self._log.say(logging.WARNING, f"a connection was refused: {most}", "too many")
                sock.close()
                continue
            sock.setblocking(False)
            client = ChannelClient(sock, self._channel, self._limit, self._counts, self._log)
            self._clients.add(client)
            nursery.start_soon(self._serve, sock, client)

    async def _serve(self, sock: socket.socket, client: ChannelClient) -> None:
        with sock:
            try:
                await client.serve()
            finally:
                self._clients.discard(client)
                if not self._clients:
                    self._empty.set()

    async def _deliver(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        """Give every message to every program, until the handle is closed."""
        while True:
            limit = max(1, min(BATCH, _GIVEN_AT_ONCE // max(1, len(self._clients))))
            try:
                messages = await self._channel.receive_many(limit)
            except trio.EndOfChannel:
                return
            # Programs that connected before the messages arrived get them too.
            self._let_in(listener, nursery)
            self._give(messages)

    def _give(self, messages: list[Message]) -> None:
        self._counts.received += len(messages)
        if not self._clients:
            self._counts.no_client += len(messages)
            what = "a message was dropped: no program is connected"
            self._log.say(logging.INFO, what, "nobody", len(messages))
        for client in self._clients:
            for message in messages:
                client.put(message)
