"""The ways datagrams travel, by libknet's names and numbers."""

from __future__ import annotations

from typing import Final

from knet_trio.abc import Transport
from knet_trio.errors import InvalidArgumentError
from knet_trio.transport.udp import UdpTransport

TRANSPORTS: Final[dict[str, Transport]] = {
    transport.name: transport for transport in (UdpTransport(),)
}

# Has no sockets, so there is no Transport for it.
LOOPBACK: Final = "loopback"

TRANSPORT_IDS: Final = {LOOPBACK: 0} | {
    transport.name: transport.transport_id for transport in TRANSPORTS.values()
}


def find_transport(name: str) -> Transport:
    """The transport over the network called ``name``, else InvalidArgumentError."""
    try:
        return TRANSPORTS[name.lower()]
    except KeyError:
        raise InvalidArgumentError(
            f"there is no transport {name!r} here; there are {', '.join(TRANSPORT_IDS)}"
        ) from None
