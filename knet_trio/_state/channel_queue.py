"""The queue of a channel: messages that have arrived and were not received yet.

The queue is bounded. Within the bound each sending host has its own queue, and taking goes round
the hosts. When there is no room, the newest message of the host with most messages is dropped. So a
host that floods a channel with a slow reader displaces only its own messages.
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
"""The most messages that are taken in one call: more would make the turn too long."""

HIGH_WATER: Final = 1024
"""Above this number of messages, readers run before more is put, even if the queue has room: a
message behind thousands is no longer in the processor's caches when it is taken."""

_BLOCK: Final = 64
"""Messages of one host in a row, when many messages of several hosts are taken at once."""

_MOST_VISITS: Final = 512
"""The most blocks that are taken in one call: going round takes longer than taking messages."""


@attrs.define(eq=False)
class _Waiter:
    """A task that waits for messages.

    Attributes:
        task: The task.
        wanted: The most messages that it takes; None for a single one, not in a list.
        handed: The messages that it was given.
    """

    task: trio.lowlevel.Task
    wanted: int | None
    handed: Message | list[Message] | None = None

    def hand(self, messages: Message | list[Message] | None) -> None:
        """Wake the task with ``messages``, None if no more will come."""
        self.handed = messages
        trio.lowlevel.reschedule(self.task)


class _Lengths:
    """An index of the hosts with most messages in a queue, without a walk over all hosts.

    Each host is in a bucket whose number is at least the number of its messages: messages that are
    put must be noted here, messages that are taken need not be. A host that is found in too high a
    bucket is moved down.

    Args:
        queues: The messages of each host, by its id; none of them is empty.
    """

    def __init__(self, queues: dict[int, deque[Message]]) -> None:
        self._queues = queues
        self._bucket_of: dict[int, int] = {}
        # The hosts of each bucket that is not empty.
        self._buckets: dict[int, dict[int, None]] = {}
        # No host has more messages.
        self._highest = 0
        for source, queue in queues.items():
            self.note(source, len(queue))

    def __len__(self) -> int:
        """Return the number of hosts in the index, also those without messages now."""
        return len(self._bucket_of)

    def note(self, source: int, length: int) -> None:
        """Note that host ``source`` has ``length`` messages now, at least one."""
        before = self._bucket_of.get(source, 0)
        if length > before:
            if before:
                bucket = self._buckets[before]
                del bucket[source]
                if not bucket:
                    del self._buckets[before]
            self._join(source, length)

    def drop_newest(self, source: int, count: int) -> None:
        """Drop ``count`` messages, each the newest of the host that has most at that time.

        Args:
            source: The host whose messages came last, at least ``count``. It loses a tie.
            count: The number of messages to drop.
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

        The host keeps at least ``floor`` messages, and at most one fewer than the next bucket.
        A host that belongs in a lower bucket moves there, and nothing is dropped.

        Args:
            count: The most messages to drop.
            floor: The messages that the host keeps at least, fewer than the highest bucket.
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
            # At least one; more while the host has more than all others.
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
    """The messages of a channel, in order for each host that sent some.

    Tasks get messages in the order in which they began to wait. A new message is handed to the
    first waiting task at once, so no other task can take it. A task that was handed a message is
    not cancelled any more.

    A KeyboardInterrupt comes before or after a message is taken, not in between.

    Args:
        limit: The most messages that the queue holds.
        turns: The turns of the handle; taking gives up a turn that is over.

    Attributes:
        size: The number of messages.
        high_water: Above this number of messages, readers should run before more is put.
        take_alone: Called with a message in place of waking the task that waits, once in each round
            of the loop; None for nothing. It must not raise. Waking a task takes longer than
            handling most messages.
    """

    def __init__(self, limit: int, turns: Turns) -> None:
        self.high_water: int = min(limit // 2, HIGH_WATER)
        self._limit = limit
        self._turns = turns
        self.size: int = 0
        # Up to this size, putting needs no more work: the limit, or -1 while ``_lengths`` exist,
        # which are built when the limit is exceeded.
        self._simple_up_to = limit
        self._lengths: _Lengths | None = None
        # The queues of hosts that have messages here, by id, and in the order of their turns.
        self._queues: dict[int, deque[Message]] = {}
        self._round: deque[deque[Message]] = deque()
        # Tasks wait only while there is no message.
        self._waiting: deque[_Waiter] = deque()
        self._ended = False
        self._closed = False
        self.take_alone: Callable[[Message], None] | None = None
        self._taken_in = -1

    def __len__(self) -> int:
        return self.size

    @property
    def is_half_full(self) -> bool:
        """True if the queue is more than half full."""
        return 2 * self.size > self._limit

    def put_one(self, message: Message) -> int:
        """Add a message; return how many were dropped because the queue is full."""
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
        """Add messages of host ``source``; return how many were dropped."""
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
            trio.WouldBlock: The queue is empty.
            trio.EndOfChannel: The queue is empty, and no more messages will come.
            trio.ClosedResourceError: The queue was closed.
        """
        self._check()
        return self._take()

    @trio.lowlevel.enable_ki_protection
    async def take(self) -> Message:
        """Wait for a message and take it.

        Checks for cancellation, and lets other tasks run if it has to wait or the turn is over.

        Raises:
            trio.EndOfChannel: The queue is empty, and no more messages will come.
            trio.ClosedResourceError: The queue was closed.
        """
        if self.size:
            await trio.lowlevel.checkpoint_if_cancelled()
            if self._turns.is_over():
                await self._turns.give_up()
            round_ = self._round
            if len(round_) == 1 and self.size > 1:
                # There is only one host, and its queue does not become empty.
                self.size -= 1
                return round_[0].popleft()
            if self.size:
                return self._take()
        return await self._wait(None)  # type: ignore[return-value]

    @trio.lowlevel.enable_ki_protection
    async def take_many(self, limit: int | None = None) -> list[Message]:
        """Wait for a message, and take all that are there, at most ``limit``.

        A checkpoint like ``take``, with the same errors.
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
        """Accept no more messages: when all are taken, taking raises ``trio.EndOfChannel``."""
        self._ended = True
        self._wake_all()

    @trio.lowlevel.enable_ki_protection
    def close(self) -> int:
        """Drop all messages; from now on taking raises ``trio.ClosedResourceError``.

        Returns:
            The number of messages that were dropped.
        """
        self._closed = True
        dropped, self.size = self.size, 0
        self._queues.clear()
        self._round.clear()
        self._forget_lengths()
        self._wake_all()
        return dropped

    async def _wait(self, wanted: int | None) -> Message | list[Message]:
        """Wait until a message is handed over, or a list of at most ``wanted``."""
        if self._closed or self._ended:
            await trio.lowlevel.checkpoint()
            # A message that was put meanwhile may be the last one, so it has to be taken here.
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
        """Return the error for a task that waits though no more messages will come."""
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
        # A few messages are taken one from each host, many in blocks, which takes less time.
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
        """Drop the excess after messages of ``source`` were put into ``queue``; return how many."""
        excess = self.size - self._limit
        lengths = self._lengths
        if excess <= 0:
            if lengths is not None:
                # Building them takes time for each host, so they are kept for a number of puts.
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
            # The host had no messages here before, so it is the last one.
            self._round.pop()
            del self._queues[source]
        return excess

    def _forget_lengths(self) -> None:
        self._lengths = None
        self._simple_up_to = self._limit

    def _wake_all(self) -> None:
        while self._waiting:
            self._waiting.popleft().hand(None)
