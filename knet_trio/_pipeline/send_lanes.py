"""The way into the lanes of hosts, and the tasks that wait in front of them.

A batch enters the lanes of all its hosts in one step, so a ``send`` that is cancelled went to
nobody. It waits while one of them is full; but where that one is behind the others, those do not
wait for it: then the batch is dropped for the host that is behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

import trio

from knet_trio._pipeline.batches import BATCH_BYTES, BATCH_MESSAGES
from knet_trio._pipeline.drops import (
    count_failed,
    count_unreachable,
    end_items,
    give_up_unreachable,
)
from knet_trio._pipeline.leftovers import Leftovers
from knet_trio._pipeline.transport import TransportStage
from knet_trio._state.handle import HandleState
from knet_trio._state.host import HostState
from knet_trio._state.send_lane import Batch, LaneItem, Waiter
from knet_trio.errors import DropCause, ForwardingDisabledError

# Seconds until those who wait are looked at again where no lane will say that it has moved on.
_LOOK_AGAIN: Final = 0.002
# Seconds since something left a lane after which it is taken to stand still.
_MOVING: Final = 0.25
# Seconds without a full queue after which a link is taken for one that could carry more.
_SETTLED: Final = 0.1


class _Gathering(NamedTuple):
    """A batch that messages may still be added to.

    Attributes:
        batch: The batch.
        hosts: The hosts that it goes to.
        to: What the sender said: host ids, or None for every host.
    """

    batch: Batch
    hosts: Sequence[HostState]
    to: tuple[int, ...] | None


class SendLanes:
    """The lanes of all hosts of a handle.

    Attributes:
        transport: Sends what is in the lanes.
        submit: Hands a batch that is in its lanes and not ready to the compressor, with the ids of
            its hosts.
        gathering: The batch that messages may be added to, None if there is none.
    """

    def __init__(self, handle: HandleState) -> None:
        self._handle = handle
        self._context = handle.context
        self.transport: TransportStage
        self.submit: Callable[[Batch, tuple[int, ...]], None]
        self.gathering: _Gathering | None = None
        # Those who may go on as time passes, though no lane moves.
        self._undecided: dict[Waiter, None] = {}
        self._looks_again = False
        self._leftovers = Leftovers(handle.context)
        # All who wait, also those who are about to be told that they wait no more.
        self._waiting: dict[Waiter, None] = {}

    @property
    def gathers(self) -> bool:
        """Whether messages go where ``to`` says and as they are: nothing looks at each one."""
        context = self._context
        return (
            context.filter is None
            and context.compression is None
            and context.forwarding
            and self._handle.loopback is None
        )

    def gather(self, data: bytes, channel: int, to: tuple[int, ...] | None) -> bool:
        """Add a message to the batch that is gathering, if it goes the same way.

        Returns:
            Whether it was added; if not, nothing has happened.
        """
        gathering = self.gathering
        if gathering is None:
            return False
        batch, hosts, gathering_to = gathering
        if (
            gathering_to != to
            or not self.gathers
            or batch.channel != channel
            # Its datagrams exist already, though the socket had no room for them.
            or batch.sealed
            or len(batch.datas) >= BATCH_MESSAGES
            or batch.size >= BATCH_BYTES
        ):
            return False
        for host in hosts:
            lane = host.lane
            # Where it is not the last any more, or is being sent, it takes nothing more.
            if not lane.items or lane.full or lane.waiters:
                return False
            item = lane.items[-1]
            if item.batch is not batch or item.sealed is not None:
                return False
        size = len(data)
        batch.add(data)
        for host in hosts:
            host.lane.messages += 1
            host.lane.size += size
        return True

    def enter_later(
        self, batch: Batch, hosts: Sequence[HostState], to: tuple[int, ...] | None
    ) -> bool:
        """Put ``batch`` into lanes as ``enter`` does, to be sent when the loop has gone round.

        Until then messages that go the same way may ``gather`` in it.
        """
        for host in hosts:
            lane = host.lane
            if lane.full or lane.waiters:
                return self._try_enter(batch, hosts, None)
        for host in hosts:
            host.lane.append(LaneItem(batch))
            self.transport.wake(host.host_id)
        # Where hosts are missing, each message is counted for them.
        complete = to is None or len(hosts) == len(to)
        self.gathering = _Gathering(batch, hosts, to) if complete else None
        return True

    def stop_gathering(self) -> None:
        """A host can be reached now that could not be: the next message may have to go there."""
        self.gathering = None

    def enter(self, batch: Batch, hosts: Sequence[HostState]) -> bool:
        """Put ``batch`` into the lanes of ``hosts`` if it need not wait, and send what can be sent.

        Returns:
            Whether it has entered.
        """
        for host in hosts:
            lane = host.lane
            if lane.items or lane.waiters:
                break
        else:
            self._put(batch, hosts)
            return True
        return self._try_enter(batch, hosts, None)

    async def wait_to_enter(
        self, batch: Batch, hosts: Sequence[HostState], channel: object
    ) -> bool:
        """Wait until ``batch`` has entered; when cancelled, it has not.

        Returns:
            False if it was dropped and counted because forwarding was turned off. True as well when
            none of the hosts can be reached any more; it is counted then too.

        Raises:
            trio.ClosedResourceError: ``channel`` was closed, or the handle has ended.
        """
        waiter = Waiter(batch, list(hosts), channel, trio.lowlevel.current_task())
        for host in hosts:
            host.lane.waiters[waiter] = None
        self._waiting[waiter] = None
        if len(hosts) > 1:
            self._undecided[waiter] = None

        def abort(_: object) -> trio.lowlevel.Abort:
            self._forget(waiter)
            for host in waiter.hosts:
                # Those behind may not have to wait.
                self.transport.wake(host.host_id)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if waiter.error is not None:
            raise waiter.error
        return not waiter.dropped

    def progressed(self, host: HostState) -> None:
        """Let those enter who wait for room in the lane of ``host``, which has moved on."""
        self._let_in([host])

    def blocked(self, host: HostState) -> None:
        """Note that no link of ``host`` has room any more.

        Batches that go to other hosts too may not have to wait for it.
        """
        self._try_again([one for one in host.lane.waiters if len(one.hosts) > 1])

    def host_lost(self, host: HostState) -> None:
        """Give up what waits for ``host``, which cannot be reached any more.

        What is in its lane is counted, and those who wait for room in it return.
        """
        context, host_id = self._context, host.host_id
        self._leftovers.add(
            host.lane.take_all(), lambda items: give_up_unreachable(context, host_id, items)
        )
        waiters = list(host.lane.waiters)
        host.lane.waiters.clear()
        context.chores.add(("lost", host), waiters, partial(self._leave_out, host))

    def _leave_out(self, host: HostState, waiter: Waiter) -> None:
        """Have ``waiter`` wait no more for ``host``, which cannot be reached."""
        if waiter.over or waiter.error is not None:
            return
        waiter.hosts.remove(host)
        # It is counted once it is certain that the call has happened.
        waiter.lost.append(host)
        if waiter.hosts:
            self._let_in(waiter.hosts)
        else:
            self._release(waiter)
            self._count_lost(waiter)

    def _count_lost(self, waiter: Waiter) -> None:
        """Count a batch for the hosts that were lost while it waited."""
        for host in waiter.lost:
            count_unreachable(self._context, host.host_id, len(waiter.batch.datas))

    def close_channel(self, channel: object) -> None:
        """Wake those who wait to send on ``channel`` with ClosedResourceError, many in turns."""
        words = "this channel was closed"
        for host in self._handle.hosts.values():
            for item in [one for one in host.lane.urgent if one.channel is channel]:
                host.lane.withdraw(item)
                if item.started:
                    count_failed(self._context, host.host_id, "its channel was closed", 1)
                item.end(trio.ClosedResourceError(words))
        closed = [waiter for waiter in self._waiting if waiter.channel is channel]
        for waiter in closed:
            # So nobody lets it in any more.
            waiter.error = waiter.error or trio.ClosedResourceError(words)
        self._context.chores.add(("closed", channel), closed, self._turn_away)

    def _turn_away(self, waiter: Waiter) -> None:
        """Wake ``waiter``, which raises its error."""
        if waiter.over:
            return
        self._release(waiter)
        for host in waiter.hosts:
            # Those behind may not have to wait.
            self.transport.wake(host.host_id)

    def end_in_pieces(self) -> Iterator[None]:
        """Wake those who wait, and give up what is in the lanes; a little of it for each item."""
        words = "the handle has ended"

        def end(host_id: int, items: Sequence[LaneItem]) -> None:
            left = end_items(items, trio.ClosedResourceError(words))
            if left:
                count_failed(self._context, host_id, words, left)

        while self._waiting:
            waiter = next(iter(self._waiting))
            waiter.error = waiter.error or trio.ClosedResourceError(words)
            self._release(waiter)
            yield
        for host in tuple(self._handle.hosts.values()):
            if host.lane.items or host.lane.urgent:
                self._leftovers.add(host.lane.take_all(), partial(end, host.host_id))
                yield
        yield from self._leftovers.finish_in_pieces()

    def give_up(self, cause: DropCause) -> None:
        """Drop what is in the lanes and in front of them, counted under ``cause``.

        Those who wait return.
        """
        why = "it waited until data forwarding was turned off"
        error = ForwardingDisabledError("data forwarding was turned off")
        refuse = self._context.refuse

        def end(items: Sequence[LaneItem]) -> None:
            left = end_items(items, error)
            if left:
                refuse(cause, why, times=left)

        for host in self._handle.hosts.values():
            host.lane.waiters.clear()
            if host.lane.items or host.lane.urgent:
                self._leftovers.add(host.lane.take_all(), end)

        def drop(waiter: Waiter) -> None:
            if not waiter.over and waiter.error is None:
                waiter.dropped = True
                # For each host, as it is counted in the lanes.
                refuse(cause, why, times=len(waiter.hosts) * len(waiter.batch.datas))
                self._release(waiter)
                self._count_lost(waiter)

        # Nobody is let in any more, also not those who are told a little later.
        self._undecided.clear()
        self._context.chores.add(("given up", cause), tuple(self._waiting), drop)

    def flushed(self) -> list[trio.Event]:
        """Return an event for each lane, set when what is in it now has left."""
        events: list[trio.Event] = []
        for host in self._handle.hosts.values():
            lane = host.lane
            if lane.items or lane.urgent:
                item = (lane.items or lane.urgent)[-1]
                if item.flushed is None:
                    item.flushed = trio.Event()
                events.append(item.flushed)
        return events

    def _let_in(self, hosts: Iterable[HostState]) -> None:
        """Let tasks enter that wait at the head of the lanes of ``hosts``, and those behind them.

        Where many wait, the transport goes on with it in its next turns.
        """
        is_over = self._context.turns.is_over
        todo = list(hosts)
        # Who waits for many hosts is at the head of many lanes, and is tried once.
        failed: set[Waiter] = set()
        while todo:
            host = todo.pop()
            waiters = host.lane.waiters
            while waiters:
                waiter = next(iter(waiters))
                if waiter in failed:
                    break
                if waiter.error is not None:
                    self._release(waiter)
                elif not self._try_enter(waiter.batch, waiter.hosts, waiter):
                    failed.add(waiter)
                    break
                failed.clear()
                todo += [other for other in waiter.hosts if other.lane.waiters]
                if is_over():
                    for one in (host, *todo):
                        self.transport.wake(one.host_id)
                    return

    def _try_again(self, waiters: Iterable[Waiter]) -> None:
        """Let those of ``waiters`` enter who can, wherever in the lanes they wait.

        Where they are many, the others are tried a little later.
        """
        is_over = self._context.turns.is_over
        rest = iter(waiters)
        for waiter in rest:
            # Those before it may have let it in.
            waits = not waiter.over and waiter.error is None
            if waits and self._try_enter(waiter.batch, waiter.hosts, waiter):
                self._let_in(waiter.hosts)
            if is_over():
                break
        later = {one: None for one in rest if not one.over}
        if later:
            # In front of those that were tried: each gets its turn.
            self._undecided = later | self._undecided
            self._look_later()

    def _try_enter(self, batch: Batch, hosts: Sequence[HostState], waiter: Waiter | None) -> bool:
        open_: list[HostState] = []
        full: list[HostState] = []
        for host in hosts:
            lane = host.lane
            # It must not overtake who began to wait before.
            if lane.full or (lane.waiters and next(iter(lane.waiters)) is not waiter):
                if not lane.is_behind:
                    # It is not the host that is behind, but this program.
                    return False
                full.append(host)
            else:
                open_.append(host)
        if full and not self._any_flows(open_, full):
            if waiter is not None and open_:
                self._undecided[waiter] = None
            return False
        if waiter is not None:
            # It waits no more, whatever comes of what is sent now.
            self._release(waiter)
            self._count_lost(waiter)
        for host in full:
            self._context.refuse(
                DropCause.SEND_QUEUE_FULL,
                host.host_id,
                times=len(batch.datas),
                key=host.host_id,
            )
        self._put(batch, open_, waits=waiter is not None)
        return True

    def _any_flows(self, hosts: Sequence[HostState], full: Sequence[HostState]) -> bool:
        """Return whether one of ``hosts`` has less than half of what may wait for it.

        What waits is in its lane and in the system's queues. Then the hosts ``full``, whose lanes
        are full, are behind it. As long as those move on, a host whose way out was full a moment
        ago may be no faster.
        """
        now = self._context.now()
        moving = any(now - host.lane.moved_at < _MOVING for host in full)
        under_half = [host for host in hosts if host.lane.under_half]
        if not under_half:
            return False
        if not moving:
            # Nobody is as slow as a host that stands still.
            return True
        since = now - _SETTLED
        if any(link.sender.flows(since) for host in under_half for link in host.ranked):
            return True
        # The system's queue moves on without a word.
        self._look_later()
        return False

    def _look_later(self) -> None:
        if not self._looks_again:
            self._looks_again = True
            self._context.heartbeats.set(self._look_again, self._context.now() + _LOOK_AGAIN)

    def _look_again(self, _: float) -> None:
        self._looks_again = False
        undecided, self._undecided = self._undecided, {}
        self._try_again(undecided)

    def _put(self, batch: Batch, hosts: Sequence[HostState], *, waits: bool = False) -> None:
        """Put ``batch`` into lanes, and send it at once where nothing waits.

        What the system says of a message can take links down, and let others enter meanwhile. So
        the batch is in all lanes before it is sent to anybody.

        Args:
            batch: The batch.
            hosts: Its hosts.
            waits: Whether it is one of many, maybe, that waited to enter.
        """
        transport = self.transport
        if batch.ready and self._context.compression is not None:
            unchanged = 0 if batch.compress else len(batch.datas)
            self._context.counters.handed_over(batch.tried, unchanged)
        if len(hosts) == 1 and batch.ready:
            (host,) = hosts
            lane = host.lane
            item = LaneItem(batch)
            if not host.ranked:
                # What the system said of an earlier message has taken its last link down.
                give_up_unreachable(self._context, host.host_id, [item])
            elif lane.items or lane.urgent:
                lane.append(item)
            elif waits and self._context.turns.is_over():
                lane.append(item)
                transport.wake(host.host_id)
            elif not transport.send(host, item):
                transport.put_back(host, item)
            return
        first: list[tuple[HostState, LaneItem]] = []
        for host in hosts:
            item = LaneItem(batch)
            if not host.ranked:
                give_up_unreachable(self._context, host.host_id, [item])
                continue
            lane = host.lane
            if not lane.items and not lane.urgent:
                first.append((host, item))
            lane.append(item)
        if not batch.ready:
            entered = tuple(host.host_id for host in hosts if host.ranked)
            if entered:
                self.submit(batch, entered)
            return
        for host, item in first:
            lane = host.lane
            if self._context.turns.is_over():
                transport.wake(host.host_id)
            elif lane.items and lane.items[0] is item and not lane.urgent:
                lane.take()
                if not transport.send(host, item):
                    transport.put_back(host, item)

    def _release(self, waiter: Waiter) -> None:
        self._forget(waiter)
        trio.lowlevel.reschedule(waiter.task)

    def _forget(self, waiter: Waiter) -> None:
        waiter.over = True
        self._waiting.pop(waiter, None)
        self._undecided.pop(waiter, None)
        for host in waiter.hosts:
            host.lane.waiters.pop(waiter, None)
