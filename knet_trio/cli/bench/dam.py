"""A relay on a link that can hold back the packets from one side, and release them at once."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Final

import trio

_LOOPBACK: Final = "127.0.0.1"
_DATAGRAM: Final = 65536
_BUFFER: Final = 8 * 1024 * 1024
# asm-generic/socket.h and linux/udp.h; the socket module has no names for them.
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_UDP_SEGMENT: Final = 103
# The limits of one system call.
_MOST_SEGMENTS: Final = 128
_MOST_BYTES: Final = 65000

Address = tuple[str, int]


class Dam:
    """A relay between two ends of a link. Returned by ``open_dam``.

    Packets from the high end can be held back. They then arrive at the low end in trains, as if
    sent with UDP_SEGMENT: many of one size in a single system call. Every other packet is dropped,
    so that no two have consecutive numbers and each has to be handled by itself.

    Attributes:
        low: The address that the low end sends to.
        high: The address that the high end sends to.
        tape: The packets that came from the high end since it was set to a list; None by default.
    """

    def __init__(self) -> None:
        self._low_side, self._high_side = _open_socket(), _open_socket()
        self.low: Final[Address] = self._low_side.getsockname()
        self.high: Final[Address] = self._high_side.getsockname()
        self.tape: list[bytes] | None = None
        self._held: list[bytes] | None = None
        self._wanted = 0
        self._leaves_out = False
        self._filled = trio.Event()

    async def carry(self, low: Address, high: Address) -> None:
        """Carry packets between the ends of the link, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._carry_up, high)
            nursery.start_soon(self._carry_down, low)

    def close_gates(self, wanted: int) -> None:
        """Hold back packets from the high end; ``wait_filled`` waits for ``wanted`` of them."""
        self._held, self._wanted, self._filled = [], wanted, trio.Event()

    async def wait_filled(self) -> None:
        """Wait until the wanted number of packets is held back."""
        await self._filled.wait()

    async def open_gates(self, low: Address) -> None:
        """Send the packets held back to the low end, as fast as possible."""
        held, self._held = self._held or [], None
        await self.send(held, low)

    async def send(self, packets: Sequence[bytes], low: Address) -> None:
        """Send packets to the low end, as if they came from the high end."""
        for size, alike in groupby(packets, len):
            same = list(alike)
            most = max(1, min(_MOST_SEGMENTS, _MOST_BYTES // size))
            for begin in range(0, len(same), most):
                train = b"".join(same[begin : begin + most])
                ancillary = (socket.SOL_UDP, _UDP_SEGMENT, struct.pack("=H", size))
                await self._low_side.sendmsg([train], [ancillary], 0, low)

    async def _carry_up(self, high: Address) -> None:
        while True:
            packet, _ = await self._low_side.recvfrom(_DATAGRAM)
            await self._high_side.sendto(packet, high)

    async def _carry_down(self, low: Address) -> None:
        while True:
            packet, _ = await self._high_side.recvfrom(_DATAGRAM)
            if self.tape is not None:
                self.tape.append(packet)
            if self._held is None:
                await self._low_side.sendto(packet, low)
                continue
            self._leaves_out = not self._leaves_out
            if not self._leaves_out:
                self._held.append(packet)
            if len(self._held) >= self._wanted:
                self._filled.set()

    def close(self) -> None:
        """Close the sockets."""
        self._low_side.close()
        self._high_side.close()


@asynccontextmanager
async def open_dam(low: Address, high: Address) -> AsyncGenerator[Dam]:
    """Open a dam between the ends of a link; leaving the block closes it.

    Args:
        low: The address that the low end is bound to.
        high: The address that the high end is bound to.

    Yields:
        The dam.
    """
    dam = Dam()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dam.carry, low, high)
            yield dam
            nursery.cancel_scope.cancel()
    finally:
        dam.close()


def _open_socket() -> trio.socket.SocketType:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
    sock.bind((_LOOPBACK, 0))
    return trio.socket.from_stdlib_socket(sock)
