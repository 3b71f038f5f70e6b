"""What a tap device can have, beside what any network device can: the checks of arguments."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final, cast

from knet_trio import InvalidArgumentError
from knet_trio._devices import Interface, parse_interface
from knet_trio.errors import is_integer, shown

# The least with which IPv6 works, in bytes.
DEFAULT_MTU: Final = 1280
# The least that the kernel takes.
MIN_MTU: Final = 68
# Frames of more are no messages of a channel any more, tags of VLANs included.
MAX_MTU: Final = 65500


def check_mtu(mtu: object) -> int:
    """Return ``mtu`` if a tap device can have it."""
    if not is_integer(mtu) or not MIN_MTU <= mtu <= MAX_MTU:
        raise InvalidArgumentError(f"an MTU of {shown(mtu)} is not {MIN_MTU} to {MAX_MTU} bytes")
    return mtu


def parse_interfaces(address: object) -> tuple[Interface, ...]:
    """Return the IP addresses, none or several, that a device can have."""
    return tuple(map(parse_interface, _list(address)))


def _list(address: object) -> Iterable[object]:
    if address is None:
        return ()
    if isinstance(address, str | IPv4Interface | IPv6Interface):
        return (address,)
    if not isinstance(address, Iterable):
        raise InvalidArgumentError(f"{shown(address)} is no address such as '10.99.0.1/24'")
    return cast("Iterable[object]", address)
