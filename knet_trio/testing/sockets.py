"""Which socket has which address on a simulated network, and which packets are its."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Final

from knet_trio.address import Address
from knet_trio.errors import TransportError
from knet_trio.testing.endpoint import SimulatedEndpoint

# Where ports that nobody asked for begin.
_FIRST_FREE_PORT: Final = 32768


def choose_address(local: Address, protocol: str, is_bound: Callable[[Address], bool]) -> Address:
    """Return ``local``, with port 0 at the first port of which ``is_bound`` says that it is free.

    Raises:
        TransportError: It cannot be bound.
    """
    if ip_address(local.host.partition("%")[0]).is_unspecified:
        raise TransportError(
            f"cannot bind {protocol} {local}: a simulated network does not know whose address that"
            " would be; name one",
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
            f"cannot bind {protocol} {local}: it is in use on the simulated network",
            errno=errno.EADDRINUSE,
        )
    return local


class Sockets:
    """The open sockets by the addresses that others see them at."""

    def __init__(self) -> None:
        self._shared: dict[Address, SimulatedEndpoint] = {}
        # Those for one peer alone, by its address.
        self._connected: dict[Address, dict[Address, SimulatedEndpoint]] = {}

    def __iter__(self) -> Iterator[SimulatedEndpoint]:
        yield from self._shared.values()
        for endpoints in self._connected.values():
            yield from endpoints.values()

    def choose_address(self, local: Address) -> Address:
        """Return ``local``, with port 0 at a port that is free.

        Raises:
            TransportError: It cannot be bound.
        """
        return choose_address(local, "UDP", self._is_bound)

    def _is_bound(self, address: Address) -> bool:
        return address in self._shared or address in self._connected

    def add(self, endpoint: SimulatedEndpoint) -> None:
        """A socket is bound, and connected if it has a peer."""
        if endpoint.peer is None:
            self._shared[endpoint.seen] = endpoint
        else:
            self._connected.setdefault(endpoint.seen, {})[endpoint.peer] = endpoint

    def remove(self, endpoint: SimulatedEndpoint) -> None:
        """A socket was closed."""
        if endpoint.peer is None:
            del self._shared[endpoint.seen]
            return
        endpoints = self._connected[endpoint.seen]
        del endpoints[endpoint.peer]
        if not endpoints:
            del self._connected[endpoint.seen]

    def find(self, address: Address, peer: Address) -> SimulatedEndpoint | None:
        """Return the socket that gets what comes from ``peer`` to ``address``, None if none does.

        That is the one for that peer alone, or else the one for everybody.
        """
        if self._connected:
            connected = self.find_connected(address, peer)
            if connected is not None:
                return connected
        return self._shared.get(address)

    def find_connected(self, address: Address, peer: Address) -> SimulatedEndpoint | None:
        """Return the socket at ``address`` for ``peer`` alone, if there is one."""
        return self._connected.get(address, {}).get(peer)

    def move(self, old: str, new: str) -> None:
        """Have all at one address be seen at another."""
        for endpoint in [endpoint for endpoint in self if endpoint.seen.host == old]:
            self.remove(endpoint)
            endpoint.seen = endpoint.seen._replace(host=new)
            self.add(endpoint)
