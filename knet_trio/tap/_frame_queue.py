"""The queue of the frames for one host."""

from __future__ import annotations

from typing import Final, final

import trio

# What waits for one host at most, beside what is in its lane.
QUEUE_FRAMES: Final = 512
QUEUE_BYTES: Final = 1024 * 1024


@final
class FrameQueue:
    """What waits to be sent to one host, a bounded number of frames and bytes."""

    __slots__ = ("_bytes", "_ended", "_frames", "_ready")

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._bytes = 0
        self._ready = trio.Event()
        self._ended = False

    def put(self, frames: list[bytes]) -> int:
        """Add frames as far as there is room; return how many were left out."""
        waiting = self._frames
        self._ready.set()
        for number, frame in enumerate(frames):
            if len(waiting) >= QUEUE_FRAMES or self._bytes >= QUEUE_BYTES:
                return len(frames) - number
            waiting.append(frame)
            self._bytes += len(frame)
        return 0

    def end(self) -> None:
        """Have ``take`` return nothing once all is taken: no more is put in."""
        self._ended = True
        self._ready.set()

    async def take(self) -> list[bytes]:
        """Wait for frames and take all that are there; none at the end."""
        await self._ready.wait()
        if not self._ended:
            self._ready = trio.Event()
        self._bytes = 0
        frames, self._frames = self._frames, []
        return frames
