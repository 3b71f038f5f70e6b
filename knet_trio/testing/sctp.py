"""SCTP on a simulated network: the table of listeners and associations."""

from __future__ import annotations

import errno
import os
import random
from abc import abstractmethod
from collections import deque
from functools import partial
from typing import Final, Protocol

import trio

from knet_trio._core.sizes import IPV4_HEADER, IPV6_HEADER
from knet_trio._transport.sctp_socket import BACKLOG, LONGEST_RETRY, SHORTEST_RETRY
from knet_trio._transport.sctp_system import ListeningSocket
from knet_trio.address import Address
from knet_trio.testing.association import AssociationMedium, AssociationPhase, SimulatedAssociation
from knet_trio.testing.chunks import CHUNK_HEADERS, Chunk, ChunkKind
from knet_trio.testing.packets import Fate
from knet_trio.testing.queues import InterfaceState, Outgoing, Sender
from knet_trio.testing.sockets import choose_address
from knet_trio.testing.timeline import Timeline

# The local ports of outgoing associations, as on Linux.
_EPHEMERAL_PORTS: Final = range(32768, 61000)


class Paths(Protocol):
    """The rest of the network, as the SCTP stack sees it."""

    timeline: Timeline

    @abstractmethod
    def state(self, host: str) -> InterfaceState:
        """Return the interface with an address; create it if needed."""

    @abstractmethod
    def path_mtu(self, source: str, destination: str) -> int:
        """Return the largest packet that passes between two addresses now, in bytes."""


class SctpStack(AssociationMedium, Sender):
    """The listeners and the ends of associations, by their addresses as others see them."""

    def __init__(self, seed: int, paths: Paths) -> None:
        self._paths = paths
        self._random = random.Random(f"{seed} ports of associations")
        self._tags = 0
        self._listeners: dict[Address, SimulatedListener] = {}
        # By local and remote address.
        self._ends: dict[tuple[Address, Address], SimulatedAssociation] = {}
        # Ends that were over while their process was paused; it is notified when it resumes.
        self._over: list[SimulatedAssociation] = []

    def listen(self, local: Address, mark: int | None, *, privileged: bool) -> SimulatedListener:
        """Listen at ``local``; port 0 chooses a free port, and the options have no effect."""
        local = choose_address(local, "SCTP", self._listeners.__contains__)
        listener = SimulatedListener(self, local, self._paths.state(local.host))
        self._listeners[local] = listener
        return listener

    def connect(
        self, listener: SimulatedListener, peer: Address, retry: float
    ) -> SimulatedAssociation:
        """Start an association with ``peer``, with an attempt every ``retry`` seconds.

        Raises:
            OSError: The interface is down.
        """
        if not listener.interface.up:
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        self._tags += 1
        seen = self._choose_port(listener.seen, peer)
        retry = min(max(retry, SHORTEST_RETRY), LONGEST_RETRY)
        end = SimulatedAssociation(self, listener.interface, seen, peer, self._tags, retry=retry)
        self._ends[seen, peer] = end
        return end

    def remove(self, listener: SimulatedListener) -> None:
        """Remove a listener that was closed."""
        del self._listeners[listener.seen]

    def wake(self, state: InterfaceState) -> None:
        """Let the sockets of an interface check its state again."""
        for listener in self._listeners.values():
            if listener.interface is state:
                listener.look_again()
        over, self._over = self._over, []
        for end in (*self._ends.values(), *over):
            if end.interface is state:
                end.look_again()
            if end.interface.paused and end.phase is AssociationPhase.OVER:
                self._over.append(end)

    def move(self, old: str, new: str) -> None:
        """Move everything at one address to another, as others see it."""
        for listener in [one for one in self._listeners.values() if one.seen.host == old]:
            del self._listeners[listener.seen]
            listener.seen = listener.seen._replace(host=new)
            self._listeners[listener.seen] = listener
        for end in [one for one in self._ends.values() if one.seen.host == old]:
            del self._ends[end.seen, end.peer]
            end.seen = end.seen._replace(host=new)
            self._ends[end.seen, end.peer] = end

    def break_between(self, a: str, b: str) -> int:
        """Break all associations between two addresses; return the number of ends notified."""
        ends = [one for one in self._ends.values() if {one.seen.host, one.peer.host} == {a, b}]
        for end in ends:
            end.lose(errno.ECONNRESET)
        return len(ends)

    # Packets.

    def receive(self, destination: Address, source: Address, chunk: Chunk) -> Fate:
        """Process a packet that arrives; return its fate."""
        end = self._ends.get((destination, source))
        if chunk.kind is ChunkKind.INIT:
            return self._asked(end, destination, source, chunk)
        if end is not None and end.tag == chunk.tag:
            return Fate.DELIVERED if end.receive(chunk) else Fate.BUFFER_FULL
        # The packet is of an association that has ended.
        if chunk.kind is ChunkKind.SHUTDOWN:
            self._answer(destination, source, ChunkKind.SHUTDOWN_ACK, chunk.tag)
        elif chunk.kind in (ChunkKind.DATA, ChunkKind.HEARTBEAT, ChunkKind.INIT_ACK):
            self._answer(destination, source, ChunkKind.ABORT, chunk.tag)
        return Fate.REFUSED

    def _asked(
        self,
        end: SimulatedAssociation | None,
        destination: Address,
        source: Address,
        chunk: Chunk,
    ) -> Fate:
        """Process an INIT, which may be a repeated one."""
        if end is not None and end.phase is not AssociationPhase.THERE:
            # An end that is closing makes room for the new association.
            end.lose(errno.ECONNRESET)
            end = None
        if end is None:
            listener = self._listeners.get(destination)
            if listener is None or len(listener.waiting) >= BACKLOG:
                self._answer(destination, source, ChunkKind.ABORT, chunk.tag)
                return Fate.REFUSED
            state = self._paths.state(destination.host)
            end = SimulatedAssociation(self, state, destination, source, chunk.tag, room=chunk.room)
            self._ends[destination, source] = end
            listener.waiting.append(end)
            listener.look_again()
        elif end.tag != chunk.tag:
            end.restart(chunk.tag, chunk.room)
        end.receive(chunk)
        return Fate.DELIVERED

    def _answer(self, source: Address, destination: Address, kind: ChunkKind, tag: int) -> None:
        state = self._paths.state(source.host)
        self._send(state, source, destination, Chunk(kind, tag))

    def post(self, end: SimulatedAssociation, chunk: Chunk) -> None:
        """Send a packet to the other end; the packet may get lost."""
        self._send(end.interface, end.seen, end.peer, chunk)

    def _send(
        self, state: InterfaceState, source: Address, destination: Address, chunk: Chunk
    ) -> None:
        """Send a packet; it is lost if the interface is down or its queue is full."""
        if not state.up:
            return
        headers = (IPV6_HEADER if destination.is_ipv6 else IPV4_HEADER) + CHUNK_HEADERS
        size = headers + len(chunk.data)
        now = trio.current_time()
        state.send(Outgoing(self, source, destination, chunk.data, size, now, chunk), now)

    def piece_size(self, end: SimulatedAssociation) -> int:
        """Return the bytes of a message that fit in one packet."""
        headers = (IPV6_HEADER if end.peer.is_ipv6 else IPV4_HEADER) + CHUNK_HEADERS
        mtu = self._paths.path_mtu(end.seen.host, end.peer.host)
        return max(1, mtu - headers)

    def call_at(self, when: float, end: SimulatedAssociation) -> None:
        """Call ``end.expire`` at the time ``when``."""
        self._paths.timeline.at(when, partial(end.expire, when))

    def forget(self, end: SimulatedAssociation) -> None:
        """Forget an end that is over."""
        if end.interface.paused:
            self._over.append(end)
        # Another end may have its addresses already.
        if self._ends.get((end.seen, end.peer)) is end:
            del self._ends[end.seen, end.peer]

    def queued(self, size: int) -> None:
        """Do nothing: the send buffer counts what is not acknowledged."""

    def left(self, size: int) -> None:
        """Do nothing, for the same reason."""

    def _choose_port(self, local: Address, peer: Address) -> Address:
        while True:
            seen = local._replace(port=self._random.choice(_EPHEMERAL_PORTS))
            if (seen, peer) not in self._ends and seen not in self._listeners:
                return seen


class SimulatedListener(ListeningSocket):
    """A listening socket on a simulated network.

    Attributes:
        local: The address that the socket was bound to.
        seen: The address as others see it; differs from ``local`` after a move.
        interface: The interface with its address.
        waiting: The associations that were not accepted yet.
    """

    def __init__(self, stack: SctpStack, local: Address, interface: InterfaceState) -> None:
        self.local = local
        self.seen: Address = local
        self.interface = interface
        self.waiting: deque[SimulatedAssociation] = deque()
        self._stack = stack
        self._closed = False
        self._takers = trio.lowlevel.ParkingLot()

    def accept(self) -> tuple[SimulatedAssociation, Address]:
        """Return an association that a peer has opened, and the peer's address.

        Raises:
            BlockingIOError: There is none.
        """
        if self.interface.paused or not self.waiting:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        end = self.waiting.popleft()
        return end, end.peer

    def connect(self, peer: Address, retry: float, mark: int | None) -> SimulatedAssociation:
        """Start an association with ``peer``, with an attempt every ``retry`` seconds."""
        return self._stack.connect(self, peer, retry)

    async def wait_acceptable(self) -> None:
        """Wait until there is an association to accept or the listener is closed."""
        if self._is_over():
            await trio.lowlevel.checkpoint()
        while not self._is_over():
            await self._takers.park()

    def _is_over(self) -> bool:
        return self._closed or (bool(self.waiting) and not self.interface.paused)

    def look_again(self) -> None:
        """Let waiting tasks check their conditions again."""
        self._takers.unpark_all()

    def set_dscp(self, dscp: int) -> None:
        """Do nothing: the simulation ignores DSCP."""

    def close(self) -> None:
        """Stop listening and abort the associations that were not accepted."""
        self._closed = True
        self._stack.remove(self)
        while self.waiting:
            self.waiting.popleft().abort()
        self.look_again()
