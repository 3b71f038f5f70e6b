"""SCTP on a simulated network: which socket has which address, and which packets are its."""

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

# Where those who connect come from, as on Linux.
_EPHEMERAL_PORTS: Final = range(32768, 61000)


class Paths(Protocol):
    """The rest of the network."""

    timeline: Timeline

    @abstractmethod
    def state(self, host: str) -> InterfaceState:
        """The interface with that address, from now on if there was none."""

    @abstractmethod
    def path_mtu(self, source: str, destination: str) -> int:
        """The largest packet that passes between two addresses now."""


class SctpStack(AssociationMedium, Sender):
    """The listeners and the ends of associations, by the addresses that others see them at."""

    def __init__(self, seed: int, paths: Paths) -> None:
        self._paths = paths
        self._random = random.Random(f"{seed} ports of associations")
        self._tags = 0
        self._listeners: dict[Address, SimulatedListener] = {}
        # By this end's address and the other's.
        self._ends: dict[tuple[Address, Address], SimulatedAssociation] = {}
        # Those that were over while their process was stopped, which it finds out when it goes on.
        self._over: list[SimulatedAssociation] = []

    def listen(self, local: Address, mark: int | None, *, privileged: bool) -> SimulatedListener:
        """Listen at ``local``, with port 0 at a port that is free; nothing goes by the options."""
        local = choose_address(local, "SCTP", self._listeners.__contains__)
        listener = SimulatedListener(self, local, self._paths.state(local.host))
        self._listeners[local] = listener
        return listener

    def connect(
        self, listener: SimulatedListener, peer: Address, retry: float
    ) -> SimulatedAssociation:
        """Ask for an association with ``peer`` each ``retry`` seconds."""
        if not listener.interface.up:
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        self._tags += 1
        seen = self._choose_port(listener.seen, peer)
        retry = min(max(retry, SHORTEST_RETRY), LONGEST_RETRY)
        end = SimulatedAssociation(self, listener.interface, seen, peer, self._tags, retry=retry)
        self._ends[seen, peer] = end
        return end

    def remove(self, listener: SimulatedListener) -> None:
        """A listener is closed."""
        del self._listeners[listener.seen]

    def wake(self, state: InterfaceState) -> None:
        """Have the sockets of an interface look at it again."""
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
        """Have all at one address be seen at another."""
        for listener in [one for one in self._listeners.values() if one.seen.host == old]:
            del self._listeners[listener.seen]
            listener.seen = listener.seen._replace(host=new)
            self._listeners[listener.seen] = listener
        for end in [one for one in self._ends.values() if one.seen.host == old]:
            del self._ends[end.seen, end.peer]
            end.seen = end.seen._replace(host=new)
            self._ends[end.seen, end.peer] = end

    def break_between(self, a: str, b: str) -> int:
        """Break all associations between two addresses; return how many ends were told."""
        ends = [one for one in self._ends.values() if {one.seen.host, one.peer.host} == {a, b}]
        for end in ends:
            end.lose(errno.ECONNRESET)
        return len(ends)

    # Packets.

    def receive(self, destination: Address, source: Address, chunk: Chunk) -> Fate:
        """A packet arrives."""
        end = self._ends.get((destination, source))
        if chunk.kind is ChunkKind.INIT:
            return self._asked(end, destination, source, chunk)
        if end is not None and end.tag == chunk.tag:
            return Fate.DELIVERED if end.receive(chunk) else Fate.BUFFER_FULL
        # It is of an association that is not there any more.
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
        """Somebody asks for an association, perhaps not for the first time."""
        if end is not None and end.phase is not AssociationPhase.THERE:
            # What is being closed makes room for what is new.
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
        """Send a packet to the other end."""
        self._send(end.interface, end.seen, end.peer, chunk)

    def _send(
        self, state: InterfaceState, source: Address, destination: Address, chunk: Chunk
    ) -> None:
        """Send a packet. What finds no way is lost, and sent again if that matters."""
        if not state.up:
            return
        headers = (IPV6_HEADER if destination.is_ipv6 else IPV4_HEADER) + CHUNK_HEADERS
        size = headers + len(chunk.data)
        now = trio.current_time()
        state.send(Outgoing(self, source, destination, chunk.data, size, now, chunk), now)

    def piece_size(self, end: SimulatedAssociation) -> int:
        """Return how many bytes of a message go in one packet."""
        headers = (IPV6_HEADER if end.peer.is_ipv6 else IPV4_HEADER) + CHUNK_HEADERS
        mtu = self._paths.path_mtu(end.seen.host, end.peer.host)
        return max(1, mtu - headers)

    def call_at(self, when: float, end: SimulatedAssociation) -> None:
        """Call ``expire`` at that time."""
        self._paths.timeline.at(when, partial(end.expire, when))

    def forget(self, end: SimulatedAssociation) -> None:
        """An end is over."""
        if end.interface.paused:
            self._over.append(end)
        # Another one may have its addresses.
        if self._ends.get((end.seen, end.peer)) is end:
            del self._ends[end.seen, end.peer]

    def queued(self, size: int) -> None:
        """Nothing: what the peer has not acknowledged is in the send buffer anyway."""

    def left(self, size: int) -> None:
        """Nothing, in the same way."""

    def _choose_port(self, local: Address, peer: Address) -> Address:
        while True:
            seen = local._replace(port=self._random.choice(_EPHEMERAL_PORTS))
            if (seen, peer) not in self._ends and seen not in self._listeners:
                return seen


class SimulatedListener(ListeningSocket):
    """A listening socket on a simulated network.

    Attributes:
        seen: The address that others see it at, which is ``local`` unless it has moved.
        interface: The interface with its address.
        waiting: The ends that peers have made and nobody has taken.
    """

    def __init__(self, stack: SctpStack, local: Address, interface: InterfaceState) -> None:
        self.local = self.seen = local
        self.interface = interface
        self.waiting: deque[SimulatedAssociation] = deque()
        self._stack = stack
        self._closed = False
        self._takers = trio.lowlevel.ParkingLot()

    def accept(self) -> tuple[SimulatedAssociation, Address]:
        """Take an association that a peer has made."""
        if self.interface.paused or not self.waiting:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        end = self.waiting.popleft()
        return end, end.peer

    def connect(self, peer: Address, retry: float, mark: int | None) -> SimulatedAssociation:
        """Begin to make an association."""
        return self._stack.connect(self, peer, retry)

    async def wait_acceptable(self) -> None:
        """Wait until there is something to accept, or until it is closed."""
        if self._is_over():
            await trio.lowlevel.checkpoint()
        while not self._is_over():
            await self._takers.park()

    def _is_over(self) -> bool:
        return self._closed or (bool(self.waiting) and not self.interface.paused)

    def look_again(self) -> None:
        """Have those who wait look again."""
        self._takers.unpark_all()

    def set_dscp(self, dscp: int) -> None:
        """Nothing here goes by that."""

    def close(self) -> None:
        """Listen no more; what nobody has taken is broken."""
        self._closed = True
        self._stack.remove(self)
        while self.waiting:
            self.waiting.popleft().abort()
        self.look_again()
