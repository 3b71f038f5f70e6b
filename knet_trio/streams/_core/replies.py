"""Packets without a number: greetings, and what is answered at once and not remembered."""

from __future__ import annotations

from knet_trio.streams._core.limits import MAX_REPLIES
from knet_trio.streams._core.wire import Code, StreamPacketKind
from knet_trio.streams._core.wire_writing import write_close, write_packet


class Replies:
    """Those that wait to be sent; few at most, whatever comes.

    Attributes:
        checked: Whether packets have checksums.
        waiting: They; to be read only.
    """

    __slots__ = ("checked", "waiting")

    def __init__(self, *, checked: bool) -> None:
        self.checked = checked
        self.waiting: list[bytes] = []

    def add(self, packet: bytes) -> None:
        """Have a packet sent; too many are left out."""
        if len(self.waiting) < MAX_REPLIES and packet not in self.waiting:
            self.waiting.append(packet)

    def take(self) -> list[bytes]:
        """Return those that wait, and take them out."""
        packets, self.waiting = self.waiting, []
        return packets

    def hello(self, local: int, remote: int) -> bytes:
        """Return a greeting, or with the id ``remote`` the answer to one."""
        kind = StreamPacketKind.HELLO
        return write_packet(kind, local, remote, 0, (), checked=self.checked)

    def unknown(self, sender: int, receiver: int) -> bytes:
        """Return what says that a packet with these ids is of no connection."""
        kind = StreamPacketKind.UNKNOWN
        return write_packet(kind, receiver, sender, 0, (), checked=self.checked)

    def closing(self, local: int, remote: int, code: Code, reason: str) -> bytes:
        """Return what ends the connection with these ids."""
        kind, body = StreamPacketKind.CLOSE, write_close(code, reason)
        return write_packet(kind, local, remote, 0, (body,), checked=self.checked)
