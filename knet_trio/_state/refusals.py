"""The texts about dropped packets and messages, by cause.

``LOG_LINES`` has the lines of the log, so that ``Context.refuse`` counts and logs a drop in one
call.
``ADVICE`` says what to do about each cause, for ``Link.explain()`` and ``Handle.explain()``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from knet_trio._logs.names import LogLevel, LogSubsystem
from knet_trio.address import Address
from knet_trio.errors import DropCause


class LastDrop(NamedTuple):
    """The last packet or message that was dropped for one cause.

    Attributes:
        words: The text of the log line, with a ``%s`` for each of ``details``.
        details: The values for the text.
        at: The time, in seconds on Trio's clock.
    """

    words: str
    details: tuple[object, ...]
    at: float

    def __str__(self) -> str:
        return self.words % self.details

    @property
    def source(self) -> Address | None:
        """The address that it came from, None if it has none."""
        return next((one for one in self.details if isinstance(one, Address)), None)


class LogLine(NamedTuple):
    """A line of the log. It begins with the link, if the drop concerns one.

    Attributes:
        level: The level.
        subsystem: The subsystem.
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
_PACKET = LogLine(_WARNING, LogSubsystem.RX, "a packet from %s is refused: %s")
_MESSAGE = LogLine(
    _WARNING,
    LogSubsystem.COMPRESS,
    "a message of host %s cannot be decompressed and is lost: %s",
)

LOG_LINES: Final[dict[DropCause, LogLine]] = {
    # Details: the source, and the fault.
    DropCause.MALFORMED: _PACKET,
    DropCause.BAD_FRAGMENT: _PACKET,
    DropCause.WRONG_VERSION: _PACKET,
    DropCause.UNKNOWN_TYPE: _PACKET,
    DropCause.HOST_INFO: _PACKET,
    DropCause.NOT_AUTHENTIC: _PACKET,
    DropCause.CLEAR_TRAFFIC: _PACKET,
    # The source, the unknown id, and what was expected.
    DropCause.UNKNOWN_HOST: LogLine(
        _WARNING,
        LogSubsystem.RX,
        "a packet from %s names host %s as its sender, %s",
    ),
    DropCause.UNKNOWN_LINK: LogLine(
        _WARNING,
        LogSubsystem.RX,
        "a packet from %s is for link %s to host %s, which the handle does not have: %s",
    ),
    # The kind of packet, its source, and the right source.
    DropCause.UNKNOWN_ADDRESS: LogLine(
        _WARNING, LogSubsystem.RX, "%s from %s is refused: it has to come from %s"
    ),
    # The source, and the entry of the list.
    DropCause.ACCESS_LIST: LogLine(
        _WARNING, LogSubsystem.RX, "a packet from %s is refused by the access list: %s"
    ),
    # The source.
    DropCause.IMPOSSIBLE_SOURCE: LogLine(
        _WARNING, LogSubsystem.RX, "a packet from %s is refused: a peer cannot have that address"
    ),
    DropCause.RATE_LIMITED: LogLine(
        _INFO,
        LogSubsystem.RX,
        "a ping from %s is refused: too many pings come from other addresses than the peer's",
    ),
    DropCause.REPLAYED: LogLine(
        _INFO, LogSubsystem.RX, "a copy of an earlier ping from %s is refused"
    ),
    # The source, the host, and the fault.
    DropCause.UNCONFIRMED: LogLine(
        _INFO, LogSubsystem.CRYPTO, "a packet from %s, sealed by host %s, is refused: %s"
    ),
    DropCause.LINK_DISABLED: LogLine(
        _DEBUG, LogSubsystem.RX, "a packet of the peer is refused: the link is disabled"
    ),
    DropCause.PEER_UNREACHABLE: LogLine(
        _DEBUG, LogSubsystem.RX, "data is refused: the host is unreachable"
    ),
    # The host, and the fault.
    DropCause.UNKNOWN_COMPRESSION: _MESSAGE,
    DropCause.BAD_COMPRESSION: _MESSAGE,
    DropCause.COMPRESSION_REFUSED: LogLine(
        _WARNING,
        LogSubsystem.COMPRESS,
        "a message of host %s is lost: %s",
    ),
    DropCause.RECEIVE_QUEUE_FULL: LogLine(
        _WARNING,
        LogSubsystem.RX,
        "messages of host %s are lost: they come faster than they can be decompressed or read",
    ),
    # The host, and the channel.
    DropCause.GREETING: LogLine(
        _DEBUG,
        LogSubsystem.RX,
        "host %s has started its streams over channel %s, which is not open here",
    ),
    # The channel.
    DropCause.NO_CHANNEL: LogLine(
        _WARNING, LogSubsystem.RX, "messages for channel %s are lost: it is not open"
    ),
    DropCause.CHANNEL_FULL: LogLine(
        _WARNING, LogSubsystem.RX, "messages for channel %s are lost: its reader is too slow"
    ),
    # The way (in or out), and the fault.
    DropCause.FILTER_ERROR: LogLine(
        _ERROR, LogSubsystem.FILTER, "a message on its way %s is lost: %s"
    ),
    # The fault or the reason.
    DropCause.SEAL_FAILED: LogLine(_ERROR, LogSubsystem.CRYPTO, "a message is lost: %s"),
    DropCause.UNKNOWN_DESTINATION: LogLine(_WARNING, LogSubsystem.TX, "a message is lost: %s"),
    DropCause.HOST_DOWN: LogLine(_WARNING, LogSubsystem.TX, "a message is lost: %s"),
    DropCause.FILTER_DROP: LogLine(_DEBUG, LogSubsystem.TX, "a message is dropped: %s"),
    DropCause.FORWARDING_DISABLED: LogLine(_DEBUG, LogSubsystem.TX, "a message is dropped: %s"),
    # The channel, and the bytes of the message.
    DropCause.MESSAGE_SIZE: LogLine(
        _WARNING,
        LogSubsystem.TX,
        "a message from the data fd of channel %s is lost: it has %s bytes",
    ),
    DropCause.SEND_FAILED: LogLine(
        _WARNING, LogSubsystem.TX, "data to host %s is lost, no link sent it: %s"
    ),
    DropCause.SEND_QUEUE_FULL: LogLine(
        _WARNING,
        LogSubsystem.TX,
        "messages to host %s are lost: its links are slower than those of other hosts",
    ),
}

ADVICE: Final[dict[DropCause, str]] = {
    DropCause.MALFORMED: "compare the crypto settings of both hosts, or find the sender",
    DropCause.BAD_FRAGMENT: "the sender has a bug, or somebody forges packets",
    DropCause.WRONG_VERSION: "compare the crypto settings and the protocol versions of both hosts",
    DropCause.UNKNOWN_TYPE: "compare the crypto settings of both hosts, or find the sender",
    DropCause.NOT_AUTHENTIC: "compare key, cipher, hash and model on both hosts",
    DropCause.CLEAR_TRAFFIC: "set crypto on the other host, or allow_clear_traffic on this one",
    DropCause.UNKNOWN_HOST: "compare the host ids on both sides",
    DropCause.UNKNOWN_LINK: "give the link the same id on both sides",
    DropCause.UNKNOWN_ADDRESS: "compare addresses and ports on both sides",
    DropCause.ACCESS_LIST: "if it is the peer, compare the addresses on both sides, or add an entry"
    " to link.acl that accepts it",
    DropCause.IMPOSSIBLE_SOURCE: "somebody forges packets",
    DropCause.RATE_LIMITED: "somebody floods this link with pings",
    DropCause.REPLAYED: "the network duplicates packets, or somebody replays recorded ones",
    DropCause.UNCONFIRMED: "if that host has just started, it is confirmed when it answers a ping;"
    " otherwise these are recordings of an earlier life",
    DropCause.LINK_DISABLED: "set enabled = True to use the link",
    DropCause.PEER_UNREACHABLE: "check the links of that host: its pongs are late or lost",
    DropCause.UNEXPECTED_PONG: "pongs come twice, or later than pong_timeout: on a slow path raise"
    " pong_timeout",
    DropCause.REASSEMBLY_GIVEN_UP: "fragments of messages are missing: the network loses packets",
    DropCause.UNKNOWN_COMPRESSION: "install the missing package here, or use another compression on"
    " that host",
    DropCause.BAD_COMPRESSION: "compare the compression libraries of both hosts",
    DropCause.COMPRESSION_REFUSED: "add the model to accept_compression here, or use another"
    " compression on that host",
    DropCause.RECEIVE_QUEUE_FULL: "use a faster compression on that host, or send less",
    DropCause.NOT_FOR_THIS_HOST: "the filter here chose other hosts, or packets were sealed for"
    " another host",
    DropCause.NO_CHANNEL: "open the channel on this host before its peers send on it",
    DropCause.CHANNEL_FULL: "read with receive_many, or give open_channel a larger receive_buffer",
    DropCause.CHANNEL_ERROR: "the descriptor of a data fd refused messages: see the event"
    " ChannelError",
    DropCause.FORWARDING_DISABLED: "turn it on with await handle.set_forwarding(True)",
    DropCause.FILTER_ERROR: "see the traceback in the log",
    DropCause.FILTER_DROP: "the filter returned Drop()",
    DropCause.MESSAGE_SIZE: "write messages of 1 to 65536 bytes to a data fd",
    DropCause.UNKNOWN_DESTINATION: "add the host, or correct to= or the filter",
    DropCause.HOST_DOWN: "await host.wait_reachable() before sending",
    DropCause.SEAL_FAILED: "see the error in the log",
    DropCause.SEND_FAILED: "check the interface and the routes of this machine",
    DropCause.SEND_QUEUE_FULL: "send less, or give the host a faster link",
}
"""What to do about a drop. The other causes belong to the protocol and need no action."""
