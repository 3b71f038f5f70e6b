"""Socket options: buffers, errors, path MTU, priority."""

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
"""The send and receive buffer of a socket, in bytes each."""
CONNECTED_SEND_BUFFER: Final = 1024 * 1024
"""The send buffer of a socket for one peer, in bytes."""
HIGH_PRIORITY: Final = 6
TOS_LOW_DELAY: Final = 0x10

# The socket module of some supported Python versions lacks these names. Source: linux/in.h,
# linux/in6.h, asm-generic/socket.h.
IP_MTU_DISCOVER: Final = 10
IPV6_MTU_DISCOVER: Final = 23
PMTUDISC_PROBE: Final = 3
IP_FREEBIND: Final = 15
IPV6_FREEBIND: Final = 78
SO_SNDBUFFORCE: Final = 32
SO_RCVBUFFORCE: Final = 33
SO_MEMINFO: Final = 55
# SO_MEMINFO returns numbers of 32 bits: the index of the bytes that wait to be sent
# (SK_MEMINFO_WMEM_QUEUED, linux/sock_diag.h), that of the dropped packets (SK_MEMINFO_DROPS), and
# the most numbers that are read.
_QUEUED: Final = 5
_DROPS: Final = 8
_NUMBERS: Final = 9


def new_socket(family: int) -> socket.socket:
    """Return a new UDP socket for IPv4 or IPv6."""
    return socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)


def set_all(sock: socket.socket, send_buffer: int, mark: int | None) -> str | None:
    """Set the options that all UDP sockets have in common.

    Args:
        sock: The socket.
        send_buffer: The size of the send buffer, in bytes.
        mark: The DSCP of its packets; None without high priority.

    Returns:
        The answer of ``set_buffers``.
    """
    sock.setblocking(False)
    small = set_buffers(sock, receive=SOCKET_BUFFER, send=send_buffer)
    set_path_options(sock)
    if mark is not None:
        set_priority(sock, mark)
    return small


def set_buffers(sock: socket.socket, *, receive: int, send: int) -> str | None:
    """Request buffers of ``receive`` and ``send`` bytes.

    Returns:
        None if the buffers are as large as requested; else an explanation and what helps.
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
    """Raise TransportError (ENAMETOOLONG) if ``set_buffers`` has returned an explanation."""
    if small is not None:
        raise TransportError(f"{small}, or leave out privileged=True", errno=errno.ENAMETOOLONG)


@contextmanager
def opening(sock: socket.socket, doing: str) -> Generator[None, None, None]:
    """Close ``sock`` if the block fails.

    Args:
        sock: The socket.
        doing: The beginning of the error text: what the block cannot do.

    Raises:
        TransportError: The block raised OSError.
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
    """Return the size of the buffer of SO_RCVBUF or SO_SNDBUF, in bytes of kernel memory."""
    return sock.getsockopt(socket.SOL_SOCKET, option)


def dropped_packets(sock: socket.socket) -> int:
    """Return how many packets for ``sock`` the system has dropped; 0 if it does not report this."""
    return _read_memory(sock, _DROPS)


def queued_bytes(sock: socket.socket) -> int:
    """Return the bytes in the send buffer of a connection, including the kernel's bookkeeping.

    Returns:
        The bytes; 0 if the system does not report them.
    """
    return _read_memory(sock, _QUEUED)


def _read_memory(sock: socket.socket, which: int) -> int:
    try:
        numbers = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * _NUMBERS)
    except OSError:
        return 0
    return int.from_bytes(numbers[4 * which : 4 * which + 4], sys.byteorder)


def set_path_options(sock: socket.socket) -> None:
    """Queue errors, never fragment packets, and allow binding to addresses not there yet."""
    keep_errors(sock)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
    allow_absent_address(sock)


def allow_absent_address(sock: socket.socket) -> None:
    """Allow binding ``sock`` to an address that this machine does not have yet."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)


def set_priority(sock: socket.socket, dscp: int) -> None:
    """Mark the packets of ``sock``, and send them before other traffic of this machine.

    Args:
        sock: The socket.
        dscp: The DSCP of the packets; 0 for the low-delay type of service.
    """
    # The six bits of DSCP are the upper ones of the byte.
    tos = dscp << 2 if dscp else TOS_LOW_DELAY
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
    # After the type of service, which sets a priority of its own.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, HIGH_PRIORITY)


def allow_sharing(sock: socket.socket, allowed: bool) -> None:
    """Allow or forbid another socket to bind the same address, if that one allows it too."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(allowed))
