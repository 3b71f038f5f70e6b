"""Everything that can go wrong, as one tree.

::

    KnetError                        any failure libknet reports with an errno, kept in ``.errno``
    ├── InvalidArgumentError         EINVAL; also a ValueError
    │   ├── UnknownHostError         the host was not added; also a LookupError
    │   ├── UnknownLinkError         the host has no such link; also a LookupError
    │   └── UnknownAttributeError    the attribute cannot be set; also an AttributeError
    ├── NotImplementedByKnetError    ENOSYS; also a ValueError
    ├── AlreadyExistsError           EEXIST: a host id, name or access list entry is taken
    ├── BusyError                    EBUSY: a link, channel or crypto slot is in use
    ├── LimitError                   ENOSPC: all channels are open
    ├── TransportError               the socket could not be made; the system's own errno
    ├── OutsideTrioError             EPERM: called from elsewhere; also a RuntimeError
    ├── SendError                    ``send_sync`` could not send
    │   ├── ForwardingDisabledError  ECANCELED
    │   ├── FilterError              EFAULT: the filter failed
    │   ├── NoFilterError            ENETDOWN: neither a filter nor ``to=``
    │   ├── DestinationError         EINVAL or E2BIG: not exactly one destination
    │   ├── DroppedByFilterError     ENOMSG: the filter said Drop
    │   ├── HostDownError            EHOSTDOWN
    │   ├── SealError                ECHILD: the message could not be encrypted
    │   └── NoProgressError          EAGAIN, or what the system said of the send
    └── PacketError                  EBADMSG: bytes from the network that are not a valid packet

Trio's own errors keep their meaning and stay outside the tree: ``trio.ClosedResourceError``,
``trio.EndOfChannel``, ``trio.WouldBlock``.

See the RETURN VALUE parts of libknet's manual pages.
"""

from __future__ import annotations

import enum
import errno as _errno
import os
from typing import ClassVar, Final, TypeGuard


class DropCause(enum.StrEnum):
    """Why a packet or a message was dropped. ``Handle.statistics().drops`` counts each cause.

    ``docs/drops.md`` documents each cause; ``explain()`` says what to do.
    """

    # Bytes that are not a packet, or a packet that is not accepted.
    MALFORMED = "malformed"
    WRONG_VERSION = "wrong_version"
    UNKNOWN_TYPE = "unknown_type"
    HOST_INFO = "host_info"
    UNKNOWN_HOST = "unknown_host"
    UNKNOWN_LINK = "unknown_link"
    UNKNOWN_ADDRESS = "unknown_address"
    ACCESS_LIST = "access_list"
    IMPOSSIBLE_SOURCE = "impossible_source"
    NOT_AUTHENTIC = "not_authentic"
    CLEAR_TRAFFIC = "clear_traffic"
    LINK_DISABLED = "link_disabled"
    PEER_UNREACHABLE = "peer_unreachable"
    UNEXPECTED_PONG = "unexpected_pong"
    UNEXPECTED_PMTUD_REPLY = "unexpected_pmtud_reply"
    REPLAYED = "replayed"
    UNCONFIRMED = "unconfirmed"
    RATE_LIMITED = "rate_limited"

    # Data received.
    DUPLICATE = "duplicate"
    BAD_FRAGMENT = "bad_fragment"
    REPEATED_FRAGMENT = "repeated_fragment"
    STALE_FRAGMENT = "stale_fragment"
    REASSEMBLY_GIVEN_UP = "reassembly_given_up"
    UNKNOWN_COMPRESSION = "unknown_compression"
    BAD_COMPRESSION = "bad_compression"
    NOT_FOR_THIS_HOST = "not_for_this_host"
    GREETING = "greeting"
    NO_CHANNEL = "no_channel"
    CHANNEL_FULL = "channel_full"
    CHANNEL_ERROR = "channel_error"
    RECEIVE_QUEUE_FULL = "receive_queue_full"
    COMPRESSION_REFUSED = "compression_refused"

    # Data sent or received.
    FORWARDING_DISABLED = "forwarding_disabled"
    FILTER_ERROR = "filter_error"
    FILTER_DROP = "filter_drop"

    # Data to be sent.
    MESSAGE_SIZE = "message_size"
    UNKNOWN_DESTINATION = "unknown_destination"
    HOST_DOWN = "host_down"
    SEAL_FAILED = "seal_failed"
    SEND_FAILED = "send_failed"
    SEND_QUEUE_FULL = "send_queue_full"


_SHOWN: Final = 80
"""The largest number of characters of a wrong value in an error."""


def shown(value: object) -> str:
    """Return the ``repr`` of ``value``, shortened, for the text of an error."""
    try:
        text = repr(value)
    except Exception:
        # An integer with thousands of digits raises, too.
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def count_of(number: int, what: str) -> str:
    """Return a number with its noun, for texts: ``1 link``, ``2 links``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def is_integer(value: object) -> TypeGuard[int]:
    """Return whether ``value`` is an integer other than True and False."""
    return isinstance(value, int) and not isinstance(value, bool)


class KnetError(Exception):
    """The root of every error that libknet would report with an errno.

    Attributes:
        errno: The error number, such as ``errno.EINVAL``.
    """

    errno: int = 0

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        if errno is not None:
            self.errno = errno

    def __str__(self) -> str:
        name = _errno.errorcode.get(self.errno)
        return f"{super().__str__()} [{name}]" if name else super().__str__()


class InvalidArgumentError(KnetError, ValueError):
    """An argument is out of range, or does not fit the state of the object."""

    errno: int = _errno.EINVAL


class UnknownHostError(InvalidArgumentError, LookupError):
    """The host was not added to the handle, or was removed."""


class UnknownLinkError(InvalidArgumentError, LookupError):
    """The host has no such link, or it was removed."""


class UnknownAttributeError(InvalidArgumentError, AttributeError):
    """An attribute was set that does not exist, or cannot be set."""


class NotImplementedByKnetError(KnetError, ValueError):
    """The protocol reserves this value, and no implementation supports it."""

    errno: int = _errno.ENOSYS


class AlreadyExistsError(KnetError):
    """The id, the name or the entry exists already."""

    errno: int = _errno.EEXIST


class BusyError(KnetError):
    """The link, the channel or the crypto slot is in use."""

    errno: int = _errno.EBUSY


class LimitError(KnetError):
    """All of a fixed number are in use, such as the channels."""

    errno: int = _errno.ENOSPC


class TransportError(KnetError):
    """The system refused a socket or an address; ``errno`` is the system's."""

    @classmethod
    def from_os_error(cls, doing: str, error: OSError) -> TransportError:
        """Return the error for a system call that failed.

        Args:
            doing: What the call was for, such as ``cannot bind UDP 10.0.0.1:5405``.
            error: The error of the system.
        """
        number = error.errno or 0
        return cls(f"{doing}: {os.strerror(number) if number else error}", errno=number)


class OutsideTrioError(KnetError, RuntimeError):
    """The call was made outside of the Trio program in which the handle runs.

    It was made in another thread, in another event loop, or without one.
    """

    errno: int = _errno.EPERM


class SendError(KnetError):
    """A message was not sent. ``send_sync`` raises it, ``send`` counts it.

    Attributes:
        cause: The cause under which ``Handle.statistics().drops`` counts it.

    See knet_send_sync(3).
    """

    cause: ClassVar[DropCause] = DropCause.SEND_FAILED


class ForwardingDisabledError(SendError):
    """Data forwarding is off; ``await handle.set_forwarding(True)`` turns it on."""

    cause = DropCause.FORWARDING_DISABLED
    errno: int = _errno.ECANCELED


class FilterError(SendError):
    """The filter raised an exception, which is chained."""

    cause = DropCause.FILTER_ERROR
    errno: int = _errno.EFAULT


class NoFilterError(SendError):
    """The message has no destination: no filter is set and ``to`` was not given."""

    errno: int = _errno.ENETDOWN


class DestinationError(SendError, ValueError):
    """``send_sync`` takes exactly one destination. EINVAL for none, E2BIG for several."""

    cause = DropCause.UNKNOWN_DESTINATION


class DroppedByFilterError(SendError):
    """The filter returned ``Drop()``."""

    cause = DropCause.FILTER_DROP
    errno: int = _errno.ENOMSG


class HostDownError(SendError):
    """The destination is not reachable."""

    cause = DropCause.HOST_DOWN
    errno: int = _errno.EHOSTDOWN


class SealError(SendError):
    """The cipher failed."""

    cause = DropCause.SEAL_FAILED
    errno: int = _errno.ECHILD


class NoProgressError(SendError):
    """No link accepted the message; ``errno`` is the system's, EAGAIN if the socket was full."""

    errno: int = _errno.EAGAIN


class PacketError(KnetError):
    """Bytes from the network that are not a valid packet. No other error comes of hostile bytes.

    Attributes:
        cause: The cause under which they are counted.
    """

    errno: int = _errno.EBADMSG

    def __init__(self, cause: DropCause, message: str) -> None:
        super().__init__(message)
        self.cause = cause
