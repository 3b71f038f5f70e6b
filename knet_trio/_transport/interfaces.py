"""The interfaces of link-local addresses: their names, and the indexes that the kernel uses.

An address such as ``fe80::1%eth0`` has the name of an interface; the kernel uses its index. A link
keeps the name that it was set up with: after the interface is renamed, packets still come from the
same index.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address
from typing import Final

from knet_trio.address import Address, socket_address

SocketName = tuple[str, int] | tuple[str, int, int, int]

GONE: Final = {errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EINVAL}
"""The errors of a send over an interface that no longer exists."""

# A port for `connect`; nothing is sent to it.
_DISCARD: Final = 9


class Interfaces:
    """The interface names that one socket uses, and their indexes."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def find_index(self, interface: str) -> int:
        """Return the index of an interface, even after it was renamed.

        Raises:
            OSError: There is no interface of that name, and none that had it before.
        """
        for known, name in list(self._names.items()):
            if name == interface:
                if _is_there(known):
                    # Even if it has another name now, and another interface has this name.
                    return known
                del self._names[known]
        index = socket.if_nametoindex(interface)
        self._names[index] = interface
        return index

    def to_kernel(self, address: Address) -> SocketName:
        """Return ``address`` as the socket module takes it.

        Raises:
            OSError: The address has the name of an interface that does not exist.
        """
        host, _, interface = address.host.partition("%")
        if not interface:
            return socket_address(address)
        return (host, address.port, 0, self.find_index(interface))

    def from_kernel(self, name: SocketName) -> Address:
        """Return an address from the kernel in canonical form."""
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
                # The interface is gone: no link has such an address any more.
                interface = str(index)
        return Address(f"{host.partition('%')[0]}%{interface}", port)


def _is_there(index: int) -> bool:
    """Return whether there is an interface with ``index``."""
    try:
        socket.if_indextoname(index)
    except OSError:
        return False
    return True


def is_local(host: str) -> bool:
    """Return whether the IP address ``host`` is one of this machine's.

    A machine reaches its own addresses from the same address. (Binding would prove less: a machine
    may allow that for any address.)
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
        # There is no route, or the interface in the address is gone.
        return False
