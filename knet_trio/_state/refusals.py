"""What the log says about packets and messages that are dropped, by cause.

One table, so that a drop is counted and logged in one call: ``Context.refuse``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from knet_trio._logs.names import LogLevel, LogSubsystem
from knet_trio.errors import DropCause


class Told(NamedTuple):
    """A line of the log. In front of it stands the link, if the drop concerns one.

    Attributes:
        level: Its level.
        subsystem: Its subsystem.
        words: The text, with a ``%s`` for each detail that ``Context.refuse`` is given.
    """

    level: LogLevel
    subsystem: LogSubsystem
    words: str


_ERROR, _WARNING, _INFO, _DEBUG = (
    LogLevel.ERROR,
    LogLevel.WARNING,
    LogLevel.INFO,
    LogLevel.DEBUG,
)
_PACKET = Told(_WARNING, LogSubsystem.RX, "a packet from %s is refused: %s")
_MESSAGE = Told(
    _WARNING,
    LogSubsystem.COMPRESS,
    "a message of host %s is lost, it cannot be decompressed: %s",
)

TOLD: Final[dict[DropCause, Told]] = {
    # Details: the source, and what is wrong.
    DropCause.MALFORMED: _PACKET,
    DropCause.BAD_FRAGMENT: _PACKET,
    DropCause.WRONG_VERSION: _PACKET,
    DropCause.UNKNOWN_TYPE: _PACKET,
    DropCause.HOST_INFO: _PACKET,
    DropCause.NOT_AUTHENTIC: _PACKET,
    DropCause.CLEAR_TRAFFIC: _PACKET,
    # The source, and what is not known.
    DropCause.UNKNOWN_HOST: Told(
        _WARNING, LogSubsystem.RX, "a packet from %s is of host %s, which the handle does not have"
    ),
    DropCause.UNKNOWN_LINK: Told(
        _WARNING,
        LogSubsystem.RX,
        "a packet from %s is for link %s to host %s, which the handle does not have",
    ),
    # What came, its source, and where it would have had to come from.
    DropCause.UNKNOWN_ADDRESS: Told(
        _WARNING, LogSubsystem.RX, "%s from %s is refused, it has to come from %s"
    ),
    # The source.
    DropCause.ACCESS_LIST: Told(
        _WARNING, LogSubsystem.RX, "a packet from %s is refused by the access list"
    ),
    DropCause.IMPOSSIBLE_SOURCE: Told(
        _WARNING, LogSubsystem.RX, "a packet from %s is refused, no peer has that address"
    ),
    DropCause.RATE_LIMITED: Told(
        _INFO,
        LogSubsystem.RX,
        "a ping from %s is refused, more come from elsewhere than can be looked into",
    ),
    DropCause.REPLAYED: Told(
        _INFO, LogSubsystem.RX, "a copy of an earlier ping from %s is refused"
    ),
    DropCause.LINK_DISABLED: Told(
        _DEBUG, LogSubsystem.RX, "the peer is trying to reach it, but it is disabled"
    ),
    DropCause.PEER_UNREACHABLE: Told(
        _DEBUG, LogSubsystem.RX, "data is refused, the host is unreachable"
    ),
    # The host, and what is wrong.
    DropCause.UNKNOWN_COMPRESSION: _MESSAGE,
    DropCause.BAD_COMPRESSION: _MESSAGE,
    DropCause.COMPRESSION_REFUSED: Told(
        _WARNING,
        LogSubsystem.COMPRESS,
        "a message of host %s is lost: %s",
    ),
    DropCause.RECEIVE_QUEUE_FULL: Told(
        _WARNING,
        LogSubsystem.RX,
        "messages of host %s are lost, they come faster than they can be worked on",
    ),
    # The channel.
    DropCause.NO_CHANNEL: Told(
        _WARNING, LogSubsystem.RX, "messages for channel %s are lost, it is not open"
    ),
    DropCause.CHANNEL_FULL: Told(
        _WARNING, LogSubsystem.RX, "messages for channel %s are lost, its reader is too slow"
    ),
    # The way (in or out), and what is wrong.
    DropCause.FILTER_ERROR: Told(
        _ERROR, LogSubsystem.FILTER, "a message on its way %s is lost: %s"
    ),
    # What is wrong.
    DropCause.SEAL_FAILED: Told(_ERROR, LogSubsystem.CRYPTO, "a message is lost: %s"),
    # What is wrong.
    DropCause.UNKNOWN_DESTINATION: Told(_WARNING, LogSubsystem.TX, "a message is lost: %s"),
    DropCause.HOST_DOWN: Told(_WARNING, LogSubsystem.TX, "a message is lost: %s"),
    DropCause.FILTER_DROP: Told(_DEBUG, LogSubsystem.TX, "a message goes no further: %s"),
    DropCause.FORWARDING_DISABLED: Told(_DEBUG, LogSubsystem.TX, "a message goes no further: %s"),
    DropCause.SEND_FAILED: Told(
        _WARNING, LogSubsystem.TX, "data to host %s is lost, no link took it: %s"
    ),
    DropCause.SEND_QUEUE_FULL: Told(
        _WARNING,
        LogSubsystem.TX,
        "messages to host %s are lost, its links are slower than those of others",
    ),
}
