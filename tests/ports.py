"""Ports that no other test takes, in this process or in another that runs beside it."""

from __future__ import annotations

import errno
import itertools
import os
import socket

# Below what the system gives to sockets that ask for any port, and elsewhere for each process.
_ports = itertools.cycle(range(10000, 30000))
for _ in range(os.getpid() * 997 % 20000):
    next(_ports)


def free_udp_port(*addresses: str) -> int:
    """A UDP port that nobody has on those addresses now, in the namespace of the calling thread.

    127.0.0.1 if none is given. It stays free until it is used: nobody else gets it by chance, and
    no later call gives it soon.
    """
    return _free_port(socket.SOCK_DGRAM, addresses)


def free_tcp_port(*addresses: str) -> int:
    """The same of TCP."""
    return _free_port(socket.SOCK_STREAM, addresses)


def _free_port(kind: socket.SocketKind, addresses: tuple[str, ...]) -> int:
    for port in _ports:
        if all(_is_free(kind, address, port) for address in addresses or ("127.0.0.1",)):
            return port
    raise AssertionError("there is no end to them")


def _is_free(kind: socket.SocketKind, address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as probe:
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True
