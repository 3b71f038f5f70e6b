"""A program at the socket of a channel."""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import trio

from tests.cluster import PATIENCE

LONGEST = 65536


class LocalProgram:
    """A connection of a test to the socket of a channel: each packet is a message."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    async def send(self, data: bytes) -> None:
        """Send a packet, and wait while there is no room for it."""
        while True:
            try:
                self.sock.send(data)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.sock)
            else:
                return

    async def receive(self) -> bytes:
        """The next packet, nothing at the end."""
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    return self.sock.recv(LONGEST)
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(self.sock)


@contextmanager
def connected(path: Path) -> Generator[LocalProgram]:
    """Connect to a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.setblocking(False)
        sock.connect(str(path))
        yield LocalProgram(sock)
