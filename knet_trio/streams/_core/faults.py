"""What can be wrong with a packet, and what is done about it."""

from __future__ import annotations

import enum


class Fault(enum.StrEnum):
    """Why a packet was refused. Each is counted."""

    # Bytes that are no packet: they are anybody's, and change nothing.
    MALFORMED = "malformed"
    WRONG_VERSION = "wrong_version"
    WRONG_CHECKSUM = "wrong_checksum"
    UNKNOWN_KIND = "unknown_kind"
    UNKNOWN_FRAME = "unknown_frame"

    # Packets that come twice or out of nowhere, or of a connection that there is not (any more).
    DUPLICATE = "duplicate"
    NUMBER_TOO_FAR = "number_too_far"
    NO_CONNECTION = "no_connection"
    TOO_MANY_SEGMENTS = "too_many_segments"

    # What the other side must not do: the connection ends.
    CREDIT_EXCEEDED = "credit_exceeded"
    STREAMS_EXCEEDED = "streams_exceeded"
    WRONG_SIZE = "wrong_size"
    WRONG_KIND = "wrong_kind"
    NOT_SENT = "not_sent"
    NOT_OPENED = "not_opened"


VIOLATIONS = frozenset(
    {
        Fault.CREDIT_EXCEEDED,
        Fault.STREAMS_EXCEEDED,
        Fault.WRONG_SIZE,
        Fault.WRONG_KIND,
        Fault.NOT_SENT,
        Fault.NOT_OPENED,
    }
)
"""Faults after which the two sides cannot go on."""


class StreamPacketError(Exception):
    """A packet that is refused: the only error that hostile bytes can cause.

    Attributes:
        fault: The cause it is counted under.
    """

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault
