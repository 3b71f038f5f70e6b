"""The table of UDP sockets on a simulated network, by address."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Final

from knet_trio.address import Address
from knet_trio.errors import TransportError
from knet_trio.testing.endpoint import SimulatedEndpoint

# The first port that is chosen for port 0.
_FIRST_FREE_PORT: Final = 32768


def choose_address(local: Address, protocol: str, is_bound: Callable[[Address], bool]) -> Address:
    """Return ``local``, with port 0 replaced by the first port for which ``is_bound`` is false.

    Raises:
        TransportError: The address is a wildcard or in use.
    """
    if ip_address(local.host.partition("%")[0]).is_unspecified:
        raise TransportError(
            f"cannot bind {protocol} {local}: a simulated network has no wildcard address: give an"
            " address",
            errno=errno.EADDRNOTAVAIL,
        )
    if not local.port:
        ports = range(_FIRST_FREE_PORT, 65536)
        return next(
            address
            for address in (Address(local.host, port) for port in ports)
            if not is_bound(address)
        )
    if is_bound(local):
        raise TransportError(
            f"cannot bind {protocol} {local}: the address is in use on the simulated network",
            errno=errno.EADDRINUSE,
        )
    return local


class Sockets:
    """The open sockets by their addresses as others see them."""

    def __init__(self) -> None:
        self._shared: dict[Address, SimulatedEndpoint] = {}
        # The connected sockets, by the peer's address.
        self._connected: dict[Address, dict[Address, SimulatedEndpoint]] = {}

    def __iter__(self) -> Iterator[SimulatedEndpoint]:
        yield from self._shared.values()
        for endpoints in self._connected.values():
            yield from endpoints.values()

    def choose_address(self, local: Address) -> Address:
        """Return ``local``, with port 0 replaced by a free port.

        Raises:
            TransportError: The address is a wildcard or in use.
        """
        return choose_address(local, "UDP", self._is_bound)

    def _is_bound(self, address: Address) -> bool:
        return address in self._shared or address in self._connected

    def add(self, endpoint: SimulatedEndpoint) -> None:
        """Add a socket that was bound, or connected if it has a peer."""
        if endpoint.peer is None:
            self._shared[endpoint.seen] = endpoint
        else:
            self._connected.setdefault(endpoint.seen, {})[endpoint.peer] = endpoint

    def remove(self, endpoint: SimulatedEndpoint) -> None:
        """Remove a socket that was closed."""
        if endpoint.peer is None:
            del self._shared[endpoint.seen]
            return
        endpoints = self._connected[endpoint.seen]
        del endpoints[endpoint.peer]
        if not endpoints:
            del self._connected[endpoint.seen]

    def find(self, address: Address, peer: Address) -> SimulatedEndpoint | None:
        """Return the socket that receives packets from ``peer`` to ``address``, or None.

        A socket connected to the peer takes precedence over the unconnected one.
        """
        if self._connected:
            connected = self.find_connected(address, peer)
            if connected is not None:
                return connected
        return self._shared.get(address)

    def find_connected(self, address: Address, peer: Address) -> SimulatedEndpoint | None:
        """Return the socket at ``address`` that is connected to ``peer``, or None."""
        return self._connected.get(address, {}).get(peer)

    def move(self, old: str, new: str) -> None:
        """Move all sockets at one address to another, as others see them."""
        for endpoint in [endpoint for endpoint in self if endpoint.seen.host == old]:
            self.remove(endpoint)
            endpoint.seen = endpoint.seen._replace(host=new)
            self.add(endpoint)
