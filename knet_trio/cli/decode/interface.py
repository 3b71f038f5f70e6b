"""Live capture of the frames of a network interface. Needs CAP_NET_RAW."""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final

import trio

from knet_trio.cli.decode.errors import CaptureError
from knet_trio.cli.decode.frame import LINUX_SLL2, Frame

ANY: Final = "any"

# Sources: asm-generic/socket.h, and of linux/: if_ether.h, if_packet.h, if_arp.h, filter.h.
_ETH_P_ALL: Final = 3
_SOL_PACKET: Final = 263
_PACKET_STATISTICS: Final = 6
_PACKET_OUTGOING: Final = 4
_ARPHRD_LOOPBACK: Final = 772
_SO_ATTACH_FILTER: Final = 26
_SO_TIMESTAMPNS: Final = 35
_SO_RCVBUFFORCE: Final = 33
_BUFFER: Final = 16 << 20
_LARGEST: Final = 1 << 17
_MOST_AT_ONCE: Final = 64
_SECOND: Final = 1_000_000_000

# The kernel's filter: UDP over IPv4, all of IPv6 (whose headers form a chain), and VLAN tags. The
# protocol of the frame has a special address; the packet begins at its network header.
_PROTOCOL: Final = 0xFFFFF000
_FILTER: Final = (
    (0x28, 0, 0, _PROTOCOL),  # load the protocol
    (0x15, 5, 0, 0x86DD),  # IPv6: accept
    (0x15, 4, 0, 0x8100),  # VLAN: accept
    (0x15, 3, 0, 0x88A8),
    (0x15, 0, 3, 0x0800),  # not IPv4: reject
    (0x30, 0, 0, 9),  # load the protocol in IPv4
    (0x15, 0, 1, 17),  # not UDP: reject
    (0x06, 0, 0, 0xFFFFFFFF),
    (0x06, 0, 0, 0),
)


class InterfaceCapture:
    """A capture of an interface, or with ``any`` of all interfaces.

    Args:
        name: The name of the interface.

    Raises:
        CaptureError: The interface does not exist, or this user may not listen to it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        try:
            # SOCK_DGRAM: the kernel has removed the link layer. With a protocol the socket receives
            # from all interfaces, without one from none until it is bound.
            protocol = socket.htons(_ETH_P_ALL) if name == ANY else 0
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, protocol)
        except PermissionError:
            raise CaptureError(
                "this user may not listen to interfaces: run this as root or with CAP_NET_RAW"
            ) from None
        self.dropped: int = 0
        try:
            self._prepare(opened)
        except OSError as error:
            opened.close()
            raise CaptureError(f"cannot listen to {name}: {error.strerror}") from None
        self._socket = opened

    def _prepare(self, opened: socket.socket) -> None:
        program = b"".join(struct.pack("HBBI", *line) for line in _FILTER)
        held = ctypes.create_string_buffer(program, len(program))
        packed = struct.pack("HL", len(_FILTER), ctypes.addressof(held))
        opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, packed)
        opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        try:
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        except PermissionError:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        opened.setblocking(False)
        if self._name != ANY:
            opened.bind((self._name, _ETH_P_ALL))

    async def wait(self) -> None:
        """Wait until there are frames to take."""
        await trio.lowlevel.wait_readable(self._socket)

    def take(self) -> list[Frame]:
        """Return some of the frames that have arrived, none if there are none.

        Raises:
            CaptureError: The interface is gone.
        """
        frames: list[Frame] = []
        for _ in range(_MOST_AT_ONCE):
            try:
                data, ancillary, _, sender = self._socket.recvmsg(_LARGEST, 256)
            except BlockingIOError:
                break
            except OSError as error:
                raise CaptureError(f"cannot listen to {self._name}: {error.strerror}") from None
            name, protocol, kind, hardware, _ = sender
            if kind == _PACKET_OUTGOING and hardware == _ARPHRD_LOOPBACK:
                # The same frame is also received as incoming.
                continue
            header = struct.pack(">H2xIHBB8x", protocol, 0, hardware, kind, 0)
            frames.append(Frame(_time(ancillary), name, LINUX_SLL2, header + data, len(data)))
        return frames

    def count_dropped(self) -> int:
        """Return the number of frames that the kernel has dropped so far for lack of buffers."""
        statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        # Reading the statistics resets them.
        self.dropped += struct.unpack("II", statistics)[1]
        return self.dropped

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


def _time(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(value) == 16:
            seconds, nanoseconds = struct.unpack("qq", value)
            return int(seconds * _SECOND + nanoseconds)
    return 0
