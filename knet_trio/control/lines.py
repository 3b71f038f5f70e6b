"""What both sides need of the protocol: its version, and how lines and events are read."""

from __future__ import annotations

from typing import Final, Protocol

PROTOCOL_VERSION: Final = 1
EVENT_QUEUE: Final = 256
"""How many events a client may be behind before it misses the oldest."""

_READ_SIZE: Final = 16384


class LineTooLongError(Exception):
    """A line has more bytes than it may."""


class ByteSource(Protocol):
    """What ``LineReader`` reads from."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return some bytes, none at the end."""
        ...


class LineReader:
    """Reads lines from a stream, and holds no more of it than one line and what came with it.

    Args:
        source: Where the bytes come from.
        limit: How many bytes a line has at most, its end included.
    """

    def __init__(self, source: ByteSource, limit: int) -> None:
        self._source = source
        self._limit = limit
        self._buffer = bytearray()

    async def read(self) -> bytes | None:
        """Wait for a line and return it without its end; None at the end of the stream.

        What comes after the last end of a line is not a line.

        Raises:
            LineTooLongError: A line has more bytes than it may; nothing more can be read.
        """
        looked_at = 0
        while (end := self._buffer.find(b"\n", looked_at)) < 0:
            looked_at = len(self._buffer)
            if looked_at >= self._limit:
                raise LineTooLongError
            some = await self._source.receive_some(_READ_SIZE)
            if not some:
                return None
            self._buffer += some
        if end >= self._limit:
            raise LineTooLongError
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line
