"""A host that speaks the protocol by hand: it says what a test wants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from knet_trio import Channel
from knet_trio.streams._core.wire import (
    PING_FRAME,
    AckFrame,
    PingFrame,
    StreamFrame,
    StreamPacketKind,
)
from knet_trio.streams._core.wire_reading import read_frames_untrusted, read_header_untrusted
from knet_trio.streams._core.wire_writing import write_ack, write_packet

MINE: Final = 12345


class Puppet:
    """Host 2, in a connection with host 1.

    Args:
        channel: Its channel.
        replies: Returns the frames that answer one that has come.

    Attributes:
        acknowledges: Whether it acknowledges what comes.
        frames: What has come, without acknowledgements and pings.
        packets: How many packets with frames have come.
    """

    def __init__(self, channel: Channel, replies: Callable[[StreamFrame], list[bytes]]) -> None:
        self.acknowledges = True
        self.frames: list[StreamFrame] = []
        self.packets = 0
        self._channel = channel
        self._replies = replies
        self._theirs = 0
        self._number = 0

    async def greet(self) -> None:
        """Begin the connection."""
        await self._throw(StreamPacketKind.HELLO, 0, 0)
        while not self._theirs:
            header = read_header_untrusted((await self._channel.receive()).data)
            if header.receiver == MINE:
                self._theirs = header.sender
        await self.say(PING_FRAME)

    async def _throw(
        self, kind: StreamPacketKind, receiver: int, number: int, *frames: bytes
    ) -> None:
        packet = write_packet(kind, MINE, receiver, number, frames, checked=True)
        await self._channel.send(packet, to=1)

    async def say(self, *frames: bytes) -> None:
        """Send frames in a packet."""
        self._number += 1
        await self._throw(StreamPacketKind.FRAMES, self._theirs, self._number - 1, *frames)

    async def run(self) -> None:
        """Take what comes, and answer it."""
        while True:
            packet = (await self._channel.receive()).data
            header = read_header_untrusted(packet)
            if (header.kind, header.sender) != (StreamPacketKind.FRAMES, self._theirs):
                continue
            self.packets += 1
            frames = [one for one in read_frames_untrusted(packet) if not isinstance(one, AckFrame)]
            answer = [reply for frame in frames for reply in self._replies(frame)]
            self.frames += [frame for frame in frames if not isinstance(frame, PingFrame)]
            if frames and self.acknowledges:
                answer.insert(0, write_ack([(header.number, header.number + 1)], 0.0))
            if answer:
                await self.say(*answer)
            else:
                await trio.lowlevel.checkpoint()
