"""What waits to be sent to one host, and who waits to hand over more.

A lane is bounded in messages and in bytes. It is full when it has reached one of the bounds; since
it may only be entered before that, it holds at most one batch more than they say.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from knet_trio._core.coupled import size_of
from knet_trio._core.onwire import seq_after
from knet_trio._core.parted import Parted
from knet_trio.abc import Cipher
from knet_trio.errors import SendError

if TYPE_CHECKING:
    # A host has a lane.
    from knet_trio._state.host import HostState

LANE_MESSAGES: Final = 1024
LANE_BYTES: Final = 4 * 1024 * 1024

# A receiver remembers so many numbers (wire.md 6.2): what is older is not sent under its number.
MOST_BEHIND: Final = 4096

GivenUp = SendError | trio.ClosedResourceError
"""Why something that waited was not sent."""

OnEnd = Callable[[GivenUp | None], None]


class Sealed(NamedTuple):
    """Messages as the datagrams that go on the wire.

    Where each host gets its own envelopes, what hosts share are the packets in them.

    Attributes:
        datagrams: In the order in which they are sent.
        owners: The message that each datagram belongs to, 0 for the first one here; None if each
            message has one datagram. The last fragments of messages may come after the others of
            all of them, each in the order of the messages.
        first: The number of the first message.
        last: The number of the last message.
        base: The index of that message in its batch.
        end: The index of the message after the last one.
        is_last: Whether there is none.
        cipher: The cipher that sealed them, or is to; None for clear packets.
        fragment_size: The data MTU by which the messages were cut, in bytes.
        life: The life of this host that it was then.
    """

    datagrams: Sequence[bytes]
    owners: Sequence[int] | None
    first: int
    last: int
    base: int
    end: int
    is_last: bool
    cipher: Cipher | None
    fragment_size: int
    life: bytes

    def owner(self, index: int) -> int:
        """Return the message that datagram ``index`` belongs to, as its index in the batch."""
        return self.base + (index if self.owners is None else self.owners[index])

    def first_left(self, start: int) -> int:
        """Return the first message of which datagrams from ``start`` on are left."""
        if start == len(self.datagrams):
            return self.end
        return self.base + (start if self.owners is None else min(self.owners[start:]))

    def newest(self, start: int, end: int) -> int:
        """Return the newest message of which there are datagrams from ``start`` to ``end``."""
        return self.base + (end - 1 if self.owners is None else max(self.owners[start:end]))

    def number(self, owner: int) -> int:
        """Return the sequence number of message ``owner`` of the batch."""
        return seq_after(self.first, owner - self.base)


class Batch:
    """Messages to the same hosts on the same channel, which are handed over together.

    Attributes:
        datas: The messages, compressed where that made them smaller.
        channel: The channel, 0 to 31.
        compress: For each message the wire id of its compression, 0 for none; one number if all
            have the same.
        broadcast: Whether they are for every host.
        ready: False while they wait for the compressor.
        lanes: In how many lanes it waits.
        on_dropped: Called when it was dropped from the last of them; None if nobody has to know.
        sealed: The datagrams that were made of them last, in parts by the first message of each;
            hosts share them.
        size: The bytes of the messages before compression.
        tried: For one message that the compressor was tried on before it entered a lane: its bytes
            before and after, and the seconds that it took; else None.
    """

    __slots__ = (
        "broadcast",
        "channel",
        "compress",
        "datas",
        "lanes",
        "on_dropped",
        "ready",
        "sealed",
        "size",
        "tried",
    )

    def __init__(
        self,
        datas: Sequence[bytes],
        channel: int,
        *,
        broadcast: bool,
        compress: int | Sequence[int] = 0,
    ) -> None:
        self.datas: Sequence[bytes] = datas
        self.channel: int = channel
        self.broadcast: bool = broadcast
        self.compress = compress
        self.ready: bool = True
        self.lanes: int = 0
        self.on_dropped: Callable[[], None] | None = None
        self.sealed: dict[int, Sealed] = {}
        self.tried: tuple[int, int, float] | None = None
        # Of the messages as they were given, whatever the compressor makes of them.
        single = len(datas) == 1 and type(datas) is not Parted
        self.size: int = len(datas[0]) if single else size_of(datas, len(datas))

    def add(self, data: bytes) -> None:
        """Add a message, while it is neither compressed nor sealed."""
        if isinstance(self.datas, list):
            self.datas.append(data)
        else:
            self.datas = [*self.datas, data]
        self.size += len(data)

    def set_compressed(self, compressed: Sequence[tuple[bytes, int]]) -> None:
        """Set the messages as the compressor made them, each with its wire id."""
        self.datas = [data for data, _ in compressed]
        kinds = [kind for _, kind in compressed]
        self.compress = kinds[0] if kinds.count(kinds[0]) == len(kinds) else kinds

    def drop(self) -> None:
        """Note that it was dropped from a lane."""
        self.lanes -= 1
        if not self.lanes and self.on_dropped is not None:
            self.on_dropped()
            self.on_dropped = None

    def part(self, indices: Sequence[int]) -> Batch:
        """Return some of the messages as a batch of their own."""
        compress = self.compress
        if not isinstance(compress, int):
            compress = [compress[index] for index in indices]
        datas = [self.datas[index] for index in indices]
        return Batch(datas, self.channel, broadcast=self.broadcast, compress=compress)


class LaneItem:
    """What is left of a batch for one host.

    Attributes:
        batch: The batch.
        urgent: Whether ``send_sync`` sends it, before all others.
        channel: Stands for the channel that it is sent on, where closing that gives it up.
        error: Why the system or the cipher refused some of it, None if they did not.
        first: The index of the first message of the batch that is not sent whole.
        sealed: The datagrams of messages from ``first`` on, None before they are made.
        addressed: What hosts share, and the envelopes that were made of it for this host; None
            where nothing was.
        start: The index of the first datagram that is not sent.
        sent: How many of its datagrams have been sent, the old ones of what was cut again too.
        on_end: Called when nothing of it waits any more, with the reason if it was not sent.
        flushed: Set when nothing of it waits any more.
    """

    __slots__ = (
        "addressed",
        "batch",
        "channel",
        "error",
        "first",
        "flushed",
        "on_end",
        "sealed",
        "sent",
        "start",
        "urgent",
    )

    def __init__(self, batch: Batch, *, urgent: bool = False) -> None:
        self.batch: Batch = batch
        self.channel: object = None
        self.urgent: bool = urgent
        self.error: SendError | None = None
        self.first: int = 0
        self.sealed: Sealed | None = None
        self.addressed: tuple[Sealed, Sealed] | None = None
        self.start: int = 0
        self.sent: int = 0
        self.on_end: OnEnd | None = None
        self.flushed: trio.Event | None = None

    def end(self, error: GivenUp | None) -> None:
        """Tell those who wait for it that it is over, because of ``error`` if it was not sent."""
        if self.on_end is not None:
            self.on_end(error)
        if self.flushed is not None:
            self.flushed.set()

    @property
    def started(self) -> bool:
        """Whether some of its datagrams have been sent."""
        return self.sent > 0

    @property
    def left(self) -> int:
        """How many messages are not sent whole."""
        sealed = self.sealed
        first = self.first if sealed is None else sealed.first_left(self.start)
        return len(self.batch.datas) - first


class Waiter:
    """A task that waits to hand over a batch.

    Attributes:
        batch: The batch.
        hosts: The hosts that it is for.
        lost: Those that cannot be reached any more.
        channel: Stands for the channel that it is sent on; closing that ends the waiting.
        task: The task.
        error: What the task raises when it runs again, None for nothing.
        over: Whether it waits no more.
        dropped: Whether the batch was dropped for all of its hosts.
    """

    __slots__ = ("batch", "channel", "dropped", "error", "hosts", "lost", "over", "task")

    def __init__(
        self, batch: Batch, hosts: list[HostState], channel: object, task: trio.lowlevel.Task
    ) -> None:
        self.batch = batch
        self.hosts = hosts
        self.lost: list[HostState] = []
        self.channel = channel
        self.task = task
        self.error: Exception | None = None
        self.over = False
        self.dropped = False


class SendLane:
    """The messages that wait to be sent to one host.

    Attributes:
        items: What waits, in order.
        urgent: What ``send_sync`` sends, which goes first.
        waiters: The tasks that wait for room, in the order in which they began to.
        messages: How many messages are in ``items``.
        size: How many bytes are in ``items``.
        last_seq: The number of the last message that was handed to the host's links, or told to it
            by a forced ping.
        blocked: Whether no link of the host had room when it was tried last.
        moved_at: When something that had waited in it was sent last, on Trio's clock.
    """

    __slots__ = (
        "blocked",
        "items",
        "last_seq",
        "messages",
        "moved_at",
        "size",
        "urgent",
        "waiters",
    )

    def __init__(self, last_seq: int) -> None:
        self.items: deque[LaneItem] = deque()
        self.urgent: deque[LaneItem] = deque()
        self.waiters: dict[Waiter, None] = {}
        self.messages: int = 0
        self.size: int = 0
        self.last_seq: int = last_seq
        self.blocked: bool = False
        self.moved_at: float = -math.inf

    @property
    def full(self) -> bool:
        """Whether it is full: nothing may enter."""
        return self.messages >= LANE_MESSAGES or self.size >= LANE_BYTES

    @property
    def is_behind(self) -> bool:
        """Whether it waits for its links, or for the compressor, and not for a turn."""
        return self.blocked or (bool(self.items) and not self.items[0].batch.ready)

    @property
    def under_half(self) -> bool:
        """Whether it is less than half full."""
        return 2 * self.messages < LANE_MESSAGES and 2 * self.size < LANE_BYTES

    def append(self, item: LaneItem) -> None:
        """Add an item at the end."""
        self.items.append(item)
        batch = item.batch
        batch.lanes += 1
        self.messages += len(batch.datas)
        self.size += batch.size

    def take(self) -> LaneItem | None:
        """Take out what is to be sent next, None if there is nothing or it is not ready.

        While it is being sent it is nobody else's; what is left of it is ``put_back``.
        """
        if self.urgent:
            return self.urgent.popleft()
        if not self.items or not self.items[0].batch.ready:
            return None
        item = self.items.popleft()
        batch = item.batch
        batch.lanes -= 1
        self.messages -= len(batch.datas)
        self.size -= batch.size
        return item

    def put_back(self, item: LaneItem) -> None:
        """Put back the rest of what was taken."""
        if item.urgent:
            self.urgent.appendleft(item)
            return
        self.items.appendleft(item)
        batch = item.batch
        batch.lanes += 1
        self.messages += len(batch.datas)
        self.size += batch.size

    def withdraw(self, item: LaneItem) -> None:
        """Take out an urgent item that nobody wants to be sent any more."""
        self.urgent.remove(item)
        if not self.items and not self.urgent:
            # Nothing is left that could say that there is room.
            self.blocked = False

    def take_all(self) -> deque[LaneItem]:
        """Take out all items; the caller drops the batches of those that are not urgent."""
        # Nothing is copied, since many lanes may be given up at once.
        items, self.items = self.items, deque()
        if self.urgent:
            items.extendleft(reversed(self.urgent))
            self.urgent.clear()
        self.blocked = False
        self.messages = self.size = 0
        return items

    def number_to_tell(self, newest: int) -> int:
        """Return the number for a scheduled ping: that of the last message handed to the links.

        What waits here has not been handed to them yet. Where nothing waits, the messages up to
        number ``newest`` that were sent since were for other hosts.
        """
        return self.last_seq if self.items or self.urgent else newest

    def hand_on(self, number: int) -> None:
        """Message ``number`` is handed to the host's links.

        One that was begun goes on under its number after a ``send_sync`` that overtook it, and that
        is the newer one.
        """
        if (self.last_seq - number) & 0xFFFF >= MOST_BEHIND:
            self.last_seq = number

    def force_number(self, newest: int) -> int:
        """Return the number for a forced ping: ``newest``.

        What waits and has a lower number already is given a new one.
        """
        self.last_seq = newest
        return newest
