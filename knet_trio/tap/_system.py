"""Kernel calls to set up a network device: ioctls, and netlink for its addresses.

A call applies to the network namespace in which its socket was created.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final

# Source: linux/if_tun.h.
TUNGETIFF: Final = 0x800454D2

# Source: linux/sockios.h, linux/if.h, linux/if_arp.h.
SIOCGIFFLAGS: Final = 0x8913
SIOCSIFFLAGS: Final = 0x8914
SIOCGIFMTU: Final = 0x8921
SIOCSIFMTU: Final = 0x8922
SIOCSIFHWADDR: Final = 0x8924
SIOCGIFHWADDR: Final = 0x8927
SIOCGIFINDEX: Final = 0x8933
IFF_UP: Final = 0x1
ARPHRD_ETHER: Final = 1

# struct ifreq: a name and a value of several types.
_WITH_FLAGS: Final = struct.Struct("16sH22x")
_WITH_NUMBER: Final = struct.Struct("16si20x")
_WITH_ADDRESS: Final = struct.Struct("16sH6s16x")

# Source: linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h.
NETLINK_ROUTE: Final = 0
RTM_NEWADDR: Final = 20
NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLMSG_ERROR: Final = 2
IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_BROADCAST: Final = 4
IFA_F_NODAD: Final = 0x2
_MESSAGE: Final = struct.Struct("IHHII")
_ADDRESS: Final = struct.Struct("BBBBi")
_ATTRIBUTE: Final = struct.Struct("HH")
_ANSWER: Final = 65536
# An IPv4 network with this prefix length has no broadcast address.
_POINT_TO_POINT: Final = 31


def open_control() -> socket.socket:
    """Return a socket for ioctls on the devices of this thread's network namespace."""
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)


def read_name(fd: int) -> str:
    """Return the present name of a descriptor's device, which may have been renamed."""
    name, _ = _WITH_FLAGS.unpack(fcntl.ioctl(fd, TUNGETIFF, bytes(_WITH_FLAGS.size)))
    return os.fsdecode(name.rstrip(b"\0"))


def read_mtu(control: socket.socket, name: str) -> int:
    """Return the MTU of a device, in bytes."""
    answer = fcntl.ioctl(control, SIOCGIFMTU, _WITH_NUMBER.pack(os.fsencode(name), 0))
    mtu: int = _WITH_NUMBER.unpack(answer)[1]
    return mtu


def write_mtu(control: socket.socket, name: str, mtu: int) -> None:
    """Set the MTU of a device, in bytes."""
    fcntl.ioctl(control, SIOCSIFMTU, _WITH_NUMBER.pack(os.fsencode(name), mtu))


def read_mac(control: socket.socket, name: str) -> bytes:
    """Return the Ethernet address of a device."""
    answer = fcntl.ioctl(control, SIOCGIFHWADDR, _WITH_ADDRESS.pack(os.fsencode(name), 0, b""))
    mac: bytes = _WITH_ADDRESS.unpack(answer)[2]
    return mac


def write_mac(control: socket.socket, name: str, mac: bytes) -> None:
    """Set the Ethernet address of a device."""
    request = _WITH_ADDRESS.pack(os.fsencode(name), ARPHRD_ETHER, mac)
    fcntl.ioctl(control, SIOCSIFHWADDR, request)


def bring_up(control: socket.socket, name: str) -> None:
    """Bring a device up."""
    device = os.fsencode(name)
    _, flags = _WITH_FLAGS.unpack(fcntl.ioctl(control, SIOCGIFFLAGS, _WITH_FLAGS.pack(device, 0)))
    fcntl.ioctl(control, SIOCSIFFLAGS, _WITH_FLAGS.pack(device, flags | IFF_UP))


def add_address(control: socket.socket, name: str, address: IPv4Interface | IPv6Interface) -> None:
    """Add an IP address to a device."""
    answer = fcntl.ioctl(control, SIOCGIFINDEX, _WITH_NUMBER.pack(os.fsencode(name), 0))
    request = pack_address(_WITH_NUMBER.unpack(answer)[1], address)
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE
    ) as netlink:
        netlink.sendto(request, (0, 0))
        check_answer(netlink.recv(_ANSWER))


def pack_address(index: int, address: IPv4Interface | IPv6Interface) -> bytes:
    """Return the netlink request that adds an address to the device with an index."""
    packed = address.ip.packed
    attributes = _pack_attribute(IFA_LOCAL, packed) + _pack_attribute(IFA_ADDRESS, packed)
    length = address.network.prefixlen
    if isinstance(address, IPv4Interface):
        family, flags = socket.AF_INET, 0
        if length < _POINT_TO_POINT:
            broadcast = address.network.broadcast_address.packed
            attributes += _pack_attribute(IFA_BROADCAST, broadcast)
    else:
        # Duplicate address detection would delay the use of the address by a second or more.
        family, flags = socket.AF_INET6, IFA_F_NODAD
    body = _ADDRESS.pack(family, length, flags, 0, index) + attributes
    how = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
    return _MESSAGE.pack(_MESSAGE.size + len(body), RTM_NEWADDR, how, 1, 0) + body


def _pack_attribute(kind: int, value: bytes) -> bytes:
    # No padding: attributes are padded to multiples of four, which IP addresses are.
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value


def check_answer(answer: bytes) -> None:
    """Raise OSError if the kernel's answer to a netlink request is not a success."""
    _, kind, *_ = _MESSAGE.unpack_from(answer)
    if kind != NLMSG_ERROR:
        raise OSError(errno.EPROTO, f"unexpected netlink message of type {kind}")
    (code,) = struct.unpack_from("i", answer, _MESSAGE.size)
    if code:
        raise OSError(-code, os.strerror(-code))
