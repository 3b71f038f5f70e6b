"""SCTP sockets of the kernel: their options, and what they say of their associations.

One-to-one sockets (SOCK_STREAM): each has one association, and keeps the boundaries of messages.
``sctp_kernel`` puts them to use.
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
"""Bytes of the receive buffer of an association. The peer sends no more than there is room for."""
SEND_BUFFER: Final = 512 * 1024
"""Bytes of the send buffer. What waits in it counts as sent, and is lost with the association."""
BACKLOG: Final = 64
"""Associations that may wait to be accepted."""

SHORTEST_RETRY: Final = 0.2
LONGEST_RETRY: Final = 60.0
"""Seconds between two INIT chunks of an attempt, at least and at most."""
# Seconds until the first of them is sent again, and what else finds no answer at first, at most.
_FIRST_RETRY: Final = 3.0

# Not named by the socket module of every supported Python.
SOL_SCTP: Final = 132
SCTP_RTOINFO: Final = 0
SCTP_INITMSG: Final = 2
SCTP_NODELAY: Final = 3
SCTP_EVENTS: Final = 11
SCTP_STREAM_SCHEDULER: Final = 123
SCTP_STREAM_SCHEDULER_VALUE: Final = 124
SCTP_SNDINFO: Final = 2
MSG_NOTIFICATION: Final = 0x8000

# Outgoing and incoming streams, attempts, and the longest time between them in milliseconds. 0 is
# what the kernel has.
_INITMSG: Final = struct.Struct("=HHHH")
# The association, and milliseconds until what is not acknowledged is sent again: at first, at most
# and at least. 0 leaves it as it is.
_RTOINFO: Final = struct.Struct("=iIII")
# How streams take turns: by their priorities, of which the lowest goes first. For an association,
# and a stream of it.
_PRIORITIES: Final = 1
_SCHEDULER: Final = struct.Struct("=iI")
_STREAM_VALUE: Final = struct.Struct("=iHH")
_URGENT_STREAM: Final = 1
# What sendmsg takes along: the stream, flags, and three that are not used.
_SNDINFO: Final = struct.Struct("=HHIIi")
_URGENT: Final = [(SOL_SCTP, SCTP_SNDINFO, _SNDINFO.pack(_URGENT_STREAM, 0, 0, 0, 0))]
# struct sctp_event_subscribe: which events there are. Association, address, failed sends, errors of
# the peer, shutdown; not the details of each message, which come first.
_EVENTS: Final = bytes((0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0))

# What every notification begins with: type, flags, length. A change of the association goes on with
# its state and an error, which is a cause code of RFC 9260.
_NOTIFICATION: Final = struct.Struct("=HHI")
_ASSOC_CHANGE: Final = struct.Struct("=HHIHH")
_TYPE_ASSOC_CHANGE: Final = 0x8001
_TYPE_SHUTDOWN: Final = 0x8005
CLOSED: Final = "the peer has closed the association"
"""Why it is lost when the peer has ended without trouble."""
_RESTARTED: Final = 2
_LOST: Final = {
    1: "the association is lost",
    3: CLOSED,
    4: "the association could not be set up",
}


def new_socket(family: int) -> socket.socket:
    """Make an SCTP socket for IPv4 or IPv6.

    Raises:
        OSError: EPROTONOSUPPORT if the kernel has no SCTP; or another error of the system.
    """
    kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC
    sock = socket.socket(family, kind, socket.IPPROTO_SCTP)
    if family == socket.AF_INET6:
        # One that is accepted has it from the listener, and would refuse it.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def no_support_error(doing: str) -> TransportError:
    """Return the error for a kernel without SCTP, which says what to do."""
    return TransportError(
        f"{doing}: this kernel has no SCTP ({os.strerror(errno.EPROTONOSUPPORT)}); load it with"
        " `modprobe sctp`, or use transport='udp'",
        errno=errno.EPROTONOSUPPORT,
    )


def set_options(sock: socket.socket, mark: int | None) -> str | None:
    """Set what all sockets have in common, with a DSCP of ``mark`` those that have priority.

    Returns:
        None if the system gives the buffers, else what is wrong and what helps.
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
    """Have an attempt to connect ask the peer every ``interval`` seconds, within bounds.

    The kernel by itself would wait for 3 seconds, and for longer each time, up to a minute: so long
    a peer that comes back would not be found.
    """
    seconds = min(max(interval, SHORTEST_RETRY), LONGEST_RETRY)
    first = min(seconds, _FIRST_RETRY)
    sock.setsockopt(SOL_SCTP, SCTP_RTOINFO, _RTOINFO.pack(0, round(first * 1000), 0, 0))
    sock.setsockopt(SOL_SCTP, SCTP_INITMSG, _INITMSG.pack(0, 0, 0, round(seconds * 1000)))


def have_urgent_stream(sock: socket.socket) -> bool:
    """Have a stream go before all others, on a socket that has an association.

    Returns:
        False if the kernel does not let streams take turns by priorities, or the peer takes one
        stream only.
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
    """Send on the urgent stream.

    Raises:
        OSError: As ``socket.send`` does.
    """
    sock.sendmsg((packet,), _URGENT, socket.MSG_NOSIGNAL)


def read_loss_untrusted(notification: bytes) -> str | None:
    """Return why the association is lost, None if a notification does not say that it is."""
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
    """Return whether a notification says that the peer has begun anew: what it had sent is gone."""
    if len(notification) < _ASSOC_CHANGE.size:
        return False
    kind, _, _, state, _ = _ASSOC_CHANGE.unpack_from(notification)
    return bool(kind == _TYPE_ASSOC_CHANGE and state == _RESTARTED)


def abort(sock: socket.socket) -> None:
    """Close a socket so that the peer is told at once, and nothing that waits is sent any more."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
    sock.close()


def take_error(sock: socket.socket) -> int:
    """Return the error that waits at a socket, 0 for none, and forget it."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
