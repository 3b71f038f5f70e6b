"""What tasks wait for: a condition that changes, and a queue that drops the oldest item."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import trio

from knet_trio.errors import OutsideTrioError

T = TypeVar("T")


def check_in_trio() -> trio.lowlevel.TrioToken:
    """Return the token of the Trio program that runs in this thread.

    Raises:
        OutsideTrioError: There is none, or what runs now is not a part of it.
    """
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        raise outside_error() from None


def outside_error() -> OutsideTrioError:
    """Return the error for a call that does not come from the Trio program that it has to."""
    return OutsideTrioError(
        "this call does not come from the Trio program of the handle: run that with trio.run (not"
        " asyncio.run), and call from within it; other threads call by"
        " trio.from_thread.run_sync(function, ...), or trio.from_thread.run for what has an await"
    )


class AsyncBool:
    """A condition that is on or off, and can be waited for either way."""

    def __init__(self) -> None:
        self._is_on = False
        self._why_closed: str | None = None
        self._flips = 0
        self._changed = trio.Event()

    @property
    def is_on(self) -> bool:
        """Whether it is on now."""
        return self._is_on

    def set(self, is_on: bool) -> None:
        """Change the state and wake whoever waits for it."""
        if is_on != self._is_on:
            self._is_on = is_on
            self._flips += 1
            self._wake()

    def close(self, why: str) -> None:
        """End it: nothing will change any more, and waiting raises ``trio.ClosedResourceError``.

        Args:
            why: What has ended, for those who wait.
        """
        self._why_closed = why
        self._wake()

    def close_off(self, why: str) -> None:
        """End it, and have it off from then on. Nobody is told of that change."""
        self._is_on = False
        self.close(why)

    async def wait(self, is_on: bool) -> None:
        """Wait until it is ``is_on``. Returns too if it was so only for a moment.

        Raises:
            trio.ClosedResourceError: It was closed.
        """
        if self._is_on != is_on and self._why_closed is None:
            seen = self._flips
            await self._changed.wait()
            # The first flip is the one waited for, even if a closing followed at once.
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
        """Add ``item``, and return whether the oldest one was dropped for lack of room."""
        queue = self._items
        queue.append(item)
        self._receivers.unpark()
        if len(queue) <= self._limit:
            return False
        queue.popleft()
        return True

    def put_back(self, item: T) -> None:
        """Put ``item``, which was taken first, back to the front."""
        self._items.appendleft(item)
        self._receivers.unpark()

    def end(self) -> None:
        """Have receiving raise ``trio.EndOfChannel`` after what is left."""
        self._ended = True
        self._receivers.unpark_all()

    def close(self) -> None:
        """Drop what is left, and have receiving raise ``trio.ClosedResourceError``."""
        self._closed = True
        self._items.clear()
        self._receivers.unpark_all()

    def take_nowait(self) -> T:
        """Take the first item.

        Raises:
            trio.WouldBlock: There is none now.
            trio.EndOfChannel: There is none, and no more will come.
            trio.ClosedResourceError: It was closed.
        """
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
