"""The interface of blocking code for messages to and from another process."""

from __future__ import annotations

from typing import Final, Protocol

# Seconds that a receive waits for a message.
WAIT: Final = 0.02


class Pipe(Protocol):
    """A pipe for messages to and from another process."""

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
        """Close the pipe."""
        ...
