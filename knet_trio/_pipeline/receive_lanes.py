"""A lane for each host on the way in, for what cannot go through at once.

Decompressing takes time, and one host's messages are worked on in their order. What others sent
does not wait for that: there is a lane for each host, and the work goes round them, one message at
a time. Slow algorithms have one worker thread, which goes round the lanes as well. Meanwhile a lane
waits for its message, and all others go on.

::

    put -> lane of the host --+-- fast: the lanes' task, in turns ------+-> delivery
                              '-- slow: a thread, one message a time ---'
"""

from __future__ import annotations

from collections import deque

import trio

from knet_trio._pipeline.decompression import Decompression, Opened
from knet_trio._pipeline.delivery import Delivery
from knet_trio._state.context import Context
from knet_trio._state.receive_lane import ReceiveLane, WaitingMessage
from knet_trio.errors import DropCause, PacketError


class _Line:
    """Lanes that wait for a task, in the order of their turns."""

    def __init__(self) -> None:
        self.lanes: deque[ReceiveLane] = deque()
        self._filled = trio.Event()

    def append(self, lane: ReceiveLane) -> None:
        """Add ``lane`` at the end."""
        self.lanes.append(lane)
        self._filled.set()

    async def wait_filled(self) -> None:
        """Wait until there is a lane. A checkpoint only if there is none now."""
        if not self.lanes:
            self._filled = trio.Event()
            await self._filled.wait()


class ReceiveLanes:
    """Decompresses and delivers what waits in the lanes."""

    def __init__(self, context: Context, decompression: Decompression, delivery: Delivery) -> None:
        self._context = context
        self._decompression = decompression
        self._delivery = delivery
        # Every lane that has something is in one of them, once.
        self._fast = _Line()
        self._slow = _Line()

    def put(self, lane: ReceiveLane, message: WaitingMessage) -> None:
        """Add ``message`` to ``lane``; if that is full, drop it and count that."""
        if not lane.offer(message):
            host_id = lane.host_id
            self._context.refuse(DropCause.RECEIVE_QUEUE_FULL, host_id, key=host_id)
        elif lane.count == 1:
            self._line_up(lane)

    async def run(self) -> None:
        """Work on the lanes until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._work, name="lanes")
                nursery.start_soon(self._work_in_thread, name="worker")
        finally:
            # Nobody takes it any more.
            lost = sum(lane.close() for lane in (*self._fast.lanes, *self._slow.lanes))
            if lost:
                self._context.counters.drop(DropCause.NO_CHANNEL, lost)

    def _line_up(self, lane: ReceiveLane) -> None:
        line = self._slow if lane.first.is_slow else self._fast
        line.append(lane)

    async def _work(self) -> None:
        """Decompress and deliver one message of each lane after the other, in turns."""
        line, turns = self._fast, self._context.turns
        while True:
            before = turns.round
            await line.wait_filled()
            turns.resumed(before)
            while line.lanes:
                lane = line.lanes[0]
                if not lane.closed:
                    message = lane.first
                    opened = None
                    if message.compressor is not None:
                        opened = self._decompression.open(message.compressor, message.data)
                    self._deliver(lane, opened)
                self._next(line)
                if self._delivery.crowded is not None:
                    await self._delivery.let_readers_run(1)
                if turns.is_over():
                    await turns.give_up()

    async def _work_in_thread(self) -> None:
        """Have a thread decompress one message of each lane after the other."""
        line, turns = self._slow, self._context.turns
        while True:
            await line.wait_filled()
            lane = line.lanes[0]
            if lane.closed:
                self._next(line)
                continue
            message = lane.first
            assert message.compressor is not None
            before = turns.round
            opened = await self._context.worker(
                self._decompression.open, message.compressor, message.data
            )
            turns.resumed(before)
            # What a thread has done cannot be cancelled, but is not acted upon then.
            await trio.lowlevel.checkpoint_if_cancelled()
            # The host may have been removed meanwhile.
            if not lane.closed:
                self._deliver(lane, opened)
            self._next(line)

    def _deliver(self, lane: ReceiveLane, opened: Opened | PacketError | None) -> None:
        """Deliver the first message of a lane: as it came, or as it was ``opened``."""
        message = lane.done()
        data: bytes | None = message.data
        if opened is not None:
            data = self._decompression.count(opened, lane.host_id)
        if data is not None:
            self._delivery.deliver(data, lane.host_id, message.channel)

    def _next(self, line: _Line) -> None:
        """Move the first lane of ``line`` to the end of its line, if it has more."""
        lane = line.lanes.popleft()
        if lane.count:
            self._line_up(lane)
