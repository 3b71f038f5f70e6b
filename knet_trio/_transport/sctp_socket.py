"""SCTP sockets of the kernel: their options and notifications.

They are one-to-one sockets (SOCK_STREAM): each has one association, and keeps the boundaries of
messages. ``sctp_kernel`` uses them.
Source: RFC 6458, man 7 sctp, linux/sctp.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Final

from knet_trio._transport import options
from knet_trio.errors import TransportError

RECEIVE_BUFFER: Final = 1024 * 1024
"""The receive buffer of an association, in bytes. The peer sends no more than there is room for."""
SEND_BUFFER: Final = 512 * 1024
"""The send buffer in bytes. Data in it counts as sent, and is lost with the association."""
BACKLOG: Final = 64
"""The most associations that may wait to be accepted."""

SHORTEST_RETRY: Final = 0.2
LONGEST_RETRY: Final = 60.0
"""The shortest and the longest time between two INIT chunks of an attempt, in seconds."""
# The longest time until the first INIT chunk, or other data at first, is sent again, in seconds.
_FIRST_RETRY: Final = 3.0

# The socket module of some supported Python versions lacks these names.
SOL_SCTP: Final = 132
SCTP_RTOINFO: Final = 0
SCTP_INITMSG: Final = 2
SCTP_NODELAY: Final = 3
SCTP_EVENTS: Final = 11
SCTP_STREAM_SCHEDULER: Final = 123
SCTP_STREAM_SCHEDULER_VALUE: Final = 124
SCTP_SNDINFO: Final = 2
MSG_NOTIFICATION: Final = 0x8000

# The number of outgoing and incoming streams and of attempts, and the longest time between attempts
# in milliseconds. 0 is the kernel's default.
_INITMSG: Final = struct.Struct("=HHHH")
# The association, and the first, longest and shortest time in milliseconds until data that is not
# acknowledged is sent again. 0 changes nothing.
_RTOINFO: Final = struct.Struct("=iIII")
# The scheduler of an association, by the priorities of its streams: the lowest number goes first.
# And the priority of one stream.
_PRIORITIES: Final = 1
_SCHEDULER: Final = struct.Struct("=iI")
_STREAM_VALUE: Final = struct.Struct("=iHH")
_URGENT_STREAM: Final = 1
# The ancillary data of sendmsg: the stream, flags, and three unused fields.
_SNDINFO: Final = struct.Struct("=HHIIi")
_URGENT: Final = [(SOL_SCTP, SCTP_SNDINFO, _SNDINFO.pack(_URGENT_STREAM, 0, 0, 0, 0))]
# struct sctp_event_subscribe. After the details of each message, which are off, come the events
# that are on: association, address, failed sends, errors of the peer, shutdown.
_EVENTS: Final = bytes((0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0))

# The beginning of every notification: type, flags, length. In a change of the association, its
# state and an error follow; the error is a cause code of RFC 9260.
_NOTIFICATION: Final = struct.Struct("=HHI")
_ASSOC_CHANGE: Final = struct.Struct("=HHIHH")
_TYPE_ASSOC_CHANGE: Final = 0x8001
_TYPE_SHUTDOWN: Final = 0x8005
CLOSED: Final = "the peer has closed the association"
"""The reason for a loss where the peer has ended the association in good order."""
_RESTARTED: Final = 2
_LOST: Final = {
    1: "the association is lost",
    3: CLOSED,
    4: "the association could not be set up",
}


def new_socket(family: int) -> socket.socket:
    """Return a new SCTP socket for IPv4 or IPv6.

    Raises:
        OSError: The kernel has no SCTP (EPROTONOSUPPORT), or another error of the system.
    """
    kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC
    sock = socket.socket(family, kind, socket.IPPROTO_SCTP)
    if family == socket.AF_INET6:
        # An accepted socket inherits this option from the listener, and would refuse it.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def no_support_error(doing: str) -> TransportError:
    """Return the error for a kernel without SCTP; it says what to do."""
    return TransportError(
        f"{doing}: this kernel has no SCTP ({os.strerror(errno.EPROTONOSUPPORT)}); load it with"
        " `modprobe sctp`, or use transport='udp'",
        errno=errno.EPROTONOSUPPORT,
    )


def set_options(sock: socket.socket, mark: int | None) -> str | None:
    """Set the options that all SCTP sockets have in common.

    Args:
        sock: The socket.
        mark: The DSCP of its packets; None without high priority.

    Returns:
        None if the buffers are as large as wanted; else an explanation and what helps.
    """
    sock.setblocking(False)
    small = options.set_buffers(sock, receive=RECEIVE_BUFFER, send=SEND_BUFFER)
    options.allow_absent_address(sock)
    sock.setsockopt(SOL_SCTP, SCTP_NODELAY, 1)
    sock.setsockopt(SOL_SCTP, SCTP_EVENTS, _EVENTS)
    if mark is not None:
        options.set_priority(sock, mark)
    return small


def set_retry(sock: socket.socket, interval: float) -> None:
    """Set how often an attempt to connect asks the peer, in seconds, within bounds.

    By default the kernel waits 3 seconds, and longer each time, up to a minute, before it finds a
    peer that comes back.
    """
    seconds = min(max(interval, SHORTEST_RETRY), LONGEST_RETRY)
    first = min(seconds, _FIRST_RETRY)
    sock.setsockopt(SOL_SCTP, SCTP_RTOINFO, _RTOINFO.pack(0, round(first * 1000), 0, 0))
    sock.setsockopt(SOL_SCTP, SCTP_INITMSG, _INITMSG.pack(0, 0, 0, round(seconds * 1000)))


def have_urgent_stream(sock: socket.socket) -> bool:
    """Give one stream of an association priority over all others.

    Returns:
        False if the kernel has no priorities of streams, or the peer accepts one stream only.
    """
    value = _STREAM_VALUE.pack(0, 0, 1)
    try:
        sock.setsockopt(SOL_SCTP, SCTP_STREAM_SCHEDULER, _SCHEDULER.pack(0, _PRIORITIES))
        sock.setsockopt(SOL_SCTP, SCTP_STREAM_SCHEDULER_VALUE, value)
        value = _STREAM_VALUE.pack(0, _URGENT_STREAM, 0)
        sock.setsockopt(SOL_SCTP, SCTP_STREAM_SCHEDULER_VALUE, value)
    except OSError:
        return False
    return True


def send_urgent(sock: socket.socket, packet: bytes) -> None:
    """Send a packet on the urgent stream.

    Raises:
        OSError: As ``socket.send`` does.
    """
    sock.sendmsg((packet,), _URGENT, socket.MSG_NOSIGNAL)


def read_loss_untrusted(notification: bytes) -> str | None:
    """Return why the association is lost; None if a notification does not report a loss."""
    if len(notification) < _NOTIFICATION.size:
        return None
    kind, _, _ = _NOTIFICATION.unpack_from(notification)
    if kind == _TYPE_SHUTDOWN:
        return CLOSED
    if kind != _TYPE_ASSOC_CHANGE or len(notification) < _ASSOC_CHANGE.size:
        return None
    _, _, _, state, _ = _ASSOC_CHANGE.unpack_from(notification)
    return _LOST.get(state)


def is_restart_untrusted(notification: bytes) -> bool:
    """Return whether a notification reports a restart of the peer, whose partial data is lost."""
    if len(notification) < _ASSOC_CHANGE.size:
        return False
    kind, _, _, state, _ = _ASSOC_CHANGE.unpack_from(notification)
    return bool(kind == _TYPE_ASSOC_CHANGE and state == _RESTARTED)


def abort(sock: socket.socket) -> None:
    """Close a socket and notify the peer at once. Packets in the send buffer are dropped."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
    sock.close()


def take_error(sock: socket.socket) -> int:
    """Return the pending error of a socket, 0 for none, and clear it."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
