"""Everything that can go wrong, as one tree.

::

    KnetError                        any failure libknet reports with an errno, kept in ``.errno``
    ├── InvalidArgumentError         EINVAL; also a ValueError
    │   ├── UnknownHostError         no such host; also a LookupError
    │   ├── UnknownLinkError         no such link on that host; also a LookupError
    │   └── UnknownAttributeError    nothing that can be set; also an AttributeError
    ├── NotImplementedByKnetError    ENOSYS; also a ValueError
    ├── AlreadyExistsError           EEXIST: a host id, name or access list entry is taken
    ├── BusyError                    EBUSY: a link, channel or crypto slot is in use
    ├── LimitError                   ENOSPC: every channel is taken
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
    └── PacketError                  EBADMSG: bytes from the network that are no valid packet

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
    """Why a packet or a message went no further. ``Handle.statistics().drops`` counts each.

    ``docs/drops.md`` has what each cause means, and ``explain()`` what to do.
    """

    # Bytes that are no packet, or a packet that may not speak here.
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

    # Data on its way in.
    DUPLICATE = "duplicate"
    BAD_FRAGMENT = "bad_fragment"
    REPEATED_FRAGMENT = "repeated_fragment"
    STALE_FRAGMENT = "stale_fragment"
    REASSEMBLY_GIVEN_UP = "reassembly_given_up"
    UNKNOWN_COMPRESSION = "unknown_compression"
    BAD_COMPRESSION = "bad_compression"
    NOT_FOR_THIS_HOST = "not_for_this_host"
    NO_CHANNEL = "no_channel"
    CHANNEL_FULL = "channel_full"
    CHANNEL_ERROR = "channel_error"
    RECEIVE_QUEUE_FULL = "receive_queue_full"
    COMPRESSION_REFUSED = "compression_refused"

    # Either way.
    FORWARDING_DISABLED = "forwarding_disabled"
    FILTER_ERROR = "filter_error"
    FILTER_DROP = "filter_drop"

    # Data on its way out.
    MESSAGE_SIZE = "message_size"
    UNKNOWN_DESTINATION = "unknown_destination"
    HOST_DOWN = "host_down"
    SEAL_FAILED = "seal_failed"
    SEND_FAILED = "send_failed"
    SEND_QUEUE_FULL = "send_queue_full"


_SHOWN: Final = 80
"""How many characters of a wrong value an error shows."""


def shown(value: object) -> str:
    """Return ``value`` as an error shows it: in few characters, whatever it is."""
    try:
        text = repr(value)
    except Exception:
        # A number of thousands of digits has no text either.
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def is_integer(value: object) -> TypeGuard[int]:
    """Return whether ``value`` is an integer, which True and False are not meant to be."""
    return isinstance(value, int) and not isinstance(value, bool)


class KnetError(Exception):
    """The root of every error that libknet would report with an errno.

    Attributes:
        errno: The number, such as ``errno.EINVAL``.
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
    """An argument is out of its range, or does not fit the state of the object."""

    errno = _errno.EINVAL


class UnknownHostError(InvalidArgumentError, LookupError):
    """The handle has no such host (or has it no longer)."""


class UnknownLinkError(InvalidArgumentError, LookupError):
    """The host has no such link (or has it no longer)."""


class UnknownAttributeError(InvalidArgumentError, AttributeError):
    """An attribute is set that is not there, or cannot be set."""


class NotImplementedByKnetError(KnetError, ValueError):
    """The protocol reserves this value, and no implementation has it."""

    errno = _errno.ENOSYS


class AlreadyExistsError(KnetError):
    """The id or name is taken."""

    errno = _errno.EEXIST


class BusyError(KnetError):
    """Something cannot change because it is in use."""

    errno = _errno.EBUSY


class LimitError(KnetError):
    """All of something that there is a fixed number of are in use."""

    errno = _errno.ENOSPC


class TransportError(KnetError):
    """The system refused a socket or an address; ``errno`` is the system's."""

    @classmethod
    def from_os_error(cls, doing: str, error: OSError) -> TransportError:
        """Return the error for a system call that was refused while ``doing`` something."""
        number = error.errno or 0
        return cls(f"{doing}: {os.strerror(number) if number else error}", errno=number)


class OutsideTrioError(KnetError, RuntimeError):
    """The call does not come from the Trio program that the handle runs in.

    It comes from another thread, from another event loop, or from none.
    """

    errno = _errno.EPERM


class SendError(KnetError):
    """A message goes no further. ``send_sync`` raises it, ``send`` counts it.

    Attributes:
        cause: Under which cause that is counted, in ``Handle.statistics().drops``.

    See knet_send_sync(3).
    """

    cause: ClassVar[DropCause] = DropCause.SEND_FAILED


class ForwardingDisabledError(SendError):
    """Data forwarding is off; ``await handle.set_forwarding(True)`` turns it on."""

    cause = DropCause.FORWARDING_DISABLED
    errno = _errno.ECANCELED


class FilterError(SendError):
    """The destination filter raised; the cause is chained."""

    cause = DropCause.FILTER_ERROR
    errno = _errno.EFAULT


class NoFilterError(SendError):
    """Nothing says where the message should go: no filter is set and ``to`` was not given."""

    errno = _errno.ENETDOWN


class DestinationError(SendError, ValueError):
    """``send_sync`` takes exactly one destination. EINVAL for none, E2BIG for several."""

    cause = DropCause.UNKNOWN_DESTINATION


class DroppedByFilterError(SendError):
    """The destination filter answered ``Drop()``."""

    cause = DropCause.FILTER_DROP
    errno = _errno.ENOMSG


class HostDownError(SendError):
    """The destination is not reachable."""

    cause = DropCause.HOST_DOWN
    errno = _errno.EHOSTDOWN


class SealError(SendError):
    """The cipher failed."""

    cause = DropCause.SEAL_FAILED
    errno = _errno.ECHILD


class NoProgressError(SendError):
    """No link took the message; ``errno`` is the system's, EAGAIN when the socket is full."""

    errno = _errno.EAGAIN


class PacketError(KnetError):
    """Bytes that are not a valid packet, the only error hostile bytes can cause.

    ``cause`` is the counter they are counted under.
    """

    errno = _errno.EBADMSG

    def __init__(self, cause: DropCause, message: str) -> None:
        super().__init__(message)
        self.cause = cause
