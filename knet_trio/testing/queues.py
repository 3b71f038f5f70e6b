"""The queues of a machine, between its sockets and the wire."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, Protocol

import trio

from knet_trio.address import Address
from knet_trio.testing.chunks import Chunk
from knet_trio.testing.conditions import Interface, Route
from knet_trio.testing.timeline import Timeline


class Sender(Protocol):
    """A socket, as a queue sees it."""

    def queued(self, size: int) -> None:
        """Count a packet of ``size`` bytes in the send buffer."""

    def left(self, size: int) -> None:
        """Note that a packet of ``size`` bytes has left the send buffer."""


class Outgoing(NamedTuple):
    """A packet that a socket has taken.

    Attributes:
        sender: The socket.
        source: The source address, as others see it.
        destination: The destination address.
        data: The payload.
        size: The size with headers [bytes].
        taken: When the socket took the packet.
        chunk: The chunk of an association; None for a UDP datagram.
    """

    sender: Sender
    source: Address
    destination: Address
    data: bytes
    size: int
    taken: float
    chunk: Chunk | None = None


Forward = Callable[[Outgoing, float], None]
"""A function that takes a packet that has left a queue, and the time when it left."""


class SendQueue:
    """A queue with a limited rate.

    Args:
        timeline: The scheduler of later events.
        forward: Called with each packet that leaves.
        rate: The rate [bytes/second].
        limit: The bytes that may wait; None to use the limit that ``has_room`` is given.

    Attributes:
        held: True while no packet leaves.
    """

    def __init__(
        self, timeline: Timeline, forward: Forward, rate: float, limit: float | None
    ) -> None:
        self.limit = limit
        self.held: bool = False
        self._rate = rate
        self._timeline = timeline
        self._forward = forward
        # The first packet is being sent.
        self._packets: deque[Outgoing] = deque()
        self._waiting = 0
        # Counts how often sending was restarted, to ignore events scheduled before.
        self._beginnings = 0

    def has_room(self, size: int, limit: float) -> bool:
        """Return whether ``size`` bytes more may wait; ``limit`` applies if there is no own."""
        if self.limit is not None:
            limit = self.limit
        return not self._packets or self._waiting + size <= limit

    def put(self, packet: Outgoing, now: float) -> None:
        """Add a packet."""
        self._packets.append(packet)
        self._waiting += packet.size
        if len(self._packets) == 1:
            self._begin(now)

    def set_rate(self, rate: float) -> None:
        """Set the rate, in bytes a second; it applies to waiting packets too."""
        self._rate = rate
        self._begin(trio.current_time())

    def hold(self) -> None:
        """Stop sending packets."""
        self.held = True
        self._beginnings += 1

    def release(self) -> None:
        """Resume sending."""
        if self.held:
            self.held = False
            self._begin(trio.current_time())

    def take(self) -> Iterable[Outgoing]:
        """Remove and return all packets."""
        self._beginnings += 1
        self._waiting = 0
        packets, self._packets = self._packets, deque()
        return packets

    def _begin(self, now: float) -> None:
        """Start to send the first packet at ``now``."""
        self._beginnings += 1
        while self._packets and not self.held:
            if self._rate < math.inf:
                then = now + self._packets[0].size / self._rate
                self._timeline.at(then, partial(self._finish, self._beginnings, then))
                return
            self._leave(now)

    def _finish(self, beginning: int, now: float) -> None:
        if beginning == self._beginnings:
            self._leave(now)
            self._begin(now)

    def _leave(self, now: float) -> None:
        packet = self._packets.popleft()
        self._waiting -= packet.size
        self._forward(packet, now)


class InterfaceState:
    """The state of the interface with one address, and its queues.

    A packet waits in the queue of its route, if there is one, and then in the interface's own.

    Args:
        settings: The properties.
        timeline: The scheduler of later events.
        depart: Called with each packet that leaves the machine.

    Attributes:
        settings: The properties.
        up: True unless the interface was switched off.
        paused: True while the process that uses it is paused.
        too_big: The number of packets refused because of the MTU.
    """

    def __init__(self, settings: Interface, timeline: Timeline, depart: Forward) -> None:
        self.settings: Interface = settings
        self.up = True
        self.paused = False
        self.too_big = 0
        self._timeline = timeline
        self._depart = depart
        self._queue = SendQueue(timeline, self._send, settings.rate, None)
        # By destination; several may share a queue.
        self._routes: dict[str, SendQueue] = {}

    def configure(self, settings: Interface) -> None:
        """Set the properties; the new rate applies to waiting packets too."""
        self.settings = settings
        self._queue.set_rate(settings.rate)

    def send(self, packet: Outgoing, now: float) -> bool:
        """Queue a packet; return False if there is no room for it."""
        queue = self._routes.get(packet.destination.host) or self._queue
        if not queue.has_room(packet.size, self.settings.queue):
            return False
        packet.sender.queued(packet.size)
        queue.put(packet, now)
        return True

    def hold(self, destination: str) -> None:
        """Hold the route to ``destination``, and all routes that share its queue."""
        if destination not in self._routes:
            self._routes[destination] = self._new_queue(Route())
        self._routes[destination].hold()

    def release(self, destination: str) -> None:
        """Undo ``hold``."""
        if destination in self._routes:
            self._routes[destination].release()

    def set_route(self, destinations: Iterable[str], route: Route) -> None:
        """Give the routes to ``destinations`` a common queue.

        Packets in queues that are no longer used move to the new one. The new queue is held if one
        of the former queues was.
        """
        queue = self._new_queue(route)
        before: list[SendQueue] = []
        for destination in destinations:
            old = self._routes.get(destination)
            if old is not None and old not in before:
                before.append(old)
            self._routes[destination] = queue
        queue.held = any(old.held for old in before)
        now = trio.current_time()
        for old in before:
            if old not in self._routes.values():
                for packet in old.take():
                    queue.put(packet, now)

    def _send(self, packet: Outgoing, now: float) -> None:
        packet.sender.left(packet.size)
        self._depart(packet, now)

    def _new_queue(self, route: Route) -> SendQueue:
        return SendQueue(self._timeline, self._queue.put, route.rate, route.queue)
