"""Notifications to the service manager: state, status line and watchdog. See sd_notify(3).

None are sent where ``$NOTIFY_SOCKET`` is not set.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Final

import trio

from knet_trio.cli.run.log import LOGGER

# Seconds to wait for a manager that does not read.
_PATIENCE: Final = 1.0


class Supervisor:
    """The service manager.

    Args:
        environment: The environment variables of the process.

    Attributes:
        watchdog_interval: The seconds between two notifications of the watchdog, None for none.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._sock = _connect(environment.get("NOTIFY_SOCKET", ""))
        # Several tasks send notifications, and only one may wait for the socket.
        self._sending = trio.Lock()
        self.watchdog_interval: Final = _read_interval(environment)

    async def notify(self, *assignments: str) -> None:
        """Send a notification, such as ``READY=1``; drop it if the manager is too slow to read."""
        message = "\n".join(assignments).encode(errors="replace")
        with trio.move_on_after(_PATIENCE):
            async with self._sending:
                while self._sock is not None:
                    try:
                        self._sock.send(message)
                    except BlockingIOError:
                        await trio.lowlevel.wait_writable(self._sock)
                    except OSError as error:
                        LOGGER.warning("cannot notify the service manager: %s", error.strerror)
                        self.close()
                    else:
                        return

    async def notify_reloading(self) -> None:
        """Notify that the configuration is read again; ``READY=1`` has to follow."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        await self.notify("RELOADING=1", f"MONOTONIC_USEC={now}")

    async def feed_watchdog(self) -> None:
        """Notify the watchdog, twice as often as it asks for, until cancelled.

        The notifications come from the event loop that carries the messages: there are none when
        it is stuck.
        """
        while self.watchdog_interval is not None:
            await self.notify("WATCHDOG=1")
            await trio.sleep(self.watchdog_interval)

    def close(self) -> None:
        """Close the socket: further notifications are dropped."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def _connect(address: str) -> socket.socket | None:
    if not address:
        return None
    if address[0] not in "@/":
        LOGGER.warning(
            "NOTIFY_SOCKET is %r, which is not a Unix socket: the service manager is not notified",
            address,
        )
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)
    try:
        # Connected, so that the socket is writable when the manager's queue has room.
        sock.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
    except OSError as error:
        LOGGER.warning("cannot notify the service manager: %s", error.strerror)
        sock.close()
        return None
    return sock


def _read_interval(environment: Mapping[str, str]) -> float | None:
    """Return half of ``$WATCHDOG_USEC`` in seconds, None unless it is for this process."""
    asked = environment.get("WATCHDOG_USEC", "")
    if not asked.isdecimal() or not int(asked):
        return None
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(asked) / 2e6
