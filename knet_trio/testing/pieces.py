"""Messages of a simulated association, cut into pieces that are numbered, and put together again.

Neither half knows of time: ``association`` says when something is sent again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from knet_trio.testing.chunks import Chunk, ChunkKind

# After how many reports that it is missing a piece is sent again at once, as SCTP does.
_REPORTS: Final = 3


class PieceSender:
    """What is sent: pieces on their way, and those that wait for room at the peer.

    Args:
        tag: The tag of the association.
        room: The bytes that the peer has room for.

    Attributes:
        queued: The bytes of what the peer has not acknowledged.
    """

    def __init__(self, tag: int, room: float) -> None:
        self.queued = 0
        self._tag = tag
        self._room = room
        self._number = 0
        # The number of the first piece that the peer misses.
        self._acknowledged = 0
        self._waiting: deque[Chunk] = deque()
        # By their numbers.
        self._flying: dict[int, Chunk] = {}
        # The bytes of those of which the peer has not said that they came before their time.
        self._in_flight = 0
        self._early: frozenset[int] = frozenset()
        self._reports: dict[int, int] = {}
        # Whether one piece at a time is sent, since the last ones may all be lost.
        self._careful = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way."""
        return not self._flying

    @property
    def is_done(self) -> bool:
        """Whether the peer has acknowledged everything."""
        return not self._flying and not self._waiting

    def set_room(self, room: float) -> None:
        """Note how many bytes the peer has room for."""
        self._room = room

    def put(self, message: bytes, size: int) -> None:
        """Cut a message into pieces of ``size`` bytes that wait to be sent."""
        for start in range(0, max(1, len(message)), size):
            is_end = start + size >= len(message)
            piece = message[start : start + size]
            self._waiting.append(
                Chunk(ChunkKind.DATA, self._tag, self._number, is_end=is_end, data=piece)
            )
            self._number += 1
        self.queued += len(message)

    def take_due(self) -> Iterator[Chunk]:
        """Yield the pieces that are sent now: while the peer has room, and one in any case."""
        waiting = self._waiting
        while waiting and (not self._in_flight or self._may_follow(waiting[0])):
            piece = waiting.popleft()
            self._flying[piece.number] = piece
            # One that was taken for lost may have arrived.
            if piece.number not in self._early:
                self._in_flight += len(piece.data)
                yield piece

    def _may_follow(self, piece: Chunk) -> bool:
        return not self._careful and self._in_flight + len(piece.data) <= self._room

    def acknowledged(self, number: int, room: float, early: frozenset[int]) -> bool:
        """The peer says what it has: all before ``number``, and ``early``.

        Returns:
            Whether the first piece is not the one any more that it waits for.
        """
        if number < self._acknowledged:
            # One that was overtaken.
            return False
        news = number > self._acknowledged
        self._acknowledged = number
        self._room = room
        early |= self._early
        if news or early != self._early:
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
        return news

    def _land(self, piece: Chunk) -> None:
        """Count a piece no more that the peer has."""
        if piece.number not in self._early:
            self._in_flight -= len(piece.data)
        self._reports.pop(piece.number, None)

    def take_missed(self) -> list[Chunk]:
        """Return the pieces that the peer has missed several times now; they are sent again."""
        last = max(self._early, default=-1)
        missed: list[Chunk] = []
        for number, piece in self._flying.items():
            if number < last and number not in self._early:
                reports = self._reports[number] = self._reports.get(number, 0) + 1
                if reports == _REPORTS:
                    missed.append(piece)
        return missed

    def give_up_flight(self) -> None:
        """Take all that is on its way for lost: it is sent again, one piece first."""
        lost = [piece for number, piece in self._flying.items() if number not in self._early]
        for piece in sorted(lost, key=lambda each: each.number, reverse=True):
            del self._flying[piece.number]
            self._waiting.appendleft(piece)
        self._in_flight = 0
        self._reports.clear()
        self._careful = True


class PieceReceiver:
    """What has arrived.

    Args:
        limit: Returns the bytes that there is room for together.

    Attributes:
        messages: Those that are whole and nobody has taken.
    """

    def __init__(self, limit: Callable[[], float]) -> None:
        self.messages: deque[bytes] = deque()
        self._limit = limit
        # The number of the next piece, those that came before their time, those of a message whose
        # end is missing, and the bytes of all.
        self._expected = 0
        self._early: dict[int, Chunk] = {}
        self._parts: list[bytes] = []
        self._held = 0
        # The room that the peer was told of last.
        self._told = self.room

    @property
    def room(self) -> float:
        """The bytes that there is room for."""
        return max(0.0, self._limit() - self._held)

    def put(self, piece: Chunk) -> bool:
        """Take a piece; return False if there is no room for it."""
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
        """Take the first message."""
        message = self.messages.popleft()
        self._held -= len(message)
        return message

    @property
    def has_grown(self) -> bool:
        """Whether there is so much more room that the peer has to be told."""
        return self._told < self._limit() / 2 <= self.room

    def acknowledge(self, tag: int) -> Chunk:
        """Return what tells the peer what has arrived."""
        room = self._told = self.room
        early = frozenset(self._early)
        return Chunk(ChunkKind.SACK, tag, self._expected, room, early=early)
