"""What the service manager is told, as sd_notify(3) has it: state, a line, and signs of life.

There is nothing to tell where ``$NOTIFY_SOCKET`` is not set.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Final

import trio

from knet_trio.cli.run.log import LOGGER

# Seconds for which a manager that does not read is waited for.
_PATIENCE: Final = 1.0


class Supervisor:
    """The service manager.

    Args:
        environment: The environment variables of the process.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._sock = _connect(environment.get("NOTIFY_SOCKET", ""))
        # Signs of life and lines come from several tasks, and only one may wait for the socket.
        self._telling = trio.Lock()
        self.watchdog_interval: Final = _read_interval(environment)
        """Seconds between signs of life, None if none are asked for."""

    async def tell(self, *assignments: str) -> None:
        """Tell it something, such as ``READY=1``. Waits if it is slow to read, but not for long."""
        message = "\n".join(assignments).encode(errors="replace")
        with trio.move_on_after(_PATIENCE):
            async with self._telling:
                while self._sock is not None:
                    try:
                        self._sock.send(message)
                    except BlockingIOError:
                        await trio.lowlevel.wait_writable(self._sock)
                    except OSError as error:
                        LOGGER.warning("the service manager cannot be told: %s", error.strerror)
                        self.close()
                    else:
                        return

    async def tell_reloading(self) -> None:
        """Tell it that the configuration is read again; ``READY=1`` is to follow."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        await self.tell("RELOADING=1", f"MONOTONIC_USEC={now}")

    async def feed_watchdog(self) -> None:
        """Give signs of life, twice as often as asked for, until cancelled.

        They come out of the event loop that carries the messages, so there are none when that is
        stuck.
        """
        while self.watchdog_interval is not None:
            await self.tell("WATCHDOG=1")
            await trio.sleep(self.watchdog_interval)

    def close(self) -> None:
        """Tell it nothing more."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def _connect(address: str) -> socket.socket | None:
    if not address:
        return None
    if address[0] not in "@/":
        LOGGER.warning("NOTIFY_SOCKET is %r, which is no Unix socket: nobody is told", address)
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)
    try:
        # It is waited for by its own queue then.
        sock.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
    except OSError as error:
        LOGGER.warning("the service manager cannot be told: %s", error.strerror)
        sock.close()
        return None
    return sock


def _read_interval(environment: Mapping[str, str]) -> float | None:
    """Return half of what ``$WATCHDOG_USEC`` asks for, if it asks this process."""
    asked = environment.get("WATCHDOG_USEC", "")
    if not asked.isdecimal() or not int(asked):
        return None
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(asked) / 2e6
