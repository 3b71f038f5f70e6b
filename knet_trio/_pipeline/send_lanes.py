"""The way into the lanes of hosts, and the tasks that wait for room in them.

A batch enters the lanes of all its hosts in one step, so a cancelled ``send`` has sent to no host.
It waits while one of the lanes is full. If that host is slower than the others, they do not wait
for it: the batch is dropped for the slow host.
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

# Seconds until waiting batches are tried again, where no lane reports that it has moved on.
_LOOK_AGAIN: Final = 0.002
# Seconds without progress after which a lane counts as standing still.
_MOVING: Final = 0.25
# Seconds without a full queue after which a link counts as able to carry more.
_SETTLED: Final = 0.1


class _Gathering(NamedTuple):
    """A batch that messages may still be added to.

    Attributes:
        batch: The batch.
        hosts: The hosts that it goes to.
        to: The host ids that the sender gave, None for every host.
    """

    batch: Batch
    hosts: Sequence[HostState]
    to: tuple[int, ...] | None


class SendLanes:
    """The lanes of all hosts of a handle.

    Attributes:
        transport: The stage that sends the messages in the lanes.
        submit: Called to compress a batch that is in its lanes, with the ids of its hosts.
        gathering: The batch that messages may be added to, None if there is none.
    """

    def __init__(self, handle: HandleState) -> None:
        self._handle = handle
        self._context = handle.context
        self.transport: TransportStage
        self.submit: Callable[[Batch, tuple[int, ...]], None]
        self.gathering: _Gathering | None = None
        # Tasks that may go on as time passes, though no lane moves.
        self._undecided: dict[Waiter, None] = {}
        self._looks_again = False
        self._leftovers = Leftovers(handle.context)
        # All tasks that wait, also those that are about to be woken.
        self._waiting: dict[Waiter, None] = {}

    @property
    def gathers(self) -> bool:
        """True if messages go where ``to`` says, unchanged: no step handles each one by itself."""
        context = self._context
        return (
            context.filter is None
            and context.compression is None
            and context.forwarding
            and self._handle.loopback is None
        )

    def gather(self, data: bytes, channel: int, to: tuple[int, ...] | None) -> bool:
        """Add a message to the gathering batch, if it has the same hosts and channel.

        Returns:
            True if it was added; if not, nothing has changed.
        """
        gathering = self.gathering
        if gathering is None:
            return False
        batch, hosts, gathering_to = gathering
        if (
            gathering_to != to
            or not self.gathers
            or batch.channel != channel
            # The datagrams exist already, though the socket had no room for them.
            or batch.sealed
            or len(batch.datas) >= BATCH_MESSAGES
            or batch.size >= BATCH_BYTES
        ):
            return False
        for host in hosts:
            lane = host.lane
            # A batch that is not the last any more, or is being sent, is complete.
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
        """Put ``batch`` into lanes like ``enter``, but send it in the next round of the loop.

        Until then ``gather`` may add messages with the same hosts and channel.
        """
        for host in hosts:
            lane = host.lane
            if lane.full or lane.waiters:
                return self._try_enter(batch, hosts, None)
        for host in hosts:
            host.lane.append(LaneItem(batch))
            self.transport.wake(host.host_id)
        # If hosts are missing, each message is counted for them, so nothing may be added.
        complete = to is None or len(hosts) == len(to)
        self.gathering = _Gathering(batch, hosts, to) if complete else None
        return True

    def stop_gathering(self) -> None:
        """Start a new batch with the next message, since the reachable hosts have changed."""
        self.gathering = None

    def enter(self, batch: Batch, hosts: Sequence[HostState]) -> bool:
        """Put ``batch`` into the lanes of ``hosts`` if it need not wait, and send what can be sent.

        Returns:
            True if the batch has entered.
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
        """Wait until ``batch`` has entered. If cancelled, it has not entered.

        Returns:
            False if it was dropped because forwarding was turned off. True too if no host is
            reachable any more. The messages are counted in both cases.

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
                # The tasks behind this one may not have to wait.
                self.transport.wake(host.host_id)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if waiter.error is not None:
            raise waiter.error
        return not waiter.dropped

    def progressed(self, host: HostState) -> None:
        """Let batches enter that wait for room in the lane of ``host``, which has moved on."""
        self._let_in([host])

    def blocked(self, host: HostState) -> None:
        """Handle that no link of ``host`` has room any more.

        Batches that go to other hosts too may not have to wait for this host.
        """
        self._try_again([one for one in host.lane.waiters if len(one.hosts) > 1])

    def host_lost(self, host: HostState) -> None:
        """Give up the messages for ``host``, which is unreachable now.

        The messages in its lane are counted, and the tasks that wait for room in it return.
        """
        context, host_id = self._context, host.host_id
        self._leftovers.add(
            host.lane.take_all(), lambda items: give_up_unreachable(context, host_id, items)
        )
        waiters = list(host.lane.waiters)
        host.lane.waiters.clear()
        context.chores.add(("lost", host), waiters, partial(self._leave_out, host))

    def _leave_out(self, host: HostState, waiter: Waiter) -> None:
        """Remove ``host``, which is unreachable, from the hosts that ``waiter`` waits for."""
        if waiter.over or waiter.error is not None:
            return
        waiter.hosts.remove(host)
        # Counted when the batch enters: until then the call may be cancelled.
        waiter.lost.append(host)
        if waiter.hosts:
            self._let_in(waiter.hosts)
        else:
            self._release(waiter)
            self._count_lost(waiter)

    def _count_lost(self, waiter: Waiter) -> None:
        """Count a batch as dropped for the hosts that were lost while it waited."""
        for host in waiter.lost:
            count_unreachable(self._context, host.host_id, len(waiter.batch.datas))

    def close_channel(self, channel: object) -> None:
        """Wake the tasks that wait to send on ``channel``, in turns if there are many.

        They raise ``trio.ClosedResourceError``.
        """
        words = "this channel was closed"
        for host in self._handle.hosts.values():
            for item in [one for one in host.lane.urgent if one.channel is channel]:
                host.lane.withdraw(item)
                if item.started:
                    count_failed(self._context, host.host_id, "its channel was closed", 1)
                item.end(trio.ClosedResourceError(words))
        closed = [waiter for waiter in self._waiting if waiter.channel is channel]
        for waiter in closed:
            # An error keeps the batch from entering.
            waiter.error = waiter.error or trio.ClosedResourceError(words)
        self._context.chores.add(("closed", channel), closed, self._turn_away)

    def _turn_away(self, waiter: Waiter) -> None:
        """Wake ``waiter``, which raises its error."""
        if waiter.over:
            return
        self._release(waiter)
        for host in waiter.hosts:
            # The tasks behind this one may not have to wait.
            self.transport.wake(host.host_id)

    def end_in_pieces(self) -> Iterator[None]:
        """Wake the tasks that wait, and give up the messages in the lanes: yield after each piece.

        The tasks raise ``trio.ClosedResourceError``.
        """
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
        """Drop the messages in the lanes and those that wait for room, counted under ``cause``.

        The tasks that wait return.
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
                # Counted for each host, like messages in the lanes.
                refuse(cause, why, times=len(waiter.hosts) * len(waiter.batch.datas))
                self._release(waiter)
                self._count_lost(waiter)

        # No batch enters any more, even if its task is woken a little later.
        self._undecided.clear()
        self._context.chores.add(("given up", cause), tuple(self._waiting), drop)

    def flushed(self) -> list[trio.Event]:
        """Return an event for each lane, set when the messages in it now have left."""
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

        If many wait, the transport continues in its next turns.
        """
        is_over = self._context.turns.is_over
        todo = list(hosts)
        # A task that waits for many hosts is at the head of many lanes; it is tried once.
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
        """Let the ``waiters`` that can enter do so, wherever in the lanes they wait.

        If there are many, the others are tried a little later.
        """
        is_over = self._context.turns.is_over
        rest = iter(waiters)
        for waiter in rest:
            # An earlier one may have let it in.
            waits = not waiter.over and waiter.error is None
            if waits and self._try_enter(waiter.batch, waiter.hosts, waiter):
                self._let_in(waiter.hosts)
            if is_over():
                break
        later = {one: None for one in rest if not one.over}
        if later:
            # In front of those that were tried, so that each gets its turn.
            self._undecided = later | self._undecided
            self._look_later()

    def _try_enter(self, batch: Batch, hosts: Sequence[HostState], waiter: Waiter | None) -> bool:
        open_: list[HostState] = []
        full: list[HostState] = []
        for host in hosts:
            lane = host.lane
            # A batch must not overtake those that began to wait before it.
            if lane.full or (lane.waiters and next(iter(lane.waiters)) is not waiter):
                if not lane.is_behind:
                    # Not the host is slow, but this program.
                    return False
                full.append(host)
            else:
                open_.append(host)
        if full and not self._any_flows(open_, full):
            if waiter is not None and open_:
                self._undecided[waiter] = None
            return False
        if waiter is not None:
            # The task waits no more, whatever happens to its messages.
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
        """Return whether one of ``hosts`` is faster than the hosts whose lanes are full.

        A host is faster if less than half of its limit waits for it, in its lane and in the
        system's queues. While the lanes of ``full`` move on, one of its links must also have had
        room for a while: a link that was full a moment ago may not be faster.

        Args:
            hosts: The hosts whose lanes have room.
            full: The hosts whose lanes are full.
        """
        now = self._context.now()
        moving = any(now - host.lane.moved_at < _MOVING for host in full)
        under_half = [host for host in hosts if host.lane.under_half]
        if not under_half:
            return False
        if not moving:
            # Every host is faster than one that stands still.
            return True
        since = now - _SETTLED
        if any(link.sender.flows(since) for host in under_half for link in host.ranked):
            return True
        # The system's queue moves on without a notification.
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

        An error of the system about a message can take links down and let other batches enter. So
        the batch is in all lanes before it is sent to any host.

        Args:
            batch: The batch.
            hosts: Its hosts.
            waits: True if the batch waited to enter: there may be many.
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
                # An error about an earlier message has taken the last link down.
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
