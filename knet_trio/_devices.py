"""What a network device can have: a name, an Ethernet address, and IP addresses."""

from __future__ import annotations

import os
import re
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Final, TypeAlias

from knet_trio.errors import InvalidArgumentError, shown

MAX_NAME: Final = 15

Interface: TypeAlias = IPv4Interface | IPv6Interface
_MAC: Final = re.compile("[0-9A-Fa-f]{1,2}(:[0-9A-Fa-f]{1,2}){5}")
_GROUP: Final = 1


def check_device_name(name: object) -> str:
    """Return ``name`` if a network device can have it."""
    if not isinstance(name, str):
        raise InvalidArgumentError(f"the name of a device is text, not {shown(name)}")
    length = len(os.fsencode(name))
    if length > MAX_NAME:
        raise InvalidArgumentError(
            f"the name {shown(name)} of a device has {length} bytes: {MAX_NAME} are the most"
        )
    if name in ("", ".", "..") or name.split() != [name] or any(sign in name for sign in "/:%\0"):
        raise InvalidArgumentError(
            f"{shown(name)} is no name for a network device: give 1 to {MAX_NAME} bytes, without"
            " blanks, slashes, colons and percent signs"
        )
    return name


def parse_mac(mac: object) -> bytes:
    """Return the bytes of an Ethernet address that one device can have."""
    if not isinstance(mac, str) or not _MAC.fullmatch(mac):
        raise InvalidArgumentError(
            f"{shown(mac)} is no Ethernet address: give one such as '02:00:00:00:00:01'"
        )
    packed = bytes(int(octet, 16) for octet in mac.split(":"))
    is_group = bool(packed[0] & _GROUP)
    if is_group or not any(packed):
        raise InvalidArgumentError(
            f"{mac} is the Ethernet address of {'a group' if is_group else 'nobody'}, which no"
            " device has: its first byte has to be even, and not all may be zero"
        )
    return packed


def parse_interface(address: object) -> Interface:
    """Return the IP address and prefix length that a device can have."""
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
        raise InvalidArgumentError(f"no device can have the address {interface.ip}")
    return interface
