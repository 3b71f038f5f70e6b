"""All connections with one host, one after the other: how they begin, and how they end.

Each connection has an id on each side. An endpoint draws a number when it starts, its incarnation,
and its connections with a host have the ids that follow it: so an id is never used twice, and who
has started again has others. A greeting (HELLO) has the id that the next connection of its sender
would have, and is answered with that of the receiver. Nothing is remembered of one that was
answered. The connection begins when a packet comes that has both ids: then the one that sent it
has seen the answer, so the greeting was not an old one, and its sender is there.

- A greeting of a host with which there is a connection says that it has started again. That
  connection ends when the new one begins, and not before.
- A packet with an id that is not in use is answered with UNKNOWN, which has both its ids. Whoever
  gets that for a connection it has knows that the other side has lost it.
- Two that greet each other at the same time answer each other, with the ids that they have sent.
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
# Ids that are this close are of one incarnation.
_SAME_INCARNATION: Final = 2**32


class Conversation:
    """What this side and one host have to say to each other.

    Call ``receive`` for each packet, and ``poll`` when ``deadline`` has come or anything was called
    that has something sent.

    Args:
        incarnation: A number of 64 bits that was drawn at random.
        patience: Seconds of silence after which a connection has failed.
        checked: Whether packets have checksums.
        congestion: Makes the congestion control of a connection, for packets of so many bytes.

    Attributes:
        connection: The connection that there is, or that begins; to be read only.
        ended: Connections that have failed; who looks at them takes them out.
        frames: How many frames, or packets of which each has one, ``receive_many`` took last.
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
        self.frames = 0
        self._replies = Replies(checked=checked)
        self.ended: list[Connection] = []

    @property
    def stage(self) -> ConnectionStage:
        """How far the connection is."""
        return self._stage

    @property
    def checked(self) -> bool:
        """Whether packets that are made from now on have checksums; settable."""
        return self._replies.checked

    @checked.setter
    def checked(self, checked: bool) -> None:
        self._replies.checked = checked
        if self.connection is not None:
            self.connection.builder.checked = checked

    # From the program.

    def begin(self, now: float) -> Connection:
        """Return the connection; greet the host if there is none."""
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
        """Open a stream; None if the other side lets no more be opened now."""
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
        """Return the one packet that has all that this side will ever say on a stream.

        Returns:
            None if it is not that simple, and nothing has happened: write it and end it.
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
        """Find out how things are: there is news of the links."""
        connection = self.connection
        if connection is None:
            return
        if self._stage is ConnectionStage.GREETING:
            # Several links may come up within a round trip: no answer may have come yet.
            self._hello_interval = HELLO_INTERVAL
            self._greetings = 0
            self._next_hello = now
        else:
            connection.recovery.hint(now)
            connection.ping()

    def close(self, failure: Failure, code: Code, now: float) -> list[bytes]:
        """End the connection; return the packets that tell the other side."""
        connection = self.connection
        was_open = self._stage is ConnectionStage.OPEN
        if connection is None or not self._end(ConnectionCue.CLOSED_HERE, failure, now):
            return []
        return [self._close_packet(connection, code, failure.reason)] if was_open else []

    # From the other side.

    def receive(self, packet: bytes, now: float) -> None:
        """Take a packet from the host.

        Raises:
            StreamPacketError: It is refused.
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
                raise StreamPacketError(Fault.NO_CONNECTION, "it is of no connection")
            if header.kind is StreamPacketKind.UNKNOWN:
                self._end(ConnectionCue.UNKNOWN, Failure(FailureCause.FORGOTTEN, ""), now)
            else:
                code, reason = read_close_untrusted(packet)
                self._end(ConnectionCue.CLOSE, Failure(CAUSES[code], reason), now)

    def receive_many(
        self, packets: Sequence[bytes], start: int, now: float, errors: list[StreamPacketError]
    ) -> int:
        """Take packets from the host in their order, until there were many frames in them.

        What comes most, packets with the data of one stream that follow each other, is read and
        taken in one go.

        Args:
            packets: The packets.
            start: The number of the first that is to be taken.
            now: The time.
            errors: Gets why some were refused.

        Returns:
            The number of the first that was not taken.
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
        """Take one packet, or more that follow it; return how many, and add what was refused."""
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
                    # Those that follow are of no connection any more.
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
        """End the connection if the other side broke the rules; return whether it did."""
        if error.fault not in VIOLATIONS:
            return False
        self._replies.add(self._close_packet(connection, Code.VIOLATION, str(error)))
        failure = Failure(FailureCause.BROKEN_RULES, str(error))
        return self._end(ConnectionCue.VIOLATION, failure, now)

    def _find(self, header: PacketHeader, now: float) -> Connection:
        """Return the connection that begins with a packet that has both its ids."""
        connection = self.connection
        if connection is not None and connection.local == header.receiver:
            if self._stage is ConnectionStage.GREETING:
                self._opens(connection, header.sender, ConnectionCue.BOTH_IDS, now)
                return connection
        elif header.receiver == self._next_id:
            if connection is not None:
                before = (header.sender - connection.remote) % _IDS
                cause = FailureCause.RESTARTED
                if before < _SAME_INCARNATION:
                    cause = FailureCause.FORGOTTEN
                self._end(ConnectionCue.RESTART, Failure(cause, ""), now)
            connection = self.begin(now)
            self._opens(connection, header.sender, ConnectionCue.BOTH_IDS, now)
            return connection
        self._replies.add(self._replies.unknown(header.sender, header.receiver))
        raise StreamPacketError(Fault.NO_CONNECTION, "it is of no connection")

    def _hello_came(self, header: PacketHeader, now: float) -> None:
        connection = self.connection
        if header.receiver:
            if connection is None or header.receiver != connection.local:
                raise StreamPacketError(Fault.NO_CONNECTION, "it answers no greeting")
            if self._opens(connection, header.sender, ConnectionCue.ANSWER, now):
                # So that the other side has seen both ids.
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
        """When ``poll`` has to be called next; minus infinity if there is something to send."""
        if self._replies.waiting:
            return -math.inf
        connection = self.connection
        if connection is None:
            return math.inf
        if self._stage is not ConnectionStage.OPEN:
            return min(self._next_hello, self._silence(connection))
        # This is asked for each packet, so that `min` and properties would take too long.
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
        """When the connection fails if nothing comes, or is acknowledged, until then."""
        connection = self.connection
        return math.inf if connection is None else self._silence(connection)

    def poll(self, now: float, piece: int, count: int) -> Sequence[bytes]:
        """Return packets to be sent now.

        Args:
            now: The time in seconds.
            piece: How many bytes a packet may have.
            count: How many packets there may be, but for a few short ones.
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
            # This process was not running. What has come meanwhile has not been looked at, and the
            # other side may have had no reason to say anything.
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
            # Without streams too: else an idle connection would send probes to a host that is gone
            # for as long as that is.
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
        # The id has been told to the other side, and is not used again.
        self._next_id = (connection.local + 1) % _IDS or 1
        self._next_hello = math.inf
        self.connection = None
        self._heard = now
        connection.fail(failure)
        self.ended.append(connection)
        return True
