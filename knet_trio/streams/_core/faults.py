"""The reasons to refuse a packet."""

from __future__ import annotations

import enum


class Fault(enum.StrEnum):
    """The cause under which a refused packet is counted."""

    # Bytes that are not a valid packet: anybody may have sent them, and they change nothing.
    MALFORMED = "malformed"
    WRONG_VERSION = "wrong_version"
    WRONG_CHECKSUM = "wrong_checksum"
    UNKNOWN_KIND = "unknown_kind"
    UNKNOWN_FRAME = "unknown_frame"

    # Duplicates, packets of unknown or ended connections, and packets that find no room.
    DUPLICATE = "duplicate"
    NUMBER_TOO_FAR = "number_too_far"
    NO_CONNECTION = "no_connection"
    TOO_MANY_SEGMENTS = "too_many_segments"

    # Violations of the protocol: the connection ends.
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
"""Faults that end the connection."""


class StreamPacketError(Exception):
    """A refused packet: the only error that hostile bytes can cause.

    Attributes:
        fault: The cause under which the packet is counted.
    """

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault
