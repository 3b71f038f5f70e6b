"""The options of sockets: buffers, errors, path MTU, priority."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from knet_trio._transport.errqueue import keep_errors
from knet_trio.errors import TransportError

SOCKET_BUFFER: Final = 8 * 1024 * 1024
"""Bytes of the buffers of a socket, each way."""
CONNECTED_SEND_BUFFER: Final = 1024 * 1024
"""Bytes of the send buffer of a socket for one peer alone."""
HIGH_PRIORITY: Final = 6
TOS_LOW_DELAY: Final = 0x10

# Not named by the socket module of every supported Python. Source: linux/in.h, linux/in6.h,
# asm-generic/socket.h.
IP_MTU_DISCOVER: Final = 10
IPV6_MTU_DISCOVER: Final = 23
PMTUDISC_PROBE: Final = 3
IP_FREEBIND: Final = 15
IPV6_FREEBIND: Final = 78
SO_SNDBUFFORCE: Final = 32
SO_RCVBUFFORCE: Final = 33
SO_MEMINFO: Final = 55
# Numbers of 32 bits: which of them are what waits to be sent (SK_MEMINFO_WMEM_QUEUED,
# linux/sock_diag.h) and what was dropped (SK_MEMINFO_DROPS), and how many there are at most.
_QUEUED: Final = 5
_DROPS: Final = 8
_NUMBERS: Final = 9


def new_socket(family: int) -> socket.socket:
    """Make a UDP socket for IPv4 or IPv6."""
    return socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)


def set_all(sock: socket.socket, send_buffer: int, mark: int | None) -> str | None:
    """Set what all sockets have in common, with a DSCP of ``mark`` those that have priority.

    Returns:
        What ``set_buffers`` says.
    """
    sock.setblocking(False)
    small = set_buffers(sock, receive=SOCKET_BUFFER, send=send_buffer)
    set_path_options(sock)
    if mark is not None:
        set_priority(sock, mark)
    return small


def set_buffers(sock: socket.socket, *, receive: int, send: int) -> str | None:
    """Ask for buffers of ``receive`` and ``send`` bytes.

    Returns:
        None if the system gives them, else what is wrong and what helps.
    """
    small: list[str] = []
    for plain, forced, wanted, limit in (
        (socket.SO_RCVBUF, SO_RCVBUFFORCE, receive, "net.core.rmem_max"),
        (socket.SO_SNDBUF, SO_SNDBUFFORCE, send, "net.core.wmem_max"),
    ):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, wanted)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, plain, wanted)
        # The kernel doubles the value for its own bookkeeping.
        size = buffer_size(sock, plain) // 2
        if size < wanted:
            what = "receive" if plain == socket.SO_RCVBUF else "send"
            small.append(f"the {what} buffer is {size} bytes instead of {wanted}: raise {limit}")
    return f"{', and '.join(small)}, or run with CAP_NET_ADMIN" if small else None


def insist_on_buffers(small: str | None) -> None:
    """Raise TransportError (ENAMETOOLONG) if ``set_buffers`` says that something is wrong."""
    if small is not None:
        raise TransportError(f"{small}, or leave out privileged=True", errno=errno.ENAMETOOLONG)


@contextmanager
def opening(sock: socket.socket, doing: str) -> Generator[None, None, None]:
    """Close ``sock`` if the block fails.

    Raises:
        TransportError: The system refuses what the block does, which ``doing`` says in words.
    """
    try:
        yield
    except OSError as error:
        sock.close()
        raise TransportError.from_os_error(doing, error) from error
    except BaseException:
        sock.close()
        raise


def buffer_size(sock: socket.socket, option: int) -> int:
    """Return the bytes of memory that SO_RCVBUF or SO_SNDBUF lets the kernel use."""
    return sock.getsockopt(socket.SOL_SOCKET, option)


def dropped_packets(sock: socket.socket) -> int:
    """Return how many packets for ``sock`` the system has dropped, 0 if it does not tell."""
    return _read_memory(sock, _DROPS)


def queued_bytes(sock: socket.socket) -> int:
    """Return the bytes that wait in the send buffer of a connection, with the bookkeeping.

    Returns:
        0 if the system does not tell.
    """
    return _read_memory(sock, _QUEUED)


def _read_memory(sock: socket.socket, which: int) -> int:
    try:
        numbers = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * _NUMBERS)
    except OSError:
        return 0
    return int.from_bytes(numbers[4 * which : 4 * which + 4], sys.byteorder)


def set_path_options(sock: socket.socket) -> None:
    """Have errors queued, packets never cut up, and addresses bound that are not there yet."""
    keep_errors(sock)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
    allow_absent_address(sock)


def allow_absent_address(sock: socket.socket) -> None:
    """Let ``sock`` be bound to an address that this machine does not have yet."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)


def set_priority(sock: socket.socket, dscp: int) -> None:
    """Mark what is sent with ``dscp``, 0 for the low-delay service, ahead of other traffic here."""
    # The six bits of DSCP are the upper ones of the byte.
    tos = dscp << 2 if dscp else TOS_LOW_DELAY
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
    # After the type of service, which sets a priority of its own.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, HIGH_PRIORITY)


def allow_sharing(sock: socket.socket, allowed: bool) -> None:
    """Let another socket bind the same address, if that one allows it too."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(allowed))
