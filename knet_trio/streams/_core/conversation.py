"""The successive connections with one host: how they begin and how they end.

Each connection has an id on each side. An endpoint draws a random number when it starts, its
incarnation, and its connections with a host take the ids from there on: so an id is never used
twice, and a restarted endpoint uses other ids. A greeting (HELLO) carries the id of its sender's
next connection, and is answered with the id of the receiver's. The receiver keeps no state for it.
The connection begins when a packet with both ids arrives: its sender has then seen the answer, so
the greeting was not an old one and the peer is alive.

- A greeting from a host with a connection means that the host has restarted. The old connection
  ends when the new one begins, and not before.
- A packet with an unknown id is answered with UNKNOWN, which carries both its ids. A host that gets
  UNKNOWN for a connection of its own knows that the peer has lost it.
- Two hosts that greet each other at the same time answer each other, with the ids they have sent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from knet_trio.streams._core.congestion import CongestionControl
from knet_trio.streams._core.connection import CAUSES, Connection
from knet_trio.streams._core.connection_stages import (
    CONNECTION_TRANSITIONS,
    ConnectionCue,
    ConnectionStage,
)
from knet_trio.streams._core.faults import VIOLATIONS, Fault, StreamPacketError
from knet_trio.streams._core.limits import (
    GREETINGS,
    HELLO_INTERVAL,
    KEEPALIVE,
    MAX_FRAMES,
    MAX_HELLO_INTERVAL,
    STALL,
)
from knet_trio.streams._core.packet_builder import MIN_PIECE
from knet_trio.streams._core.replies import Replies
from knet_trio.streams._core.stream_state import Failure, FailureCause, StreamState
from knet_trio.streams._core.wire import (
    Code,
    PacketHeader,
    StreamKind,
    StreamPacketKind,
)
from knet_trio.streams._core.wire_reading import (
    read_answer_untrusted,
    read_close_untrusted,
    read_header_untrusted,
    read_run_untrusted,
    read_whole_untrusted,
)

_IDS: Final = 2**64
# Ids closer than this belong to one incarnation.
_SAME_INCARNATION: Final = 2**32


def is_of_incarnation(connection_id: int, incarnation: int) -> bool:
    """Return whether an endpoint that has drawn ``incarnation`` gives the id to a connection."""
    return (connection_id - incarnation) % _IDS < _SAME_INCARNATION


class Conversation:
    """The protocol state with one host: the present connection, greetings and replies.

    Call ``receive`` for each packet, and ``poll`` at ``deadline`` and after each call that may have
    queued a packet.

    Args:
        incarnation: A random number of 64 bits.
        patience: The time of silence after which a connection fails [seconds].
        checked: True for packets with checksums.
        congestion: Creates the congestion control of a connection, for a packet size in bytes.

    Attributes:
        connection: The present connection, open or greeting; None if there is none. Read-only.
        ended: Connections that have ended; the caller takes them out.
        frames: The number of frames in the packets that ``receive_many`` took last; a fast path
            may count several packets once.
    """

    def __init__(
        self,
        incarnation: int,
        *,
        patience: float,
        checked: bool,
        congestion: Callable[[int], CongestionControl],
    ) -> None:
        self._next_id = incarnation % _IDS or 1
        self._patience = patience
        self._keepalive = min(KEEPALIVE, patience / 3)
        self._congestion = congestion
        self.connection: Connection | None = None
        self._stage = ConnectionStage.ENDED
        self._next_hello = math.inf
        self._hello_interval = HELLO_INTERVAL
        self._greetings = 0
        self._heard = -math.inf
        self.frames: int = 0
        self._replies = Replies(checked=checked)
        self.ended: list[Connection] = []

    @property
    def stage(self) -> ConnectionStage:
        """The stage of the connection."""
        return self._stage

    @property
    def checked(self) -> bool:
        """True if packets built from now on get checksums; settable."""
        return self._replies.checked

    @checked.setter
    def checked(self, checked: bool) -> None:
        self._replies.checked = checked
        if self.connection is not None:
            self.connection.builder.checked = checked

    # From the program.

    def begin(self, now: float) -> Connection:
        """Return the connection; if there is none, begin one and greet the host."""
        if self.connection is None:
            self.connection = Connection(
                self._next_id, self._congestion(MIN_PIECE), checked=self.checked
            )
            self._stage = ConnectionStage.GREETING
            self._hello_interval = HELLO_INTERVAL
            self._greetings = 0
            self._next_hello = now
        return self.connection

    def open(self, kind: StreamKind, now: float) -> StreamState | None:
        """Open a stream; return None if the peer's limit is reached."""
        connection = self.connection or self.begin(now)
        if not connection.can_open:
            return None
        if not connection.streams:
            self._heard = max(self._heard, now)
        return connection.open(kind)

    def say_whole(
        self,
        connection: Connection,
        stream: StreamState,
        data: bytes | memoryview,
        now: float,
        piece: int,
    ) -> bytes | None:
        """Return a packet with everything that this side sends on a stream.

        Returns:
            The packet, or None if it cannot be sent that way. Then nothing has happened: use
            ``write`` and ``finish`` of the connection.
        """
        if (
            connection is not self.connection
            or self._stage is not ConnectionStage.OPEN
            or self._replies.waiting
        ):
            return None
        return connection.builder.build_whole(
            stream, data, connection.local, connection.remote, now, piece
        )

    def hint(self, now: float) -> None:
        """Greet or probe the host now: the state of a link has changed."""
        connection = self.connection
        if connection is None:
            return
        if self._stage is ConnectionStage.GREETING:
            # Several links may come up within a round trip, before the first answer arrives.
            self._hello_interval = HELLO_INTERVAL
            self._greetings = 0
            self._next_hello = now
        else:
            connection.recovery.hint(now)
            connection.ping()

    def close(self, failure: Failure, code: Code, now: float) -> list[bytes]:
        """End the connection; return the packets that notify the peer."""
        connection = self.connection
        was_open = self._stage is ConnectionStage.OPEN
        if connection is None or not self._end(ConnectionCue.CLOSED_HERE, failure, now):
            return []
        return [self._close_packet(connection, code, failure.reason)] if was_open else []

    # From the other side.

    def receive(self, packet: bytes, now: float) -> None:
        """Process a packet from the host.

        Raises:
            StreamPacketError: The packet is refused.
        """
        connection = self.connection
        header = read_header_untrusted(packet)
        if header.kind is StreamPacketKind.FRAMES:
            if connection is None or (header.receiver, header.sender) != (
                connection.local,
                connection.remote,
            ):
                connection = self._find(header, now)
            self._frames_came(connection, packet, header.number, now)
        elif header.kind is StreamPacketKind.HELLO:
            self._hello_came(header, now)
        else:
            if connection is None or (header.receiver, header.sender) != (
                connection.local,
                connection.remote,
            ):
                raise StreamPacketError(Fault.NO_CONNECTION, "packet of an unknown connection")
            if header.kind is StreamPacketKind.UNKNOWN:
                self._end(ConnectionCue.UNKNOWN, Failure(FailureCause.FORGOTTEN, ""), now)
            else:
                code, reason = read_close_untrusted(packet)
                self._end(ConnectionCue.CLOSE, Failure(CAUSES[code], reason), now)

    def receive_many(
        self, packets: Sequence[bytes], start: int, now: float, errors: list[StreamPacketError]
    ) -> int:
        """Process packets from the host in order, up to ``MAX_FRAMES`` frames.

        The most frequent case, consecutive packets with data of one stream, is processed in one
        step.

        Args:
            packets: The packets.
            start: The index of the first packet to process.
            now: The time.
            errors: A list to which the errors of refused packets are appended.

        Returns:
            The index of the first packet that was not processed.
        """
        index, count = start, len(packets)
        self.frames = 0
        while index < count and self.frames < MAX_FRAMES:
            self.frames += 1
            try:
                index += self._receive_next(packets, index, now, errors)
            except StreamPacketError as error:
                errors.append(error)
                index += 1
        return index

    def _receive_next(
        self, packets: Sequence[bytes], index: int, now: float, errors: list[StreamPacketError]
    ) -> int:
        """Process one packet or a run of packets; return their number, and add to ``errors``."""
        packet, connection = packets[index], self.connection
        answer = read_answer_untrusted(packet)
        whole = read_whole_untrusted(packet) if answer is None else None
        if (
            connection is not None
            and answer is not None
            and answer[:2] == (connection.remote, connection.local)
        ):
            try:
                connection.receive_answer(now, *answer[2:])
            except StreamPacketError as error:
                self._refuse(connection, error, now)
                raise
            self._heard = now
            return 1
        if (
            connection is None
            or whole is None
            or whole[:2] != (connection.remote, connection.local)
        ):
            self.receive(packet, now)
            return 1
        _, _, number, kind, stream, offset, data, last, asks = whole
        more = read_run_untrusted(packets, index) if data and not (last or asks) else []
        if more and connection.receive_run(number, now, stream, kind, offset, data, more):
            self._heard = now
            return 1 + len(more)
        for place, piece in enumerate((data, *more)):
            start = offset + place * len(data)
            try:
                connection.receive_data(
                    number + place,
                    now,
                    stream,
                    kind,
                    start,
                    piece,
                    last=last == 1,
                    asks=asks == 1,
                )
            except StreamPacketError as error:
                errors.append(error)
                if self._refuse(connection, error, now):
                    # The connection has ended: the following packets belong to none.
                    return place + 1
            else:
                self._heard = now
        return 1 + len(more)

    def _frames_came(self, connection: Connection, packet: bytes, number: int, now: float) -> None:
        try:
            self.frames += connection.receive(packet, number, now)
        except StreamPacketError as error:
            self._refuse(connection, error, now)
            raise
        self._heard = now

    def _refuse(self, connection: Connection, error: StreamPacketError, now: float) -> bool:
        """End the connection if the error is a violation; return whether it has ended."""
        if error.fault not in VIOLATIONS:
            return False
        self._replies.add(self._close_packet(connection, Code.VIOLATION, str(error)))
        failure = Failure(FailureCause.BROKEN_RULES, str(error))
        return self._end(ConnectionCue.VIOLATION, failure, now)

    def _find(self, header: PacketHeader, now: float) -> Connection:
        """Return the connection that a packet with both ids opens.

        Raises:
            StreamPacketError: The ids are of no connection; UNKNOWN is queued as the reply.
        """
        connection = self.connection
        if connection is not None and connection.local == header.receiver:
            if self._stage is ConnectionStage.GREETING:
                self._opens(connection, header.sender, ConnectionCue.BOTH_IDS, now)
                return connection
        elif header.receiver == self._next_id:
            if connection is not None:
                cause = FailureCause.RESTARTED
                if is_of_incarnation(header.sender, connection.remote):
                    cause = FailureCause.FORGOTTEN
                self._end(ConnectionCue.RESTART, Failure(cause, ""), now)
            connection = self.begin(now)
            self._opens(connection, header.sender, ConnectionCue.BOTH_IDS, now)
            return connection
        self._replies.add(self._replies.unknown(header.sender, header.receiver))
        raise StreamPacketError(Fault.NO_CONNECTION, "packet of an unknown connection")

    def _hello_came(self, header: PacketHeader, now: float) -> None:
        connection = self.connection
        if header.receiver:
            if connection is None or header.receiver != connection.local:
                raise StreamPacketError(Fault.NO_CONNECTION, "answer to an unknown greeting")
            if self._opens(connection, header.sender, ConnectionCue.ANSWER, now):
                # A packet with both ids opens the connection at the peer.
                connection.ping()
        elif connection is None or header.sender != connection.remote:
            self._replies.add(self._hello(header.sender))

    def _opens(self, connection: Connection, remote: int, cue: ConnectionCue, now: float) -> bool:
        if not self._advance(cue):
            return False
        connection.remote = remote
        self._next_id = (connection.local + 1) % _IDS or 1
        self._heard = now
        self._next_hello = math.inf
        return True

    def _hello(self, remote: int) -> bytes:
        connection = self.connection
        greets = connection is not None and self._stage is ConnectionStage.GREETING
        local = connection.local if connection is not None and greets else self._next_id
        return self._replies.hello(local, remote)

    def _close_packet(self, connection: Connection, code: Code, reason: str) -> bytes:
        return self._replies.closing(connection.local, connection.remote, code, reason)

    # Time.

    @property
    def deadline(self) -> float:
        """When ``poll`` has to be called next; minus infinity if packets can be sent now."""
        if self._replies.waiting:
            return -math.inf
        connection = self.connection
        if connection is None:
            return math.inf
        if self._stage is not ConnectionStage.OPEN:
            return min(self._next_hello, self._silence(connection))
        # Called for each packet: `min` and properties would take too long.
        builder, recovery = connection.builder, connection.recovery
        if (builder.ready or builder.controls) and builder.may_send:
            return -math.inf
        due = connection.received.deadline
        if recovery.loss_deadline < due:
            due = recovery.loss_deadline
        on_its_way = recovery.probe_deadline < math.inf
        if on_its_way:
            if recovery.probe_deadline < due:
                due = recovery.probe_deadline
            if recovery.waiting_since + self._patience < due:
                due = recovery.waiting_since + self._patience
        if not connection.streams:
            return due
        silence = self._heard + self._patience
        if silence < due:
            due = silence
        return due if on_its_way else min(due, builder.last_eliciting + self._keepalive)

    @property
    def silence_deadline(self) -> float:
        """When the connection fails if nothing arrives or is acknowledged by then."""
        connection = self.connection
        return math.inf if connection is None else self._silence(connection)

    def poll(self, now: float, piece: int, count: int) -> Sequence[bytes]:
        """Run the timers that have expired, and return the packets to send now.

        Args:
            now: The time [seconds].
            piece: The largest packet size [bytes].
            count: The largest number of packets, without a few short replies.
        """
        packets = self._replies.take()
        connection = self.connection
        if connection is None:
            return packets
        if now >= self._silence(connection):
            self._is_silent(connection, now)
            if self.connection is None:
                return packets + self._replies.take()
        if self._stage is ConnectionStage.GREETING:
            packets += self._greet(connection, now)
            return packets
        connection.check_timers(now)
        keepalive = connection.builder.last_eliciting + self._keepalive
        if connection.has_streams and now >= keepalive and not connection.has_unacknowledged:
            connection.ping()
        built = connection.builder.build(connection.local, connection.remote, now, piece, count)
        return [*packets, *built] if packets else built

    def _greet(self, connection: Connection, now: float) -> list[bytes]:
        if now < self._next_hello:
            return []
        if self._greetings >= GREETINGS and not connection.has_streams:
            self._end(ConnectionCue.GIVE_UP, Failure(FailureCause.SILENCE, ""), now)
            return []
        self._greetings += 1
        self._next_hello = now + self._hello_interval
        self._hello_interval = min(2 * self._hello_interval, MAX_HELLO_INTERVAL)
        return [self._hello(0)]

    def _is_silent(self, connection: Connection, now: float) -> None:
        late = now - self._silence(connection)
        if late > STALL:
            # This process was not running. Packets that arrived meanwhile are not processed yet,
            # and the peer may have had no reason to send any.
            since = now - self._patience + min(late, self._patience)
            self._heard = max(self._heard, since)
            connection.recovery.wait_again(since)
            self.hint(now)
            return
        if self._stage is ConnectionStage.OPEN:
            self._replies.add(self._close_packet(connection, Code.SILENCE, ""))
        self._end(ConnectionCue.SILENCE, Failure(FailureCause.SILENCE, ""), now)

    def _silence(self, connection: Connection) -> float:
        since = self._heard if connection.has_streams else math.inf
        recovery = connection.recovery
        if len(recovery):
            # Without streams too: otherwise an idle connection would send probes to a host that is
            # gone without end.
            since = min(since, recovery.waiting_since)
        return since + self._patience

    def _advance(self, cue: ConnectionCue) -> bool:
        stage = CONNECTION_TRANSITIONS.get((self._stage, cue))
        if stage is None:
            return False
        self._stage = stage
        return True

    def _end(self, cue: ConnectionCue, failure: Failure, now: float) -> bool:
        connection = self.connection
        if connection is None or not self._advance(cue):
            return False
        # The peer knows the id, which is therefore not reused.
        self._next_id = (connection.local + 1) % _IDS or 1
        self._next_hello = math.inf
        self.connection = None
        self._heard = now
        connection.fail(failure)
        self.ended.append(connection)
        return True
