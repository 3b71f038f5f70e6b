"""Fragmentation and reassembly of the messages of a simulated association.

Neither half has timers: ``association`` decides when pieces are retransmitted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from knet_trio.testing.chunks import Chunk, ChunkKind

# A piece is retransmitted at once after this many reports that it is missing, as in SCTP.
_REPORTS: Final = 3


class PieceSender:
    """The sending half: pieces in flight, and pieces that wait for room at the peer.

    Args:
        tag: The tag of the association.
        room: The free space at the peer [bytes].

    Attributes:
        queued: Bytes that the peer has not acknowledged.
    """

    def __init__(self, tag: int, room: float) -> None:
        self.queued: int = 0
        self._tag = tag
        self._room = room
        self._number = 0
        # The number of the first piece that the peer misses.
        self._acknowledged = 0
        self._waiting: deque[Chunk] = deque()
        # By their numbers.
        self._flying: dict[int, Chunk] = {}
        # Bytes in flight, without the pieces that the peer has reported in ``early``.
        self._in_flight = 0
        self._early: frozenset[int] = frozenset()
        self._reports: dict[int, int] = {}
        # Whether to send one piece at a time, after a timeout.
        self._careful = False

    @property
    def is_idle(self) -> bool:
        """True if nothing is in flight."""
        return not self._flying

    @property
    def is_done(self) -> bool:
        """True if the peer has acknowledged everything."""
        return not self._flying and not self._waiting

    def set_room(self, room: float) -> None:
        """Set the free space at the peer, in bytes."""
        self._room = room

    def put(self, message: bytes, size: int) -> None:
        """Queue a message, cut into pieces of ``size`` bytes."""
        for start in range(0, max(1, len(message)), size):
            is_end = start + size >= len(message)
            piece = message[start : start + size]
            self._waiting.append(
                Chunk(ChunkKind.DATA, self._tag, self._number, is_end=is_end, data=piece)
            )
            self._number += 1
        self.queued += len(message)

    def take_due(self) -> Iterator[Chunk]:
        """Yield the pieces to send now: while the peer has room, and one if none is in flight."""
        waiting = self._waiting
        while waiting and (not self._in_flight or self._may_follow(waiting[0])):
            piece = waiting.popleft()
            self._flying[piece.number] = piece
            # A piece that was declared lost may have arrived.
            if piece.number not in self._early:
                self._in_flight += len(piece.data)
                yield piece

    def _may_follow(self, piece: Chunk) -> bool:
        return not self._careful and self._in_flight + len(piece.data) <= self._room

    def acknowledged(self, number: int, room: float, early: frozenset[int]) -> bool:
        """Process an acknowledgement: the peer has all pieces before ``number``, and ``early``.

        Returns:
            True if ``number`` has advanced.
        """
        if number < self._acknowledged:
            # A newer acknowledgement has overtaken this one.
            return False
        advanced = number > self._acknowledged
        self._acknowledged = number
        self._room = room
        early |= self._early
        if advanced or early != self._early:
            self._careful = False
        while self._waiting and self._waiting[0].number < number:
            self.queued -= len(self._waiting.popleft().data)
        for piece in list(self._flying.values()):
            if piece.number >= number:
                continue
            self._land(piece)
            self.queued -= len(piece.data)
            del self._flying[piece.number]
        for landed in early - self._early:
            if landed in self._flying:
                self._land(self._flying[landed])
        self._early = frozenset(each for each in early if each >= number)
        return advanced

    def _land(self, piece: Chunk) -> None:
        """Stop counting a piece that has arrived."""
        if piece.number not in self._early:
            self._in_flight -= len(piece.data)
        self._reports.pop(piece.number, None)

    def take_missed(self) -> list[Chunk]:
        """Return the pieces to retransmit because the peer has often reported a later one."""
        last = max(self._early, default=-1)
        missed: list[Chunk] = []
        for number, piece in self._flying.items():
            if number < last and number not in self._early:
                reports = self._reports[number] = self._reports.get(number, 0) + 1
                if reports == _REPORTS:
                    missed.append(piece)
        return missed

    def give_up_flight(self) -> None:
        """Declare all pieces in flight lost: they are retransmitted, one at first."""
        lost = [piece for number, piece in self._flying.items() if number not in self._early]
        for piece in sorted(lost, key=lambda each: each.number, reverse=True):
            del self._flying[piece.number]
            self._waiting.appendleft(piece)
        self._in_flight = 0
        self._reports.clear()
        self._careful = True


class PieceReceiver:
    """The receiving half.

    Args:
        limit: Returns the size of the receive buffer [bytes].

    Attributes:
        messages: The complete messages that were not read yet.
    """

    def __init__(self, limit: Callable[[], float]) -> None:
        self.messages: deque[bytes] = deque()
        self._limit = limit
        # The number of the next piece, the pieces after a gap, the pieces of an incomplete message,
        # and the bytes of all of them and of ``messages``.
        self._expected = 0
        self._early: dict[int, Chunk] = {}
        self._parts: list[bytes] = []
        self._held = 0
        # The free space that was announced to the peer last.
        self._announced = self.room

    @property
    def room(self) -> float:
        """The free space [bytes]."""
        return max(0.0, self._limit() - self._held)

    def put(self, piece: Chunk) -> bool:
        """Add a piece; return False if there is no room for it."""
        if piece.number < self._expected or piece.number in self._early:
            return True
        if self.messages and len(piece.data) > self.room:
            return False
        self._early[piece.number] = piece
        self._held += len(piece.data)
        while (following := self._early.pop(self._expected, None)) is not None:
            self._expected += 1
            self._parts.append(following.data)
            if following.is_end:
                self.messages.append(b"".join(self._parts))
                self._parts = []
        return True

    def take(self) -> bytes:
        """Remove and return the first message."""
        message = self.messages.popleft()
        self._held -= len(message)
        return message

    @property
    def has_grown(self) -> bool:
        """True if the free space has grown so much that it must be announced to the peer."""
        return self._announced < self._limit() / 2 <= self.room

    def acknowledge(self, tag: int) -> Chunk:
        """Return the acknowledgement of all pieces received."""
        room = self._announced = self.room
        early = frozenset(self._early)
        return Chunk(ChunkKind.SACK, tag, self._expected, room, early=early)
