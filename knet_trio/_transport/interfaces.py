"""The interfaces of link-local addresses, by their indexes and by the names that a socket knows.

An address such as ``fe80::1%eth0`` names an interface, and the kernel an index. A link keeps the
name it was set up with: when the interface is renamed, its packets still come from that index.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address
from typing import Final

from knet_trio.address import Address, socket_address

SocketName = tuple[str, int] | tuple[str, int, int, int]

GONE: Final = {errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EINVAL}
"""What the kernel says of a send over an interface that is not there any more."""

# A port that nothing is sent to.
_DISCARD: Final = 9


class Interfaces:
    """The names by which one socket knows interfaces."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def find_index(self, interface: str) -> int:
        """Return the index of an interface, also if it has been renamed.

        Raises:
            OSError: There is no such interface, and there was none.
        """
        for known, name in list(self._names.items()):
            if name == interface:
                if _is_there(known):
                    # Whatever it is called now, and whatever else is called so.
                    return known
                del self._names[known]
        index = socket.if_nametoindex(interface)
        self._names[index] = interface
        return index

    def to_kernel(self, address: Address) -> SocketName:
        """Return ``address`` as the socket module takes it.

        Raises:
            OSError: It names an interface that is not there.
        """
        host, _, interface = address.host.partition("%")
        if not interface:
            return socket_address(address)
        return (host, address.port, 0, self.find_index(interface))

    def from_kernel(self, name: SocketName) -> Address:
        """Return the address that the kernel gave, in the canonical form."""
        if len(name) == 2:
            return Address._make(name)
        host, port, _, index = name
        if not index:
            return Address(host, port)
        interface = self._names.get(index)
        if interface is None:
            try:
                interface = socket.if_indextoname(index)
            except OSError:
                # It went away meanwhile: no link has such an address any more.
                interface = str(index)
        return Address(f"{host.partition('%')[0]}%{interface}", port)


def _is_there(index: int) -> bool:
    """Return whether an interface has that index."""
    try:
        socket.if_indextoname(index)
    except OSError:
        return False
    return True


def is_local(host: str) -> bool:
    """Return whether ``host``, an IP address, is one of this machine's.

    Its own addresses are those that it would send from to reach them. (Binding to them says less:
    a machine may allow that for any address.)
    """
    ip = ip_address(host.partition("%")[0])
    if ip.is_loopback:
        return True
    try:
        name = socket_address(Address(host, _DISCARD))
        family = socket.AF_INET if len(name) == 2 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(name)
            return ip_address(str(sock.getsockname()[0]).partition("%")[0]) == ip
    except OSError:
        # There is no way there, or the interface that it names is gone.
        return False
