"""The packets of simulated associations, which resemble SCTP's chunks."""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

# The common header of SCTP and the header of a DATA chunk.
CHUNK_HEADERS: Final = 12 + 16


class ChunkKind(enum.Enum):
    """The kind of a packet; the value describes it."""

    INIT = "request for an association"
    INIT_ACK = "the association is accepted"
    DATA = "a piece of a message"
    SACK = "acknowledgement of pieces"
    HEARTBEAT = "probe of the other end"
    HEARTBEAT_ACK = "answer to the probe"
    SHUTDOWN = "end of the association, after all messages"
    SHUTDOWN_ACK = "acknowledgement of the end"
    ABORT = "the association does not exist"


class Chunk(NamedTuple):
    """One packet of an association.

    Attributes:
        kind: The kind.
        tag: Distinguishes successive associations between the same addresses.
        number: The number of the piece; for SACK, the first number that has not arrived.
        room: The free space in the receive buffer [bytes].
        is_end: True if the message ends with this piece.
        early: The numbers of pieces that have arrived after a gap.
        data: The bytes of the piece.
    """

    kind: ChunkKind
    tag: int
    number: int = 0
    room: float = 0.0
    is_end: bool = True
    early: frozenset[int] = frozenset()
    data: bytes = b""
