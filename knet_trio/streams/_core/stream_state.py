"""The state of one stream: its two halves and their failures."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from knet_trio.streams._core.limits import INITIAL_CREDIT
from knet_trio.streams._core.quick_enum import QuickEnum
from knet_trio.streams._core.receiving_half import ReceivingHalf
from knet_trio.streams._core.sending_half import SendingHalf
from knet_trio.streams._core.wire import StreamKind


class FailureCause(QuickEnum):
    """The cause of the failure of a stream, or of a connection with all its streams."""

    CANCELLED = "the peer cancelled the stream"
    REFUSED = "the peer refused the stream"
    FAILED = "the peer's handler failed"
    CLOSED = "the peer closed the stream or all streams"
    VIOLATION = "the peer reports that this side violated the protocol"
    LOST_SIGHT = "the peer did not hear of this side for too long"
    SILENCE = "the peer has not answered for too long"
    RESTARTED = "the peer has restarted"
    FORGOTTEN = "the peer no longer knows the connection"
    BROKEN_RULES = "the peer violated the protocol"
    CLOSED_HERE = "the streams were closed on this side"
    HOST_REMOVED = "the host was removed"
    TOO_LARGE = "the peer sends more than this side takes"


class Failure(NamedTuple):
    """The failure of a stream or a connection.

    Attributes:
        cause: The cause.
        reason: The reason in words, from the peer or from here; may be empty.
    """

    cause: FailureCause
    reason: str


class StreamUser(Protocol):
    """The user of a stream: the ``owner`` of its state."""

    def touched(self) -> None:
        """Note that bytes, room, an end or a failure have arrived."""


class StreamState:
    """The state of one stream.

    Attributes:
        key: Twice the stream's number, plus one if the peer opened it.
        kind: The use of the stream.
        sending: The sending half.
        receiving: The receiving half.
        accepted: True once the side that did not open the stream has accepted it.
        sending_failure: Why nothing more can be sent; None while sending works.
        receiving_failure: Why nothing more can be received; None while receiving works.
        owner: The user that is notified when the stream was touched.
        writer_waits: True if a task waits for room in the send buffer.
        held: Bytes that were written and are not acknowledged. Set by the connection.
        is_queued: True if the stream is in the queue of the packet builder.
        window: Bytes that the peer may send before they are read. Set by ``ReceiveWindows``.
        credited: When credit was given last [seconds].
    """

    __slots__ = (
        "accepted",
        "credited",
        "held",
        "is_queued",
        "key",
        "kind",
        "owner",
        "receiving",
        "receiving_failure",
        "sending",
        "sending_failure",
        "window",
        "writer_waits",
    )

    def __init__(self, key: int, kind: StreamKind) -> None:
        self.key: int = key
        self.kind: StreamKind = kind
        self.sending: SendingHalf = SendingHalf(opens=not key & 1)
        self.receiving: ReceivingHalf = ReceivingHalf()
        self.accepted: bool = False
        self.sending_failure: Failure | None = None
        self.receiving_failure: Failure | None = None
        self.owner: StreamUser | None = None
        self.writer_waits: bool = False
        self.held: int = 0
        self.is_queued: bool = False
        self.window: int = INITIAL_CREDIT
        self.credited: float = 0.0

    def __repr__(self) -> str:
        return f"<StreamState {self.key} {self.kind.name}>"

    @property
    def opened_here(self) -> bool:
        """True if this side opened the stream."""
        return not self.key & 1

    @property
    def is_over(self) -> bool:
        """True if both halves are over."""
        return self.sending.is_over and self.receiving.is_over
