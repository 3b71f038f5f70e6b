"""What a socket had no room for.

A socket whose buffer is full must not hold up the others, so what it did not take waits here, up to
a bound, and a task of its own sends it on when there is room.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

import trio

from knet_trio.abc import Endpoint, PathTrouble
from knet_trio.address import Address

# About what a socket's own buffer holds; more would be latency and nothing else.
HIGH_WATER: Final = 1024


class Refusal(NamedTuple):
    """A datagram that the system would not send, and why."""

    datagram: bytes
    error: OSError


Late = Callable[[Sequence[Refusal]], None]
"""Told what was refused of datagrams that had waited for room."""


class Sender(Protocol):
    """Whose datagrams they are, and who is told what became of them."""

    @property
    def destination(self) -> Address | None:
        """Where to send to."""

    def data_sent(self, packets: int, size: int) -> None:
        """So many datagrams of so many bytes together were taken."""

    def data_refused(self, error: OSError) -> None:
        """The system refused one datagram: it may still go over another link."""

    def data_lost(self, refusals: Sequence[Refusal]) -> None:
        """Datagrams were refused, and nobody else will send them."""

    def data_delayed(self, packets: int) -> None:
        """So many datagrams found no room and wait for a retry."""


class Outbox:
    """Sends data through one endpoint, in order.

    ``report`` is for trouble that one of its users came upon and that concerns another.
    """

    def __init__(self, endpoint: Endpoint, report: Callable[[PathTrouble], None]) -> None:
        self.endpoint = endpoint
        self.report = report
        self._backlog: deque[tuple[Sender, Sequence[bytes], Late]] = deque()
        self._waiting = 0
        # Whether no more should be sent for now.
        self.full = False
        self._work = trio.Event()
        self._progress = trio.Event()

    async def wait_empty(self) -> None:
        """Return once all of it has been sent."""
        while self._backlog:
            await self._progress.wait()

    async def wait_room(self) -> None:
        """Return once it is not full."""
        while self.full:
            await self._progress.wait()

    def send(
        self, sender: Sender, datagrams: Sequence[bytes], late: Late | None = None
    ) -> list[Refusal]:
        """Send now what the socket takes and keep the rest; what was refused.

        What is refused of the rest, when its turn comes, is for ``late``, or else it is lost.
        """
        rest, refusals = (datagrams, []) if self._backlog else self._push(sender, datagrams)
        if rest:
            sender.data_delayed(len(rest))
            self._backlog.append((sender, rest, late or sender.data_lost))
            self._waiting += len(rest)
            self.full = self._waiting >= HIGH_WATER
            self._work.set()
        return refusals

    def forget(self, sender: Sender) -> int:
        """Take out what waits for ``sender``, which is going away; how many datagrams."""
        gone = sum(len(rest) for owner, rest, _ in self._backlog if owner is sender)
        if gone:
            self._backlog = deque(item for item in self._backlog if item[0] is not sender)
            self._make_room(gone)
        return gone

    def close(self) -> None:
        """Give up what waits: the endpoint is closed."""
        self._backlog.clear()
        self._make_room(self._waiting)

    async def run(self) -> None:
        """Send on what waits, whenever there is room, until cancelled."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            while self._backlog:
                await self.endpoint.wait_sendable()
                self._flush()

    def _flush(self) -> None:
        while self._backlog:
            sender, datagrams, late = self._backlog.popleft()
            rest, refusals = self._push(sender, datagrams)
            if rest:
                self._backlog.appendleft((sender, rest, late))
            self._make_room(len(datagrams) - len(rest))
            if refusals:
                # It may send something else instead, which goes to the end of the queue.
                late(refusals)
            if rest:
                return

    def _make_room(self, packets: int) -> None:
        self._waiting -= packets
        self.full = self._waiting >= HIGH_WATER
        if not self.full:
            self._progress.set()
            self._progress = trio.Event()

    def _push(
        self, sender: Sender, datagrams: Sequence[bytes]
    ) -> tuple[Sequence[bytes], list[Refusal]]:
        """Send what goes; what found no room, and what was refused."""
        destination = sender.destination
        if destination is None:
            # The link went down meanwhile and forgot where its peer is.
            nowhere = OSError(errno.EDESTADDRREQ, os.strerror(errno.EDESTADDRREQ))
            for _ in datagrams:
                sender.data_refused(nowhere)
            return (), [Refusal(datagram, nowhere) for datagram in datagrams]
        refusals: list[Refusal] = []
        while datagrams:
            try:
                taken = self.endpoint.send_nowait(datagrams, destination)
            except OSError as error:
                sender.data_refused(error)
                refusals.append(Refusal(datagrams[0], error))
                datagrams = datagrams[1:]
                continue
            if not taken:
                return datagrams, refusals
            sender.data_sent(taken, sum(map(len, datagrams[:taken])))
            datagrams = datagrams[taken:]
        return (), refusals
