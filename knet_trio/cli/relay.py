"""A relay on one machine that can fail the way networks do: its packets vanish.

A relay is made of wires, each between two nodes. A wire has a UDP socket at either end; a datagram
that a node sends to its end leaves the other end, to the node there. To a node, a wire looks like a
cable with a router in it: no error reports a cut, and packets over the MTU are lost silently.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from typing import Final

import trio

LOOPBACK: Final = "127.0.0.1"
ETHERNET_MTU: Final = 1500
# Bytes of the IPv4 and UDP headers, which count for the MTU and not for a datagram.
_HEADERS: Final = 28
_SOCKET_BUFFER: Final = 4 * 1024 * 1024
_LARGEST: Final = 65536
# Datagrams that one wake-up may pass on before other tasks run.
_BATCH: Final = 64

Address = tuple[str, int]


class WireEnd:
    """One end of a wire.

    Attributes:
        address: The address that the node here sends to and receives from.
    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._node: Address | None = None
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._sock.setblocking(False)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                self._sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER)
            self._sock.bind((LOOPBACK, 0))
        except BaseException:
            self._sock.close()
            raise
        self.address: Address = self._sock.getsockname()

    def plug(self, node: Address) -> None:
        """Send the datagrams that leave at this end to ``node`` from now on."""
        self._node = node

    async def carry_to(self, other: WireEnd) -> None:
        """Pass the datagrams that arrive here on to the other end, until cancelled."""
        buffer = bytearray(_LARGEST)
        view = memoryview(buffer)
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            for _ in range(_BATCH):
                try:
                    size = self._sock.recv_into(buffer)
                except BlockingIOError:
                    break
                other.emit(view[:size])

    def emit(self, datagram: memoryview) -> None:
        """Send ``datagram`` to the node here, unless the relay loses it."""
        relay = self._relay
        if relay.is_cut or self._node is None:
            relay.vanished += 1
        elif len(datagram) + _HEADERS > relay.mtu:
            relay.too_large += 1
        else:
            try:
                self._sock.sendto(datagram, self._node)
            except BlockingIOError:
                relay.overrun += 1
            else:
                relay.carried += 1

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class Relay:
    """Wires that are cut and mended together. Returned by ``open_relay``.

    Attributes:
        mtu: The largest packet it carries, in bytes with IP and UDP headers.
        is_cut: True if the relay is cut.
        wires: The two ends of each wire.
        carried: The number of datagrams passed on.
        vanished: The number of datagrams lost in a cut.
        too_large: The number of datagrams dropped since they were over the MTU.
        overrun: The number of datagrams dropped since the system did not take them fast enough.
    """

    def __init__(self, mtu: int) -> None:
        self.mtu = mtu
        self.is_cut: bool = False
        self.wires: list[tuple[WireEnd, WireEnd]] = []
        self.carried = 0
        self.vanished = 0
        self.too_large = 0
        self.overrun = 0

    def cut(self) -> None:
        """Drop every datagram from now on."""
        self.is_cut = True

    def mend(self) -> None:
        """Carry datagrams again."""
        self.is_cut = False


@asynccontextmanager
async def open_relay(wires: int, *, mtu: int = ETHERNET_MTU) -> AsyncGenerator[Relay]:
    """Open a relay; leaving the block closes it.

    Args:
        wires: The number of wires.
        mtu: The largest packet it carries, in bytes with IP and UDP headers.

    Yields:
        The relay.

    Raises:
        OSError: The system has no sockets left.
    """
    relay = Relay(mtu)
    with ExitStack() as stack:
        for _ in range(wires):
            ends: list[WireEnd] = []
            for _ in range(2):
                end = WireEnd(relay)
                stack.callback(end.close)
                ends.append(end)
            relay.wires.append((ends[0], ends[1]))
        async with trio.open_nursery() as nursery:
            for near, far in relay.wires:
                nursery.start_soon(near.carry_to, far)
                nursery.start_soon(far.carry_to, near)
            yield relay
            nursery.cancel_scope.cancel()
