"""Stages, and how what they work on gets from one to the next.

Each stage is a task behind a memory channel. What passes between them are items that hold many
messages, and a batch of items goes through the channel at once, since a hop costs as much as the
work on dozens of messages.

Even that is too much where there is no need: a stage that is idle, and need not wait for anything,
does its work in the turn of whoever sends to it, and so do those after it. So an idle pipeline is
one call from the user's ``send`` to the socket. Where a stage has to wait (for room in a socket, or
for a thread that compresses), what comes meanwhile gathers in its channel, up to a limit; then
sending waits.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Final, Generic, TypeVar

import trio

In = TypeVar("In")
Out = TypeVar("Out")

# The items that gather in one batch, and the batches a channel holds.
BATCH_LIMIT: Final = 16
CHANNEL_BATCHES: Final = 4
# How long, in seconds, a stage may work before other tasks get a turn.
TURN: Final = 0.0005


class Batch(Generic[In]):
    """Items on their way to a stage, and who waits for them to have got through."""

    __slots__ = ("flushed", "items", "number", "taken")

    def __init__(self, number: int, items: list[In], flushed: list[trio.Event]) -> None:
        self.number = number
        self.items = items
        self.flushed = flushed
        self.taken = False


class Stage(ABC, Generic[In, Out]):
    """One step on the way; ``sink`` is the next one, None after the last.

    Items keep their order, also of several senders. An item is little enough work for one turn.
    """

    name: ClassVar[str]

    def __init__(
        self, sink: Stage[Out, Any] | None = None, *, batches: int = CHANNEL_BATCHES
    ) -> None:
        self._sink = sink
        self._capacity = batches
        send_channel, receive_channel = trio.open_memory_channel[Batch[In]](batches)
        self._entrance = send_channel
        self._queue = receive_channel
        # Batches in the channel, in front of it and in the works.
        self._pending = 0
        self._last: Batch[In] | None = None
        self._made = 0
        self._closed = False

    @abstractmethod
    def step(self, item: In) -> Sequence[Out]:
        """What becomes of ``item``."""

    def ready(self, item: In) -> bool:
        """Whether ``step`` can be done now; where not, ``process`` waits for that."""
        return True

    async def process(self, item: In) -> Sequence[Out]:
        """``step``, after whatever it has to wait for."""
        return self.step(item)

    async def linger(self, items: Sequence[In]) -> None:
        """Give more items a chance to join those that the stage's task is about to work on."""

    def join(self, last: In, item: In) -> In | None:
        """Both in one item, if they can be: it goes no slower than ``last`` alone."""
        return None

    @property
    def has_room(self) -> bool:
        """Whether it takes a batch without waiting."""
        return self._pending < self._capacity

    def send_nowait(self, items: Sequence[In], flushed: Sequence[trio.Event] = ()) -> None:
        """Send ``items``, all or none: ``trio.WouldBlock`` if the stage is too far behind."""
        if self._closed:
            raise trio.ClosedResourceError("the handle has ended")
        if not self._pending:
            self._work_now(items, flushed)
        elif not self._join_last(items, flushed):
            if not self.has_room:
                raise trio.WouldBlock
            self._enqueue(items, flushed)

    async def send(self, items: Sequence[In], flushed: Sequence[trio.Event] = ()) -> None:
        """Send ``items``, all or, when cancelled, none."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self.send_nowait(items, flushed)
        except trio.WouldBlock:
            await self._send_later(items, flushed)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def send_soon(self, items: Sequence[In], flushed: Sequence[trio.Event] = ()) -> None:
        """Like ``send``, but a checkpoint only if it has to wait: for tasks that have others."""
        try:
            self.send_nowait(items, flushed)
        except trio.WouldBlock:
            await self._send_later(items, flushed)

    def close(self) -> None:
        """Take no more, once ``run`` was cancelled: who waits gets ``trio.ClosedResourceError``."""
        self._closed = True
        self._queue.close()

    async def run(self) -> None:
        """Do what could not be done at once, until cancelled."""
        async for batch in self._queue:
            await self.linger(batch.items)
            batch.taken = True
            try:
                await self._work(batch)
            finally:
                self._pending -= 1

    def _work_now(self, items: Sequence[In], flushed: Sequence[trio.Event]) -> None:
        """Work on ``items`` up to one that has to wait; from there on the stage's task does it."""
        sink = self._sink
        done = 0
        # What is sent from within, by a filter for example, gets into the queue.
        self._pending = 1
        try:
            for item in items:
                if (sink is not None and sink._pending >= sink._capacity) or not self.ready(item):
                    break
                made = self.step(item)
                if made and sink is not None:
                    sink.send_nowait(made)
                done += 1
        finally:
            self._pending -= 1
        if done < len(items):
            self._enqueue(items[done:], flushed)
        elif flushed:
            if sink is None:
                _set_all(flushed)
            elif sink.has_room:
                sink.send_nowait((), flushed)
            else:
                self._enqueue((), flushed)

    async def _work(self, batch: Batch[In]) -> None:
        sink = self._sink
        began = time.perf_counter()
        for item in batch.items:
            made = await self.process(item)
            if made and sink is not None:
                await sink.send_soon(made)
            if time.perf_counter() - began > TURN:
                await trio.lowlevel.checkpoint()
                began = time.perf_counter()
        if batch.flushed:
            if sink is not None:
                await sink.send_soon((), batch.flushed)
            else:
                _set_all(batch.flushed)

    def _join_last(self, items: Sequence[In], flushed: Sequence[trio.Event]) -> bool:
        last = self._last
        if last is None or last.taken:
            return False
        if len(items) == 1 and last.items:
            joined = self.join(last.items[-1], items[0])
            if joined is not None:
                last.items[-1] = joined
                last.flushed.extend(flushed)
                return True
        if len(last.items) + len(items) > BATCH_LIMIT:
            return False
        last.items.extend(items)
        last.flushed.extend(flushed)
        return True

    def _enqueue(self, items: Sequence[In], flushed: Sequence[trio.Event]) -> None:
        batch = self._make(items, flushed)
        self._entrance.send_nowait(batch)
        self._pending += 1
        self._last = batch

    async def _send_later(self, items: Sequence[In], flushed: Sequence[trio.Event]) -> None:
        batch = self._make(items, flushed)
        self._pending += 1
        try:
            await self._entrance.send(batch)
        except BaseException as error:
            self._pending -= 1
            if isinstance(error, trio.BrokenResourceError):
                raise trio.ClosedResourceError("the handle has ended") from None
            raise
        # Those who waited go on in any order, but what is sent next may only join the hindmost
        # batch, or it would overtake.
        if self._last is None or self._last.number < batch.number:
            self._last = batch

    def _make(self, items: Sequence[In], flushed: Sequence[trio.Event]) -> Batch[In]:
        # The channel serves those who wait in turn, so numbers are in the order of the batches.
        self._made += 1
        return Batch(self._made, list(items), list(flushed))


def _set_all(events: Sequence[trio.Event]) -> None:
    for event in events:
        event.set()
