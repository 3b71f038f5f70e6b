"""One stream of a connection: its two halves, and why they failed."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from knet_trio.streams._core.limits import INITIAL_CREDIT
from knet_trio.streams._core.quick_enum import QuickEnum
from knet_trio.streams._core.receiving_half import ReceivingHalf
from knet_trio.streams._core.sending_half import SendingHalf
from knet_trio.streams._core.wire import StreamKind


class FailureCause(QuickEnum):
    """Why a stream, or a connection with all its streams, failed."""

    CANCELLED = "the other side gave it up"
    REFUSED = "the other side refuses it"
    FAILED = "the other side failed"
    CLOSED = "the other side has closed it"
    VIOLATION = "the other side says that this side broke the rules of the protocol"
    LOST_SIGHT = "the other side did not hear of this one for too long"
    SILENCE = "the other side was not heard of for too long"
    RESTARTED = "the other side has started again"
    FORGOTTEN = "the other side does not know the connection any more"
    BROKEN_RULES = "the other side broke the rules of the protocol"
    CLOSED_HERE = "it was closed on this side"
    HOST_REMOVED = "the host was removed"
    TOO_LARGE = "this side does not take as much as the other side sends"


class Failure(NamedTuple):
    """Why something failed.

    Attributes:
        cause: The kind of failure.
        reason: What the other side said of it, or what is known beside, in words; may be empty.
    """

    cause: FailureCause
    reason: str


class StreamUser(Protocol):
    """Whoever uses a stream, the ``owner`` of its state."""

    def touched(self) -> None:
        """Note that there is news: bytes, room, an end or a failure."""


class StreamState:
    """A stream.

    Attributes:
        key: Twice its number, plus one if the other side opened it.
        kind: What it is for.
        sending: What this side sends.
        receiving: What the other side sends.
        accepted: Whether the side that did not open it has accepted it.
        sending_failure: Why nothing more can be sent, None as long as it can.
        receiving_failure: Why nothing more can be received, None as long as it can.
        owner: Who is told when it is touched, by those who take that out.
        writer_waits: Whether somebody waits until there is less to send.
        held: For the connection: bytes that were written and have not arrived.
        is_queued: For the connection: whether it is in the queue of those that have something.
        window: For the connection: how many bytes it may send before they have been read.
        credited: When credit was given last, in seconds.
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
        self.key = key
        self.kind = kind
        self.sending = SendingHalf(opens=not key & 1)
        self.receiving = ReceivingHalf()
        self.accepted = False
        self.sending_failure: Failure | None = None
        self.receiving_failure: Failure | None = None
        self.owner: StreamUser | None = None
        self.writer_waits = False
        self.held = 0
        self.is_queued = False
        self.window = INITIAL_CREDIT
        self.credited = 0.0

    def __repr__(self) -> str:
        return f"<StreamState {self.key} {self.kind.name}>"

    @property
    def opened_here(self) -> bool:
        """Whether this side opened it."""
        return not self.key & 1

    @property
    def is_over(self) -> bool:
        """Whether both halves are over."""
        return self.sending.is_over and self.receiving.is_over
