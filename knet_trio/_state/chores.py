"""Work on many links at once, cut into pieces so that other tasks run in between."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Final, Generic, TypeVar

import trio

from knet_trio._state.turns import Turns

S = TypeVar("S", bound=Hashable)

AT_ONCE: Final = 16
"""How many pieces are done before ``Chores.add`` returns, so that with few links a setting has its
whole effect at once."""

_END: Final = object()


class _Chore(Generic[S]):
    """Work of one kind: what it is to be done to, in order and each once."""

    __slots__ = ("_act", "_rest", "_waiting")

    def __init__(self) -> None:
        self._waiting: OrderedDict[S, None] = OrderedDict()
        self._act: Callable[[S], Iterator[object] | None] = lambda _: None
        # What is left to do of the subject that was begun last.
        self._rest: Iterator[object] | None = None

    @property
    def is_done(self) -> bool:
        return self._rest is None and not self._waiting

    def put(self, subjects: Iterable[S], act: Callable[[S], Iterator[object] | None]) -> None:
        self._act = act
        waiting = self._waiting
        for subject in subjects:
            # What waits already keeps its place.
            waiting[subject] = None

    def do_piece(self) -> None:
        rest = self._rest
        if rest is None:
            subject, _ = self._waiting.popitem(last=False)
            rest = self._act(subject)
        if rest is not None and next(rest, _END) is _END:
            rest = None
        self._rest = rest


class Chores:
    """Does work of several kinds, a piece of each kind in turn.

    Of each kind every subject waits once at most, so what waits is bounded, however often the work
    is asked for; and asking again does not put back what waits, so every subject has its turn. No
    kind waits for another one to be done, so it must not matter which is done first.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._chores: dict[Hashable, _Chore[Any]] = {}
        self._work = trio.Event()

    def __len__(self) -> int:
        """How many kinds of work are under way."""
        return len(self._chores)

    def add(
        self,
        kind: Hashable,
        subjects: Iterable[S],
        act: Callable[[S], Iterator[object] | None],
    ) -> None:
        """Do ``act`` to each of ``subjects``.

        The first ``AT_ONCE`` pieces are done now, unless work of this kind is under way; the others
        are done in turns. If it is under way, ``act`` takes the place of what was to be done to
        those that still wait, and those that were done with are done again.

        Args:
            kind: Tells kinds of work apart.
            subjects: To what it is to be done, mostly links.
            act: Does it to one of them, which is a small piece of work. If that is too much, it
                returns an iterator that does one piece whenever it is asked for an item.
        """
        chore = self._chores.get(kind)
        if chore is not None:
            chore.put(subjects, act)
            return
        chore = self._chores[kind] = _Chore[Any]()
        chore.put(subjects, act)
        try:
            for _ in range(AT_ONCE):
                if chore.is_done:
                    break
                chore.do_piece()
        finally:
            if chore.is_done:
                del self._chores[kind]
            else:
                self._work.set()

    async def run(self) -> None:
        """Do the work, until cancelled."""
        turns = self._turns
        while True:
            before = turns.round
            await self._work.wait()
            turns.resumed(before)
            self._work = trio.Event()
            while self._chores:
                for kind, chore in list(self._chores.items()):
                    chore.do_piece()
                    if chore.is_done:
                        del self._chores[kind]
                    if turns.is_over():
                        await turns.give_up()
