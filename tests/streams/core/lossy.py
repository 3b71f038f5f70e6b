"""Two conversations and a network between them, in virtual time."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from itertools import count
from typing import Final

import attrs

from knet_trio.streams._core.congestion import CongestionControl
from knet_trio.streams._core.connection import Connection
from knet_trio.streams._core.conversation import Conversation
from knet_trio.streams._core.cubic import Cubic
from knet_trio.streams._core.faults import StreamPacketError
from knet_trio.streams._core.stream_state import StreamState
from knet_trio.streams._core.wire import StreamKind

PATIENCE: Final = 30.0
SIDES: Final = (0, 1)


@attrs.define
class Weather:
    """What the network does to packets, in shares and seconds."""

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    latency: float = 0.005
    jitter: float = 0.0
    damage: float = 0.0


class TwoSides:
    """Conversations 0 and 1, what is on its way between them, and what each has opened."""

    def __init__(
        self,
        seed: int = 0,
        *,
        piece: int = 1400,
        checked: bool = True,
        patience: float = PATIENCE,
        congestion: Callable[[int], CongestionControl] = Cubic,
    ) -> None:
        self.random = random.Random(seed)
        self.now = 100.0
        self.piece = piece
        self.weather = Weather()
        self.cut = False
        # A side that gets nothing.
        self.deaf: int | None = None
        self.faults: list[StreamPacketError] = []
        self.opened: tuple[list[StreamState], list[StreamState]] = ([], [])
        self.touched: tuple[list[StreamState], list[StreamState]] = ([], [])
        self.ended: tuple[list[Connection], list[Connection]] = ([], [])
        self.sent = [0, 0]
        self.tap: Callable[[int, bytes], None] = lambda _side, _packet: None
        self._checked = checked
        self._patience = patience
        self._congestion = congestion
        self._on_the_way: list[tuple[float, int, int, bytes]] = []
        self._order = count()
        self.sides = [self._make(), self._make()]

    def _make(self) -> Conversation:
        return Conversation(
            self.random.getrandbits(64),
            patience=self._patience,
            checked=self._checked,
            congestion=self._congestion,
        )

    def restart(self, side: int) -> None:
        """Have one side start again."""
        self.sides[side] = self._make()

    def connection(self, side: int) -> Connection:
        """The connection of one side, which has to be there."""
        connection = self.sides[side].connection
        assert connection is not None
        return connection

    def open(self, side: int, kind: StreamKind = StreamKind.STREAM) -> StreamState:
        """Open a stream."""
        stream = self.sides[side].open(kind, self.now)
        assert stream is not None
        return stream

    def deliver(self, side: int, packet: bytes) -> None:
        """Give a packet to one side."""
        self.deliver_many(side, [packet])

    def deliver_many(self, side: int, packets: list[bytes]) -> None:
        """Give packets to one side, all at once."""
        taken = 0
        while taken < len(packets):
            taken = self.sides[side].receive_many(packets, taken, self.now, self.faults)

    def flush(self) -> None:
        """Have both sides send what they have to send now."""
        for side in SIDES:
            conversation = self.sides[side]
            while conversation.deadline <= self.now:
                for packet in conversation.poll(self.now, self.piece, 64):
                    assert len(packet) <= self.piece
                    self.sent[side] += 1
                    self.tap(side, packet)
                    self._transmit(1 - side, packet)
            self._collect(side)

    def _collect(self, side: int) -> None:
        conversation = self.sides[side]
        connections = [*conversation.ended]
        self.ended[side].extend(conversation.ended)
        conversation.ended.clear()
        if conversation.connection is not None:
            connections.append(conversation.connection)
        for connection in connections:
            self.opened[side].extend(connection.opened)
            connection.opened.clear()
            self.touched[side].extend(connection.touched)
            connection.touched.clear()

    def say_whole(self, side: int, stream: StreamState, data: bytes) -> bool:
        """Say all there is to say on a stream; return whether it went the short way."""
        connection = self.connection(side)
        packet = self.sides[side].say_whole(connection, stream, data, self.now, self.piece)
        if packet is None:
            connection.write(stream, data)
            connection.finish(stream)
            return False
        self.sent[side] += 1
        self.tap(side, packet)
        self._transmit(1 - side, packet)
        return True

    def _transmit(self, to: int, packet: bytes) -> None:
        weather, draw = self.weather, self.random.random
        if self.cut or to == self.deaf or draw() < weather.loss:
            return
        if draw() < weather.damage:
            bit = self.random.randrange(8 * len(packet))
            damaged = bytearray(packet)
            damaged[bit // 8] ^= 1 << bit % 8
            packet = bytes(damaged)
        for _ in range(1 + (draw() < weather.duplicate)):
            delay = weather.latency + weather.jitter * draw()
            if draw() < weather.reorder:
                delay += 4 * weather.latency * draw()
            heapq.heappush(self._on_the_way, (self.now + delay, next(self._order), to, packet))

    def step(self) -> bool:
        """Go on to what happens next; return whether there is anything."""
        self.flush()
        arrival = self._on_the_way[0][0] if self._on_the_way else math.inf
        due = min(conversation.deadline for conversation in self.sides)
        moment = min(arrival, due)
        if moment == math.inf:
            return False
        self.now = max(self.now, moment)
        while self._on_the_way and self._on_the_way[0][0] <= self.now:
            _, _, to, packet = heapq.heappop(self._on_the_way)
            self.deliver(to, packet)
        self.flush()
        return True

    def run_until(self, condition: Callable[[], bool], limit: float = 600.0) -> None:
        """Go on until ``condition`` holds, for ``limit`` seconds at most."""
        ends = self.now + limit
        self.flush()
        while not condition():
            assert self.step(), "nothing happens any more"
            assert self.now < ends, "it takes too long"

    def run_for(self, seconds: float) -> None:
        """Go on for some time."""
        ends = self.now + seconds
        self.flush()
        while True:
            arrival = self._on_the_way[0][0] if self._on_the_way else math.inf
            due = min(conversation.deadline for conversation in self.sides)
            if min(arrival, due) > ends:
                self.now = ends
                return
            self.step()

    def read(self, side: int, stream: StreamState, limit: int = 1 << 20) -> bytes:
        """Read from a stream."""
        connection = self.sides[side].connection
        if connection is None:
            return b""
        return connection.read(stream, limit, self.now)
