"""The tasks that carry frames between a tap device and the hosts of a handle.

::

    device -> read -> (look up the destination) -> a queue for each host -> its lane
    device <- write <- (learn the source) <- the channel

Each host's queue has its own task, which waits for that host's lane alone: a slow host delays no
frame to another host. A frame that finds its queue full is dropped, as in a bridge.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, final

import trio

from knet_trio import (
    Channel,
    DataMtuChanged,
    Event,
    EventsLost,
    Handle,
    HostStatusChanged,
    UnknownHostError,
)
from knet_trio.tap._arguments import DEFAULT_MTU, MAX_MTU
from knet_trio.tap._frame_queue import FrameQueue
from knet_trio.tap.addresses import ADDRESS_LENGTH, HEADER_LENGTH, AddressTable
from knet_trio.tap.device import Tap
from knet_trio.tap.errors import TapError

# Frames and bytes that one wake-up reads or writes: a fraction of a millisecond's work.
BATCH: Final = 64
BATCH_BYTES: Final = 256 * 1024
# Copies of frames that are queued in one turn, when there are many hosts.
COPIES: Final = 1024
# Seconds to wait before the MTU is changed: PMTUd takes part of a second after a link comes up.
SETTLE: Final = 2.0
_DESTINATION: Final = slice(0, ADDRESS_LENGTH)
_SOURCE: Final = slice(ADDRESS_LENGTH, 2 * ADDRESS_LENGTH)


@final
class FrameCarrier:
    """The tasks of one ``carry_frames`` and their shared state.

    Args:
        tap: The device.
        handle: The handle.
        channel: The channel of the handle that carries the frames.
        table: The Ethernet addresses of the hosts.
    """

    def __init__(self, tap: Tap, handle: Handle, channel: Channel, table: AddressTable) -> None:
        self._tap = tap
        self._handle = handle
        self._channel = channel
        self._table = table
        self._queues: dict[int, FrameQueue] = {}
        # The hosts that get broadcasts.
        self._reachable = self._list_reachable()
        # Set when the MTU may have to change.
        self._mtu_stale = trio.Event()
        self._failed: TapError | trio.ClosedResourceError | None = None

    async def run(
        self,
        events: trio.abc.ReceiveChannel[Event],
        follow_mtu: bool,
        task_status: trio.TaskStatus[None],
    ) -> None:
        """Carry frames until the handle or the device is closed."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._watch, events)
            nursery.start_soon(self._run_to_end, self._read)
            nursery.start_soon(self._run_to_end, self._write)
            if follow_mtu:
                nursery.start_soon(self._run_to_end, self._follow_mtu)
            task_status.started()
        if self._failed is not None:
            # Raised here, it is not in an exception group.
            raise self._failed

    async def _run_to_end(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run a task, and cancel all others when it ends."""
        try:
            await task()
        except (TapError, trio.ClosedResourceError) as error:
            self._failed = error
        self._nursery.cancel_scope.cancel()

    async def _read(self) -> None:
        """Read frames from the device and queue them for their hosts."""
        tap = self._tap
        while True:
            # A checkpoint even if more frames wait.
            await tap.wait_readable()
            frames = tap.read_frames(BATCH, BATCH_BYTES)
            # A broadcast is work for each host.
            portion = max(COPIES // max(len(self._reachable), 1), 1)
            for start in range(0, len(frames), portion):
                if start:
                    await trio.lowlevel.checkpoint()
                self._enqueue(self._sort(frames[start : start + portion]))

    def _enqueue(self, sorted_frames: dict[int, list[bytes]]) -> None:
        """Queue frames for their hosts, and start the task of a new queue."""
        for host_id, frames in sorted_frames.items():
            queue = self._queues.get(host_id)
            if queue is None:
                queue = self._queues[host_id] = FrameQueue()
                self._nursery.start_soon(self._send, host_id, queue)
            self._tap.counts.queue_full += queue.put(frames)

    def _sort(self, frames: list[bytes]) -> dict[int, list[bytes]]:
        """Return the frames that each host gets, and learn their sources."""
        sorted_frames: dict[int, list[bytes]] = {}
        counts, table, reachable = self._tap.counts, self._table, self._reachable
        now = trio.current_time()
        for frame in frames:
            # The source address is on this host now, even if it was at another one.
            table.forget(frame[_SOURCE])
            # None for an unknown address and for a group.
            host_id = table.find(frame[_DESTINATION], now)
            if host_id is not None and host_id in reachable:
                sorted_frames.setdefault(host_id, []).append(frame)
                continue
            counts.to_all += 1
            if not reachable:
                counts.no_host += 1
            for each in reachable:
                sorted_frames.setdefault(each, []).append(frame)
        return sorted_frames

    async def _send(self, host_id: int, queue: FrameQueue) -> None:
        """Send the frames of a host's queue as its lane takes them, until the queue ends."""
        while frames := await queue.take():
            try:
                await self._channel.send_many(frames, to=host_id)
            except UnknownHostError:
                # The host was removed.
                self._tap.counts.no_host += len(frames)
                if self._queues.get(host_id) is queue:
                    self._lose_host(host_id)
            except trio.ClosedResourceError:
                # The writing task gets the error too, and reports it.
                return

    async def _write(self) -> None:
        """Write arriving frames to the device, and learn their source addresses."""
        tap, table, own_id = self._tap, self._table, self._handle.host_id
        with suppress(trio.EndOfChannel):
            while True:
                messages = await self._channel.receive_many(BATCH)
                now = trio.current_time()
                written = 0
                for message in messages:
                    frame = message.data
                    written += len(frame)
                    if written > BATCH_BYTES:
                        # The system processes each frame during the write.
                        await trio.lowlevel.checkpoint()
                        now, written = trio.current_time(), 0
                    if len(frame) < HEADER_LENGTH:
                        tap.counts.malformed += 1
                        continue
                    if message.source != own_id:
                        table.learn(frame[_SOURCE], message.source, now)
                    tap.write_frame(frame)

    async def _watch(self, events: trio.abc.ReceiveChannel[Event]) -> None:
        """Keep the set of reachable hosts up to date."""
        async for event in events:
            match event:
                case HostStatusChanged(host_id=host_id, reachable=True):
                    if host_id != self._handle.host_id:
                        self._reachable.add(host_id)
                case HostStatusChanged(host_id=host_id):
                    self._lose_host(host_id)
                case EventsLost():
                    reachable = self._list_reachable()
                    for host_id in self._reachable - reachable:
                        self._lose_host(host_id)
                    self._reachable = reachable
                case DataMtuChanged():
                    pass
                case _:
                    continue
            self._mtu_stale.set()

    def _list_reachable(self) -> set[int]:
        handle = self._handle
        return {
            host_id
            for host_id, host in handle.hosts.items()
            if host_id != handle.host_id and host.status.reachable
        }

    def _lose_host(self, host_id: int) -> None:
        """Stop sending to a host, and forget its addresses, which may move to another host."""
        self._reachable.discard(host_id)
        self._table.forget_host(host_id)
        queue = self._queues.pop(host_id, None)
        if queue is not None:
            queue.end()

    async def _follow_mtu(self) -> None:
        """Keep the device's MTU at a value with which a frame fits in one packet on every link."""
        current = 0
        while True:
            # While no host is reachable, keep the last MTU.
            mtu = fit_mtu(self._handle.data_mtu)
            if self._reachable and mtu != current:
                self._tap.set_mtu(mtu)
                current = mtu
            await self._mtu_stale.wait()
            # Changes in quick succession are applied together.
            await trio.sleep(SETTLE)
            self._mtu_stale = trio.Event()


def fit_mtu(data_mtu: int) -> int:
    """Return the MTU with which a frame fits in one packet, but at least IPv6's minimum.

    Args:
        data_mtu: The largest message that fits in one packet (``Handle.data_mtu``) [bytes].
    """
    return min(max(data_mtu - HEADER_LENGTH, DEFAULT_MTU), MAX_MTU)
