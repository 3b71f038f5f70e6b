"""One task that waits for all quiet sockets of a handle.

A task that sleeps until its own socket is readable falls asleep and wakes up for each packet. That
takes longer than the work on a ping, and a handle may have hundreds of sockets with pings for all
of them at once. So one task waits for all quiet sockets, and takes the packets that come::

    the tasks of quiet sockets, asleep        this task
      sleep until there is more to do  ---->    an epoll instance with all of their sockets
                                                a single datagram: taken here, at once
      woken  <------------------------------    anything else

The epoll instance is itself a descriptor that Trio can wait for.
Source: man 7 epoll.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NamedTuple, Protocol, final

import trio

from knet_trio.abc import SocketWatch

_AT_ONCE: Final = 256
"""The most sockets that one call of epoll returns."""

_PIECE: Final = 4
"""The sockets served between two checks of whether the turn is over."""

_FAULTS: Final = 4
"""The most sockets with errors whose tasks are woken in a turn: a lost connection is much work."""


class TurnLimit(Protocol):
    """The limit on the work of the task in one turn. ``Turns`` of ``_state/turns.py`` is one.

    Attributes:
        round: The number of the present round of the event loop.
    """

    round: int

    def is_over(self) -> bool:
        """Return whether it is time to let other tasks run."""
        ...

    def give_up(self) -> Awaitable[None]:
        """Let other tasks run."""
        ...

    def resumed(self, before: int) -> None:
        """Note that the task, which fell asleep in round ``before``, runs again."""
        ...


class _Sleeper(NamedTuple):
    """A task that waits for a socket.

    Attributes:
        task: The task.
        take: Takes what came to the socket; returns False if the task has to be woken.
    """

    task: trio.lowlevel.Task
    take: Callable[[], bool]


@final
class EpollWatch(SocketWatch):
    """The watch over the quiet sockets of one handle.

    The epoll instance exists while there are two sockets or more. A single socket is waited for
    directly.
    """

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._sockets = 0
        # By the descriptor of the socket.
        self._sleepers: dict[int, _Sleeper] = {}
        self._opened = trio.Event()

    def join(self) -> None:
        """Add a socket; open the epoll instance with the second one."""
        self._sockets += 1
        if self._sockets > 1 and self._epoll is None:
            with suppress(OSError):
                # If there are too many descriptors, each socket is waited for on its own.
                self._epoll = select.epoll()
                self._opened.set()

    def leave(self) -> None:
        """Remove a socket; close the epoll instance if only one is left."""
        self._sockets -= 1
        if self._sockets == 1:
            self._close()

    async def wait_readable(self, sock: socket.socket, take: Callable[[], bool]) -> None:
        """Wait for a socket in ``run``, together with the others; alone if there is no epoll.

        Args:
            sock: The socket.
            take: Called when the socket is readable; returns False if the wait has to end.
        """
        epoll = self._epoll
        if epoll is None:
            await trio.lowlevel.wait_readable(sock)
            return
        descriptor = sock.fileno()
        epoll.register(descriptor, select.EPOLLIN)
        self._sleepers[descriptor] = _Sleeper(trio.lowlevel.current_task(), take)

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            self._forget(descriptor)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def wake(self, sock: socket.socket) -> None:
        """Wake the task that waits for ``sock`` in ``run``."""
        descriptor = sock.fileno()
        if descriptor in self._sleepers:
            self._wake(descriptor)

    async def run(self, turns: TurnLimit) -> None:
        """Wait for the sockets, until cancelled."""
        try:
            while True:
                epoll = self._epoll
                if epoll is None:
                    self._opened = trio.Event()
                    await self._opened.wait()
                    continue
                before = turns.round
                try:
                    await trio.lowlevel.wait_readable(epoll.fileno())
                except trio.ClosedResourceError:
                    continue
                turns.resumed(before)
                await self._take_all(turns)
        finally:
            self._close()

    def _close(self) -> None:
        epoll, self._epoll = self._epoll, None
        if epoll is not None:
            trio.lowlevel.notify_closing(epoll.fileno())
            epoll.close()
        for descriptor in list(self._sleepers):
            trio.lowlevel.reschedule(self._sleepers.pop(descriptor).task)

    async def _take_all(self, turns: TurnLimit) -> None:
        """Serve all readable sockets, in turns.

        All sockets that the kernel has named are served before it is asked again. It names the same
        sockets first each time, so the others would otherwise wait as long as those are flooded.
        """
        taken = faults = 0
        # A packet that is taken may close the epoll instance.
        while self._epoll is not None and (ready := self._epoll.poll(0, _AT_ONCE)):
            for descriptor, flags in ready:
                sleeper = self._sleepers.get(descriptor)
                if sleeper is None:
                    # The task was woken meanwhile, or a packet of another socket closed this one.
                    continue
                # Errors wake the task too. What is taken may have woken it already.
                goes_on = flags == select.EPOLLIN and sleeper.take()
                if not goes_on and self._sleepers.get(descriptor) is sleeper:
                    self._wake(descriptor)
                taken += 1
                faults += flags != select.EPOLLIN
                if faults == _FAULTS or (not taken % _PIECE and turns.is_over()):
                    faults = 0
                    await turns.give_up()

    def _wake(self, descriptor: int) -> None:
        task = self._sleepers[descriptor].task
        self._forget(descriptor)
        trio.lowlevel.reschedule(task)

    def _forget(self, descriptor: int) -> None:
        del self._sleepers[descriptor]
        if self._epoll is not None:
            self._epoll.unregister(descriptor)
