"""The parts of the protocol that both sides share: its version, bounds, and reading of lines."""

from __future__ import annotations

from typing import Final, Protocol

PROTOCOL_VERSION: Final = 1
EVENT_QUEUE: Final = 256
"""The most events that wait for a client before the oldest are dropped."""

_READ_SIZE: Final = 16384


class LineTooLongError(Exception):
    """A line is longer than the limit."""


class ByteSource(Protocol):
    """The source of a ``LineReader``."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Wait for some bytes and return them; empty at the end of the stream."""
        ...


class LineReader:
    """A reader of lines from a stream, which buffers at most one line and the bytes read with it.

    Args:
        source: The stream.
        limit: The longest line in bytes, including its end.
    """

    def __init__(self, source: ByteSource, limit: int) -> None:
        self._source = source
        self._limit = limit
        self._buffer = bytearray()

    async def read(self) -> bytes | None:
        """Wait for a line and return it without its end.

        Bytes after the last end of a line are ignored.

        Returns:
            The line, None at the end of the stream.

        Raises:
            LineTooLongError: The line is longer than the limit; nothing more can be read.
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
