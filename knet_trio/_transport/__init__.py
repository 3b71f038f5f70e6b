"""The transports, under libknet's names and numbers."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from knet_trio._transport.sctp import SctpTransport
from knet_trio._transport.udp import UdpTransport
from knet_trio.abc import Transport
from knet_trio.errors import InvalidArgumentError, shown

TRANSPORTS: Final[dict[str, Transport]] = {
    transport.name: transport for transport in (UdpTransport(), SctpTransport())
}

# A loopback link has no socket, so there is no Transport for it.
LOOPBACK: Final = "loopback"

TRANSPORT_IDS: Final = {LOOPBACK: 0} | {
    transport.name: transport.transport_id for transport in TRANSPORTS.values()
}


_substitutes: ContextVar[dict[str, Transport] | None] = ContextVar("substitutes", default=None)


@contextmanager
def substitute_transports(*transports: Transport) -> Generator[None, None, None]:
    """Replace all transports in this context, and in tasks started from it, by ``transports``.

    With this, programs are tested on a simulated network, and no packet gets out by mistake.
    """
    token = _substitutes.set({transport.name: transport for transport in transports})
    try:
        yield
    finally:
        _substitutes.reset(token)


def find_transport(name: str) -> Transport:
    """Return the transport named ``name``, which is not loopback.

    Raises:
        InvalidArgumentError: There is no such transport.
    """
    substitutes = _substitutes.get()
    there = TRANSPORTS if substitutes is None else substitutes
    try:
        return there[name.lower()]
    except KeyError:
        raise InvalidArgumentError(
            f"there is no transport {shown(name)} here; use one of {', '.join([LOOPBACK, *there])}"
        ) from None
