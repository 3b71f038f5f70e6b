"""Work on many links at once, in pieces, so that other tasks run in between."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Final, Generic, TypeVar

import trio

from knet_trio._state.turns import Turns

S = TypeVar("S", bound=Hashable)

AT_ONCE: Final = 16
"""The pieces that are done before ``Chores.add`` returns: with few links a setting takes full
effect at once."""

_END: Final = object()


class _Chore(Generic[S]):
    """Work of one kind: the subjects that wait for it, in order, each once."""

    __slots__ = ("_act", "_rest", "_waiting")

    def __init__(self) -> None:
        self._waiting: OrderedDict[S, None] = OrderedDict()
        self._act: Callable[[S], Iterator[object] | None] = lambda _: None
        # The rest of the work on the current subject.
        self._rest: Iterator[object] | None = None

    @property
    def is_done(self) -> bool:
        return self._rest is None and not self._waiting

    def put(self, subjects: Iterable[S], act: Callable[[S], Iterator[object] | None]) -> None:
        self._act = act
        waiting = self._waiting
        for subject in subjects:
            # A subject that waits already keeps its place.
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

    For each kind a subject waits at most once, so the waiting work is bounded, however often it is
    requested. A new request does not move waiting subjects back, so every subject has its turn. No
    kind waits for another, so their order must not matter.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._chores: dict[Hashable, _Chore[Any]] = {}
        self._work = trio.Event()

    def __len__(self) -> int:
        """Return the number of kinds of work that are under way."""
        return len(self._chores)

    def add(
        self,
        kind: Hashable,
        subjects: Iterable[S],
        act: Callable[[S], Iterator[object] | None],
    ) -> None:
        """Call ``act`` with each of ``subjects``.

        The first ``AT_ONCE`` pieces are done now and the others in turns. If work of this kind is
        under way, all are done in turns: ``act`` replaces the earlier function for the subjects
        that still wait, and the finished ones are done again.

        Args:
            kind: The key of the kind of work.
            subjects: The subjects, mostly hosts or links.
            act: Called with one subject, which has to be a small piece of work. For a larger one,
                it returns an iterator that does one piece for each item that is taken.
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
