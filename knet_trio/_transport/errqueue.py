"""The error queue of a UDP socket: errors of the kernel and the network about earlier sends.

With IP_RECVERR set, the kernel queues ICMP errors and refused oversized packets, each with its
destination, and for EMSGSIZE with the MTU. Source: man 7 ip (IP_RECVERR), linux/errqueue.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

from knet_trio._transport.interfaces import Interfaces
from knet_trio.abc import PathTrouble

# The socket module of some supported Python versions lacks these names.
IP_RECVERR: Final = 11
IPV6_RECVERR: Final = 25

REPORTED_LATE: Final = {
    errno.ECONNREFUSED,
    errno.EMSGSIZE,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.EHOSTDOWN,
    errno.ENONET,
    errno.ECONNABORTED,
}
"""The errors of a system call that may be about an earlier datagram."""

_EXTENDED_ERROR = struct.Struct("=IBBBBII")
_ORIGIN_LOCAL: Final = 1
_ANCILLARY_SIZE: Final = 512
# A flood of errors must not block the loop.
_MOST_AT_ONCE: Final = 64


def keep_errors(sock: socket.socket) -> None:
    """Make the kernel queue errors on ``sock``."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)


def read_errors(sock: socket.socket, interfaces: Interfaces) -> list[PathTrouble]:
    """Take the errors that are queued on ``sock``, without waiting.

    Args:
        sock: The socket.
        interfaces: The interface names of the socket, for the destinations.

    Raises:
        OSError: The socket is closed or not valid.
    """
    troubles: list[PathTrouble] = []
    for _ in range(_MOST_AT_ONCE):
        try:
            _, ancillary, _, name = sock.recvmsg(1, _ANCILLARY_SIZE, socket.MSG_ERRQUEUE)
        except BlockingIOError:
            break
        except OSError as error:
            # The pending error of the socket itself, which any call reports once.
            if error.errno in (errno.EBADF, errno.EINVAL):
                raise
            continue
        for level, kind, data in ancillary:
            if (level, kind) not in _KINDS or len(data) < _EXTENDED_ERROR.size:
                continue
            number, origin, _, _, _, info, _ = _EXTENDED_ERROR.unpack_from(data)
            mtu = info if number == errno.EMSGSIZE and info else None
            destination = interfaces.from_kernel(name)
            troubles.append(PathTrouble(destination, number, mtu, origin == _ORIGIN_LOCAL))
    return troubles


_KINDS: Final = {(socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)}
