"""The queue of a channel: what has arrived for it and is not taken yet.

It is bounded, and within the bound each host that sends has a queue of its own. Taking goes round
the hosts. When there is no room, the newest message of the host that has most in the queue is
dropped. So a host that floods a channel whose reader is slow displaces its own messages only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, cast

import attrs
import trio

from knet_trio._state.turns import Turns
from knet_trio.message import Message

MOST_AT_ONCE: Final = 16384
"""Messages that are taken in one call at most: more would make the turn too long."""

HIGH_WATER: Final = 1024
"""With more messages, those who take them run first, though the queue may have room for many more:
what waits behind thousands is no longer in the processor's caches when it is taken."""

_BLOCK: Final = 64
"""Messages of one host in a row, when many of several hosts are taken at once."""

_MOST_VISITS: Final = 512
"""Blocks that are taken in one call at most: to go round takes longer than to take messages."""


@attrs.define(eq=False)
class _Waiter:
    """A task that waits for messages.

    Attributes:
        task: The task.
        wanted: How many messages it takes at most; None for a single one, not in a list.
        handed: What it was given.
    """

    task: trio.lowlevel.Task
    wanted: int | None
    handed: Message | list[Message] | None = None

    def hand(self, messages: Message | list[Message] | None) -> None:
        """Wake the task with ``messages``, None if there will be no more."""
        self.handed = messages
        trio.lowlevel.reschedule(self.task)


class _Lengths:
    """Which hosts have most messages in a queue, found without looking at all hosts.

    Each host is in the bucket of a number that is its messages or more: what is put has to be noted
    here, what is taken need not be. Who is found in too high a bucket moves down then.

    Args:
        queues: The messages of each host, by its id; none of them is empty.
    """

    def __init__(self, queues: dict[int, deque[Message]]) -> None:
        self._queues = queues
        self._bucket_of: dict[int, int] = {}
        # The hosts of each bucket that has some.
        self._buckets: dict[int, dict[int, None]] = {}
        # No host has more.
        self._highest = 0
        for source, queue in queues.items():
            self.note(source, len(queue))

    def __len__(self) -> int:
        """Return how many hosts are noted, also of those that have nothing left."""
        return len(self._bucket_of)

    def note(self, source: int, length: int) -> None:
        """Note that the host ``source`` has ``length`` messages now, one or more."""
        before = self._bucket_of.get(source, 0)
        if length > before:
            if before:
                bucket = self._buckets[before]
                del bucket[source]
                if not bucket:
                    del self._buckets[before]
            self._join(source, length)

    def drop_newest(self, source: int, count: int) -> None:
        """Drop ``count`` messages, each the newest of the host that has most then.

        Args:
            source: The host whose messages came last, at least as many as are to be dropped. If it
                has as many as any other, it is the one that loses.
            count: How many to drop.
        """
        queue = self._queues[source]
        while count:
            length, highest = len(queue), self._highest
            if length >= highest:
                dropped = min(count, length - highest + 1)
                for _ in range(dropped):
                    queue.pop()
                count -= dropped
            else:
                count -= self._cut_highest(count, length)

    def _cut_highest(self, count: int, floor: int) -> int:
        """Drop up to ``count`` messages of a host of the highest bucket; return how many.

        It is left with no less than ``floor``, which is below that bucket, and the next bucket. If
        it turns out to belong in a lower one, it moves there, and nothing is dropped.
        """
        highest = self._highest
        bucket = self._buckets.get(highest)
        if bucket is None:
            self._highest -= 1
            return 0
        source, _ = bucket.popitem()
        if not bucket:
            del self._buckets[highest]
        queue = self._queues.get(source)
        if queue is None:
            del self._bucket_of[source]
            return 0
        dropped = 0
        if len(queue) == highest:
            # One at least; more as long as it has more than everybody else.
            dropped = 1
            while (
                dropped < count
                and highest - dropped > floor
                and highest - dropped + 1 not in self._buckets
            ):
                dropped += 1
            for _ in range(dropped):
                queue.pop()
        self._join(source, len(queue))
        return dropped

    def _join(self, source: int, length: int) -> None:
        self._bucket_of[source] = length
        self._buckets.setdefault(length, {})[source] = None
        self._highest = max(self._highest, length)


class ChannelQueue:
    """Messages in the order in which they came, for each host that sent some.

    Tasks that wait get messages in the order in which they began to wait. A message that is put is
    handed to the first of them at once, so nobody else can take it. A task that was handed one is
    not cancelled any more.

    A KeyboardInterrupt comes before or after a message is taken, and not in the middle of it.

    Args:
        limit: How many messages it holds at most.
        turns: The turns of the handle; taking ends one when it is over.

    Attributes:
        size: How many messages there are.
        high_water: With more messages, it is time to let those run who take them.
        take_alone: Called with a message in place of handing it to the task that waits; None if
            there is nothing like that. It is called once in each round of the loop, and raises
            nothing. To wake a task for one message takes longer than to work on most.
    """

    def __init__(self, limit: int, turns: Turns) -> None:
        self.high_water: int = min(limit // 2, HIGH_WATER)
        self._limit = limit
        self._turns = turns
        self.size: int = 0
        # With more messages than this, those who put have more to do than that: the limit, less
        # than none while ``_lengths`` are kept. They are built when there is too much.
        self._simple_up_to = limit
        self._lengths: _Lengths | None = None
        # Those of the hosts that have something here, by id, and in the order of their turns.
        self._queues: dict[int, deque[Message]] = {}
        self._round: deque[deque[Message]] = deque()
        # There are some only while there is nothing to take.
        self._waiting: deque[_Waiter] = deque()
        self._ended = False
        self._closed = False
        self.take_alone: Callable[[Message], None] | None = None
        self._taken_in = -1

    def __len__(self) -> int:
        return self.size

    @property
    def is_half_full(self) -> bool:
        """Whether it has room for fewer messages than it holds."""
        return 2 * self.size > self._limit

    def put_one(self, message: Message) -> int:
        """Add a message, and return how many were dropped for lack of room."""
        if self._waiting:
            if self.take_alone is not None and self._taken_in != self._turns.round:
                self._taken_in = self._turns.round
                self.take_alone(message)
                return 0
            waiter = self._waiting.popleft()
            waiter.hand(message if waiter.wanted is None else [message])
            return 0
        source = message.source
        queue = self._queues.get(source)
        if queue is None:
            self._queues[source] = queue = deque((message,))
            self._round.append(queue)
        else:
            queue.append(message)
        self.size += 1
        if self.size > self._simple_up_to:
            return self._make_room(source, queue)
        return 0

    def put(self, source: int, messages: Sequence[Message]) -> int:
        """Add messages of the host ``source``, and return how many were dropped."""
        start = 0
        while self._waiting and start < len(messages):
            waiter = self._waiting.popleft()
            if waiter.wanted is None:
                waiter.hand(messages[start])
                start += 1
            else:
                waiter.hand(list(messages[start : start + waiter.wanted]))
                start += waiter.wanted
        if start:
            messages = messages[start:]
        if not messages:
            return 0
        queue = self._queues.get(source)
        if queue is None:
            self._queues[source] = queue = deque(messages)
            self._round.append(queue)
        else:
            queue.extend(messages)
        self.size += len(messages)
        if self.size > self._simple_up_to:
            return self._make_room(source, queue)
        return 0

    @trio.lowlevel.enable_ki_protection
    def take_nowait(self) -> Message:
        """Take the next message.

        Raises:
            trio.WouldBlock: There is none now.
            trio.EndOfChannel: There is none, and no more will come.
            trio.ClosedResourceError: The queue is closed.
        """
        self._check()
        return self._take()

    @trio.lowlevel.enable_ki_protection
    async def take(self) -> Message:
        """Wait for a message and take it.

        Looks for cancellation, and lets other tasks run if it has to wait or the turn is over.
        Raises what ``take_nowait`` does, but never ``trio.WouldBlock``.
        """
        if self.size:
            await trio.lowlevel.checkpoint_if_cancelled()
            if self._turns.is_over():
                await self._turns.give_up()
            round_ = self._round
            if len(round_) == 1 and self.size > 1:
                # There are no others to go round, and it does not become empty.
                self.size -= 1
                return round_[0].popleft()
            if self.size:
                return self._take()
        return await self._wait(None)  # type: ignore[return-value]

    @trio.lowlevel.enable_ki_protection
    async def take_many(self, limit: int | None = None) -> list[Message]:
        """Wait for a message, and take all that are there, at most ``limit``.

        Looks for cancellation, lets other tasks run, and raises as ``take`` does.
        """
        wanted = MOST_AT_ONCE if limit is None else min(limit, MOST_AT_ONCE)
        if self.size:
            await trio.lowlevel.checkpoint_if_cancelled()
            if self._turns.is_over():
                await self._turns.give_up()
            if self.size:
                return self._take_many(wanted)
        return cast("list[Message]", await self._wait(wanted))

    def end(self) -> None:
        """Take no more messages: when those here are taken, there is ``trio.EndOfChannel``."""
        self._ended = True
        self._wake_all()

    @trio.lowlevel.enable_ki_protection
    def close(self) -> int:
        """Drop what is here; taking raises ``trio.ClosedResourceError`` from now on.

        Returns:
            How many messages were dropped.
        """
        self._closed = True
        dropped, self.size = self.size, 0
        self._queues.clear()
        self._round.clear()
        self._forget_lengths()
        self._wake_all()
        return dropped

    async def _wait(self, wanted: int | None) -> Message | list[Message]:
        """Wait until a message is handed over, or a list of ``wanted`` at most."""
        if self._closed or self._ended:
            await trio.lowlevel.checkpoint()
            # What was put meanwhile may be the last that comes, so nobody would be woken for it.
            if self._closed or not self.size:
                raise self._error()
            return self._take() if wanted is None else self._take_many(wanted)
        waiter = _Waiter(trio.lowlevel.current_task(), wanted)
        waiting = self._waiting

        def abort(_: object) -> trio.lowlevel.Abort:
            waiting.remove(waiter)
            return trio.lowlevel.Abort.SUCCEEDED

        waiting.append(waiter)
        before = self._turns.round
        await trio.lowlevel.wait_task_rescheduled(abort)
        self._turns.resumed(before)
        if waiter.handed is None:
            raise self._error()
        return waiter.handed

    def _error(self) -> Exception:
        """Return the error for a task that waits though nothing more will come."""
        if self._closed:
            return trio.ClosedResourceError("this channel was closed")
        return trio.EndOfChannel("the handle has ended")

    def _check(self) -> None:
        if self._closed or (self._ended and not self.size):
            raise self._error()
        if not self.size:
            raise trio.WouldBlock

    def _take(self) -> Message:
        queue = self._round[0]
        message = queue.popleft()
        self.size -= 1
        if not queue:
            self._round.popleft()
            del self._queues[message.source]
        elif queue is not self._round[-1]:
            self._round.rotate(-1)
        return message

    def _take_many(self, wanted: int) -> list[Message]:
        if len(self._round) == 1 and self.size <= wanted:
            all_of_it = list(self._round.popleft())
            self._queues.clear()
            self.size = 0
            return all_of_it
        taken: list[Message] = []
        # Few at once are taken one from each host, many in blocks, which takes less time.
        block = max(1, min(_BLOCK, wanted // (4 * len(self._round))))
        wanted = min(wanted, _MOST_VISITS * block)
        while self._round and len(taken) < wanted:
            queue = self._round.popleft()
            count = min(block, wanted - len(taken), len(queue))
            source = queue[0].source
            taken += [queue.popleft() for _ in range(count)]
            if queue:
                self._round.append(queue)
            else:
                del self._queues[source]
        self.size -= len(taken)
        return taken

    def _make_room(self, source: int, queue: deque[Message]) -> int:
        """Drop what is too much after ``source`` got more into its ``queue``; return how many."""
        excess = self.size - self._limit
        lengths = self._lengths
        if excess <= 0:
            if lengths is not None:
                # To build them takes as long as there are hosts, which many puts have to pay for.
                if -excess >= len(self._queues) or len(lengths) > 2 * self._limit:
                    self._forget_lengths()
                else:
                    lengths.note(source, len(queue))
            return 0
        if lengths is None:
            lengths = self._lengths = _Lengths(self._queues)
            self._simple_up_to = -1
        lengths.drop_newest(source, excess)
        self.size -= excess
        if queue:
            lengths.note(source, len(queue))
        else:
            # It had nothing here before, so it came last.
            self._round.pop()
            del self._queues[source]
        return excess

    def _forget_lengths(self) -> None:
        self._lengths = None
        self._simple_up_to = self._limit

    def _wake_all(self) -> None:
        while self._waiting:
            self._waiting.popleft().hand(None)
