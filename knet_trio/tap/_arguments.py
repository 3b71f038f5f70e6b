"""Checks of the arguments of a tap device."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final, cast

from knet_trio import InvalidArgumentError
from knet_trio._devices import Interface, parse_interface
from knet_trio.errors import is_integer, shown

# The smallest MTU with IPv6, in bytes.
DEFAULT_MTU: Final = 1280
# The smallest MTU that the kernel accepts.
MIN_MTU: Final = 68
# The largest MTU with which a frame, VLAN tags included, fits in a message of a channel.
MAX_MTU: Final = 65500


def check_mtu(mtu: object) -> int:
    """Return ``mtu``; raise InvalidArgumentError if a tap device cannot have it."""
    if not is_integer(mtu) or not MIN_MTU <= mtu <= MAX_MTU:
        raise InvalidArgumentError(
            f"MTU {shown(mtu)} is not valid: give a number from {MIN_MTU} to {MAX_MTU} bytes"
        )
    return mtu


def parse_interfaces(address: object) -> tuple[Interface, ...]:
    """Return the IP addresses in an argument: None, one address or several."""
    return tuple(map(parse_interface, _list(address)))


def _list(address: object) -> Iterable[object]:
    if address is None:
        return ()
    if isinstance(address, str | IPv4Interface | IPv6Interface):
        return (address,)
    if not isinstance(address, Iterable):
        raise InvalidArgumentError(
            f"{shown(address)} is not an IP address: give one such as '10.99.0.1/24'"
        )
    return cast("Iterable[object]", address)
