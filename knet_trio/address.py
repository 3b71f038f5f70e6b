"""Socket addresses as ``(host, port)`` pairs of text and number."""

from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from knet_trio.errors import InvalidArgumentError


class Address(NamedTuple):
    """A numeric IP address and a port; equal to the plain pair.

    ``host`` is in its shortest form, an IPv6 link-local one with its interface: ``fe80::1%eth0``.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.is_ipv6 else f"{self.host}:{self.port}"

    @property
    def is_ipv6(self) -> bool:
        """Whether it is of IP version 6."""
        return ":" in self.host


def parse_address(host: str | IPv4Address | IPv6Address, port: int | str) -> Address:
    """Return the canonical form of a numeric address.

    Host names are not looked up, since that may block: ``trio.socket.getaddrinfo`` does it.

    Raises:
        InvalidArgumentError: ``host`` is not an IP address, names no interface where one is needed
            or an unknown one, or ``port`` is not 0 to 65535.

    See knet_strtoaddr(3).
    """
    text, percent, scope = str(host).partition("%")
    try:
        parsed = ip_address(text)
    except ValueError as error:
        raise InvalidArgumentError(
            f"{host!r} is not an IP address; look host names up first"
        ) from error
    number = _port_number(port)
    if not 0 <= number <= 0xFFFF:
        raise InvalidArgumentError(f"port {number} is not 0 to 65535")
    if isinstance(parsed, IPv6Address) and parsed.is_link_local:
        if not scope:
            raise InvalidArgumentError(
                f"{host} is link-local: say on which interface, as in '{text}%eth0'"
            )
        return Address(f"{parsed}%{_interface_name(scope)}", number)
    if percent:
        raise InvalidArgumentError(f"{host} is not link-local: leave out '%{scope}'")
    return Address(str(parsed), number)


def format_address(address: tuple[str, int]) -> str:
    """An address as people write it: ``10.0.0.1:5405``, ``[fd00::1]:5405``.

    Raises InvalidArgumentError for a pair that is no address.
    """
    return str(parse_address(*address))


def socket_address(address: Address) -> tuple[str, int] | tuple[str, int, int, int]:
    """``address`` as the socket module wants it."""
    if not address.is_ipv6:
        return (address.host, address.port)
    host, _, scope = address.host.partition("%")
    return (host, address.port, 0, socket.if_nametoindex(scope) if scope else 0)


def _port_number(port: object) -> int:
    # A bool is an int, and a float would lose its fraction.
    if isinstance(port, int | str) and not isinstance(port, bool):
        with suppress(ValueError):
            return int(port)
    raise InvalidArgumentError(f"port {port!r} is not a number")


def _interface_name(scope: str) -> str:
    try:
        if scope.isdecimal():
            return socket.if_indextoname(int(scope))
        socket.if_nametoindex(scope)
    except (OSError, OverflowError, ValueError) as error:
        raise InvalidArgumentError(f"this machine has no network interface {scope!r}") from error
    return scope
