"""The messages that wait to be sent to one host, and the tasks that wait for room.

A lane is limited in messages and in bytes. It is full when it has reached one of the limits. A
batch may enter while it is not full, so it exceeds its limits by one batch at most.
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

NOTICED: Final = 0.1
"""Seconds for which messages have to wait before people are told."""

# A receiver remembers this many numbers (wire.md 6.2): an older message gets a new number.
MOST_BEHIND: Final = 4096

GivenUp = SendError | trio.ClosedResourceError
"""Why a waiting message was not sent."""

OnEnd = Callable[[GivenUp | None], None]


class Sealed(NamedTuple):
    """Messages as datagrams for the wire.

    Where each host gets its own envelopes, hosts share the packets inside them.

    Attributes:
        datagrams: The datagrams, in the order in which they are sent.
        owners: The message that each datagram belongs to, 0 for the first one here; None if each
            message has one datagram. The last fragments of several messages may follow all their
            other fragments.
        first: The number of the first message.
        last: The number of the last message.
        base: The index of the first message in its batch.
        end: The index after the last message in its batch.
        is_last: True if that is the end of the batch.
        cipher: The cipher that sealed the datagrams, or will; None for clear packets.
        fragment_size: The data MTU by which the messages were fragmented, in bytes.
        life: The life of this host at that time.
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
        """Return the first message that has a datagram from ``start`` on."""
        if start == len(self.datagrams):
            return self.end
        return self.base + (start if self.owners is None else min(self.owners[start:]))

    def newest(self, start: int, end: int) -> int:
        """Return the newest message that has a datagram from ``start`` to before ``end``."""
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
        broadcast: True if the messages are for every host.
        ready: False while the batch waits for the compressor.
        lanes: The number of lanes in which the batch waits.
        on_dropped: Called when the batch was dropped from the last lane; None for nothing.
        sealed: The datagrams that were made last, in parts by the first message of each; hosts
            share them.
        size: The size of the messages before compression, in bytes.
        tried: For a message that was compressed before it entered a lane: its size before and after
            in bytes, and the time in seconds. None otherwise.
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
        # Fixed here, before compression.
        single = len(datas) == 1 and type(datas) is not Parted
        self.size: int = len(datas[0]) if single else size_of(datas, len(datas))

    def add(self, data: bytes) -> None:
        """Add a message; the batch must not be compressed or sealed yet."""
        if isinstance(self.datas, list):
            self.datas.append(data)
        else:
            self.datas = [*self.datas, data]
        self.size += len(data)

    def set_compressed(self, compressed: Sequence[tuple[bytes, int]]) -> None:
        """Replace the messages by their compressed forms, each with its wire id."""
        self.datas = [data for data, _ in compressed]
        kinds = [kind for _, kind in compressed]
        self.compress = kinds[0] if kinds.count(kinds[0]) == len(kinds) else kinds

    def drop(self) -> None:
        """Count that the batch was dropped from a lane."""
        self.lanes -= 1
        if not self.lanes and self.on_dropped is not None:
            self.on_dropped()
            self.on_dropped = None

    def part(self, indices: Sequence[int]) -> Batch:
        """Return the messages at ``indices`` as a new batch."""
        compress = self.compress
        if not isinstance(compress, int):
            compress = [compress[index] for index in indices]
        datas = [self.datas[index] for index in indices]
        return Batch(datas, self.channel, broadcast=self.broadcast, compress=compress)


class LaneItem:
    """The unsent rest of a batch for one host.

    Attributes:
        batch: The batch.
        urgent: True for a message of ``send_sync``, which goes before all others.
        channel: The state of its channel, if closing the channel gives the item up.
        error: Why the system or the cipher refused some of it, None if they did not.
        first: The index of the first message of the batch that was not sent whole.
        sealed: The datagrams of messages from ``first`` on, None before they are made.
        addressed: The packets that hosts share, and the envelopes made of them for this host; None
            if there are none.
        start: The index of the first datagram that was not sent.
        sent: The number of datagrams that were sent, also of messages that were fragmented again.
        on_end: Called when nothing waits any more, with the reason if it was not sent.
        flushed: Set when nothing waits any more.
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
        """Wake the tasks that wait for the item, with ``error`` if it was not sent."""
        if self.on_end is not None:
            self.on_end(error)
        if self.flushed is not None:
            self.flushed.set()

    @property
    def started(self) -> bool:
        """True if some of its datagrams were sent."""
        return self.sent > 0

    @property
    def left(self) -> int:
        """The number of messages that were not sent whole."""
        sealed = self.sealed
        first = self.first if sealed is None else sealed.first_left(self.start)
        return len(self.batch.datas) - first


class Waiter:
    """A task that waits to hand over a batch.

    Attributes:
        batch: The batch.
        hosts: The hosts that it is for.
        lost: The hosts that became unreachable meanwhile.
        channel: The state of the channel; closing the channel ends the waiting.
        task: The task.
        error: The error that the task raises when it runs again, None for nothing.
        over: True once the task does not wait any more.
        dropped: True if the batch was dropped for all its hosts.
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
        items: The items that wait, in order.
        urgent: The items of ``send_sync``, which go first.
        waiters: The tasks that wait for room, in order.
        messages: The number of messages in ``items``.
        size: The size of ``items``, in bytes.
        last_seq: The number of the last message that was handed to the host's links, or sent to the
            host in a forced ping.
        blocked: True if no link of the host had room at the last try.
        moved_at: When a waiting item was sent last, in seconds on Trio's clock.
        blocked_at: Since when, while ``blocked``, the links have had more to send than they can.
    """

    __slots__ = (
        "_room_at",
        "blocked",
        "blocked_at",
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
        self.blocked_at: float = math.inf
        # When there was room again last.
        self._room_at = -math.inf

    @property
    def full(self) -> bool:
        """True if the lane is full: no batch may enter."""
        return self.messages >= LANE_MESSAGES or self.size >= LANE_BYTES

    @property
    def is_behind(self) -> bool:
        """True if the lane waits for its links or the compressor, and not for a turn."""
        return self.blocked or (bool(self.items) and not self.items[0].batch.ready)

    @property
    def under_half(self) -> bool:
        """True if the lane is less than half full."""
        return 2 * self.messages < LANE_MESSAGES and 2 * self.size < LANE_BYTES

    def note_no_room(self, now: float) -> None:
        """Note that no link has room; a lane that had some for a moment is behind since before."""
        if not self.blocked:
            self.blocked = True
            if now - self._room_at > NOTICED:
                self.blocked_at = now

    def note_room(self, now: float) -> None:
        """Note that there was room for the rest of an item."""
        if self.blocked:
            self.blocked = False
            self._room_at = now

    def append(self, item: LaneItem) -> None:
        """Add an item at the end."""
        self.items.append(item)
        batch = item.batch
        batch.lanes += 1
        self.messages += len(batch.datas)
        self.size += batch.size

    def take(self) -> LaneItem | None:
        """Take out the next item to send, None if there is none or it is not ready.

        The caller owns the item while it is being sent, and puts the rest back with ``put_back``.
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
        """Put back the rest of an item that was taken out."""
        if item.urgent:
            self.urgent.appendleft(item)
            return
        self.items.appendleft(item)
        batch = item.batch
        batch.lanes += 1
        self.messages += len(batch.datas)
        self.size += batch.size

    def withdraw(self, item: LaneItem) -> None:
        """Take out an urgent item that is not to be sent any more."""
        self.urgent.remove(item)
        if not self.items and not self.urgent:
            # No item is left whose sending would show that there is room.
            self.blocked = False

    def take_all(self) -> deque[LaneItem]:
        """Take out all items; the caller drops the batches of those that are not urgent."""
        # Without a copy, since many lanes may be given up at once.
        items, self.items = self.items, deque()
        if self.urgent:
            items.extendleft(reversed(self.urgent))
            self.urgent.clear()
        self.blocked = False
        self.messages = self.size = 0
        return items

    def ping_number(self, newest: int) -> int:
        """Return the number for a scheduled ping: that of the last message handed to the links.

        Messages that wait here were not handed to the links yet. If none waits, later messages, up
        to number ``newest``, were for other hosts.
        """
        return self.last_seq if self.items or self.urgent else newest

    def hand_on(self, number: int) -> None:
        """Note that message ``number`` was handed to the host's links.

        An older number changes nothing: a message that was begun may go on after a ``send_sync``
        with a newer number has overtaken it.
        """
        if (self.last_seq - number) & 0xFFFF >= MOST_BEHIND:
            self.last_seq = number

    def force_number(self, newest: int) -> int:
        """Return the number for a forced ping: ``newest``.

        Waiting messages that have a lower number already get a new one.
        """
        self.last_seq = newest
        return newest
