"""A pipe over a UDP socket, without a protocol."""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Final

from knet_trio.cli.bench.peer.pipe import WAIT

_DATAGRAM: Final = 65536
_SOCKET_BUFFER: Final = 8 * 1024 * 1024
# asm-generic/socket.h; the socket module has no names for them.
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33


class UdpPipe:
    """A non-blocking UDP socket, with one system call for each message."""

    def __init__(self, src: str, dst: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
            with contextlib.suppress(PermissionError):
                self._socket.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER)
        self._socket.bind(_address(src))
        self._socket.connect(_address(dst))
        self._readable = select.poll()
        self._readable.register(self._socket, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(self._socket, select.POLLOUT)

    def send(self, message: bytes) -> None:
        """Send a datagram."""
        while True:
            try:
                self._socket.send(message)
            except BlockingIOError:
                self._writable.poll(WAIT * 1000)
            except ConnectionRefusedError:
                # The other process has not bound its socket yet.
                continue
            else:
                return

    def receive(self) -> bytes | None:
        """Receive a datagram, None if none comes in time."""
        message = self.receive_now()
        if message is None and self._readable.poll(WAIT * 1000):
            message = self.receive_now()
        return message

    def receive_now(self) -> bytes | None:
        """Receive a datagram without waiting, None if there is none."""
        try:
            return self._socket.recv(_DATAGRAM)
        except (BlockingIOError, ConnectionRefusedError):
            return None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)
