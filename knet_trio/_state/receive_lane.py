"""The messages of one host that wait to be decompressed or delivered."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from knet_trio.abc import Compressor

MOST_MESSAGES: Final = 4096
"""The most messages that a lane holds."""

MOST_BYTES: Final = 4 * 1024 * 1024
"""The most bytes that a lane holds, before decompression."""


class WaitingMessage(NamedTuple):
    """A message as it was received.

    Attributes:
        data: The message, maybe compressed.
        channel: The channel, 0 to 31.
        compressor: The compressor that decompresses it, None if it is not compressed.
    """

    data: bytes
    channel: int
    compressor: Compressor | None

    @property
    def is_slow(self) -> bool:
        """True if decompressing the message takes so long that a thread has to do it."""
        compressor = self.compressor
        if compressor is None:
            return False
        size = compressor.slow_from
        return compressor.slow or (size is not None and len(self.data) >= size)


class ReceiveLane:
    """The messages of one host on their way in, in order.

    A lane is bounded and belongs to one host, so a full lane affects no other host. A message that
    is being worked on counts until ``done``.

    Attributes:
        host_id: The host that sent the messages.
        count: The number of messages, with the one that is being worked on.
        closed: True once the host was removed or the handle has ended: no message is delivered.
    """

    __slots__ = ("_messages", "_size", "closed", "count", "host_id")

    def __init__(self, host_id: int) -> None:
        self.host_id: int = host_id
        self.count: int = 0
        self.closed: bool = False
        self._size = 0
        self._messages: deque[WaitingMessage] = deque()

    @property
    def first(self) -> WaitingMessage:
        """The next message to work on."""
        return self._messages[0]

    def offer(self, message: WaitingMessage) -> bool:
        """Add ``message`` if there is room for it; return whether there was."""
        size = self._size + len(message.data)
        if self.count >= MOST_MESSAGES or size > MOST_BYTES:
            return False
        self._messages.append(message)
        self._size = size
        self.count += 1
        return True

    def done(self) -> WaitingMessage:
        """Remove the first message, which has been worked on, and return it."""
        message = self._messages.popleft()
        self._size -= len(message.data)
        self.count -= 1
        return message

    def close(self) -> int:
        """Drop all messages, and return their number."""
        self.closed = True
        lost, self.count, self._size = self.count, 0, 0
        self._messages.clear()
        return lost
