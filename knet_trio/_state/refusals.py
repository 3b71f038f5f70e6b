"""What is said about packets and messages that are dropped, by cause.

One table for the log, so that a drop is counted and logged in one call: ``Context.refuse``. And one
of what to do about it, for those who ask a link or a handle to explain itself.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from knet_trio._logs.names import LogLevel, LogSubsystem
from knet_trio.address import Address
from knet_trio.errors import DropCause


class LastDrop(NamedTuple):
    """The last packet or message that was dropped for some cause.

    Attributes:
        words: What the log says, with a ``%s`` for each of ``details``.
        details: The values for that.
        at: When, in seconds on Trio's clock.
    """

    words: str
    details: tuple[object, ...]
    at: float

    def __str__(self) -> str:
        return self.words % self.details

    @property
    def source(self) -> Address | None:
        """Where it came from, None if it came from nowhere."""
        return next((one for one in self.details if isinstance(one, Address)), None)


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
    # The source, what is not known, and what would have been expected.
    DropCause.UNKNOWN_HOST: Told(
        _WARNING,
        LogSubsystem.RX,
        "a packet from %s says it is of host %s, which the handle does not have: %s",
    ),
    DropCause.UNKNOWN_LINK: Told(
        _WARNING,
        LogSubsystem.RX,
        "a packet from %s is for link %s to host %s, which the handle does not have: %s",
    ),
    # What came, its source, and where it would have had to come from.
    DropCause.UNKNOWN_ADDRESS: Told(
        _WARNING, LogSubsystem.RX, "%s from %s is refused, it has to come from %s"
    ),
    # The source, and which entry it is.
    DropCause.ACCESS_LIST: Told(
        _WARNING, LogSubsystem.RX, "a packet from %s is refused by the access list: %s"
    ),
    # The source.
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
    # The source, the host, and what is wrong with what it sends.
    DropCause.UNCONFIRMED: Told(
        _INFO, LogSubsystem.CRYPTO, "a packet from %s, sealed by host %s, is refused: %s"
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
    # The channel, and how many bytes.
    DropCause.MESSAGE_SIZE: Told(
        _WARNING,
        LogSubsystem.TX,
        "a message from the data fd of channel %s is lost, it has %s bytes",
    ),
    DropCause.SEND_FAILED: Told(
        _WARNING, LogSubsystem.TX, "data to host %s is lost, no link took it: %s"
    ),
    DropCause.SEND_QUEUE_FULL: Told(
        _WARNING,
        LogSubsystem.TX,
        "messages to host %s are lost, its links are slower than those of others",
    ),
}

ADVICE: Final[dict[DropCause, str]] = {
    DropCause.MALFORMED: "compare crypto on both hosts, or find out who sends this",
    DropCause.BAD_FRAGMENT: "its sender is broken, or somebody forges packets",
    DropCause.WRONG_VERSION: "compare crypto on both hosts, and the versions of the protocol",
    DropCause.UNKNOWN_TYPE: "compare crypto on both hosts, or find out who sends this",
    DropCause.NOT_AUTHENTIC: "compare key, cipher and hash on both hosts, and the model",
    DropCause.CLEAR_TRAFFIC: "set crypto on the other host, or allow_clear_traffic on this one",
    DropCause.UNKNOWN_HOST: "compare the host ids on both sides",
    DropCause.UNKNOWN_LINK: "a link has the same id on both sides",
    DropCause.UNKNOWN_ADDRESS: "compare addresses and ports on both sides",
    DropCause.ACCESS_LIST: "if it is the peer, compare the addresses on both sides, or have an"
    " entry of the link's acl accept it",
    DropCause.IMPOSSIBLE_SOURCE: "somebody forges packets",
    DropCause.RATE_LIMITED: "somebody floods this link with pings",
    DropCause.REPLAYED: "the network duplicates packets, or somebody replays recorded ones",
    DropCause.UNCONFIRMED: "its packets are recordings of an earlier life, unless that host has"
    " just started: then it is confirmed as soon as it answers a ping",
    DropCause.LINK_DISABLED: "set enabled = True to let it",
    DropCause.PEER_UNREACHABLE: "look at the links of that host: its pongs are late or lost",
    DropCause.UNEXPECTED_PONG: "pongs that come twice, or later than pong_timeout: on a slow path"
    " raise pong_timeout",
    DropCause.REASSEMBLY_GIVEN_UP: "messages of which fragments are missing: the network loses"
    " packets",
    DropCause.UNKNOWN_COMPRESSION: "install what is missing here, or compress otherwise there",
    DropCause.BAD_COMPRESSION: "compare the compression libraries of both hosts",
    DropCause.COMPRESSION_REFUSED: "add the model to accept_compression here, or compress otherwise"
    " there",
    DropCause.RECEIVE_QUEUE_FULL: "compress with something quicker there, or send less",
    DropCause.NOT_FOR_THIS_HOST: "messages that the filter here says are for others, or packets"
    " that were sealed for another host",
    DropCause.NO_CHANNEL: "open the channel on this host, before its peers send on it",
    DropCause.CHANNEL_FULL: "read with receive_many, or give open_channel a larger receive_buffer",
    DropCause.CHANNEL_ERROR: "the descriptor of a data fd refused messages: the event ChannelError"
    " says why",
    DropCause.FORWARDING_DISABLED: "await handle.set_forwarding(True) lets messages pass",
    DropCause.FILTER_ERROR: "the log has the traceback",
    DropCause.FILTER_DROP: "its answer was Drop()",
    DropCause.MESSAGE_SIZE: "a message that is read from a data fd has 1 to 65536 bytes",
    DropCause.UNKNOWN_DESTINATION: "add the host, or correct to= or the filter",
    DropCause.HOST_DOWN: "await host.wait_reachable() before sending",
    DropCause.SEAL_FAILED: "the log has the error",
    DropCause.SEND_FAILED: "look at the interface and the routes of this machine",
    DropCause.SEND_QUEUE_FULL: "send less, or give it a quicker link",
}
"""What to do. The other causes are the protocol at work, and nothing to be looked into."""
