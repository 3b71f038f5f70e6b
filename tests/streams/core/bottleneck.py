"""Streams that share a bottleneck: a line of a fixed rate, before it a queue that overflows."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from itertools import count

import attrs

from knet_trio.streams._core.congestion import CongestionControl
from knet_trio.streams._core.conversation import Conversation
from knet_trio.streams._core.faults import StreamPacketError
from knet_trio.streams._core.stream_state import StreamState
from knet_trio.streams._core.wire import StreamKind

_PIECE = 1400
_BLOCK = bytes(256 * 1024)


@attrs.define
class Line:
    """The bottleneck.

    Attributes:
        rate: Bytes a second.
        queue: Bytes that wait before it, at most.
        latency: Seconds that a packet takes in each direction, without the queue.
        loss: The share of packets that is lost behind it at random.
        free_at: When all that waits now will have left.
    """

    rate: float
    queue: float
    latency: float
    loss: float = 0.0
    free_at: float = 0.0


@attrs.define(eq=False)
class Flow:
    """A stream that always has something to send, and is read at once.

    Attributes:
        source: The side that sends.
        sink: The side that receives.
        begins: When it is opened.
        sent: Packets that the source has sent since counting began.
        dropped: Those of them that found the queue full.
        received: Bytes that the sink has read since then.
    """

    source: Conversation
    sink: Conversation
    begins: float
    sent: int = 0
    dropped: int = 0
    received: int = 0
    stream: StreamState | None = None
    there: StreamState | None = None

    def feed(self) -> None:
        """Have something to send."""
        connection = self.source.connection
        if self.stream is not None and connection is not None:
            connection.touched.clear()
            while self.stream.sending.unsent < len(_BLOCK):
                connection.write(self.stream, _BLOCK)

    def drain(self, now: float) -> None:
        """Read what has come."""
        connection = self.sink.connection
        if connection is None:
            return
        for stream in connection.opened:
            self.there = stream
            connection.accept(stream, now)
        connection.opened.clear()
        connection.touched.clear()
        while self.there is not None and self.there.receiving.available:
            self.received += len(connection.read(self.there, 1 << 20, now))


class Bottleneck:
    """Plays flows over a line, in virtual time."""

    def __init__(
        self, line: Line, kinds: Sequence[Callable[[int], CongestionControl]], *, apart: float = 0.3
    ) -> None:
        self._random = random.Random(1)
        self._line = line
        self.now = 100.0
        line.free_at = self.now
        self.flows = [self._make(kind, index * apart) for index, kind in enumerate(kinds)]
        self._events: list[tuple[float, int, Flow, Conversation | None, bytes]] = []
        self._order = count()
        self._wakes: dict[Flow, float] = {}
        for flow in self.flows:
            self._push(flow.begins, flow, None, b"")

    def _make(self, kind: Callable[[int], CongestionControl], later: float) -> Flow:
        return Flow(self._talk(kind), self._talk(kind), begins=self.now + later)

    def _talk(self, kind: Callable[[int], CongestionControl]) -> Conversation:
        number = self._random.getrandbits(64)
        return Conversation(number, patience=30.0, checked=False, congestion=kind)

    def count_for(self, seconds: float, *, after: float) -> None:
        """Let the flows run, and count what they do in the last ``seconds``."""
        self._run_until(self.now + after)
        for flow in self.flows:
            flow.sent = flow.dropped = flow.received = 0
        self._run_until(self.now + seconds)

    def shares(self) -> list[float]:
        """Return what part of all that has arrived is of each flow."""
        total = sum(flow.received for flow in self.flows)
        return [flow.received / total for flow in self.flows]

    def dropped(self) -> float:
        """Return the share of all packets that found the queue full."""
        return sum(flow.dropped for flow in self.flows) / sum(flow.sent for flow in self.flows)

    def _push(self, at: float, flow: Flow, to: Conversation | None, packet: bytes) -> None:
        heapq.heappush(self._events, (at, next(self._order), flow, to, packet))

    def _run_until(self, end: float) -> None:
        while self._events and self._events[0][0] < end:
            at, _, flow, to, packet = heapq.heappop(self._events)
            self.now = max(self.now, at)
            if to is not None:
                errors: list[StreamPacketError] = []
                to.receive_many([packet], 0, self.now, errors)
                assert errors == []
                flow.drain(self.now)
            if flow.stream is None and self.now >= flow.begins:
                flow.stream = flow.source.open(StreamKind.STREAM, self.now)
            flow.feed()
            self._send(flow)
        self.now = end

    def _send(self, flow: Flow) -> None:
        line = self._line
        for side in (flow.source, flow.sink):
            while side.deadline <= self.now:
                for packet in side.poll(self.now, _PIECE, 64):
                    if side is flow.source:
                        self._queue(flow, packet)
                    else:
                        self._push(self.now + line.latency, flow, flow.source, packet)
        due = min(flow.source.deadline, flow.sink.deadline)
        before = self._wakes.get(flow, -math.inf)
        if due < math.inf and not self.now < before <= due:
            self._wakes[flow] = due
            self._push(due, flow, None, b"")

    def _queue(self, flow: Flow, packet: bytes) -> None:
        line = self._line
        flow.sent += 1
        if (line.free_at - self.now) * line.rate + len(packet) > line.queue:
            flow.dropped += 1
            return
        line.free_at = max(line.free_at, self.now) + len(packet) / line.rate
        if self._random.random() >= line.loss:
            self._push(line.free_at + line.latency, flow, flow.sink, packet)
