"""The sockets of links for sending: with room, or full."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import trio

from knet_trio._state.schedule import Schedule
from knet_trio.abc import Endpoint
from knet_trio.address import Address

# Seconds until a full queue of the system is tried again, at first and at most. A socket's buffer
# is not polled any more when that takes longer than LAST_POLL: the system reports when it has room.
FIRST_RETRY: Final = 0.001
LAST_POLL: Final = 0.008
LAST_RETRY: Final = 0.032

Wake = Callable[[Sequence[int]], None]
"""Called with the ids of hosts whose lanes may go on."""


class SendSocket:
    """A socket that sends data.

    Attributes:
        endpoint: The socket.
        users: The number of links that send over it.
        full: True if its buffer was full at the last try and has not had room since.
    """

    def __init__(self, endpoint: Endpoint, wake: Wake) -> None:
        self.endpoint = endpoint
        self.users = 0
        self.full: bool = False
        self._wake = wake
        # The ids of hosts, in the order in which their lanes found the socket full.
        self._waiting: dict[int, None] = {}
        self._work = trio.Event()

    def wait(self, host_id: int) -> None:
        """Wake the lane of host ``host_id`` once there is room."""
        self._waiting[host_id] = None

    def mark_full(self) -> None:
        """Mark the buffer as full, so that ``run`` waits for room."""
        if not self.full:
            self.full = True
            self._work.set()

    async def run(self) -> None:
        """Wait for room whenever the buffer is full, and wake the lanes; until cancelled."""
        while True:
            await self._work.wait()
            await self.endpoint.wait_sendable()
            self._work = trio.Event()
            self.full = False
            waiting, self._waiting = self._waiting, {}
            self._wake(list(waiting))


class Connections:
    """Opens sockets for single links.

    This base class opens none, for transports without such sockets.
    """

    def connect(self, send_socket: SendSocket, destination: Address) -> SendSocket | None:
        """Open a socket at the same address for one peer; None if that is impossible."""
        return None

    def disconnect(self, send_socket: SendSocket) -> None:
        """Close a socket that ``connect`` has opened."""

    def is_connected_from(self, send_socket: SendSocket, host: str) -> bool:
        """Return whether a peer at ``host`` has connected to the socket."""
        return False


class BufferTimer:
    """Tries again after a queue of the system behind a socket was full (ENOBUFS).

    The system does not report when such a queue has room, and links that share it find it full at
    the same time. So all of them try again together, and ``wake`` decides on their order.
    """

    def __init__(self, schedule: Schedule, wake: Wake) -> None:
        self._schedule = schedule
        self._wake = wake
        self._waiting: dict[Callable[[], None], int] = {}
        self._deadline = 0.0

    def wait(self, host_id: int, again: Callable[[], None], now: float, delay: float) -> None:
        """Call ``again`` and wake the lane of the host in ``delay`` seconds, or sooner."""
        deadline = now + delay
        if not self._waiting or deadline < self._deadline:
            self._deadline = deadline
            self._schedule.set(self._retry, deadline)
        self._waiting[again] = host_id

    def forget(self, again: Callable[[], None]) -> None:
        """Do not call ``again`` any more: the link is being removed."""
        self._waiting.pop(again, None)

    def _retry(self, now: float) -> None:
        waiting, self._waiting = self._waiting, {}
        for again in waiting:
            again()
        self._wake(list(dict.fromkeys(waiting.values())))
