"""One end of an association on a simulated network.

Messages are cut into pieces, each a packet (``pieces``). Those that get lost are sent again, so
that all arrive, in order. What is here of SCTP is what programs notice; it has no congestion
control.
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

# As Linux has them: seconds until something is sent again, at first and at most; how often that is
# done, and how often an association is asked for; seconds between two heartbeats.
_FIRST_RETRY: Final = 1.0
_LAST_RETRY: Final = 60.0
_RETRIES: Final = 10
_ATTEMPTS: Final = 8
_HEARTBEAT: Final = 30.0


class AssociationPhase(enum.Enum):
    """How far an end is."""

    ASKING = "the peer has not answered yet"
    THERE = "there is an association"
    CLOSING = "closed here, and not everything has arrived yet"
    OVER = "there is none any more"


class AssociationMedium(Protocol):
    """The network, as the ends of associations see it."""

    @abstractmethod
    def post(self, end: SimulatedAssociation, chunk: Chunk) -> None:
        """Send a packet to the other end; it may get lost."""

    @abstractmethod
    def piece_size(self, end: SimulatedAssociation) -> int:
        """Return how many bytes of a message go in one packet."""

    @abstractmethod
    def call_at(self, when: float, end: SimulatedAssociation) -> None:
        """Call ``expire`` at that time."""

    @abstractmethod
    def forget(self, end: SimulatedAssociation) -> None:
        """An end is over."""


class SimulatedAssociation(AssociationSocket):
    """One end of an association.

    Args:
        medium: The network.
        interface: The interface of this end.
        seen: The address that others see it at.
        peer: The address at the other end.
        tag: What tells the association apart from others with these addresses.
        retry: Seconds until an association is asked for again; None if the peer has asked.
        room: The bytes that the receive buffer of the peer has room for, if it has asked.

    Attributes:
        interface: The interface of this end.
        seen: The address that others see it at.
        peer: The address at the other end.
        tag: What tells the association apart from others with these addresses.
        phase: How far it is.
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
        self.tag = tag
        self.phase = AssociationPhase.THERE if retry is None else AssociationPhase.ASKING
        self._medium = medium
        self._asked_each = 0.0 if retry is None else retry
        self._lost: AssociationLostError | None = None
        self._woken = False
        self._readers = trio.lowlevel.ParkingLot()
        self._writers = trio.lowlevel.ParkingLot()
        # When something is done if nothing arrives, and when ``expire`` is called next.
        self._deadline = math.inf
        self._alarm = math.inf
        self._begin(room)
        if retry is None:
            self._set_deadline()
        else:
            self._ask()

    def _begin(self, room: float) -> None:
        """Nothing has been sent, and nothing has arrived."""
        self._sender = PieceSender(self.tag, room)
        self._receiver = PieceReceiver(lambda: self.interface.settings.receive_buffer)
        self._losses = 0
        self._retry = _FIRST_RETRY

    # What the handle does.

    def find_error(self) -> int:
        """Return why an attempt has failed, 0 if there is an association now."""
        return 0 if self._lost is None else self._lost.number

    def read(self) -> bytes | None:
        """Take a message."""
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
        """Take a message, if there is room for all of it."""
        if self.phase is not AssociationPhase.THERE:
            number = errno.EPIPE if self._lost is None else self._lost.number or errno.EPIPE
            raise OSError(number, os.strerror(number))
        queued = self._sender.queued
        if self.interface.paused or (queued and queued + len(packet) > self._send_buffer):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self._sender.put(packet, self._medium.piece_size(self))
        self._transmit()

    def send_parts(self, parts: Parts) -> None:
        """Take a message that is in parts."""
        self.send(b"".join(parts))

    def backlog(self) -> float:
        """Return how much of the send buffer is in use."""
        return min(1.0, self._sender.queued / self._send_buffer)

    async def wait_readable(self) -> None:
        """Wait until there is something to read, or ``wake`` was called."""
        if not self.is_empty() or self._woken:
            await trio.lowlevel.checkpoint()
        while self.is_empty() and not self._woken:
            if self.phase is AssociationPhase.OVER:
                # The process was stopped before it could read that.
                self._medium.forget(self)
            await self._readers.park()

    async def wait_writable(self) -> None:
        """Wait until an attempt is over, until half of the buffer is free, or for ``wake``."""
        if self._is_writable() or self._woken:
            await trio.lowlevel.checkpoint()
        while not self._is_writable() and not self._woken:
            await self._writers.park()

    def wake(self) -> None:
        """Wake whoever waits."""
        self._woken = True
        self.look_again()

    def set_dscp(self, dscp: int) -> None:
        """Nothing here goes by that."""

    def abort(self) -> None:
        """Close it so that the peer is told at once."""
        if self.phase in (AssociationPhase.THERE, AssociationPhase.CLOSING):
            self._post(ChunkKind.ABORT)
        self._finish()

    def close(self) -> None:
        """Close it; what waits to be sent is still sent, if the machine has power."""
        if self.phase is not AssociationPhase.THERE or not self.interface.up:
            self._finish()
        elif self._receiver.messages:
            self.abort()
        else:
            self.phase = AssociationPhase.CLOSING
            self._go_on_closing()

    # What the network does.

    def look_again(self) -> None:
        """Have those who wait look again."""
        self._readers.unpark_all()
        self._writers.unpark_all()

    def lose(self, number: int, words: str = "the association is lost") -> None:
        """There is no association any more, which is read after all that has arrived."""
        if self.phase is not AssociationPhase.OVER:
            reason = f"{words}: {os.strerror(number)}" if number else words
            self._lost = AssociationLostError(reason, number)
            self._finish()

    def restart(self, tag: int, room: float) -> None:
        """The peer has begun anew, with the same addresses."""
        self.tag = tag
        self._begin(room)
        self._set_deadline()
        self._writers.unpark_all()

    def receive(self, chunk: Chunk) -> bool:
        """A packet arrives from the other end; False if there is no room for it."""
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
            # It will come again.
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
            # Else it answers one that had the same addresses before.
            self._finish()
        return True

    def expire(self, now: float) -> None:
        """Some time has come: send again what was not answered, and see if there is any use."""
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
        """Send what the peer has room for."""
        was_idle = self._sender.is_idle
        for piece in self._sender.take_due():
            self._medium.post(self, piece)
        if was_idle:
            self._set_deadline()

    def _acknowledged(self, chunk: Chunk) -> None:
        """The peer says what has arrived."""
        # It is there, whatever it has room for.
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
            # Nobody reads it any more.
            while receiver.messages:
                receiver.take()
        self._acknowledge()
        if receiver.messages:
            self._readers.unpark_all()
        return taken

    def _acknowledge(self) -> None:
        self._medium.post(self, self._receiver.acknowledge(self.tag))
