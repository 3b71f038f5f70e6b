"""The ways datagrams travel, by libknet's names and numbers."""

from __future__ import annotations

from typing import Final

from knet_trio.abc import Transport
from knet_trio.errors import InvalidArgumentError
from knet_trio.transport.udp import UdpTransport

TRANSPORTS: Final[dict[str, Transport]] = {
    transport.name: transport for transport in (UdpTransport(),)
}


def find_transport(name: str) -> Transport:
    """The transport called ``name``, else InvalidArgumentError."""
    try:
        return TRANSPORTS[name.lower()]
    except KeyError:
        raise InvalidArgumentError(
            f"there is no transport {name!r} here; there are {', '.join(TRANSPORTS)}"
        ) from None
