"""Whatever packets come, a conversation takes or refuses them, and keeps to what it has allowed.

It takes none twice, and packets in views are the same to it as in bytes. The input is records: a
byte that says what to do, the length of what follows in two bytes, and that. Most become packets of
the connection that there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from knet_trio.streams._core.faults import StreamPacketError
from knet_trio.streams._core.limits import MAX_STREAMS
from knet_trio.streams._core.wire import (
    HEADER_LAYOUT,
    HEADER_SIZE,
    STREAMS_VERSION,
    StreamKind,
    StreamPacketKind,
)
from tests.streams.core.lossy import TwoSides

# Bits of the first byte of a record.
OF_CONNECTION: Final = 1
TWICE: Final = 2
PROGRAM_READS: Final = 4
LATER: Final = 8
_PIECE: Final = 1400
# Where the kind of a packet is.
KIND: Final = 5


def check(data: bytes) -> None:
    """Raise if the invariant does not hold."""
    mine, others = Side(), Side()
    for doing, content in records(data):
        packet = mine.complete(doing, content)
        errors = mine.take(doing, packet)
        assert errors == others.take(doing, memoryview(packet))
        assert mine.say() == others.say()
        mine.look()


def records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """What to do, and with which bytes."""
    start = 0
    while start + 3 <= len(data):
        end = start + 3 + int.from_bytes(data[start + 1 : start + 3], "big")
        yield data[start], data[start + 3 : end]
        start = end


class Side:
    """One side of a connection on which it has opened two streams, the other side one."""

    def __init__(self) -> None:
        two = TwoSides(piece=_PIECE, checked=False)
        here = two.open(0)
        two.flush()
        two.run_for(1.0)
        connection = two.connection(0)
        connection.write(here, bytes(5000))
        connection.finish(two.open(0, StreamKind.REQUEST))
        two.open(1, StreamKind.MESSAGE)
        two.run_for(1.0)
        self._two = two
        self._conversation = two.sides[0]
        self._ids = connection.remote, connection.local
        self._number = connection.received.largest + 1

    def complete(self, doing: int, content: bytes) -> bytes:
        """The packet of a record: of the connection, its header but for the kind is given."""
        if not doing & OF_CONNECTION or len(content) < 2:
            return content
        kind, step = content[:2]
        number = self._number + step
        return HEADER_LAYOUT.pack(0, STREAMS_VERSION, kind, 0, *self._ids, number) + content[2:]

    def take(self, doing: int, packet: bytes | memoryview) -> list[str]:
        """Give it to the conversation; what was refused, and why."""
        packets = [packet] * (2 if doing & TWICE else 1)
        frames = len(packet) >= HEADER_SIZE and packet[KIND] == StreamPacketKind.FRAMES
        errors: list[StreamPacketError] = []
        taken = 0
        while taken < len(packets):
            before = taken
            taken = self._conversation.receive_many(packets, taken, self._two.now, errors)  # type: ignore[arg-type]
            assert taken > before
        assert errors or not (frames and doing & TWICE)
        connection = self._conversation.connection
        if connection is not None and doing & PROGRAM_READS:
            for stream in list(connection.streams.values()):
                connection.widen(stream, self._two.now)
                assert len(connection.read(stream, 1000, self._two.now)) <= 1000
        if doing & LATER:
            self._two.now += 0.05
        return list(map(str, errors))

    def say(self) -> list[bytes]:
        """What the conversation has to say now, and when it wants to be asked again."""
        said: list[bytes] = []
        for _ in range(100):
            if self._conversation.deadline > self._two.now:
                return said
            packets = list(self._conversation.poll(self._two.now, _PIECE, 64))
            assert all(len(packet) <= _PIECE for packet in packets)
            said += packets
        raise AssertionError("it always has something to say")

    def look(self) -> None:
        """Raise if something is kept that was not allowed."""
        connection = self._conversation.connection
        if connection is None:
            return
        assert len(connection.streams) <= 2 * MAX_STREAMS
        for stream in connection.streams.values():
            receiving, sending = stream.receiving, stream.sending
            assert receiving.read_to <= receiving.next <= receiving.limit
            assert receiving.size is None or receiving.next <= receiving.size
            assert sending.base <= sending.next <= sending.written + 1
