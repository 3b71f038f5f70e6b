"""The queues of a machine: what its sockets have sent waits there until an interface sends it."""

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
        """A packet of ``size`` bytes is in its send buffer."""

    def left(self, size: int) -> None:
        """A packet of ``size`` bytes is not there any more."""


class Outgoing(NamedTuple):
    """A packet of ``size`` bytes with its headers that a socket took at ``taken``.

    ``chunk`` is what it is of an association, None for a datagram.
    """

    sender: Sender
    source: Address
    destination: Address
    data: bytes
    size: int
    taken: float
    chunk: Chunk | None = None


Forward = Callable[[Outgoing, float], None]
"""Takes a packet that has left a queue, and when it left."""


class SendQueue:
    """Packets that pass one narrow place, one after the other.

    ``rate`` is in bytes a second, ``limit`` the bytes that may wait, None if another one is asked.
    While it is ``held`` nothing leaves.
    """

    def __init__(
        self, timeline: Timeline, forward: Forward, rate: float, limit: float | None
    ) -> None:
        self.limit = limit
        self.held = False
        self._rate = rate
        self._timeline = timeline
        self._forward = forward
        # The first is on its way out.
        self._packets: deque[Outgoing] = deque()
        self._waiting = 0
        # Counts how often the first has begun anew, so that what was planned before is void.
        self._beginnings = 0

    def has_room(self, size: int, limit: float) -> bool:
        """Whether ``size`` bytes more may wait, where ``limit`` stands for a limit of None."""
        if self.limit is not None:
            limit = self.limit
        return not self._packets or self._waiting + size <= limit

    def put(self, packet: Outgoing, now: float) -> None:
        """Take a packet in."""
        self._packets.append(packet)
        self._waiting += packet.size
        if len(self._packets) == 1:
            self._begin(now)

    def set_rate(self, rate: float) -> None:
        """Let ``rate`` bytes a second pass from now on, also of what waits."""
        self._rate = rate
        self._begin(trio.current_time())

    def hold(self) -> None:
        """Let nothing pass."""
        self.held = True
        self._beginnings += 1

    def release(self) -> None:
        """Let what waits go on."""
        if self.held:
            self.held = False
            self._begin(trio.current_time())

    def take(self) -> Iterable[Outgoing]:
        """Take all that waits out of the queue."""
        self._beginnings += 1
        self._waiting = 0
        packets, self._packets = self._packets, deque()
        return packets

    def _begin(self, now: float) -> None:
        """The first packet is on its way out from ``now`` on."""
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
    """The interface with one address as it is now, and the queues before it.

    What is sent waits in the queue of its route, if that has one, and then in the interface's own.
    ``depart`` takes what has left.
    """

    def __init__(self, settings: Interface, timeline: Timeline, depart: Forward) -> None:
        self.settings = settings
        self.up = True
        self.paused = False
        # Sockets that were refused an oversized packet here.
        self.too_big = 0
        self._timeline = timeline
        self._depart = depart
        self._queue = SendQueue(timeline, self._send, settings.rate, None)
        # By destination; some have one in common.
        self._routes: dict[str, SendQueue] = {}

    def configure(self, settings: Interface) -> None:
        """Make it another one, that also sends what waits."""
        self.settings = settings
        self._queue.set_rate(settings.rate)

    def send(self, packet: Outgoing, now: float) -> bool:
        """Queue a packet; False if there is no room for it."""
        queue = self._routes.get(packet.destination.host) or self._queue
        if not queue.has_room(packet.size, self.settings.queue):
            return False
        packet.sender.queued(packet.size)
        queue.put(packet, now)
        return True

    def hold(self, destination: str) -> None:
        """Let nothing leave on the route to ``destination``, and on those that share its queue."""
        if destination not in self._routes:
            self._routes[destination] = self._new_queue(Route())
        self._routes[destination].hold()

    def release(self, destination: str) -> None:
        """Undo ``hold``."""
        if destination in self._routes:
            self._routes[destination].release()

    def set_route(self, destinations: Iterable[str], route: Route) -> None:
        """Give the routes to ``destinations`` one queue in common.

        What waits in a queue that nobody uses any more goes on in the new one. That is held if one
        of those before was.
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
