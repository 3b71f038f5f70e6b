"""The way out of a message.

::

    Channel.send
      1. filter      chooses the hosts and the channel; messages to this host itself stay here
      2. lanes       put the message into the lane of each host, in one step, when there is room
      3. compressor  compresses the message, if that makes it smaller
      4. sealing     numbers, fragments and seals the message, when it leaves its lane
      5. transport   sends the datagrams over the links that the policy of the host chooses

Each step is a module of that name, the second one ``send_lanes``.

A message that does not have to wait passes all steps in the turn of the task that sends it. The
compressor and the transport are stages with tasks: they work on messages that had to wait.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

import trio

from knet_trio._pipeline.compressor import CompressorStage
from knet_trio._pipeline.drops import count_failed
from knet_trio._pipeline.filter import Addressed, FilterStage
from knet_trio._pipeline.sealing import Sealer
from knet_trio._pipeline.send_lanes import SendLanes
from knet_trio._pipeline.transport import TransportStage
from knet_trio._state.handle import HandleState
from knet_trio._state.host import HostState
from knet_trio._state.send_lane import Batch, GivenUp, LaneItem
from knet_trio.errors import (
    DestinationError,
    DropCause,
    ForwardingDisabledError,
    HostDownError,
    KnetError,
    NoFilterError,
)
from knet_trio.message import Message

To: TypeAlias = tuple[int, ...] | None
_Missing: TypeAlias = Sequence[tuple[DropCause, str, int]]
"""Hosts that do not get messages: the cause, the reason in words, and the id of each."""
_Entry: TypeAlias = tuple[Batch, list[HostState], Sequence[bytes] | None, _Missing]
"""A batch, the hosts whose lanes it enters, the messages to this host itself, and the hosts that do
not get it. The latter are counted when it enters: until then the call may be cancelled."""
_Stuck: TypeAlias = tuple[_Entry, Sequence[Addressed]]
"""The entry that has to wait for room, and the messages after it."""


class _Compressing(NamedTuple):
    """A ``send_sync`` whose message is being compressed; ``ended`` wakes it."""

    host: HostState
    owner: ChannelState | None
    ended: trio.Event


class ChannelState:
    """The state of a channel, for messages that wait to be handed over.

    Attributes:
        closed: True once the channel was closed.
    """

    __slots__ = ("closed",)

    def __init__(self) -> None:
        self.closed: bool = False


class Transmitter:
    """Sends the messages of one handle."""

    def __init__(self, handle: HandleState) -> None:
        self._handle = handle
        self._context = handle.context
        self._turns = handle.context.turns
        self._filter = FilterStage(handle)
        self._lanes = lanes = SendLanes(handle)
        self._compressor = CompressorStage(handle.context, self._compressed)
        self._transport = TransportStage(handle, Sealer(handle), lanes.progressed, lanes.blocked)
        lanes.transport = self._transport
        lanes.submit = self._compressor.submit
        handle.context.on_room = self._transport.wake_all
        handle.on_host_lost = self._host_lost
        handle.on_links_changed = self._links_changed
        # The round of the loop in which something was sent last.
        self._sent_in = -1
        self._closed = False
        self._flushes: set[trio.Event] = set()
        # The ``send_sync`` calls whose message is being compressed.
        self._compressing: dict[_Compressing, None] = {}

    def send_nowait(self, datas: Sequence[bytes], channel: int, to: To = None) -> None:
        """Hand over messages.

        Raises:
            trio.WouldBlock: The message would have to wait for room.
        """
        self._check_open()
        if self._send_now(datas, channel, to) is not None:
            raise trio.WouldBlock

    @trio.lowlevel.enable_ki_protection
    async def send(
        self,
        datas: Sequence[bytes],
        channel: int,
        to: To = None,
        owner: ChannelState | None = None,
        on_wait: Callable[[int], None] | None = None,
    ) -> None:
        """Hand over messages once there is room. If cancelled, none was handed over.

        Args:
            datas: One message, or several that are few enough for one turn (``batches.pack``).
            channel: The channel, 0 to 31.
            to: The ids of the hosts that get them, None to ask the filter.
            owner: The channel whose closing ends the waiting.
            on_wait: Called when a message has to wait, with the number of messages not handed over.

        Raises:
            trio.ClosedResourceError: The handle has ended, or ``owner`` was closed.
        """
        turns = self._turns
        if turns.is_over():
            await turns.give_up()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise self._context.ended_error()
        if owner is not None and owner.closed:
            raise trio.ClosedResourceError("this channel was closed")
        lanes = self._lanes
        if lanes.gathering is not None and len(datas) == 1 and lanes.gather(datas[0], channel, to):
            return
        stuck = self._send_now(datas, channel, to)
        while stuck is not None:
            entry, rest = stuck
            before = turns.round
            batch, hosts, *_ = entry
            if on_wait is not None:
                on_wait(len(batch.datas) + sum(len(one.datas) for one in rest))
            entered = await lanes.wait_to_enter(batch, hosts, owner)
            turns.resumed(before)
            stuck = self._go_on(entry, rest, owner, entered=entered)

    @trio.lowlevel.enable_ki_protection
    async def send_sync(
        self, data: bytes, channel: int, to: To = None, owner: ChannelState | None = None
    ) -> None:
        """Send one message to one host, past its lane.

        Raises:
            SendError: The message could not be sent.
            trio.ClosedResourceError: The handle has ended, or ``owner`` was closed.
        """
        # A caller that tries again after each error must not keep other tasks from running.
        if self._turns.is_over():
            await self._turns.give_up()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        if to is None and self._context.filter is None:
            raise NoFilterError("give the destination with to=[host_id], or set a filter")
        with self._guard():
            addressed = self._filter.address(data, channel, to, all_known=True)
        hosts = addressed.hosts
        if hosts is None or len(hosts) != 1:
            raise DestinationError(
                "send_sync takes exactly one destination",
                errno=errno.EINVAL if hosts == () else errno.E2BIG,
            )
        with self._guard():
            entry = self._prepare(*addressed)
        if entry is None:
            raise HostDownError(f"host {hosts[0]} is not reachable")
        batch, hosts_found, *_ = entry
        if not hosts_found:
            self._entered(entry)
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        counted = not batch.ready
        (host,) = hosts_found
        if not batch.ready:
            await self._compress(batch, host, owner)
        if not self._context.forwarding:
            raise ForwardingDisabledError("data forwarding was turned off")
        if not host.ranked or not batch.ready:
            raise HostDownError(f"host {host.host_id} is not reachable any more")
        item = LaneItem(batch, urgent=True)
        item.channel = owner
        with self._guard():
            sent = not host.lane.urgent and self._transport.send(host, item)
        if sent:
            await trio.lowlevel.cancel_shielded_checkpoint()
            error: GivenUp | None = item.error
        elif not host.ranked:
            # An error about the message has taken the last link down.
            why = f"host {host.host_id} is not reachable any more"
            error = item.error or HostDownError(why)
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            error = await self._wait_sent(host, item)
        if error is not None:
            raise error
        if not counted and self._context.compression is not None:
            self._context.counters.handed_over(batch.tried, 0 if batch.compress else 1)

    async def _compress(self, batch: Batch, host: HostState, owner: ChannelState | None) -> None:
        """Wait until ``batch`` is compressed.

        The batch is not ready if the host was lost or forwarding turned off meanwhile.
        """
        waiting = _Compressing(host, owner, trio.Event())
        self._compressing[waiting] = None
        try:
            with self._guard():
                await self._compressor.compress(batch, (host.host_id,), waiting.ended)
        finally:
            del self._compressing[waiting]
        self._check_open()
        if owner is not None and owner.closed:
            raise trio.ClosedResourceError("this channel was closed")

    async def _wait_sent(self, host: HostState, item: LaneItem) -> GivenUp | None:
        """Wait until the links of ``host`` have taken ``item``; return why it was given up."""
        task = trio.lowlevel.current_task()
        cancelled = False
        why: GivenUp | None = None

        def on_end(error: GivenUp | None) -> None:
            nonlocal why
            why = error
            if not cancelled:
                trio.lowlevel.reschedule(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            nonlocal cancelled
            cancelled = True
            # Otherwise it is being given up, and counted there.
            if item in host.lane.urgent:
                host.lane.withdraw(item)
                # For tasks that wait until the lane is empty.
                item.end(None)
                if item.started:
                    # Fragments were sent, but the message cannot be completed any more.
                    count_failed(self._context, host.host_id, "its send_sync was cancelled", 1)
            return trio.lowlevel.Abort.SUCCEEDED

        item.on_end = on_end
        host.lane.urgent.append(item)
        await trio.lowlevel.wait_task_rescheduled(abort)
        return why

    @trio.lowlevel.enable_ki_protection
    async def flush(self) -> None:
        """Wait until all messages that were handed over before have left their lanes.

        Raises:
            trio.ClosedResourceError: The handle ended meanwhile.
        """
        flushed = self._lanes.flushed()
        self._flushes.update(flushed)
        try:
            for event in flushed:
                await event.wait()
        finally:
            self._flushes.difference_update(flushed)
        await trio.lowlevel.checkpoint()
        self._check_open()

    def stop(self) -> None:
        """Drop the messages in the lanes, since forwarding is off."""
        with self._crashing():
            self._lanes.give_up(DropCause.FORWARDING_DISABLED)
        for waiting in self._compressing:
            waiting.ended.set()

    @trio.lowlevel.enable_ki_protection
    def close_channel(self, owner: object) -> None:
        """Wake the tasks that wait to send on a channel with ``trio.ClosedResourceError``."""
        with self._crashing():
            self._lanes.close_channel(owner)
        for waiting in self._compressing:
            if waiting.owner is owner:
                waiting.ended.set()

    def _host_lost(self, host: HostState) -> None:
        with self._crashing():
            self._lanes.host_lost(host)
        for waiting in self._compressing:
            if waiting.host is host:
                waiting.ended.set()

    async def end(self) -> None:
        """Take no more messages, and wake waiting tasks with ``trio.ClosedResourceError``.

        Takes several turns if there is much to give up. Cannot be cancelled.
        """
        self._closed = True
        turns = self._turns
        try:
            with trio.CancelScope(shield=True):
                for _ in self._lanes.end_in_pieces():
                    if turns.is_over():
                        await turns.give_up()
        finally:
            self.close()

    def close(self) -> None:
        """Do the rest of ``end`` at once."""
        self._closed = True
        for _ in self._lanes.end_in_pieces():
            pass
        self._compressor.close()
        self._transport.close()
        for flushed in self._flushes:
            flushed.set()

    async def run(self) -> None:
        """Run the stages until cancelled."""
        async with trio.open_nursery() as nursery:
            for stage in (self._compressor, self._transport):
                nursery.start_soon(stage.run, name=f"tx {stage.name}")

    @trio.lowlevel.enable_ki_protection
    def _send_now(self, datas: Sequence[bytes], channel: int, to: To) -> _Stuck | None:
        """Hand over messages as far as there is room, and return those that have to wait."""
        context = self._context
        try:
            if context.forwarding and (to is not None or context.filter is None):
                return self._send_together(datas, channel, to)
            addressed = self._filter.address_all(datas, channel, to)
            return self._enter_all(addressed)
        except Exception as error:
            self._crash(error)
            raise self._context.ended_error() from None

    @trio.lowlevel.enable_ki_protection
    def _go_on(
        self,
        entry: _Entry,
        addressed: Sequence[Addressed],
        owner: ChannelState | None,
        *,
        entered: bool,
    ) -> _Stuck | None:
        """Hand over messages after some of them had to wait.

        Args:
            entry: The messages that had to wait.
            addressed: The messages after them.
            owner: The channel that they are sent on.
            entered: True if ``entry`` has entered; otherwise data forwarding was turned off.
        """
        with self._guard():
            if entered:
                self._entered(entry)
            else:
                batch, _, own, missing = entry
                self._count_missing(missing, len(batch.datas))
                if own is not None:
                    self._refuse_forwarding(len(own))
            if addressed and self._closed:
                raise self._context.ended_error()
            if self._context.forwarding:
                if addressed and owner is not None and owner.closed:
                    raise trio.ClosedResourceError("this channel was closed")
                return self._enter_all(addressed)
            for one in addressed:
                self._refuse_forwarding(len(one.datas))
        return None

    def _refuse_forwarding(self, messages: int) -> None:
        why = "data forwarding was turned off while it waited"
        self._context.refuse(DropCause.FORWARDING_DISABLED, why, times=messages)

    @contextmanager
    def _guard(self) -> Generator[None, None, None]:
        """End the handle if a bug raises here; the caller gets the error of an ended handle."""
        try:
            yield
        except (KnetError, trio.ClosedResourceError):
            raise
        except Exception as error:
            self._crash(error)
            raise self._context.ended_error() from None

    @contextmanager
    def _crashing(self) -> Generator[None, None, None]:
        """End the handle if a bug raises here, without an error: the caller is not sending."""
        try:
            yield
        except Exception as error:
            self._crash(error)

    def _crash(self, error: Exception) -> None:
        """End the handle because of a bug, and take no more messages."""
        self._context.crash(error)
        self._closed = True

    def _enter_all(self, addressed: Sequence[Addressed]) -> _Stuck | None:
        """Let messages enter up to the first that have to wait; return these and the rest."""
        for number, one in enumerate(addressed, start=1):
            # Prepared only now, since hosts may go while earlier messages wait.
            entry = self._prepare(*one)
            if entry is not None and not self._enter(entry):
                return entry, addressed[number:]
        return None

    def _send_together(self, datas: Sequence[bytes], channel: int, to: To) -> _Stuck | None:
        """Hand over messages with the same destinations, or return them if they have to wait."""
        entry = self._prepare(datas, channel, to)
        if entry is None:
            return None
        batch, hosts, own, missing = entry
        lanes = self._lanes
        before, self._sent_in = self._sent_in, self._turns.round
        behind = before == self._sent_in or (hosts and hosts[0].lane.items)
        if behind and hosts and len(datas) == 1 and lanes.gathers:
            # A second message in the same turn: more may follow, to be sent together.
            entered = lanes.enter_later(batch, hosts, to)
        else:
            entered = lanes.enter(batch, hosts) if hosts else True
        if not entered:
            return entry, ()
        if own is not None or missing:
            self._entered(entry)
        return None

    def _prepare(self, datas: Sequence[bytes], channel: int, ids: To) -> _Entry | None:
        """Find the hosts that messages go to; count them and return None if there is none."""
        handle = self._handle
        broadcast = ids is None
        batch = Batch(datas, channel, broadcast=broadcast)
        hosts: list[HostState]
        missing: list[tuple[DropCause, str, int]] = []
        if ids is None:
            hosts = list(handle.reachable.values())
            own = handle.loopback is not None
        else:
            hosts = []
            own = False
            for host_id in ids:
                host = handle.hosts.get(host_id)
                if host is None:
                    why = f"the handle has no host {host_id}"
                    missing.append((DropCause.UNKNOWN_DESTINATION, why, host_id))
                elif host.ranked:
                    hosts.append(host)
                elif host_id == self._context.host_id and handle.loopback is not None:
                    own = True
                else:
                    why = f"host {host_id} is unreachable"
                    missing.append((DropCause.HOST_DOWN, why, host_id))
        if self._context.compression is not None and hosts:
            batch.ready = not self._turns.is_over() and self._compressor.compress_now(batch)
        if not hosts and not own:
            if broadcast:
                self._context.refuse(DropCause.HOST_DOWN, "no host is reachable", times=len(datas))
            self._count_missing(missing, len(datas))
            return None
        return batch, hosts, datas if own else None, missing

    def _enter(self, entry: _Entry) -> bool:
        batch, hosts, *_ = entry
        if hosts and not self._lanes.enter(batch, hosts):
            return False
        self._entered(entry)
        return True

    def _count_missing(self, missing: _Missing, messages: int) -> None:
        for cause, why, host_id in missing:
            self._context.refuse(cause, why, times=messages, key=host_id)

    def _entered(self, entry: _Entry) -> None:
        """Count a batch for hosts that do not get it, and deliver messages to this host itself."""
        batch, _, own, missing = entry
        self._count_missing(missing, len(batch.datas))
        loopback = self._handle.loopback
        if own is not None and loopback is not None:
            me, channel = self._context.host_id, batch.channel
            loopback.carry([Message(data, me, channel) for data in own])

    def _compressed(self, host_ids: tuple[int, ...]) -> None:
        for host_id in host_ids:
            self._transport.wake(host_id)

    def _links_changed(self, host: HostState) -> None:
        self._lanes.stop_gathering()
        if host.lane.items or host.lane.urgent or host.lane.waiters:
            self._transport.wake(host.host_id)

    def _check_open(self) -> None:
        if self._closed:
            raise self._context.ended_error()
