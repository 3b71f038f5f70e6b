"""Packets without a number: greetings, and replies that are sent once and not remembered."""

from __future__ import annotations

from knet_trio.streams._core.limits import MAX_REPLIES
from knet_trio.streams._core.wire import Code, StreamPacketKind
from knet_trio.streams._core.wire_writing import write_close, write_packet


class Replies:
    """The replies that wait to be sent, at most ``MAX_REPLIES``.

    Attributes:
        checked: True if packets get checksums.
        waiting: The waiting packets. Read-only.
    """

    __slots__ = ("checked", "waiting")

    def __init__(self, *, checked: bool) -> None:
        self.checked = checked
        self.waiting: list[bytes] = []

    def add(self, packet: bytes) -> None:
        """Queue a packet; drop it if it is queued already or the queue is full."""
        if len(self.waiting) < MAX_REPLIES and packet not in self.waiting:
            self.waiting.append(packet)

    def take(self) -> list[bytes]:
        """Return the waiting packets and empty the queue."""
        packets, self.waiting = self.waiting, []
        return packets

    def hello(self, local: int, remote: int) -> bytes:
        """Return a greeting, or the answer to one if ``remote`` is not 0."""
        kind = StreamPacketKind.HELLO
        return write_packet(kind, local, remote, 0, (), checked=self.checked)

    def unknown(self, sender: int, receiver: int) -> bytes:
        """Return the packet that reports that these ids belong to no connection."""
        kind = StreamPacketKind.UNKNOWN
        return write_packet(kind, receiver, sender, 0, (), checked=self.checked)

    def closing(self, local: int, remote: int, code: Code, reason: str) -> bytes:
        """Return the packet that closes the connection with these ids."""
        kind, body = StreamPacketKind.CLOSE, write_close(code, reason)
        return write_packet(kind, local, remote, 0, (body,), checked=self.checked)
