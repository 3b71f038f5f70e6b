"""Network devices: the names and addresses that they can have, and tap devices."""

from __future__ import annotations

import fcntl
import os
import re
import struct
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Final, TypeAlias

from knet_trio.errors import InvalidArgumentError, shown

MAX_NAME: Final = 15

# Source: linux/if_tun.h.
TUN_DEVICE: Final = "/dev/net/tun"
TUNSETIFF: Final = 0x400454CA
IFF_TAP: Final = 0x0002
IFF_NO_PI: Final = 0x1000
IFF_TUN_EXCL: Final = 0x8000
_REQUEST: Final = struct.Struct("16sH22x")

Interface: TypeAlias = IPv4Interface | IPv6Interface
_MAC: Final = re.compile("[0-9A-Fa-f]{1,2}(:[0-9A-Fa-f]{1,2}){5}")
_GROUP: Final = 1


def check_device_name(name: object) -> str:
    """Return ``name`` if a network device can have it, else raise InvalidArgumentError."""
    if not isinstance(name, str):
        raise InvalidArgumentError(f"the name of a device is text, not {shown(name)}")
    length = len(os.fsencode(name))
    if length > MAX_NAME:
        raise InvalidArgumentError(
            f"the device name {shown(name)} has {length} bytes: give at most {MAX_NAME}"
        )
    if name in ("", ".", "..") or name.split() != [name] or any(sign in name for sign in "/:%\0"):
        raise InvalidArgumentError(
            f"{shown(name)} is not a name for a network device: give 1 to {MAX_NAME} bytes, without"
            " spaces, slashes, colons and percent signs"
        )
    return name


def parse_mac(mac: object) -> bytes:
    """Return the bytes of the Ethernet address of a device, or raise InvalidArgumentError."""
    if not isinstance(mac, str) or not _MAC.fullmatch(mac):
        raise InvalidArgumentError(
            f"{shown(mac)} is not an Ethernet address: give one such as '02:00:00:00:00:01'"
        )
    packed = bytes(int(octet, 16) for octet in mac.split(":"))
    is_group = bool(packed[0] & _GROUP)
    if is_group or not any(packed):
        raise InvalidArgumentError(
            f"{mac} is {'a group' if is_group else 'the zero'} address, which no device can have:"
            " give one whose first byte is even, and which is not all zeros"
        )
    return packed


def parse_interface(address: object) -> Interface:
    """Return the IP address and prefix length of a device, or raise InvalidArgumentError."""
    if isinstance(address, IPv4Interface | IPv6Interface):
        interface = address
    else:
        if not isinstance(address, str) or "/" not in address:
            raise InvalidArgumentError(
                f"{shown(address)} has no prefix length: give an address such as '10.99.0.1/24'"
            )
        try:
            interface = ip_interface(address)
        except ValueError as error:
            raise InvalidArgumentError(
                f"{error}: give an address such as '10.99.0.1/24'"
            ) from error
    if interface.ip.is_multicast or interface.ip.is_unspecified:
        raise InvalidArgumentError(
            f"no device can have the address {interface.ip}: give a unicast address"
        )
    return interface


def attach_tap(name: str, *, new: bool = False) -> int:
    """Return a descriptor of the tap device of that name, which is made if there is none.

    It is a device of the network namespace that the thread is in. One that was made here goes when
    the descriptor is closed.

    Args:
        name: The name of the device.
        new: Refuse one that is there: it may be somebody else's.

    Raises:
        OSError: The system refuses it; EBUSY if the device is taken, or there although a new one
            was asked for.
    """
    fd = os.open(TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        # No packet information: what is read is a frame, and nothing before it.
        flags = IFF_TAP | IFF_NO_PI | (IFF_TUN_EXCL if new else 0)
        fcntl.ioctl(fd, TUNSETIFF, _REQUEST.pack(os.fsencode(name), flags))
    except BaseException:
        os.close(fd)
        raise
    return fd
