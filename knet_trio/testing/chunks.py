"""What the ends of simulated associations say to each other, much as SCTP does."""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

# SCTP's own header, and that of the data in a packet.
CHUNK_HEADERS: Final = 12 + 16


class ChunkKind(enum.Enum):
    """What a packet of an association is."""

    INIT = "asks for an association"
    INIT_ACK = "there is one"
    DATA = "a piece of a message"
    SACK = "what has arrived"
    HEARTBEAT = "is the other end there?"
    HEARTBEAT_ACK = "it is"
    SHUTDOWN = "all is sent, and there will be no more"
    SHUTDOWN_ACK = "the association is over"
    ABORT = "there is no such association"


class Chunk(NamedTuple):
    """One packet of an association.

    Attributes:
        kind: What it is.
        tag: Tells associations apart that have the same addresses one after the other.
        number: The number of a piece; of SACK, that of the first piece that has not arrived.
        room: The bytes that the receive buffer has room for.
        is_end: Whether the message ends with this piece.
        early: The numbers of pieces that have arrived although one before them is missing.
        data: The bytes of the piece.
    """

    kind: ChunkKind
    tag: int
    number: int = 0
    room: float = 0.0
    is_end: bool = True
    early: frozenset[int] = frozenset()
    data: bytes = b""
