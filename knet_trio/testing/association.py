"""One end of an SCTP association on a simulated network.

Messages are cut into pieces, each a packet (``pieces``). Lost pieces are retransmitted, so that all
messages arrive in order. The simulation covers the parts of SCTP that programs notice; it has no
congestion control.
"""

from __future__ import annotations

import enum
import errno
import math
import os
from abc import abstractmethod
from typing import Final, Protocol

import trio

from knet_trio._core.parted import Parts
from knet_trio._transport import sctp_socket
from knet_trio._transport.sctp_system import AssociationLostError, AssociationSocket
from knet_trio.address import Address
from knet_trio.testing.chunks import Chunk, ChunkKind
from knet_trio.testing.endpoint import CONNECTED_SHARE
from knet_trio.testing.pieces import PieceReceiver, PieceSender
from knet_trio.testing.queues import InterfaceState

# Linux's values: the first and the longest retransmission timeout [seconds], the retransmissions
# before an association fails, the attempts to connect, the heartbeat interval [seconds].
_FIRST_RETRY: Final = 1.0
_LAST_RETRY: Final = 60.0
_RETRIES: Final = 10
_ATTEMPTS: Final = 8
_HEARTBEAT: Final = 30.0


class AssociationPhase(enum.Enum):
    """The phase of an association's end; the value describes it."""

    ASKING = "the peer has not answered yet"
    THERE = "the association is established"
    CLOSING = "closed here, while not everything is acknowledged"
    OVER = "the association has ended"


class AssociationMedium(Protocol):
    """The network, as the ends of associations see it."""

    @abstractmethod
    def post(self, end: SimulatedAssociation, chunk: Chunk) -> None:
        """Send a packet to the other end; the packet may get lost."""

    @abstractmethod
    def piece_size(self, end: SimulatedAssociation) -> int:
        """Return the bytes of a message that fit in one packet."""

    @abstractmethod
    def call_at(self, when: float, end: SimulatedAssociation) -> None:
        """Call ``end.expire`` at the time ``when``."""

    @abstractmethod
    def forget(self, end: SimulatedAssociation) -> None:
        """Forget an end that is over."""


class SimulatedAssociation(AssociationSocket):
    """One end of an association.

    Args:
        medium: The network.
        interface: The interface of this end.
        seen: The address of this end, as others see it.
        peer: The address of the other end.
        tag: Distinguishes the association from others between these addresses.
        retry: The interval of attempts to connect [seconds]; None if the peer connects.
        room: The free space in the peer's receive buffer [bytes], if the peer connects.

    Attributes:
        interface: The interface of this end.
        seen: The address of this end, as others see it.
        peer: The address of the other end.
        tag: Distinguishes the association from others between these addresses.
        phase: The phase.
    """

    def __init__(
        self,
        medium: AssociationMedium,
        interface: InterfaceState,
        seen: Address,
        peer: Address,
        tag: int,
        *,
        retry: float | None = None,
        room: float = 0.0,
    ) -> None:
        self.interface = interface
        self.seen = seen
        self.peer = peer
        self.tag: int = tag
        self.phase = AssociationPhase.THERE if retry is None else AssociationPhase.ASKING
        self._medium = medium
        self._asked_each = 0.0 if retry is None else retry
        self._lost: AssociationLostError | None = None
        self._woken = False
        self._readers = trio.lowlevel.ParkingLot()
        self._writers = trio.lowlevel.ParkingLot()
        # The next timeout, and when ``expire`` is called next.
        self._deadline = math.inf
        self._alarm = math.inf
        self._begin(room)
        if retry is None:
            self._set_deadline()
        else:
            self._ask()

    def _begin(self, room: float) -> None:
        """Start with nothing sent and nothing received."""
        self._sender = PieceSender(self.tag, room)
        self._receiver = PieceReceiver(lambda: self.interface.settings.receive_buffer)
        self._losses = 0
        self._retry = _FIRST_RETRY

    # Called by the handle.

    def find_error(self) -> int:
        """Return the errno of a failed attempt to connect; 0 if it has succeeded."""
        return 0 if self._lost is None else self._lost.number

    def read(self) -> bytes | None:
        """Return the next message.

        Raises:
            BlockingIOError: There is nothing to read.
            AssociationLostError: The association has ended and all messages were read.
        """
        if self.is_empty():
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if not self._receiver.messages:
            assert self._lost is not None
            raise self._lost
        message = self._receiver.take()
        if self.phase is AssociationPhase.THERE and self._receiver.has_grown:
            self._acknowledge()
        return message

    def is_empty(self) -> bool:
        """Return whether there is nothing to read."""
        return self.interface.paused or not (self._receiver.messages or self._lost)

    def send(self, packet: bytes) -> None:
        """Send a message, if the send buffer has room for it.

        Raises:
            BlockingIOError: The send buffer is full.
            OSError: The association has ended.
        """
        if self.phase is not AssociationPhase.THERE:
            number = errno.EPIPE if self._lost is None else self._lost.number or errno.EPIPE
            raise OSError(number, os.strerror(number))
        queued = self._sender.queued
        if self.interface.paused or (queued and queued + len(packet) > self._send_buffer):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self._sender.put(packet, self._medium.piece_size(self))
        self._transmit()

    def send_parts(self, parts: Parts) -> None:
        """Send a message that is in parts, as ``send`` does."""
        self.send(b"".join(parts))

    def backlog(self) -> float:
        """Return the used share of the send buffer, 0 to 1."""
        return min(1.0, self._sender.queued / self._send_buffer)

    async def wait_readable(self) -> None:
        """Wait until there is something to read or ``wake`` was called."""
        if not self.is_empty() or self._woken:
            await trio.lowlevel.checkpoint()
        while self.is_empty() and not self._woken:
            if self.phase is AssociationPhase.OVER:
                # The process was paused before it could read the end.
                self._medium.forget(self)
            await self._readers.park()

    async def wait_writable(self) -> None:
        """Wait for the end of the attempt to connect, a half-empty send buffer, or ``wake``."""
        if self._is_writable() or self._woken:
            await trio.lowlevel.checkpoint()
        while not self._is_writable() and not self._woken:
            await self._writers.park()

    def wake(self) -> None:
        """Wake all waiting tasks."""
        self._woken = True
        self.look_again()

    def set_dscp(self, dscp: int) -> None:
        """Do nothing: the simulation ignores DSCP."""

    def abort(self) -> None:
        """Close the association and notify the peer at once."""
        if self.phase in (AssociationPhase.THERE, AssociationPhase.CLOSING):
            self._post(ChunkKind.ABORT)
        self._finish()

    def close(self) -> None:
        """Close the association; the send buffer is still sent unless the interface is down."""
        if self.phase is not AssociationPhase.THERE or not self.interface.up:
            self._finish()
        elif self._receiver.messages:
            self.abort()
        else:
            self.phase = AssociationPhase.CLOSING
            self._go_on_closing()

    # Called by the network.

    def look_again(self) -> None:
        """Let waiting tasks check their conditions again."""
        self._readers.unpark_all()
        self._writers.unpark_all()

    def lose(self, number: int, words: str = "the association is lost") -> None:
        """End the association with an error, which is read after the messages that arrived."""
        if self.phase is not AssociationPhase.OVER:
            reason = f"{words}: {os.strerror(number)}" if number else words
            self._lost = AssociationLostError(reason, number)
            self._finish()

    def restart(self, tag: int, room: float) -> None:
        """Start again: the peer has restarted with the same addresses."""
        self.tag = tag
        self._begin(room)
        self._set_deadline()
        self._writers.unpark_all()

    def receive(self, chunk: Chunk) -> bool:
        """Process a packet from the other end; return False if there is no room for it."""
        kind = chunk.kind
        if kind is ChunkKind.INIT:
            self._post(ChunkKind.INIT_ACK, room=self._receiver.room)
        elif kind is ChunkKind.INIT_ACK:
            if self.phase is AssociationPhase.ASKING:
                self.phase = AssociationPhase.THERE
                self._losses = 0
                self._sender.set_room(chunk.room)
                self._set_deadline()
                self._writers.unpark_all()
        elif kind is ChunkKind.ABORT:
            self.lose(
                errno.ECONNREFUSED if self.phase is AssociationPhase.ASKING else errno.ECONNRESET
            )
        elif self.phase is AssociationPhase.ASKING:
            # The peer retransmits it.
            return True
        elif kind is ChunkKind.DATA:
            return self._take_piece(chunk)
        elif kind is ChunkKind.SACK:
            self._acknowledged(chunk)
        elif kind is ChunkKind.HEARTBEAT:
            self._post(ChunkKind.HEARTBEAT_ACK)
        elif kind is ChunkKind.HEARTBEAT_ACK:
            self._losses = 0
        elif kind is ChunkKind.SHUTDOWN:
            self._post(ChunkKind.SHUTDOWN_ACK)
            self.lose(0, sctp_socket.CLOSED)
        elif self.phase is AssociationPhase.CLOSING:
            # Otherwise it belongs to an earlier association with the same addresses.
            self._finish()
        return True

    def expire(self, now: float) -> None:
        """Run the timer if it has expired: retransmit, or give up after too many attempts."""
        if now >= self._alarm:
            self._alarm = math.inf
        if self.phase is AssociationPhase.OVER:
            return
        if now < self._deadline:
            self._set_alarm()
            return
        self._losses += 1
        if self._losses > (_ATTEMPTS if self.phase is AssociationPhase.ASKING else _RETRIES):
            self.lose(errno.ETIMEDOUT)
        elif self.phase is AssociationPhase.ASKING:
            self._ask()
        elif not self._sender.is_idle:
            self._retry = min(2 * self._retry, _LAST_RETRY)
            self._sender.give_up_flight()
            self._transmit()
            self._set_deadline()
        elif self.phase is AssociationPhase.CLOSING:
            self._go_on_closing()
        else:
            self._post(ChunkKind.HEARTBEAT)
            self._set_deadline()

    # Sending.

    @property
    def _send_buffer(self) -> float:
        return self.interface.settings.send_buffer * CONNECTED_SHARE

    def _is_writable(self) -> bool:
        if self.phase is AssociationPhase.THERE:
            return not self.interface.paused and 2 * self._sender.queued <= self._send_buffer
        return self.phase is not AssociationPhase.ASKING

    def _post(self, kind: ChunkKind, *, room: float = 0.0) -> None:
        self._medium.post(self, Chunk(kind, self.tag, room=room))

    def _ask(self) -> None:
        self._post(ChunkKind.INIT, room=self._receiver.room)
        self._deadline = trio.current_time() + self._asked_each
        self._set_alarm()

    def _transmit(self) -> None:
        """Send the pieces that the peer has room for."""
        was_idle = self._sender.is_idle
        for piece in self._sender.take_due():
            self._medium.post(self, piece)
        if was_idle:
            self._set_deadline()

    def _acknowledged(self, chunk: Chunk) -> None:
        """Process an acknowledgement."""
        # The peer is alive, even if it has no room.
        self._losses = 0
        if self._sender.acknowledged(chunk.number, chunk.room, chunk.early):
            self._retry = _FIRST_RETRY
            self._set_deadline()
        for piece in self._sender.take_missed():
            self._medium.post(self, piece)
        self._transmit()
        if self.phase is AssociationPhase.CLOSING:
            self._go_on_closing()
        elif self._is_writable():
            self._writers.unpark_all()

    def _go_on_closing(self) -> None:
        if self._sender.is_done:
            self._post(ChunkKind.SHUTDOWN)
            self._set_deadline()

    def _finish(self) -> None:
        self.phase = AssociationPhase.OVER
        self._medium.forget(self)
        self.look_again()

    def _set_deadline(self) -> None:
        idle = self.phase is AssociationPhase.THERE and self._sender.is_idle
        self._deadline = trio.current_time() + (_HEARTBEAT if idle else self._retry)
        self._set_alarm()

    def _set_alarm(self) -> None:
        if self._deadline < self._alarm:
            self._alarm = self._deadline
            self._medium.call_at(self._deadline, self)

    # Receiving.

    def _take_piece(self, chunk: Chunk) -> bool:
        receiver = self._receiver
        taken = receiver.put(chunk)
        if self.phase is AssociationPhase.CLOSING:
            # Closed: nobody reads the messages.
            while receiver.messages:
                receiver.take()
        self._acknowledge()
        if receiver.messages:
            self._readers.unpark_all()
        return taken

    def _acknowledge(self) -> None:
        self._medium.post(self, self._receiver.acknowledge(self.tag))
