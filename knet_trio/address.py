"""Socket addresses: pairs of a numeric IP address and a port, or one text with both."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple, TypeAlias, cast

from knet_trio.errors import InvalidArgumentError, shown

AddressLike: TypeAlias = str | tuple[str | IPv4Address | IPv6Address, int]
"""A numeric IP address and a port, as a pair: ``("10.0.0.1", 5405)``, or as text:
``"10.0.0.1:5405"``, ``"[fd00::1]:5405"``."""


ANY_PORT: Final = -1
"""The port of a peer that may use any, as with a transport that has connections."""


class Address(NamedTuple):
    """A numeric IP address and a port. Equal to the plain pair.

    Attributes:
        host: The IP address in its shortest form; an IPv6 link-local one with its interface, such
            as ``fe80::1%eth0``.
        port: The port.
    """

    host: str
    port: int

    def __str__(self) -> str:
        if self.port == ANY_PORT:
            return self.host
        return f"[{self.host}]:{self.port}" if self.is_ipv6 else f"{self.host}:{self.port}"

    @property
    def is_ipv6(self) -> bool:
        """True if it is an IPv6 address."""
        return ":" in self.host


def parse_address(host: str | IPv4Address | IPv6Address, port: int | str) -> Address:
    """Return the canonical form of a numeric address.

    Host names are not resolved, since that may block: use ``trio.socket.getaddrinfo``.

    Args:
        host: The IP address.
        port: The port, 0 to 65535, also as text.

    Raises:
        InvalidArgumentError: ``host`` is not an IP address, or an IPv4-mapped IPv6 one; a
            link-local address has no interface, or an unknown one; ``port`` is out of range.

    See knet_strtoaddr(3).
    """
    text, percent, scope = _text_of(host).partition("%")
    try:
        parsed = ip_address(text)
    except ValueError as error:
        raise InvalidArgumentError(
            f"{shown(host)} is not an IP address: resolve host names first"
        ) from error
    number = _port_number(port)
    if not 0 <= number <= 0xFFFF:
        raise InvalidArgumentError(f"port {shown(number)} is not 0 to 65535")
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        raise InvalidArgumentError(
            f"{host} is an IPv4 address in IPv6 notation, from which no host sends: write"
            f" '{parsed.ipv4_mapped}'"
        )
    if isinstance(parsed, IPv6Address) and parsed.is_link_local:
        if not scope:
            raise InvalidArgumentError(
                f"{host} is link-local: append its interface, as in '{text}%eth0'"
            )
        return Address(f"{parsed}%{_interface_name(scope)}", number)
    if percent:
        raise InvalidArgumentError(f"{host} is not link-local: leave out '%{scope}'")
    return Address(str(parsed), number)


def format_address(address: AddressLike) -> str:
    """Return an address as text: ``10.0.0.1:5405``, ``[fd00::1]:5405``.

    Args:
        address: The address, a pair or text.

    Raises:
        InvalidArgumentError: ``address`` is not an address.

    See knet_addrtostr(3).
    """
    return str(parse_address_like(address))


def parse_address_like(address: object) -> Address:
    """Return the canonical form of an ``AddressLike``.

    Args:
        address: The address, a pair or text.

    Raises:
        InvalidArgumentError: ``address`` is not an address.
    """
    if isinstance(address, str):
        return parse_address(*_split(address))
    if isinstance(address, tuple | list):
        return _parse_parts(cast("Sequence[object]", address))
    raise _no_address(address)


def to_address(address: AddressLike) -> Address:
    """Return ``address`` itself if it is an Address, else its canonical form.

    Raises:
        InvalidArgumentError: ``address`` is not an address.
    """
    return address if isinstance(address, Address) else parse_address_like(address)


def _parse_parts(parts: Sequence[object]) -> Address:
    if len(parts) != 2:
        raise _no_address(parts)
    host, port = parts
    return parse_address(cast("str", host), cast("int", port))


def _no_address(address: object) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{shown(address)} is not an address: give a pair such as ('10.0.0.1', 5405), or text such"
        " as '10.0.0.1:5405'"
    )


def _split(text: str) -> tuple[str, str]:
    """Return the address and the port of ``10.0.0.1:5405`` or ``[fd00::1]:5405``."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        if not bracket or (rest and colon != ":"):
            raise InvalidArgumentError(
                f"{shown(text)} is not an address: write '[', the IPv6 address, ']:' and the port"
            )
    else:
        host, colon, port = text.rpartition(":")
        if ":" in host:
            raise InvalidArgumentError(
                f"{shown(text)} is not an address and a port: put an IPv6 address in brackets, as"
                " in '[fd00::1]:5405'"
            )
    if not colon:
        raise InvalidArgumentError(
            f"{shown(text)} has no port: append it after a colon, as in '10.0.0.1:5405'"
        )
    if not (port.isascii() and port.isdecimal()):
        raise InvalidArgumentError(f"the port of {shown(text)} is not a number")
    return host, port


def socket_address(address: Address) -> tuple[str, int] | tuple[str, int, int, int]:
    """Return ``address`` in the form of the socket module."""
    if not address.is_ipv6:
        return (address.host, address.port)
    host, _, scope = address.host.partition("%")
    return (host, address.port, 0, socket.if_nametoindex(scope) if scope else 0)


def _text_of(host: object) -> str:
    if isinstance(host, str | IPv4Address | IPv6Address):
        return str(host)
    raise InvalidArgumentError(f"{shown(host)} is not an IP address: give it as text")


def _port_number(port: object) -> int:
    # True is an int too, and a float would lose its fraction.
    if isinstance(port, int | str) and not isinstance(port, bool):
        with suppress(ValueError):
            return int(port)
    raise InvalidArgumentError(f"port {shown(port)} is not a number")


def _interface_name(scope: str) -> str:
    try:
        if scope.isdecimal():
            return socket.if_indextoname(int(scope))
        socket.if_nametoindex(scope)
    except (OSError, OverflowError, ValueError) as error:
        raise InvalidArgumentError(
            f"this machine has no network interface {shown(scope)}"
        ) from error
    return scope
