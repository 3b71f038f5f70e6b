"""The way out of a message.

::

    Channel.send
      1. filter      who gets it, on which channel            Outgoing  -> Addressed
                     (what this host itself gets stays here)
      2. compressor  smaller, if that is worth it             Addressed -> Addressed
      3. cipher      number, fragments, envelope              Addressed -> Sealed
      4. transport   the links its hosts' policies choose     Sealed    -> the sockets

Each stage does a batch, and has a plain method for one message that raises SendError when it goes
no further. For a batch what it raises is counted; ``send_sync`` calls the methods in a row and lets
the error out.
"""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

import trio

from knet_trio._pipeline.batches import Addressed, Outgoing, Sealed, join
from knet_trio._pipeline.drops import count_lost
from knet_trio._pipeline.filtering import ask_filter
from knet_trio._pipeline.sealing import Sealer
from knet_trio._pipeline.stage import Stage
from knet_trio._pipeline.transport import TransportStage
from knet_trio._state.handle import HandleState
from knet_trio.errors import (
    DestinationError,
    DroppedByFilterError,
    ForwardingDisabledError,
    NoFilterError,
    SendError,
)
from knet_trio.message import Broadcast, Direction, Drop, FilterPacket, Message

# Messages sent one by one go together when they follow each other in so many seconds, and how
# many of them at most before they go.
FOLLOWS: Final = 0.00005
GATHERED: Final = 48
# What the fast compressors do in one turn; they are slower than all the rest.
COMPRESSED_AT_ONCE: Final = 64 * 1024


class FilterStage(Stage[Outgoing, Addressed]):
    """1. Who gets it, on which channel."""

    name: ClassVar[str] = "filter"

    def __init__(self, node: HandleState, sink: Stage[Addressed, Any]) -> None:
        super().__init__(sink)
        self._node = node
        self._context = node.context
        self._sent_at = -math.inf

    def ready(self, item: Outgoing) -> bool:
        """A message that closely follows another gathers with those that follow it."""
        now = self._context.now()
        follows, self._sent_at = now - self._sent_at < FOLLOWS, now
        return not follows or len(item.datas) > 1

    async def linger(self, items: Sequence[Outgoing]) -> None:
        """Messages gather as long as others follow.

        Nothing waits for a batch to fill: these go when the loop has gone round without another.
        """
        seen, gathered = 0, 1
        while seen < gathered <= GATHERED:
            seen = gathered
            # Twice, since a task that sends in every turn may have had its turn before.
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            gathered = sum(len(item.datas) for item in items)

    def join(self, last: Outgoing, item: Outgoing) -> Outgoing | None:
        """Messages that go the same way go together."""
        if last.channel != item.channel or last.to != item.to:
            return None
        datas = join(last.datas, item.datas)
        return None if datas is None else Outgoing(datas, last.channel, last.to)

    def step(self, item: Outgoing) -> list[Addressed]:
        """Address the messages, and keep what is for this host."""
        context = self._context
        if context.forwarding and (item.to is not None or context.filter is None):
            return self.keep_own([Addressed(*item)])
        addressed: list[Addressed] = []
        for data in item.datas:
            try:
                one = self.address(data, item.channel, item.to)
            except SendError as error:
                count_lost(context, error)
                continue
            if addressed and addressed[-1][1:] == one[1:]:
                one = one._replace(datas=[*addressed.pop().datas, data])
            addressed.append(one)
        return self.keep_own(addressed)

    def keep_own(self, messages: list[Addressed]) -> list[Addressed]:
        """Have this host's loopback link carry what it gets itself; what others get of it."""
        loopback = self._node.loopback
        if loopback is None:
            return messages
        me = self._context.host_id
        # Where nobody else can be reached, everybody has got it now.
        alone = not any(peer.ranked for peer in self._node.peers.values())
        others: list[Addressed] = []
        for message in messages:
            if message.hosts is None or me in message.hosts:
                loopback.carry([Message(data, me, message.channel) for data in message.datas])
            if message.hosts is None:
                if not alone:
                    others.append(message)
            elif hosts := tuple(host for host in message.hosts if host != me):
                others.append(message._replace(hosts=hosts))
        return others

    def address(self, data: bytes, channel: int, to: tuple[int, ...] | None) -> Addressed:
        """Address one message, or raise SendError."""
        if not self._context.forwarding:
            raise ForwardingDisabledError(
                "data forwarding is off: set_forwarding(True) turns it on"
            )
        decide = self._context.filter
        if to is not None or decide is None:
            return Addressed((data,), channel, to)
        me = self._context.host_id
        answer = ask_filter(decide, FilterPacket(data, Direction.TX, me, me, channel))
        if isinstance(answer, Drop):
            raise DroppedByFilterError("the filter dropped the message")
        if answer.channel is not None:
            channel = answer.channel
        if isinstance(answer, Broadcast):
            return Addressed((data,), channel, None)
        if not answer.hosts:
            raise DestinationError("the filter answered Unicast without a host", errno=errno.EINVAL)
        return Addressed((data,), channel, answer.hosts)


class CompressorStage(Stage[Addressed, Addressed]):
    """2. Smaller, if that is worth it."""

    name: ClassVar[str] = "compressor"

    def __init__(self, node: HandleState, sink: Stage[Addressed, Any]) -> None:
        super().__init__(sink)
        self._context = node.context

    def ready(self, item: Addressed) -> bool:
        """Slow compressors need a thread, and the others some time for much."""
        compression = self._context.compression
        if compression is None:
            return True
        return not compression.compressor.slow and sum(map(len, item.datas)) <= COMPRESSED_AT_ONCE

    def step(self, item: Addressed) -> list[Addressed]:
        """Compress each message."""
        compression = self._context.compression
        if compression is None:
            self._context.counters.tx_uncompressed += len(item.datas)
            return [item]
        compressor, threshold = compression
        done: list[Addressed] = []
        for data in item.datas:
            smaller = _timed(compressor.compress, data) if len(data) > threshold else None
            self._collect(done, item, data, smaller, compressor.wire_id)
        return done

    async def process(self, item: Addressed) -> list[Addressed]:
        """Compress each message, in a thread if that takes long."""
        if self.ready(item):
            return self.step(item)
        compression = self._context.compression
        assert compression is not None
        compressor, threshold = compression
        done: list[Addressed] = []
        for data in item.datas:
            smaller = None
            if len(data) > threshold:
                if compressor.slow:
                    # One at a time, since what a thread does cannot be cancelled.
                    smaller = await trio.to_thread.run_sync(_timed, compressor.compress, data)
                    # The thread went on when this was cancelled, and the sockets may be closed.
                    await trio.lowlevel.checkpoint_if_cancelled()
                else:
                    smaller = _timed(compressor.compress, data)
                    await trio.lowlevel.checkpoint()
            self._collect(done, item, data, smaller, compressor.wire_id)
        return done

    def _collect(
        self,
        done: list[Addressed],
        item: Addressed,
        data: bytes,
        smaller: tuple[bytes, float] | None,
        wire_id: int,
    ) -> None:
        """Add the shorter form of a message to ``done``, beside others of its kind."""
        counters = self._context.counters
        compress = item.compress
        if smaller is not None and len(smaller[0]) < len(data):
            original = len(data)
            data, elapsed = smaller
            counters.tx_compress.add(original, len(data), elapsed)
            compress = wire_id
        else:
            counters.tx_uncompressed += 1
        if done and done[-1].compress == compress:
            done[-1] = done[-1]._replace(datas=[*done[-1].datas, data])
        else:
            done.append(item._replace(datas=[data], compress=compress))


class CipherStage(Stage[Addressed, Sealed]):
    """3. Number, fragments, envelope."""

    name: ClassVar[str] = "cipher"

    def __init__(self, sealer: Sealer, sink: Stage[Sealed, Any]) -> None:
        super().__init__(sink)
        self._sealer = sealer

    def step(self, item: Addressed) -> list[Sealed]:
        """Seal the messages."""
        return self._sealer.seal_all(item)


class Transmitter:
    """The pipeline of these stages, and the way past it."""

    def __init__(self, node: HandleState) -> None:
        self._context = node.context
        self._sealer = Sealer(node)
        self._transport = TransportStage(node, self._sealer)
        self._cipher = CipherStage(self._sealer, self._transport)
        self._compressor = CompressorStage(node, self._cipher)
        self._filter = FilterStage(node, self._compressor)
        self._closed = False
        self._flushes: set[trio.Event] = set()

    def send_nowait(self, messages: Sequence[Outgoing]) -> None:
        """Hand over ``messages``, all or none; ``trio.WouldBlock`` if there is no room."""
        self._filter.send_nowait(messages)

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Hand over ``messages`` once there is room; when cancelled, none was handed over."""
        await self._filter.send(messages)

    async def send_sync(self, message: Outgoing) -> None:
        """All steps at once for a message to one host; raises the SendError of one that fails."""
        if message.to is None and self._context.filter is None:
            raise NoFilterError("say where to with to=[host_id], or set a filter")
        (data,) = message.datas
        addressed = self._filter.address(data, message.channel, message.to)
        hosts = addressed.hosts
        if hosts is None or len(hosts) != 1:
            raise DestinationError(
                "send_sync takes exactly one destination",
                errno=errno.EINVAL if hosts == () else errno.E2BIG,
            )
        for left in self._filter.keep_own([addressed]):
            for compressed in await self._compressor.process(left):
                await self.check_open()
                self._transport.send_one(self._sealer.seal(compressed))

    async def flush(self) -> None:
        """Wait until all that was handed over before has gone through the last stage."""
        flushed = trio.Event()
        self._flushes.add(flushed)
        try:
            await self._filter.send((), (flushed,))
            await flushed.wait()
        finally:
            self._flushes.discard(flushed)
        await self.check_open()

    async def check_open(self) -> None:
        """Raise ``trio.ClosedResourceError`` once it was closed."""
        if self._closed:
            # What is cancelled with the handle is to learn of that.
            await trio.lowlevel.checkpoint_if_cancelled()
            raise trio.ClosedResourceError("the handle has ended")

    def close(self) -> None:
        """Take no more, once ``run`` was cancelled: who waits gets ``trio.ClosedResourceError``."""
        self._closed = True
        self._filter.close()
        for flushed in self._flushes:
            flushed.set()

    async def run(self) -> None:
        """Run the stages until cancelled."""
        async with trio.open_nursery() as nursery:
            for stage in (self._filter, self._compressor, self._cipher, self._transport):
                nursery.start_soon(stage.run, name=f"tx {stage.name}")


def _timed(compress: Callable[[bytes], bytes], data: bytes) -> tuple[bytes, float]:
    """What ``compress`` makes of it, and how many seconds that took."""
    began = time.perf_counter()
    smaller = compress(data)
    return smaller, time.perf_counter() - began
