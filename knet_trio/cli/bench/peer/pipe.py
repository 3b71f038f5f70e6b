"""Messages to another process and from it, as blocking code sees them."""

from __future__ import annotations

from typing import Final, Protocol

# Seconds until a receive that nothing comes for gives up.
WAIT: Final = 0.02


class Pipe(Protocol):
    """Messages to another process, and from it."""

    def send(self, message: bytes) -> None:
        """Send one, waiting while that cannot be."""
        ...

    def receive(self) -> bytes | None:
        """One that came, None if there was none for ``WAIT``."""
        ...

    def receive_now(self) -> bytes | None:
        """One that has come, None if there is none."""
        ...

    def close(self) -> None:
        """End it."""
        ...
