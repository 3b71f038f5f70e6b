"""Messages to another process and from it, as blocking code sees them."""

from __future__ import annotations

from typing import Final, Protocol

# Seconds until a receive that nothing comes for gives up.
WAIT: Final = 0.02


class Pipe(Protocol):
    """Messages to another process, and from it."""

    def send(self, message: bytes) -> None:
        """Send a message, waiting for room."""
        ...

    def receive(self) -> bytes | None:
        """Return the next message, None if none comes for ``WAIT`` seconds."""
        ...

    def receive_now(self) -> bytes | None:
        """Return a message that has arrived, None if there is none."""
        ...

    def close(self) -> None:
        """Close it."""
        ...
