"""The queue of the frames for one host."""

from __future__ import annotations

from typing import Final, final

import trio

# The bounds of one host's queue, which comes before its lane.
QUEUE_FRAMES: Final = 512
QUEUE_BYTES: Final = 1024 * 1024


@final
class FrameQueue:
    """The frames that wait to be sent to one host, bounded in number and bytes."""

    __slots__ = ("_bytes", "_ended", "_frames", "_ready")

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._bytes = 0
        self._ready = trio.Event()
        self._ended = False

    def put(self, frames: list[bytes]) -> int:
        """Add frames while there is room; return the number of frames left out."""
        waiting = self._frames
        self._ready.set()
        for number, frame in enumerate(frames):
            if len(waiting) >= QUEUE_FRAMES or self._bytes >= QUEUE_BYTES:
                return len(frames) - number
            waiting.append(frame)
            self._bytes += len(frame)
        return 0

    def end(self) -> None:
        """End the queue: ``take`` returns an empty list once all frames are taken."""
        self._ended = True
        self._ready.set()

    async def take(self) -> list[bytes]:
        """Wait for frames and return all of them; an empty list at the end."""
        await self._ready.wait()
        if not self._ended:
            self._ready = trio.Event()
        self._bytes = 0
        frames, self._frames = self._frames, []
        return frames
