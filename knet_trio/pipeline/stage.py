"""Stages and the batches that pass between them.

A memory channel between two stages carries batches, since a hop costs as much as the work on
many messages. Nothing waits for a batch to fill: an idle pipeline passes on batches of one. While
the next stage is busy, what is sent to it joins the last batch that it has not taken yet, so
batches grow by themselves under load, up to a limit; then sending waits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Final, Generic, TypeVar

import trio

T = TypeVar("T")
In = TypeVar("In")
Out = TypeVar("Out")

# The most a batch grows to, and the batches a channel holds.
BATCH_LIMIT: Final = 256
CHANNEL_BATCHES: Final = 4
# What a stage does before other tasks get a turn: under a millisecond's work.
STEP: Final = 64


class Batch(Generic[T]):
    """Items on their way to the next stage, and who waits for them to have got through."""

    __slots__ = ("flushed", "items", "number", "taken")

    def __init__(self, number: int, items: list[T], flushed: list[trio.Event]) -> None:
        self.number = number
        self.items = items
        self.flushed = flushed
        self.taken = False


class BatchSender(Generic[T]):
    """The sending end of a channel of batches. Several tasks may use it."""

    def __init__(self, channel: trio.MemorySendChannel[Batch[T]]) -> None:
        self._channel = channel
        self._last: Batch[T] | None = None
        self._made = 0

    def send_nowait(self, items: Sequence[T], flushed: Sequence[trio.Event] = ()) -> None:
        """Send ``items``, all or none: ``trio.WouldBlock`` if the next stage is too far behind."""
        last = self._last
        if last is not None and not last.taken and len(last.items) + len(items) <= BATCH_LIMIT:
            last.items.extend(items)
            last.flushed.extend(flushed)
            return
        batch = self._make(items, flushed)
        self._channel.send_nowait(batch)
        self._last = batch

    async def send(self, items: Sequence[T], flushed: Sequence[trio.Event] = ()) -> None:
        """Send ``items``, all or, when cancelled, none."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self.send_nowait(items, flushed)
        except trio.WouldBlock:
            batch = self._make(items, flushed)
            await self._channel.send(batch)
            # Those who waited go on in any order, but what is sent next may only join the
            # hindmost batch, or it would overtake.
            if self._last is None or self._last.number < batch.number:
                self._last = batch
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _make(self, items: Sequence[T], flushed: Sequence[trio.Event]) -> Batch[T]:
        # The channel serves those who wait in turn, so numbers are in the order of the batches.
        self._made += 1
        return Batch(self._made, list(items), list(flushed))

    def close(self) -> None:
        """Nothing more will be sent."""
        self._channel.close()


def open_batch_channel(
    _: type[T], batches: int = CHANNEL_BATCHES
) -> tuple[BatchSender[T], trio.MemoryReceiveChannel[Batch[T]]]:
    """A channel for batches of items of the given type."""
    send_channel, receive_channel = trio.open_memory_channel[Batch[T]](batches)
    return BatchSender(send_channel), receive_channel


class Stage(ABC, Generic[In, Out]):
    """One step on the way. It runs as one task, so items keep their order."""

    name: ClassVar[str]

    @abstractmethod
    async def process(self, items: Sequence[In]) -> list[Out]:
        """What becomes of ``items``, at most 64 at a time."""

    async def run(
        self, source: trio.MemoryReceiveChannel[Batch[In]], sink: BatchSender[Out] | None
    ) -> None:
        """Process what comes from ``source`` and pass it to ``sink``, until cancelled.

        The last stage has no sink: what is through it has got through.
        """
        async for batch in source:
            batch.taken = True
            items = batch.items
            for start in range(0, len(items) or 1, STEP):
                done = await self.process(items[start : start + STEP])
                # Whoever waits for the batch waits for the last of it.
                flushed = batch.flushed if start + STEP >= len(items) else []
                if sink is None:
                    for event in flushed:
                        event.set()
                    await trio.lowlevel.checkpoint()
                elif done or flushed:
                    await sink.send(done, flushed)
                else:
                    await trio.lowlevel.checkpoint()
