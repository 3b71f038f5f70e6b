"""The packets that a connection sends next.

A packet has an acknowledgement if one is pending, then the waiting control frames, then data of the
streams in turn. The turn of a stream lasts for ``QUANTUM`` bytes; so packets of one stream follow
each other, have one size, and can go to the kernel as a train.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

from knet_trio._core.parted import Parted
from knet_trio.streams._core.control_frames import PING_CONTROL, Control, write_control
from knet_trio.streams._core.limits import ASK_BYTES, ASK_SHARE, MAX_FRAMES, PROBES
from knet_trio.streams._core.received_numbers import ReceivedNumbers
from knet_trio.streams._core.recovery import Recovery, SentRun
from knet_trio.streams._core.stream_state import StreamState
from knet_trio.streams._core.stream_table import StreamTable
from knet_trio.streams._core.wire import (
    ANSWER_LAYOUT,
    DATA_FRAME_SIZE,
    HEADER_SIZE,
    MAX_CONTROL_SIZE,
    StreamKind,
    StreamPacketKind,
)
from knet_trio.streams._core.wire_writing import (
    write_data_head,
    write_data_packet,
    write_last_packet,
    write_packet,
    write_run,
)

QUANTUM: Final = 16 * 1024
"""Bytes that a stream sends in its turn."""
MIN_PIECE: Final = HEADER_SIZE + MAX_CONTROL_SIZE + 64
"""The smallest packet size that the protocol works with."""
LOW_WATER: Final = 2 * 1024 * 1024
"""The send buffer of a stream: with fewer unsent bytes, there is room for more."""

# The most control frames in a packet; the most control and DATA frames, beside an acknowledgement.
_MOST_CONTROLS: Final = MAX_FRAMES // 2
_MOST_PIECES: Final = MAX_FRAMES - 1
# The smallest room in which a piece of a stream is begun.
_LEAST: Final = 128
# After this many packets with nothing but an acknowledgement with gaps, a PING goes along.
_PING_AFTER: Final = 16


class PacketBuilder:
    """Builds the packets that a connection sends.

    Attributes:
        next_number: The number of the next packet.
        last_eliciting: When the last ack-eliciting packet was sent [seconds].
        checked: True if packets get checksums.
        controls: The control frames that wait to be sent. Read-only.
        ready: The streams that have something to send, in the order of their turns. Read-only.
    """

    def __init__(
        self,
        recovery: Recovery,
        received: ReceivedNumbers,
        table: StreamTable,
        touched: dict[StreamState, None],
        *,
        checked: bool,
    ) -> None:
        self.next_number: int = 0
        self.last_eliciting: float = 0.0
        self._recovery = recovery
        self._received = received
        self._table = table
        self._touched = touched
        self.checked = checked
        self.controls: dict[Control, None] = {}
        self.ready: deque[StreamState] = deque()
        self._turn_left = QUANTUM
        self._probes = 0
        self._acks_alone = 0
        # Bytes sent since the last request for an acknowledgement.
        self._unasked = 0

    @property
    def has_something(self) -> bool:
        """True if frames wait to be sent that have to be acknowledged."""
        return bool(self.controls or self.ready)

    @property
    def may_send(self) -> bool:
        """True if frames wait to be sent and the congestion window allows them."""
        return self.has_something and (
            self._probes > 0 or self._recovery.room >= self._recovery.congestion.piece
        )

    def add(self, control: Control) -> None:
        """Queue a control frame."""
        self.controls[control] = None

    def queue(self, stream: StreamState) -> None:
        """Queue a stream if it has something to send."""
        if not stream.is_queued and stream.sending.has_something():
            stream.is_queued = True
            self.ready.append(stream)

    def allow_probes(self) -> int:
        """Allow ``PROBES`` packets beyond the congestion window; return their number."""
        self._probes = PROBES
        return PROBES

    def send_again(self, packets: Sequence[SentRun]) -> None:
        """Queue the contents of packets again, as far as they are still needed."""
        for packet in packets:
            for stream, start, stop in packet.pieces:
                stream.sending.lose(start, stop)
                self.queue(stream)
            for control in packet.controls:
                self.add(control)

    def _count_probe(self) -> None:
        """Note that a probe was built; if there is nothing else, the next one repeats it."""
        self._probes -= 1
        newest = self._recovery.newest
        if self._probes and newest is not None and not self.has_something:
            self.send_again((newest,))

    def build(self, local: int, remote: int, now: float, piece: int, count: int) -> Sequence[bytes]:
        """Return up to ``count`` packets to send now, of at most ``piece`` bytes each."""
        piece = max(piece, MIN_PIECE)
        recovery = self._recovery
        recovery.congestion.set_piece(piece)
        packets: list[bytes] = []
        eliciting = False
        while len(packets) < count:
            if self.may_send:
                if not self.controls and not self._received.is_pending and not self._probes:
                    run = self._next_run(local, remote, now, piece, count - len(packets))
                    if run and not packets and isinstance(run, Parted):
                        # The next call returns the rest.
                        self._sent(now)
                        return run
                    if run:
                        packets += run
                        eliciting = True
                        continue
                packet = self._next(local, remote, now, piece)
                if packet is not None:
                    packets.append(packet)
                    eliciting = True
                    if self._probes:
                        self._count_probe()
                elif self._probes:
                    # The contents of the oldest packets are no longer needed.
                    self.add(PING_CONTROL)
            elif self._received.deadline <= now:
                packets.append(self._acknowledge(local, remote, now, piece))
            else:
                break
        if eliciting:
            self._sent(now)
        return packets

    def _sent(self, now: float) -> None:
        """Note that ack-eliciting packets are sent."""
        self.last_eliciting = now
        self._acks_alone = 0
        self._recovery.arm(now)

    def build_whole(
        self,
        stream: StreamState,
        data: bytes | memoryview,
        local: int,
        remote: int,
        now: float,
        piece: int,
    ) -> bytes | None:
        """Return a packet with the whole of a stream: the fast path for requests.

        A pending acknowledgement goes along.

        Returns:
            The packet, or None if something else has to be sent before or the bytes do not fit.
            Then nothing has happened.
        """
        recovery, received = self._recovery, self._received
        size = len(data)
        if (
            size + ANSWER_LAYOUT.size > piece
            or self.controls
            or self.ready
            or self._probes
            or (received.deadline < math.inf and received.has_gaps)
            or recovery.congestion.window - recovery.in_flight < 2 * piece
            or not stream.sending.write_whole(data)
        ):
            return None
        if recovery.congestion.piece != piece:
            recovery.congestion.set_piece(piece)
        ack, acked = None, -1
        if received.deadline < math.inf:
            ack = received.write_simple(now)
            acked = received.largest
        number = self.next_number
        self.next_number = number + 1
        packet = write_last_packet(
            local,
            remote,
            number,
            stream.key,
            stream.kind,
            data,
            ack,
            checked=self.checked,
        )
        recovery.sent(SentRun(number, 1, now, len(packet), ((stream, 0, size + 1),), (), acked))
        recovery.arm(now)
        self.last_eliciting = now
        self._acks_alone = 0
        # The answer acknowledges this packet. Earlier ones may still need a request for that.
        self._unasked += size
        return packet

    def _next(self, local: int, remote: int, now: float, piece: int) -> bytes | None:
        """Return a packet with frames that wait; None if none of them is needed any more."""
        room = piece - HEADER_SIZE
        if not self.controls and not self._received.is_pending:
            packet = self._next_of_stream(local, remote, now, piece)
            if packet is not None:
                return packet
        parts: list[bytes | memoryview] = []
        acked = -1
        if self._received.is_pending:
            ack = self._received.write(now, room // 2)
            acked = self._received.largest
            parts.append(ack)
            room -= len(ack)
        controls, room = self._take_controls(parts, room)
        pieces: list[tuple[StreamState, int, int]] = []
        while (
            self.ready
            and room >= DATA_FRAME_SIZE + _LEAST
            and len(controls) + len(pieces) < _MOST_PIECES
        ):
            stream = self.ready[0]
            if not stream.sending.has_something():
                self._drop_first()
                continue
            start, stop, head, data = self._take_piece(stream, room - DATA_FRAME_SIZE, piece)
            parts += (head, data)
            pieces.append((stream, start, stop))
            room -= DATA_FRAME_SIZE + len(data)
        if not controls and not pieces:
            if acked >= 0:
                # Nothing else is needed: the acknowledgement goes alone.
                return self._send_alone(local, remote, parts)
            return None
        number = self.next_number
        self.next_number += 1
        packet = write_packet(
            StreamPacketKind.FRAMES, local, remote, number, parts, checked=self.checked
        )
        self._recovery.sent(SentRun(number, 1, now, len(packet), pieces, controls, acked))
        return packet

    def _next_run(
        self, local: int, remote: int, now: float, piece: int, count: int
    ) -> Sequence[bytes]:
        """Return several full packets of the stream whose turn it is, or none."""
        stream = self.ready[0]
        sending = stream.sending
        size = piece - HEADER_SIZE - DATA_FRAME_SIZE
        count = min(
            count,
            sending.never_sent() // size,
            self._recovery.room // piece,
            # Only the last packet can ask for an acknowledgement.
            2 + (ASK_BYTES - self._unasked) // piece,
        )
        if len(self.ready) > 1:
            count = min(count, 1 + self._turn_left // size)
        if count < 2:
            return []
        start, run = sending.take_run(size, count)
        asks = self._asks(count * piece, piece)
        number = self.next_number
        self.next_number += count
        packets = write_run(
            local,
            remote,
            number,
            stream.key,
            stream.kind,
            start,
            run,
            size,
            asks=asks,
            checked=self.checked,
        )
        pieces = ((stream, start, start + count * size),)
        self._recovery.sent(SentRun(number, count, now, piece, pieces))
        self._after_piece(stream, count * size)
        return packets

    def _next_of_stream(self, local: int, remote: int, now: float, piece: int) -> bytes | None:
        """Return a packet with a piece of one stream, if it is full or nothing else waits."""
        ready = self.ready
        stream = ready[0]
        room = piece - HEADER_SIZE
        if not stream.sending.has_something():
            return None
        if len(ready) > 1 and stream.sending.unsent < room:
            return None
        start, stop, head, data = self._take_piece(stream, room - DATA_FRAME_SIZE, piece)
        number = self.next_number
        self.next_number = number + 1
        packet = write_data_packet(local, remote, number, head, data, checked=self.checked)
        self._recovery.sent(SentRun(number, 1, now, len(packet), ((stream, start, stop),)))
        return packet

    def _take_piece(
        self, stream: StreamState, room: int, piece: int
    ) -> tuple[int, int, bytes, memoryview]:
        """Take a piece of the stream whose turn it is: its places, frame head and data."""
        sending = stream.sending
        start, stop = sending.take(room)
        data = sending.data(start, stop)
        size = len(data)
        last = sending.is_last(stop)
        # A task waits for the end of a stream to arrive; a request is acknowledged by its answer.
        asks = self._asks(size, piece) or (last and stream.kind is StreamKind.STREAM)
        head = write_data_head(stream.key, stream.kind, start, size, last=last, asks=asks)
        self._after_piece(stream, size)
        return start, stop, head, data

    def _after_piece(self, stream: StreamState, size: int) -> None:
        """Note that the stream whose turn it is has sent ``size`` bytes."""
        sending = stream.sending
        if stream.writer_waits and sending.unsent < LOW_WATER <= sending.unsent + size:
            stream.writer_waits = False
            self._touched[stream] = None
        self._turn_left -= size
        if not sending.has_something():
            self._drop_first()
        elif self._turn_left <= 0:
            self.ready.rotate(-1)
            self._turn_left = QUANTUM

    def _asks(self, size: int, piece: int) -> bool:
        """Count ``size`` bytes; return whether their packet asks for an acknowledgement."""
        self._unasked += size
        window = self._recovery.congestion.window
        if (
            self._unasked < min(ASK_BYTES, window // ASK_SHARE)
            and self._recovery.room - size >= piece
            and not self._probes
        ):
            return False
        self._unasked = 0
        return True

    def _drop_first(self) -> None:
        self.ready.popleft().is_queued = False
        self._turn_left = QUANTUM

    def _take_controls(
        self, parts: list[bytes | memoryview], room: int
    ) -> tuple[list[Control], int]:
        taken: list[Control] = []
        while self.controls and len(taken) < _MOST_CONTROLS:
            control = next(iter(self.controls))
            frame = write_control(control, self._table)
            if len(frame) > room:
                break
            del self.controls[control]
            if frame:
                parts.append(frame)
                taken.append(control)
                room -= len(frame)
        return taken, room

    def _acknowledge(self, local: int, remote: int, now: float, piece: int) -> bytes:
        """Return a packet with nothing but an acknowledgement."""
        self._acks_alone += 1
        if self._received.has_gaps and self._acks_alone % _PING_AFTER == 0:
            # The acknowledgement of the PING says which ranges need not be sent again.
            self.add(PING_CONTROL)
        ack = self._received.write(now, piece - HEADER_SIZE)
        return self._send_alone(local, remote, [ack])

    def _send_alone(self, local: int, remote: int, parts: list[bytes | memoryview]) -> bytes:
        number = self.next_number
        self.next_number += 1
        return write_packet(
            StreamPacketKind.FRAMES, local, remote, number, parts, checked=self.checked
        )
