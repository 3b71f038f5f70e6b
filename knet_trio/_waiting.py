"""Two things tasks wait on: a state that comes and goes, and a queue that drops the oldest."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class AsyncBool:
    """A condition that is on or off, and can be waited for either way."""

    def __init__(self) -> None:
        self._is_on = False
        self._closed = False
        self._flips = 0
        self._changed = trio.Event()

    @property
    def is_on(self) -> bool:
        """The state now."""
        return self._is_on

    def set(self, is_on: bool) -> None:
        """Change the state and wake whoever waits for it."""
        if is_on != self._is_on:
            self._is_on = is_on
            self._flips += 1
            self._wake()

    def close(self) -> None:
        """Nothing will change any more: waiting raises ``trio.ClosedResourceError``."""
        self._closed = True
        self._wake()

    async def wait(self, is_on: bool) -> None:
        """Return once the state is ``is_on``, also if it was so only for a moment."""
        if self._is_on != is_on and not self._closed:
            seen = self._flips
            await self._changed.wait()
            # The first flip is the one waited for, even if a closing followed at once.
            if self._flips != seen:
                return
        else:
            await trio.lowlevel.checkpoint()
        if self._closed:
            raise trio.ClosedResourceError("it was removed, or its handle has ended")

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()


class Mailbox(Generic[T]):
    """A queue that never makes the sender wait: when it is full, the oldest item is dropped.

    Receiving takes an item only when it returns, so a cancelled wait takes none.
    """

    def __init__(self, limit: int) -> None:
        self._items: deque[T] = deque()
        self._limit = limit
        self._receivers = trio.lowlevel.ParkingLot()
        self._ended = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> bool:
        """Add ``item``; True if another was dropped for lack of room."""
        queue = self._items
        queue.append(item)
        self._receivers.unpark()
        if len(queue) <= self._limit:
            return False
        queue.popleft()
        return True

    def put_back(self, item: T) -> None:
        """Undo the taking of ``item``, which was the first."""
        self._items.appendleft(item)
        self._receivers.unpark()

    def end(self) -> None:
        """No more will come: what is left can be taken, then ``trio.EndOfChannel``."""
        self._ended = True
        self._receivers.unpark_all()

    def close(self) -> None:
        """The receiver is done: what is left is gone, receiving raises ClosedResourceError."""
        self._closed = True
        self._items.clear()
        self._receivers.unpark_all()

    def take_nowait(self) -> T:
        """Take the first item; ``trio.WouldBlock`` if there is none."""
        if self._closed:
            raise trio.ClosedResourceError("this channel was closed")
        if not self._items:
            if self._ended:
                raise trio.EndOfChannel("the handle has ended")
            raise trio.WouldBlock
        return self._items.popleft()

    async def take(self) -> T:
        """Wait for an item and take it."""
        # Taking comes last, so that nothing happens between it and the return.
        if self._items or self._ended or self._closed:
            await trio.lowlevel.checkpoint()
        while True:
            try:
                return self.take_nowait()
            except trio.WouldBlock:
                await self._receivers.park()
