"""The lanes of the way in: one for each host, for messages that cannot be delivered at once.

Decompressing takes time, and the messages of one host are worked on in order. The messages of other
hosts do not wait for them: each host has a lane, and the work goes round the lanes, one message at
a time. Slow algorithms have one worker thread, which goes round the lanes as well; meanwhile only
the lane of its message waits. A lane that has crowded a channel waits for the reader, as long as it
reads, and the other lanes go on.

::

    put -> lane of the host --+-- fast: the lanes' task, in turns ------+-> delivery
              ^               '-- slow: a thread, one message a time ---'      |
              '------------- the reader has taken some <--- crowded -----------'
"""

from __future__ import annotations

from collections import deque

import trio

from knet_trio._pipeline.decompression import Decompression, Opened
from knet_trio._pipeline.delivery import Delivery
from knet_trio._state.channel_queue import ChannelQueue
from knet_trio._state.context import Context
from knet_trio._state.receive_lane import ReceiveLane, WaitingMessage
from knet_trio._state.workers import NoThreadError
from knet_trio.errors import DropCause, PacketError


class _Line:
    """Lanes that wait for a task, in order."""

    def __init__(self) -> None:
        self.lanes: deque[ReceiveLane] = deque()
        self._filled = trio.Event()

    def append(self, lane: ReceiveLane) -> None:
        """Add ``lane`` at the end."""
        self.lanes.append(lane)
        self._filled.set()

    async def wait_filled(self) -> None:
        """Wait until there is a lane. Not a checkpoint if there is one."""
        if not self.lanes:
            self._filled = trio.Event()
            await self._filled.wait()


class _Crowd:
    """Lanes that wait for the reader of a crowded queue.

    Attributes:
        lanes: The lanes, in order, none of them empty.
        size: The messages in the queue at the last look.
    """

    __slots__ = ("lanes", "size")

    def __init__(self) -> None:
        self.lanes: deque[ReceiveLane] = deque()
        self.size = 0


class ReceiveLanes:
    """Decompresses and delivers the messages in the lanes.

    Args:
        context: The context of the handle.
        decompression: Decompresses messages.
        delivery: Delivers messages. For the lanes alone, since it reports what they have crowded.
    """

    def __init__(self, context: Context, decompression: Decompression, delivery: Delivery) -> None:
        self._context = context
        self._decompression = decompression
        self._delivery = delivery
        # Every lane that is not empty is in one of these, once.
        self._fast = _Line()
        self._slow = _Line()
        self._crowds: dict[ChannelQueue, _Crowd] = {}

    def put(self, lane: ReceiveLane, message: WaitingMessage) -> None:
        """Add ``message`` to ``lane``; if the lane is full, drop and count the message."""
        if lane.closed:
            # The message came in the round of the loop in which the handle ended.
            self._context.counters.drop(DropCause.NO_CHANNEL)
        elif not lane.offer(message):
            host_id = lane.host_id
            self._context.refuse(DropCause.RECEIVE_QUEUE_FULL, host_id, key=host_id)
        elif lane.count == 1:
            self._line_up(lane)

    async def run(self) -> None:
        """Work on the lanes until cancelled. The hosts count what is in their lanes then."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._work, name="lanes")
            nursery.start_soon(self._work_in_thread, name="worker")

    def _line_up(self, lane: ReceiveLane) -> None:
        line = self._slow if lane.first.is_slow else self._fast
        line.append(lane)

    async def _work(self) -> None:
        """Decompress and deliver one message of each lane after the other, in turns."""
        line, turns = self._fast, self._context.turns
        while True:
            if not line.lanes and not self._crowds:
                before = turns.round
                await line.wait_filled()
                turns.resumed(before)
            while line.lanes:
                self._work_on_first()
                if turns.is_over():
                    break
            if line.lanes or self._crowds:
                await turns.give_up()
                self._look_at_readers()

    def _work_on_first(self) -> None:
        """Decompress and deliver the first message of the first lane in the fast line."""
        line = self._fast
        lane = line.lanes[0]
        crowded = None
        if not lane.closed:
            message = lane.first
            opened = None
            if message.compressor is not None:
                opened = self._decompression.open(message.compressor, message.data)
            crowded = self._deliver(lane, opened)
        if crowded is None or not lane.count:
            self._next(line)
            return
        line.lanes.popleft()
        crowd = self._crowds.get(crowded)
        if crowd is None:
            crowd = self._crowds[crowded] = _Crowd()
        crowd.lanes.append(lane)
        crowd.size = crowded.size

    def _look_at_readers(self) -> None:
        """Let lanes go on whose channels have room again: as many as there is room for.

        One lane goes on all the same if the reader takes nothing, or if half the buffer is free.
        """
        for queue, crowd in list(self._crowds.items()):
            before, crowd.size = crowd.size, queue.size
            room = queue.high_water + 1 - queue.size
            if room <= 0 and queue.is_half_full and queue.size < before:
                continue
            for _ in range(min(max(room, 1), len(crowd.lanes))):
                lane = crowd.lanes.popleft()
                # Its host may have been removed meanwhile.
                if lane.count:
                    self._line_up(lane)
            if not crowd.lanes:
                del self._crowds[queue]

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
            opened: Opened | PacketError
            try:
                opened = await self._context.worker(
                    self._decompression.open, message.compressor, message.data
                )
            except NoThreadError as error:
                opened = PacketError(DropCause.BAD_COMPRESSION, str(error))
            turns.resumed(before)
            # A thread cannot be cancelled, but its result is not used after cancellation.
            await trio.lowlevel.checkpoint_if_cancelled()
            # The host may have been removed meanwhile.
            if not lane.closed:
                self._deliver(lane, opened)
            self._next(line)

    def _deliver(
        self, lane: ReceiveLane, opened: Opened | PacketError | None
    ) -> ChannelQueue | None:
        """Deliver the first message of a lane.

        Args:
            lane: The lane.
            opened: The result of decompressing the message, None if it was not compressed.

        Returns:
            The queue if it is crowded now, otherwise None.
        """
        message = lane.done()
        data: bytes | None = message.data
        if opened is not None:
            data = self._decompression.count(opened, lane.host_id)
        if data is not None:
            self._delivery.deliver(data, lane.host_id, message.channel)
        return self._delivery.take_crowded()

    def _next(self, line: _Line) -> None:
        """Move the first lane of ``line`` to the end of its line, if it is not empty."""
        lane = line.lanes.popleft()
        if lane.count:
            self._line_up(lane)
