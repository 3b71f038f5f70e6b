"""The network cards of this machine, its path MTUs, and its reverse path filter. Linux only."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from knet_trio.address import Address, socket_address

# Source: linux/sockios.h, linux/in.h, linux/in6.h.
_SIOCGIFCONF: Final = 0x8912
_IP_MTU: Final = 14
_IPV6_MTU: Final = 24
_IFREQ: Final = struct.Struct("16sHH4s16x")
_MOST_ADDRESSES: Final = 4096
_IF_INET6: Final = Path("/proc/net/if_inet6")
_NETSTAT: Final = Path("/proc/net/netstat")


def list_cards() -> dict[str, set[int]]:
    """Return the numbers of the network cards that have an address, by address."""
    cards: dict[str, set[int]] = {}
    numbers = {name: number for number, name in socket.if_nameindex()}
    for name, address in _list_ipv4():
        # An alias has a name such as eth0:1.
        card = numbers.get(name.partition(":")[0])
        if card is not None:
            cards.setdefault(address, set()).add(card)
    with suppress(OSError):
        for line in _IF_INET6.read_text().splitlines():
            digits, number, *_ = line.split()
            address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
            cards.setdefault(address, set()).add(int(number, 16))
    return cards


def _list_ipv4() -> list[tuple[str, str]]:
    """Return the names of the network cards with their IPv4 addresses."""
    room = bytearray(_MOST_ADDRESSES * _IFREQ.size)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        # The kernel gets the size and the address of the buffer, and writes to it.
        view = (ctypes.c_char * len(room)).from_buffer(room)
        request = struct.pack("@iP", len(room), ctypes.addressof(view))
        size = struct.unpack("@iP", fcntl.ioctl(sock, _SIOCGIFCONF, request))[0]
        del view
    found: list[tuple[str, str]] = []
    for start in range(0, size, _IFREQ.size):
        name, _, _, address = _IFREQ.unpack_from(room, start)
        found.append((name.rstrip(b"\0").decode(), socket.inet_ntoa(address)))
    return found


def find_mtu(src: Address, dst: Address) -> int:
    """Return the largest IP packet that this machine sends from ``src`` to ``dst``, in bytes.

    This is the MTU of the network card, or less if the network has reported a smaller one.

    Returns:
        The size, 0 if it is not known.
    """
    ipv6 = dst.is_ipv6
    with socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(socket_address(Address(src.host, 0)))
            sock.connect(socket_address(dst))
            if ipv6:
                return sock.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
            return sock.getsockopt(socket.IPPROTO_IP, _IP_MTU)
        except OSError:
            # There is no route now, which the link reports.
            return 0


def count_filtered() -> int:
    """Return the number of packets that the reverse path filter dropped, 0 if not known."""
    try:
        lines = _NETSTAT.read_text().splitlines()
    except OSError:
        return 0
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        found = dict(zip(names.split(), values.split(), strict=False))
        if "IPReversePathFilter" in found:
            return int(found["IPReversePathFilter"])
    return 0
