"""A connection with another host: reliable streams between two connection ids.

Input are the packets that arrive and the calls of the program. Output are the packets to send, the
streams that were ``touched`` (bytes to read, room to write, an end or a failure) and the streams
that the peer has ``opened``.

A connection has an id on each side; both are in each packet. ``conversation`` finds out the peer's.
Packets of a connection are numbered and acknowledged by their numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from knet_trio.streams._core.congestion import CongestionControl
from knet_trio.streams._core.control_frames import PING_CONTROL, STREAMS_CONTROL, Control
from knet_trio.streams._core.faults import Fault, StreamPacketError
from knet_trio.streams._core.limits import INITIAL_CREDIT, MAX_HELD, MAX_JUMP, MIN_HELD
from knet_trio.streams._core.packet_builder import LOW_WATER, QUANTUM, PacketBuilder
from knet_trio.streams._core.received_numbers import ReceivedNumbers
from knet_trio.streams._core.receiving_half import ReceivingCue
from knet_trio.streams._core.recovery import Recovery
from knet_trio.streams._core.sending_half import SendingCue
from knet_trio.streams._core.stream_state import Failure, FailureCause, StreamState
from knet_trio.streams._core.stream_table import StreamTable
from knet_trio.streams._core.windows import ReceiveWindows
from knet_trio.streams._core.wire import (
    RECEIVING,
    SENDING,
    AcceptFrame,
    AckFrame,
    Code,
    CreditFrame,
    DataFrame,
    FrameType,
    ResetFrame,
    StreamKind,
    StreamsFrame,
)
from knet_trio.streams._core.wire_reading import (
    read_frames_untrusted,
)

CAUSES = {
    Code.CANCELLED: FailureCause.CANCELLED,
    Code.REFUSED: FailureCause.REFUSED,
    Code.FAILED: FailureCause.FAILED,
    Code.CLOSED: FailureCause.CLOSED,
    Code.VIOLATION: FailureCause.VIOLATION,
    Code.SILENCE: FailureCause.LOST_SIGHT,
}
"""The failure cause for each code that the peer sends."""


class Connection:
    """The streams with another host, between two connection ids.

    Attributes:
        local: The local connection id.
        remote: The remote connection id; 0 while it is not known.
        touched: Streams with news; the caller takes them out.
        opened: Streams that the peer has opened; the caller takes them out.
        room_to_open: True if the peer has raised its limit on streams; the caller clears it.
        held: Bytes that were written and are not acknowledged, without those of streams sent in one
            packet, which the congestion window bounds.
        deliveries: The number of acknowledgements of bytes or ends of streams.
        failure: Why the connection has ended; None while it has not.
        recovery: The packets in flight.
        builder: Builds the packets to send.
        received: The packet numbers received.
        streams: The streams that are not over, by key. Read-only.
    """

    def __init__(self, local: int, congestion: CongestionControl, *, checked: bool) -> None:
        self.local = local
        self.remote = 0
        self.touched: dict[StreamState, None] = {}
        self.opened: list[StreamState] = []
        self.room_to_open: bool = False
        self.held: int = 0
        self.deliveries: int = 0
        self.failure: Failure | None = None
        self.recovery: Recovery = Recovery(congestion)
        self.received: ReceivedNumbers = ReceivedNumbers()
        self._table = StreamTable()
        self.streams: dict[int, StreamState] = self._table.streams
        self._windows = ReceiveWindows()
        self.builder: PacketBuilder = PacketBuilder(
            self.recovery, self.received, self._table, self.touched, checked=checked
        )

    def __repr__(self) -> str:
        streams = len(self._table.streams)
        return f"<Connection {self.local:#x} to {self.remote:#x}: {streams} streams>"

    @property
    def has_streams(self) -> bool:
        """True if there are streams that are not over."""
        return bool(self.streams)

    @property
    def has_unacknowledged(self) -> bool:
        """True if frames wait to be sent or packets are in flight."""
        return self.builder.has_something or len(self.recovery) > 0

    @property
    def has_undelivered(self) -> bool:
        """True if something is not acknowledged, including bytes that wait for credit."""
        return self.held > 0 or self.has_unacknowledged

    # From the program.

    @property
    def can_open(self) -> bool:
        """True if the peer's limit allows another stream."""
        return self._table.can_open

    @property
    def may_open(self) -> int:
        """The number of streams that may be opened now."""
        return self._table.room

    def open(self, kind: StreamKind) -> StreamState:
        """Open a stream; ``can_open`` must be true."""
        stream = self._table.open(kind)
        if kind is StreamKind.STREAM:
            # Other kinds are opened by the first bytes that are written.
            self.builder.queue(stream)
        return stream

    def write(self, stream: StreamState, data: bytes | memoryview) -> None:
        """Write bytes on a stream; they must not change from now on."""
        stream.sending.write(data)
        self._count_held(stream)
        self.builder.queue(stream)

    def room(self, stream: StreamState) -> int:
        """Return the number of bytes that may be written on a stream now; 0 for none."""
        if stream.sending.unsent >= LOW_WATER:
            return 0
        room = max(MIN_HELD, (MAX_HELD - self.held) // 2) - stream.held
        # Less than that is not worth a write.
        return room if room >= QUANTUM else 0

    def _count_held(self, stream: StreamState) -> None:
        """Update the held bytes of a stream, and wake its writer if there is room.

        A waiting writer holds bytes itself, so this runs as soon as some are acknowledged. Changes
        of other streams need not wake it.
        """
        sending = stream.sending
        held = 0 if sending.is_over else sending.written - sending.base
        self.held += held - stream.held
        stream.held = held
        if stream.writer_waits and self.room(stream):
            stream.writer_waits = False
            self.touched[stream] = None

    def finish(self, stream: StreamState) -> None:
        """End the sending half of a stream."""
        if stream.sending.advance(SendingCue.FINISH):
            self.builder.queue(stream)

    def read(self, stream: StreamState, limit: int, now: float) -> bytes:
        """Remove and return up to ``limit`` bytes of a stream, and give credit for more."""
        receiving = stream.receiving
        data = receiving.read(limit)
        if self._windows.read(stream, now, self.recovery.round_trip.smooth):
            self.builder.add(Control(FrameType.CREDIT, stream.key))
        return data

    def read_whole(self, stream: StreamState) -> bytes:
        """Remove and return all bytes of a complete stream, and mark its end as read."""
        receiving = stream.receiving
        data = receiving.read_all()
        if receiving.advance(ReceivingCue.ALL_READ) and stream.sending.is_over:
            self._forget_if_over(stream)
        return data

    def end_read(self, stream: StreamState) -> None:
        """Note that the program has read the end of a stream."""
        if stream.receiving.advance(ReceivingCue.ALL_READ):
            self._forget_if_over(stream)

    def accept(self, stream: StreamState, now: float) -> None:
        """Accept a stream that the peer opened, and notify the peer."""
        if not stream.accepted:
            stream.accepted = True
            self.builder.add(Control(FrameType.ACCEPT, stream.key))
            self.widen(stream, now)

    def widen(self, stream: StreamState, now: float) -> None:
        """Give a stream that will be read its first window."""
        if stream.receiving.wants_more and self._windows.open(stream, now):
            self.builder.add(Control(FrameType.CREDIT, stream.key))

    def reset(self, stream: StreamState, halves: int, code: Code, reason: str = "") -> None:
        """Abort halves of a stream, and notify the peer with the reason."""
        aborted = 0
        if halves & SENDING and stream.sending.advance(SendingCue.GIVE_UP):
            aborted |= SENDING
        if halves & RECEIVING and stream.receiving.advance(ReceivingCue.STOP):
            aborted |= RECEIVING
        if aborted & SENDING:
            self._count_held(stream)
        if aborted:
            self.builder.add(Control(FrameType.RESET, stream.key, aborted, code, reason))
        self._forget_if_over(stream)

    def ping(self) -> None:
        """Send a PING, which the peer has to acknowledge."""
        self.builder.add(PING_CONTROL)

    def fail(self, failure: Failure) -> None:
        """End the connection with all its streams."""
        self.failure = failure
        for stream in self._table.all():
            self._fail_stream(stream, SENDING | RECEIVING, failure)
            self._table.forget(stream.key)

    # From the other side.

    def receive(self, packet: bytes, number: int, now: float) -> int:
        """Process a packet of this connection whose header has been read.

        Returns:
            The number of frames in the packet.

        Raises:
            StreamPacketError: The packet is refused, and not acknowledged.
        """
        self._check_number(number)
        eliciting = asks = False
        frames = read_frames_untrusted(packet)
        for frame in frames:
            if isinstance(frame, DataFrame):
                key, kind, offset, data, last, wants = frame
                self._data_came(key, kind, offset, data, last)
                eliciting = True
                asks |= wants
            elif isinstance(frame, AckFrame):
                self._ack_came(frame.ranges, frame.delay, now)
            else:
                eliciting = True
                if isinstance(frame, CreditFrame):
                    self._credit_came(frame)
                elif isinstance(frame, AcceptFrame):
                    self._accept_came(frame)
                elif isinstance(frame, ResetFrame):
                    self._reset_came(frame)
                elif isinstance(frame, StreamsFrame):
                    if self._table.allow(frame.limit):
                        self.room_to_open = True
                else:
                    # A PING asks for an acknowledgement at once.
                    asks = True
        self.received.add(number, 1, now, eliciting=eliciting, asks=asks)
        return len(frames)

    def receive_answer(
        self,
        now: float,
        number: int,
        acknowledged: tuple[int, int],
        delay: float,
        kind: StreamKind,
        stream: int,
        offset: int,
        data: memoryview,
        last: int,
        asks: int,
    ) -> None:
        """Process a packet of this connection with an ACK and one DATA frame.

        Raises:
            StreamPacketError: The packet is refused, and not acknowledged.
        """
        if number != self.received.largest + 1:
            self._check_number(number)
        self._ack_came((acknowledged,), delay, now)
        self._data_came(stream, kind, offset, data, last == 1)
        self.received.add(number, 1, now, eliciting=True, asks=asks == 1)

    def receive_data(
        self,
        number: int,
        now: float,
        stream: int,
        kind: StreamKind,
        offset: int,
        data: memoryview,
        *,
        last: bool,
        asks: bool,
    ) -> None:
        """Process a packet of this connection with one DATA frame.

        Raises:
            StreamPacketError: The packet is refused, and not acknowledged.
        """
        if number != self.received.largest + 1:
            self._check_number(number)
        self._data_came(stream, kind, offset, data, last)
        self.received.add(number, 1, now, eliciting=True, asks=asks)

    def receive_run(
        self,
        number: int,
        now: float,
        stream: int,
        kind: StreamKind,
        offset: int,
        data: memoryview,
        more: list[memoryview],
    ) -> bool:
        """Process consecutive packets with one DATA frame each, if they continue the stream.

        Returns:
            True if they were processed. If False, nothing has happened.
        """
        found, largest = self._table.get(stream ^ 1), self.received.largest
        if found is None or found.kind is not kind or not 0 < number - largest <= MAX_JUMP:
            return False
        if not found.receiving.receive_run(offset, data, more):
            return False
        self.touched[found] = None
        self.received.add(number, 1 + len(more), now, eliciting=True, asks=False)
        return True

    def _check_number(self, number: int) -> None:
        """Check a packet number.

        Raises:
            StreamPacketError: The number is too high, or was received before.
        """
        received = self.received
        if number > received.largest + MAX_JUMP:
            raise StreamPacketError(
                Fault.NUMBER_TOO_FAR, f"packet {number} is too far above {received.largest}"
            )
        if number in received:
            # If the acknowledgement was lost, the sender retransmits with another number.
            raise StreamPacketError(Fault.DUPLICATE, f"packet {number} was received before")

    def _data_came(
        self, wire_key: int, kind: StreamKind, offset: int, data: memoryview, last: bool
    ) -> None:
        stream, is_new = self._table.admit(wire_key ^ 1, kind)
        if stream is None:
            return
        receiving = stream.receiving
        if last and not offset and receiving.receive_whole(data):
            if is_new:
                # The taker finds out that the stream is complete.
                self.opened.append(stream)
            else:
                self.touched[stream] = None
            return
        try:
            receiving.check(offset, len(data), last=last)
        except StreamPacketError:
            if is_new:
                self._table.forget(stream.key)
            raise
        if is_new:
            self.opened.append(stream)
        if receiving.receive(offset, data, last=last):
            self.touched[stream] = None

    def _ack_came(self, ranges: Sequence[tuple[int, int]], delay: float, now: float) -> None:
        if ranges[0][1] > self.builder.next_number:
            raise StreamPacketError(Fault.NOT_SENT, f"packet {ranges[0][1] - 1} was never sent")
        arrived, lost = self.recovery.acknowledged(ranges, delay, now)
        # Consecutive pieces of a stream are joined.
        before: StreamState | None = None
        first = end = 0
        for packet in arrived:
            for stream, start, stop in packet.pieces:
                if stream is before and start == end:
                    end = stop
                    continue
                if before is not None:
                    self._arrived(before, first, end)
                before, first, end = stream, start, stop
            if packet.largest_acked >= 0:
                self.received.ack_delivered(packet.largest_acked)
        if before is not None:
            self._arrived(before, first, end)
            self.deliveries += 1
        if lost:
            self.builder.send_again(lost)

    def _arrived(self, stream: StreamState, start: int, stop: int) -> None:
        sending = stream.sending
        sending.arrived(start, stop)
        if stream.held:
            self._count_held(stream)
        if sending.is_over:
            self.touched[stream] = None
            self._forget_if_over(stream)

    def _credit_came(self, frame: CreditFrame) -> None:
        stream = self._table.find(frame.stream ^ 1)
        if stream is not None and stream.sending.credit(frame.limit):
            self.builder.queue(stream)

    def _accept_came(self, frame: AcceptFrame) -> None:
        stream = self._table.find(frame.stream ^ 1)
        if stream is not None and stream.opened_here:
            stream.accepted = True
            self.touched[stream] = None

    def _reset_came(self, frame: ResetFrame) -> None:
        key = frame.stream ^ 1
        stream = self._table.find(key)
        if stream is None:
            if self._table.forget(key):
                self.builder.add(STREAMS_CONTROL)
            return
        # The peer's sending half is this side's receiving half.
        halves = (frame.halves & SENDING and RECEIVING) | (frame.halves & RECEIVING and SENDING)
        failure = Failure(CAUSES[frame.code], frame.reason)
        self._fail_stream(stream, halves, failure)
        self._forget_if_over(stream)

    def check_timers(self, now: float) -> None:
        """Run the timers of loss recovery that have expired."""
        recovery = self.recovery
        if now >= recovery.loss_deadline:
            self.builder.send_again(recovery.find_lost(now))
            recovery.arm(now)
        if now >= recovery.probe_deadline:
            self.builder.send_again(recovery.probe(now, self.builder.allow_probes()))
            if not self.builder.has_something:
                self.ping()

    def _fail_stream(self, stream: StreamState, halves: int, failure: Failure) -> None:
        if halves & SENDING and stream.sending.advance(SendingCue.PEER_STOPS):
            stream.sending_failure = failure
            self._count_held(stream)
        if halves & RECEIVING and stream.receiving.advance(ReceivingCue.PEER_GIVES_UP):
            stream.receiving_failure = failure
        self.touched[stream] = None

    def _forget_if_over(self, stream: StreamState) -> None:
        if stream.sending.is_over and stream.receiving.is_over:
            if stream.window != INITIAL_CREDIT:
                self._windows.close(stream)
            if self._table.forget(stream.key):
                self.builder.add(STREAMS_CONTROL)
