"""The third step of the way out: messages are compressed, where that makes them smaller.

Compressing takes time, and messages to the same hosts are compressed in order. Messages to other
hosts do not wait for them: each set of hosts has a lane, and the work goes round the lanes.
Messages that take long are compressed by threads. The lanes that need a thread wait in a separate
line, so that no other lane waits behind them.

::

    submit -> lane of the hosts --+-- fast: one task, in turns ---------------+-> done
                                  '-- slow: two threads, one message a time --'
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import ClassVar, Final, NamedTuple

import trio

from knet_trio._logs.names import LogSubsystem
from knet_trio._pipeline.stage import Stage
from knet_trio._state.context import Compression, Context
from knet_trio._state.send_lane import Batch
from knet_trio._state.turns import Turns
from knet_trio._state.workers import COMPRESSING, NoThreadError

NOT_COMPRESSED: Final = 0

Hosts = tuple[int, ...]


class _Key(NamedTuple):
    """The key of a lane.

    Attributes:
        hosts: The hosts that its messages go to, sorted.
        sync: True for messages of ``send_sync``, which pass those that wait for the hosts.
    """

    hosts: Hosts
    sync: bool


class _Made(NamedTuple):
    """The result of compressing a message.

    Attributes:
        data: The compressed bytes, or the message itself.
        elapsed: The time it took, in seconds.
        error: Why it failed, None if it did not.
    """

    data: bytes
    elapsed: float
    error: MemoryError | None = None


class _Job:
    """A batch that waits to be compressed.

    Attributes:
        key: The lane it is in.
        batch: The batch.
        compression: The compressor and its settings.
        on_done: Called when the batch may go on.
        made: The messages that are done, each with its wire id.
    """

    __slots__ = ("batch", "compression", "key", "made", "on_done")

    def __init__(
        self, key: _Key, batch: Batch, compression: Compression, on_done: Callable[[], None]
    ) -> None:
        self.key = key
        self.batch = batch
        self.compression = compression
        self.on_done = on_done
        self.made: list[tuple[bytes, int]] = []

    @property
    def done(self) -> bool:
        """True if all messages are done."""
        return len(self.made) == len(self.batch.datas)

    @property
    def next(self) -> bytes:
        """The next message to compress."""
        return self.batch.datas[len(self.made)]

    @property
    def needs_thread(self) -> bool:
        """True if the next message takes too long for a turn."""
        return _needs_thread(self.compression, self.next)


class _Lane:
    """Batches to the same hosts.

    Attributes:
        jobs: The jobs that wait, in order. The first one is worked on.
        in_thread: The first job while a thread works on it, otherwise None.
    """

    __slots__ = ("in_thread", "jobs")

    def __init__(self) -> None:
        self.jobs: dict[_Job, None] = {}
        self.in_thread: _Job | None = None

    @property
    def first(self) -> _Job:
        """The job to work on."""
        return next(iter(self.jobs))


class _ThreadLine(Stage[_Key]):
    """The lanes whose next message needs a thread."""

    name: ClassVar[str] = "compressor threads"

    def __init__(self, turns: Turns, work: Callable[[_Key], Awaitable[None]]) -> None:
        super().__init__(turns)
        self._work = work

    async def work(self, key: _Key) -> bool:
        """Have a thread compress the next message; the lane lines up again by itself."""
        await self._work(key)
        return False


class CompressorStage(Stage[_Key]):
    """Compresses batches that are in the lanes of their hosts, and delays only those lanes.

    Batches to the same hosts are compressed one after the other. Between several sets of hosts the
    work goes round: some small messages, or one that needs a thread, at a time. A batch that is
    dropped from the lanes of all its hosts is dropped here too.

    Args:
        context: The context of the handle.
        done: Called with the hosts of a batch when it may go on.
    """

    name: ClassVar[str] = "compressor"

    def __init__(self, context: Context, done: Callable[[Hosts], None]) -> None:
        super().__init__(context.turns)
        self._context = context
        self._done = done
        self._lanes: dict[_Key, _Lane] = {}
        # A lane that is not empty, and that no thread works on, is in the line of this stage or in
        # the line of that stage.
        self._threads = _ThreadLine(context.turns, self._work_in_thread)

    def compress_now(self, batch: Batch) -> bool:
        """Compress ``batch`` if that takes little time; it is counted when it enters its lanes.

        Returns:
            True if the batch is ready to be sent. If not, call ``submit`` once it is in its lanes.
        """
        compression = self._compression
        threshold = compression.threshold
        if all(len(data) <= threshold for data in batch.datas):
            return True
        if len(batch.datas) > 1 or _needs_thread(compression, batch.datas[0]):
            return False
        (data,) = batch.datas
        made = _compress(compression, data)
        batch.tried = self._tried(data, compression, made)
        if len(made.data) < len(data):
            batch.set_compressed([(made.data, compression.compressor.wire_id)])
        return True

    def submit(self, batch: Batch, hosts: Hosts) -> None:
        """Compress ``batch``, which waits in the lanes of ``hosts``."""
        compression = self._context.compression
        if compression is None:
            # Compression was turned off while the batch waited for room.
            batch.ready = True
            self._done(hosts)
            return
        # The order of hosts changes when hosts are removed and added.
        key = _Key(tuple(sorted(hosts)), sync=False)
        job = _Job(key, batch, compression, partial(self._done, hosts))
        batch.on_dropped = partial(self._drop, job)
        self._add(job)

    async def compress(self, batch: Batch, hosts: Hosts, ended: trio.Event) -> None:
        """Compress a batch of ``send_sync``, which is not in a lane.

        Afterwards the batch is not ready if the stage was closed, or ``ended`` set by somebody
        else.

        Args:
            batch: The batch.
            hosts: The hosts that it goes to.
            ended: Set when the batch is done, or when waiting is to end.
        """
        job = _Job(_Key(hosts, sync=True), batch, self._compression, ended.set)
        self._add(job)
        turns = self._turns
        before = turns.round
        try:
            await ended.wait()
        finally:
            self._drop(job)
        turns.resumed(before)

    def close(self) -> None:
        """Take no more batches, and wake the tasks that wait in ``compress``."""
        super().close()
        self._threads.close()
        for key, lane in self._lanes.items():
            if key.sync:
                for job in lane.jobs:
                    job.on_done()

    async def run(self) -> None:
        """Work until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(super().run)
            for _ in range(COMPRESSING):
                nursery.start_soon(self._threads.run)

    async def work(self, key: _Key) -> bool:
        """Compress messages of the first batch, until one needs a thread or the turn is over."""
        lane = self._lanes.get(key)
        if lane is None or lane.in_thread is not None:
            return False
        job = lane.first
        while not job.needs_thread:
            self._made(job, _compress(job.compression, job.next))
            if job.done or self._turns.is_over():
                break
        self._go_on(lane, job)
        return False

    async def _work_in_thread(self, key: _Key) -> None:
        """Have a thread compress the next message of a lane.

        A thread gets one message at a time, since its work cannot be cancelled.
        """
        lane = self._lanes.get(key)
        if lane is None or lane.in_thread is not None:
            return
        job = lane.first
        # The message that needed a thread may have been dropped while the lane waited here.
        if job.needs_thread:
            lane.in_thread = job
            before = self._turns.round
            data = job.next
            try:
                made = await self._context.worker(_compress, job.compression, data)
            except NoThreadError as error:
                made = _Made(data, 0.0, error)
            self._turns.resumed(before)
            # The thread went on when this task was cancelled, and the sockets may be closed.
            await trio.lowlevel.checkpoint_if_cancelled()
            if lane.in_thread is not job:
                # The job was dropped, and the lane may have gone on to its next job.
                return
            lane.in_thread = None
            self._made(job, made)
        self._go_on(lane, job)

    @property
    def _compression(self) -> Compression:
        compression = self._context.compression
        assert compression is not None, "callers check that compression is on"
        return compression

    def _add(self, job: _Job) -> None:
        lane = self._lanes.get(job.key)
        if lane is None:
            lane = self._lanes[job.key] = _Lane()
        lane.jobs[job] = None
        self._line_up(job.key, lane)

    def _drop(self, job: _Job) -> None:
        """Forget a job, if it is not done."""
        lane = self._lanes.get(job.key)
        if lane is None or job not in lane.jobs:
            return
        del lane.jobs[job]
        if lane.in_thread is job:
            # Nobody waits for the result of the thread.
            lane.in_thread = None
        self._line_up(job.key, lane)

    def _go_on(self, lane: _Lane, job: _Job) -> None:
        """Line up a lane again, after a piece of its first job."""
        if job.done:
            del lane.jobs[job]
            batch = job.batch
            batch.set_compressed(job.made)
            batch.ready = True
            batch.on_dropped = None
            job.on_done()
        self._line_up(job.key, lane)

    def _line_up(self, key: _Key, lane: _Lane) -> None:
        """Put a lane into the line where it belongs, if it has work."""
        if not lane.jobs:
            del self._lanes[key]
        elif lane.in_thread is None:
            line = self._threads if lane.first.needs_thread else self
            line.wake(key)

    def _made(self, job: _Job, made: _Made) -> None:
        job.made.append(self._take(job.next, job.compression, made))

    def _take(self, data: bytes, compression: Compression, made: _Made) -> tuple[bytes, int]:
        """Return the shorter form of ``data`` with its wire id, and count the result."""
        smaller = len(made.data) < len(data)
        tried = self._tried(data, compression, made)
        self._context.counters.handed_over(tried, 0 if smaller else 1)
        return (made.data, compression.compressor.wire_id) if smaller else (data, NOT_COMPRESSED)

    def _tried(
        self, data: bytes, compression: Compression, made: _Made
    ) -> tuple[int, int, float] | None:
        """Return the size of ``data`` before and after, in bytes, and the time in seconds.

        Returns:
            None if the compressor was not tried, or if it failed, which is counted and logged.
        """
        if made.error is not None:
            self._context.counters.tx_failed_to_compress += 1
            self._context.log.error(
                LogSubsystem.COMPRESS,
                "the compressor failed, a message is sent uncompressed: %s",
                repr(made.error),
                key="compressor failed",
                cause=made.error,
            )
        elif len(data) > compression.threshold:
            return len(data), len(made.data), made.elapsed
        return None


def _needs_thread(compression: Compression, data: bytes) -> bool:
    """Return whether compressing ``data`` takes too long for a turn."""
    size = len(data)
    if size <= compression.threshold:
        return False
    compressor = compression.compressor
    return compressor.slow or size > compressor.compress_at_once


def _compress(compression: Compression, data: bytes) -> _Made:
    """Compress ``data`` if it is over the threshold. Has no side effects: threads call it too."""
    if len(data) <= compression.threshold:
        return _Made(data, 0.0)
    began = time.perf_counter()
    try:
        smaller = compression.compressor.compress(data)
    except MemoryError as error:
        # Too little memory concerns this message, not the handle. Any other error is a bug.
        return _Made(data, 0.0, error)
    return _Made(smaller, time.perf_counter() - began)
