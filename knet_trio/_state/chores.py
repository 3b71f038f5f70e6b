"""Work on many links at once, cut into pieces so that other tasks run in between."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Final, NamedTuple

import trio

from knet_trio._state.turns import Turns

Piece = Callable[[], object]
"""A small part of the work, mostly that on one link."""

AT_ONCE: Final = 16
"""How many pieces are done before ``Chores.add`` returns, so that with few links a setting has its
whole effect at once."""


class _Chore(NamedTuple):
    key: Hashable
    pieces: Iterator[Piece]


class Chores:
    """Does the work that it is given, in order and in turns."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._waiting: deque[_Chore] = deque()
        self._work = trio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, pieces: Iterable[Piece], *, key: Hashable = None) -> None:
        """Do ``pieces``: the first ``AT_ONCE`` of them now if nothing waits, the others in turns.

        Args:
            pieces: The work. An iterator is asked for each piece only when it is due.
            key: Work that waits under the same key is dropped, since this makes it superfluous.
        """
        if key is not None:
            self._waiting = deque(chore for chore in self._waiting if chore.key != key)
        chore = _Chore(key, iter(pieces))
        if self._waiting or not self._begin(chore.pieces):
            self._waiting.append(chore)
            self._work.set()

    async def run(self) -> None:
        """Do the work, until cancelled."""
        turns = self._turns
        while True:
            before = turns.round
            await self._work.wait()
            turns.resumed(before)
            self._work = trio.Event()
            while self._waiting:
                chore = self._waiting[0]
                for piece in chore.pieces:
                    piece()
                    if turns.is_over():
                        await turns.give_up()
                        break
                else:
                    # One with its key may have come in its place meanwhile.
                    if self._waiting and self._waiting[0] is chore:
                        self._waiting.popleft()

    @staticmethod
    def _begin(pieces: Iterator[Piece]) -> bool:
        """Do the first ``AT_ONCE`` pieces, and return whether those were all."""
        for _ in range(AT_ONCE):
            piece = next(pieces, None)
            if piece is None:
                return True
            piece()
        return False
