"""The third step of the way out: messages are compressed, where that makes them smaller."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import ClassVar, Final

import trio

from knet_trio._pipeline.stage import Stage
from knet_trio._state.context import Compression, Context
from knet_trio._state.lane import Batch

# How many messages are compressed at the same time, each for other hosts.
WORKERS: Final = 2
NOT_COMPRESSED: Final = 0

Hosts = tuple[int, ...]


class _Job:
    """A batch that waits to be compressed.

    Attributes:
        batch: The batch.
        compression: How it is compressed.
        made: The messages that are done, each with its wire id.
    """

    __slots__ = ("batch", "compression", "made")

    def __init__(self, batch: Batch, compression: Compression) -> None:
        self.batch = batch
        self.compression = compression
        self.made: list[tuple[bytes, int]] = []


class CompressorStage(Stage[Hosts]):
    """Compresses batches that are in their lanes already, and holds up only those lanes.

    Batches to the same hosts are compressed one after the other. Where there are others, the work
    goes round them: a message that takes long at a time.

    Args:
        done: Called with the hosts of a batch when it may go on.
    """

    name: ClassVar[str] = "compressor"

    def __init__(self, context: Context, done: Callable[[Hosts], None]) -> None:
        super().__init__(context.turns)
        self._context = context
        self._done = done
        self._lanes: dict[Hosts, deque[_Job]] = {}
        self._busy: set[Hosts] = set()

    def compress_now(self, batch: Batch) -> bool:
        """Compress ``batch`` if that takes little time.

        Returns:
            Whether it is ready to be sent. If not, call ``submit`` once it is in its lanes.
        """
        context = self._context
        compression = context.compression
        if compression is None:
            context.counters.tx_uncompressed += len(batch.datas)
            return True
        threshold = compression.threshold
        if all(len(data) <= threshold for data in batch.datas):
            context.counters.tx_uncompressed += len(batch.datas)
            return True
        if len(batch.datas) > 1 or _needs_thread(compression, batch.datas[0]):
            return False
        (data,) = batch.datas
        batch.set_compressed([self._take(data, compression, _timed(compression, data))])
        return True

    def submit(self, batch: Batch, hosts: Hosts) -> None:
        """Compress ``batch``, which waits in the lanes of ``hosts``."""
        compression = self._context.compression
        if compression is None:
            # It was turned off while the batch waited for room.
            batch.ready = True
            self._context.counters.tx_uncompressed += len(batch.datas)
            self._done(hosts)
            return
        self._lanes.setdefault(hosts, deque()).append(_Job(batch, compression))
        if hosts not in self._busy:
            self.wake(hosts)

    async def compress(self, batch: Batch) -> None:
        """Compress a batch that is in no lane and not ready."""
        compression = self._context.compression
        if compression is not None:
            job = _Job(batch, compression)
            while not await self._compress(job):
                pass
        batch.ready = True

    async def run(self) -> None:
        """Work until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                nursery.start_soon(super().run)

    async def work(self, key: Hosts) -> bool:
        """Compress some of the first batch to those hosts."""
        if key in self._busy:
            return False
        lane = self._lanes[key]
        self._busy.add(key)
        job = lane[0]
        done = await self._compress(job)
        self._busy.discard(key)
        if not done:
            return True
        lane.popleft()
        job.batch.ready = True
        if not lane:
            del self._lanes[key]
        self._done(key)
        return bool(lane)

    async def _compress(self, job: _Job) -> bool:
        """Compress messages, until one takes long or the turn is over.

        Returns:
            Whether all of the batch is done.
        """
        made, compression, datas = job.made, job.compression, job.batch.datas
        while len(made) < len(datas):
            data = datas[len(made)]
            if len(data) <= compression.threshold:
                self._context.counters.tx_uncompressed += 1
                made.append((data, NOT_COMPRESSED))
                continue
            slow = _needs_thread(compression, data)
            if slow:
                # One at a time, since what a thread does cannot be cancelled.
                timed = await self._context.worker(_timed, compression, data)
                # The thread went on when this was cancelled, and the sockets may be closed.
                await trio.lowlevel.checkpoint_if_cancelled()
            else:
                timed = _timed(compression, data)
            made.append(self._take(data, compression, timed))
            if slow or self._turns.is_over():
                break
        if len(made) < len(datas):
            return False
        job.batch.set_compressed(made)
        return True

    def _take(
        self, data: bytes, compression: Compression, made: tuple[bytes, float]
    ) -> tuple[bytes, int]:
        """Return the shorter form of ``data`` with its compression's wire id, and count it."""
        counters = self._context.counters
        smaller, elapsed = made
        if len(smaller) >= len(data):
            counters.tx_uncompressed += 1
            return data, NOT_COMPRESSED
        counters.tx_compress.add(len(data), len(smaller), elapsed)
        return smaller, compression.compressor.wire_id


def _needs_thread(compression: Compression, data: bytes) -> bool:
    """Whether compressing ``data`` takes too long for a turn."""
    compressor = compression.compressor
    return compressor.slow or len(data) > compressor.compress_at_once


def _timed(compression: Compression, data: bytes) -> tuple[bytes, float]:
    """Return ``data`` compressed, and how many seconds that took."""
    began = time.perf_counter()
    smaller = compression.compressor.compress(data)
    return smaller, time.perf_counter() - began
