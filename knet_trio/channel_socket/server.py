"""Serving a channel at a Unix socket.

::

    a program -> its client -> read packets -> the channel
    the channel -> deliver: to the queue of each client -> write packets -> each program

A program whose messages find no room in the channel waits alone, as its packets are not read
meanwhile. One that does not read holds up nobody: what finds its queue full is lost to it alone.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from grp import getgrnam
from os import PathLike
from pathlib import Path
from typing import Final, final

import attrs
import trio

from knet_trio import Channel, Handle, InvalidArgumentError, Message
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
"""How many programs are connected at once."""
LAST_WORDS: Final = 1.0
"""Seconds in which, at the end, what has been sent is passed on."""

# Messages given to clients in one turn.
_GIVEN_AT_ONCE: Final = 1024
# Seconds until a connection is tried again that the system had no room for.
_PATIENCE: Final = 0.1
_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@asynccontextmanager
async def serve_channel(
    handle: Handle,
    channel: int,
    path: str | PathLike[str],
    *,
    mode: int = MODE,
    group: str | int | None = None,
    receive_buffer: int = DEFAULT_RECEIVE_BUFFER,
) -> AsyncGenerator[ChannelSocket]:
    """Let programs of this machine send and receive on a channel while the block runs.

    ::

        async with (
            open_handle(1) as handle,
            serve_channel(handle, 2, "/run/my-program/events.data"),
        ):
            ...

    The socket is a SOCK_SEQPACKET: each packet that a program sends, of 1 to 65536 bytes, is a
    message, which goes where those of ``Channel.send`` without ``to`` go. Each message of the
    channel goes to every program that is connected, as a packet. A socket that is there and that
    nobody listens at is replaced; its directory is made if only that is missing.

    At the normal end of the block, what programs have sent before is handed over, and what waits
    for them is given to them, as far as there is room for it within a second.

    Args:
        handle: The handle, which should outlive the block.
        channel: 0 to 31, not open yet.
        path: Where the socket is, up to 107 bytes.
        mode: The mode of its file: who may connect.
        group: The group of its file, by name or number; None for that of this process.
        receive_buffer: How many messages wait in the channel at most, and how many for a program.

    Yields:
        What is served, for its counters.

    Raises:
        BusyError: The channel is open.
        ChannelSocketError: Another program serves the path, something else is there, or the system
            refuses.
        InvalidArgumentError: An argument is out of its range, or there is no such group.
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
                server = ChannelSocket(opened, receive_buffer)
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
                f"there is no group {shown(group)} on this machine: make it, or name another"
            ) from None
    return None if group is None else check_integer("group", int(group), 0, 2**32 - 2)


@final
class ChannelSocket:
    """A channel that is served to programs. ``serve_channel`` makes it."""

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
        """Return what became of its messages."""
        return ChannelSocketStatistics(len(self._clients), **attrs.asdict(self._counts))

    async def run(self, listener: socket.socket) -> None:
        """Let programs in and carry their messages, until cancelled. Called by serve_channel."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._log.tell_counts)
            nursery.start_soon(self._deliver, listener, nursery)
            with self._accepting:
                while True:
                    await trio.lowlevel.wait_readable(listener)
                    if not self._let_in(listener, nursery):
                        await trio.sleep(_PATIENCE)

    async def finish(self) -> None:
        """Pass on what was sent before, if that takes no second. Called by serve_channel."""
        self._accepting.cancel()
        with trio.move_on_after(LAST_WORDS):
            try:
                while True:
                    self._give([self._channel.receive_nowait()])
                    await trio.lowlevel.checkpoint()
            except (trio.WouldBlock, trio.EndOfChannel):
                # The last one is given.
                for client in self._clients:
                    client.end()
            if self._clients:
                await self._empty.wait()

    def tell_lost(self) -> None:
        """Log what the end came too early for. Called by serve_channel."""
        unsent = self._counts.unsent
        if unsent:
            what = f"up to {unsent} packets of programs were not sent: there was no room in time"
            self._log.say(logging.WARNING, what, "unsent")

    def _let_in(self, listener: socket.socket, nursery: trio.Nursery) -> bool:
        """Let in all that wait for it; return False if the system has no room for one."""
        while True:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno in _NO_ROOM:
                    what = f"a program cannot be let in: {error.strerror}"
                    self._log.say(logging.ERROR, what, error.errno)
                    return False
                if error.errno != errno.ECONNABORTED:
                    raise
                continue
            if len(self._clients) >= MAX_CLIENTS:
                most = f"{MAX_CLIENTS} are connected, and there can be no more"
                self._log.say(logging.WARNING, f"a program is not let in: {most}", "too many")
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
        """Give every message to every program, until the handle has ended."""
        while True:
            limit = max(1, min(BATCH, _GIVEN_AT_ONCE // max(1, len(self._clients))))
            try:
                messages = await self._channel.receive_many(limit)
            except trio.EndOfChannel:
                return
            # Who has connected before they came gets them.
            self._let_in(listener, nursery)
            self._give(messages)

    def _give(self, messages: list[Message]) -> None:
        self._counts.received += len(messages)
        if not self._clients:
            self._counts.no_client += len(messages)
            what = "a message was dropped, since no program is connected"
            self._log.say(logging.INFO, what, "nobody", len(messages))
        for client in self._clients:
            for message in messages:
                client.put(message)
