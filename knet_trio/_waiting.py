"""Primitives to wait for: a boolean condition, and a queue that drops the oldest item."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import trio

from knet_trio.errors import OutsideTrioError

T = TypeVar("T")


def check_in_trio() -> trio.lowlevel.TrioToken:
    """Return the token of the Trio program that runs in this thread.

    Raises:
        OutsideTrioError: The call was not made in a Trio program.
    """
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        raise outside_error() from None


def outside_error() -> OutsideTrioError:
    """Return the error for a call that was made outside of the Trio program of the handle."""
    return OutsideTrioError(
        "this call was made outside of the Trio program of the handle: run that with trio.run (not"
        " asyncio.run), and call from within it; in other threads, call"
        " trio.from_thread.run_sync(function, ...), or trio.from_thread.run for an async function"
    )


class AsyncBool:
    """A condition that is on or off. Tasks can wait for either."""

    def __init__(self) -> None:
        self._is_on = False
        self._why_closed: str | None = None
        self._flips = 0
        self._changed = trio.Event()

    @property
    def is_on(self) -> bool:
        """True if it is on now."""
        return self._is_on

    def set(self, is_on: bool) -> None:
        """Set the condition, and wake the tasks that wait for a change."""
        if is_on != self._is_on:
            self._is_on = is_on
            self._flips += 1
            self._wake()

    def close(self, why: str) -> None:
        """Close it: from then on, waiting raises ``trio.ClosedResourceError``.

        Args:
            why: The text of that error.
        """
        self._why_closed = why
        self._wake()

    def close_off(self, why: str) -> None:
        """Close it, and turn it off without waking those who wait for that."""
        self._is_on = False
        self.close(why)

    async def wait(self, is_on: bool) -> None:
        """Wait until the condition is ``is_on``. Also returns if that lasted only for a moment.

        Raises:
            trio.ClosedResourceError: It was closed.
        """
        if self._is_on != is_on and self._why_closed is None:
            seen = self._flips
            await self._changed.wait()
            # The first change is the one waited for, even if it was closed right after that.
            if self._flips != seen:
                return
        else:
            await trio.lowlevel.checkpoint()
        if self._why_closed is not None:
            raise trio.ClosedResourceError(self._why_closed)

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()


class Mailbox(Generic[T]):
    """A queue whose sender never waits: when it is full, the oldest item is dropped.

    An item is removed only when ``take`` returns, so cancelling loses none.
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
        """Add ``item``; return True if the oldest item was dropped to make room."""
        queue = self._items
        queue.append(item)
        self._receivers.unpark()
        if len(queue) <= self._limit:
            return False
        queue.popleft()
        return True

    def put_back(self, item: T) -> None:
        """Put ``item``, which was taken, back at the front."""
        self._items.appendleft(item)
        self._receivers.unpark()

    def end(self) -> None:
        """End the queue: after the items that are left, ``take`` raises ``trio.EndOfChannel``."""
        self._ended = True
        self._receivers.unpark_all()

    def close(self) -> None:
        """Drop all items, and close the queue: ``take`` raises ``trio.ClosedResourceError``."""
        self._closed = True
        self._items.clear()
        self._receivers.unpark_all()

    def take_nowait(self) -> T:
        """Remove and return the first item.

        Raises:
            trio.WouldBlock: The queue is empty.
            trio.EndOfChannel: The queue is empty and has ended.
            trio.ClosedResourceError: The queue was closed.
        """
        if self._closed:
            raise trio.ClosedResourceError("this channel was closed")
        if not self._items:
            if self._ended:
                raise trio.EndOfChannel("the handle has ended")
            raise trio.WouldBlock
        return self._items.popleft()

    async def take(self) -> T:
        """Wait for an item, remove it and return it. Raises as ``take_nowait`` does."""
        # The item is removed last: no checkpoint follows, so cancelling cannot lose it.
        if self._items or self._ended or self._closed:
            await trio.lowlevel.checkpoint()
        while True:
            try:
                return self.take_nowait()
            except trio.WouldBlock:
                await self._receivers.park()
