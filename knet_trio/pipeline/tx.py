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
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple, Never

import trio

from knet_trio.core.onwire import encode_messages
from knet_trio.core.policy import LinkPolicy
from knet_trio.errors import (
    DestinationError,
    DropCause,
    DroppedByFilterError,
    FilterError,
    ForwardingDisabledError,
    HostDownError,
    NoFilterError,
    NoProgressError,
    SealError,
    SendError,
)
from knet_trio.logs.log import HandleLog
from knet_trio.logs.names import LogSubsystem
from knet_trio.message import Broadcast, Direction, Drop, FilterPacket, Message
from knet_trio.node.context import Context
from knet_trio.node.node import Node
from knet_trio.node.outbox import Outbox
from knet_trio.node.path import Path
from knet_trio.node.peer import Peer
from knet_trio.pipeline.filtering import ask_filter, log_filter_error
from knet_trio.pipeline.stage import Stage

# What one item holds at most, so that it is little enough work for one turn.
ITEM_MESSAGES: Final = 64
ITEM_BYTES: Final = 192 * 1024
# A message of which that many fit.
SHORT: Final = ITEM_BYTES // ITEM_MESSAGES
# Messages sent one by one go together when they follow each other in so many seconds, and how
# many of them at most before they go.
FOLLOWS: Final = 0.00005
GATHERED: Final = 48
# What the fast compressors do in one turn; they are slower than all the rest.
COMPRESSED_AT_ONCE: Final = 64 * 1024


class Outgoing(NamedTuple):
    """Messages as the user gave them; ``to`` None leaves their way to the filter."""

    datas: Sequence[bytes]
    channel: int
    to: tuple[int, ...] | None


class Addressed(NamedTuple):
    """Messages that know where to go: ``hosts`` None is everybody."""

    datas: Sequence[bytes]
    channel: int
    hosts: tuple[int, ...] | None
    compress: int = 0


class Sealed(NamedTuple):
    """Messages as the datagrams that go on the wire, the same ones to every host.

    Each datagram is a message, or with ``fragments`` all of them are one.
    """

    datagrams: Sequence[bytes]
    hosts: tuple[int, ...] | None
    fragments: bool = False

    @property
    def messages(self) -> int:
        """How many."""
        return 1 if self.fragments else len(self.datagrams)


def pack_messages(
    datas: Sequence[bytes], channel: int, to: tuple[int, ...] | None = None
) -> list[Outgoing]:
    """``datas`` as items, none of which is too large."""
    if len(datas) <= ITEM_MESSAGES and sum(map(len, datas)) <= ITEM_BYTES:
        return [Outgoing(datas, channel, to)] if datas else []
    items: list[Outgoing] = []
    start = size = 0
    for i, data in enumerate(datas):
        size += len(data)
        if i > start and (i - start == ITEM_MESSAGES or size > ITEM_BYTES):
            items.append(Outgoing(datas[start:i], channel, to))
            start, size = i, len(data)
    items.append(Outgoing(datas[start:], channel, to))
    return items


class FilterStage(Stage[Outgoing, Addressed]):
    """1. Who gets it, on which channel."""

    name: ClassVar[str] = "filter"

    def __init__(self, node: Node, sink: Stage[Addressed, Any]) -> None:
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
        datas = _join(last.datas, item.datas)
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
                _count_lost(context, error)
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

    def __init__(self, node: Node, sink: Stage[Addressed, Any]) -> None:
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

    def __init__(self, node: Node, sink: Stage[Sealed, Any]) -> None:
        super().__init__(sink)
        self._node = node
        self._context = node.context

    def step(self, item: Addressed) -> list[Sealed]:
        """Seal the messages."""
        datas = item.datas
        if len(datas) == 1 or max(map(len, datas)) <= self._node.data_mtu:
            groups = [item]
        else:
            # What is split into fragments goes on its own.
            groups = [item._replace(datas=group) for group in self._split(item.datas)]
        sealed: list[Sealed] = []
        for group in groups:
            try:
                sealed.append(self.seal(group))
            except SendError as error:
                _count_lost(self._context, error, len(group.datas))
        return sealed

    def seal(self, message: Addressed) -> Sealed:
        """Seal messages that need no fragments, or one that does; or raise SendError."""
        context = self._context
        packets = encode_messages(
            message.datas,
            node=context.host_id,
            seqs=self._node.next_seqs(len(message.datas)),
            compress=message.compress,
            broadcast=message.hosts is None,
            channel=message.channel,
            fragment_size=self._node.data_mtu,
        )
        fragments = len(packets) > len(message.datas)
        if context.crypto.sealer is None:
            return Sealed(packets, message.hosts, fragments)
        began = time.perf_counter()
        try:
            datagrams = context.crypto.seal(packets)
        except Exception as error:
            raise SealError(f"the cipher failed: {error!r}") from error
        counters = context.counters
        counters.tx_crypt.add(time.perf_counter() - began, len(packets))
        counters.tx_crypt_overhead += sum(map(len, datagrams)) - sum(map(len, packets))
        return Sealed(datagrams, message.hosts, fragments)

    def _split(self, datas: Sequence[bytes]) -> Iterator[list[bytes]]:
        mtu = self._node.data_mtu
        group: list[bytes] = []
        for data in datas:
            if len(data) <= mtu:
                group.append(data)
                continue
            if group:
                yield group
                group = []
            yield [data]
        if group:
            yield group


class TransportStage(Stage[Sealed, Never]):
    """4. The links that the policies of its hosts choose, one batch a link."""

    name: ClassVar[str] = "transport"

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node
        self._drop = node.context.counters.drop
        self._log = node.context.log

    def join(self, last: Sealed, item: Sealed) -> Sealed | None:
        """Whole messages for the same hosts go together."""
        if last.fragments or item.fragments or last.hosts != item.hosts:
            return None
        datagrams = _join(last.datagrams, item.datagrams)
        return None if datagrams is None else last._replace(datagrams=datagrams)

    def ready(self, item: Sealed) -> bool:
        """Waiting for room is backpressure, as long as it holds up nobody else.

        So only if there is no link at all that could take something now.
        """
        peers = self._node.peers
        found = peers.values() if item.hosts is None else map(peers.get, item.hosts)
        for peer in found:
            if peer is not None and any(path.outbox.full for path in peer.ranked):
                break
        else:
            return True
        return not _all_full(self._outboxes(item.hosts))

    async def process(self, item: Sealed) -> Sequence[Never]:
        """Send each message once there is room."""
        outboxes = self._outboxes(item.hosts)
        if _all_full(outboxes):
            await _wait_any_room(outboxes)
        return self.step(item)

    def step(self, item: Sealed) -> Sequence[Never]:
        """Send each message; nothing is left for a next stage."""
        for peer in self._peers(item):
            self._send_to(peer, peer.share(item.datagrams, fragments=item.fragments))
        return ()

    def send_one(self, message: Sealed) -> None:
        """Send one message to its one host, or raise SendError."""
        for peer in self._peers(message):
            refusals = self._send_to(
                peer, peer.share(message.datagrams, fragments=message.fragments)
            )
            if refusals:
                number = refusals[0].errno or errno.EAGAIN
                raise NoProgressError(
                    f"no link to host {peer.host_id} takes it: {os.strerror(number)}",
                    errno=number,
                )
            return
        raise HostDownError("the destination is not reachable")

    def _send_to(self, peer: Peer, batch: Mapping[Path, Sequence[bytes]]) -> list[OSError]:
        """Send to one host; what no link took of it, by the errors.

        What a link refuses goes on another at once. With the active policy the others have it
        anyway.
        """
        lost: list[OSError] = []
        refused = {path: _try(path, datagrams) for path, datagrams in batch.items()}
        if not any(refused.values()):
            return lost
        if peer.policy is LinkPolicy.ACTIVE:
            if all(refused.values()):
                first, lost = next(iter(refused.items()))
                first.data_lost(lost)
            return lost
        for path, refusals in refused.items():
            if not refusals:
                continue
            # Hedged messages were given to two links: if the other has taken them all is well, and
            # if it has not they are one loss all the same.
            copies = [other for other in batch if batch[other] == batch[path]]
            if copies[0] is not path or not all(refused[copy] for copy in copies):
                continue
            if not self._divert(peer, path, batch[path]):
                path.data_lost(refusals)
                lost += refusals
        return lost

    @staticmethod
    def _divert(peer: Peer, refusing: Path, datagrams: Sequence[bytes]) -> bool:
        """Send over the best link that takes it; False if there is none.

        All of it goes, since the receiver drops what it has already.
        """
        others = (path for path in peer.ranked if path is not refusing)
        return any(not _try(path, datagrams) for path in others)

    def _outboxes(self, hosts: tuple[int, ...] | None) -> set[Outbox]:
        """What the next message to ``hosts`` would go through."""
        peers = self._node.peers
        found = peers.values() if hosts is None else (peers.get(host) for host in hosts)
        return {path.outbox for peer in found if peer is not None for path in peer.next_paths}

    def _peers(self, message: Sealed) -> Iterator[Peer]:
        """The hosts the message can be sent to now; the others are counted."""
        lost = message.messages
        if message.hosts is None:
            reached = False
            for peer in self._node.peers.values():
                if peer.ranked:
                    reached = True
                    yield peer
            if not reached:
                self._drop(DropCause.HOST_DOWN, lost)
                self._log.info(
                    LogSubsystem.TX,
                    "a message to every host is lost, none is reachable",
                    key=DropCause.HOST_DOWN,
                )
            return
        for host_id in message.hosts:
            found = self._node.peers.get(host_id)
            if found is None:
                self._drop(DropCause.UNKNOWN_DESTINATION, lost)
                self._log.warning(
                    LogSubsystem.TX,
                    "a message to host %d is lost, the handle has no such host",
                    host_id,
                    key=(DropCause.UNKNOWN_DESTINATION, host_id),
                )
            elif not found.ranked:
                self._drop(DropCause.HOST_DOWN, lost)
                self._log.info(
                    LogSubsystem.TX,
                    "a message to host %d is lost, it is unreachable",
                    host_id,
                    key=(DropCause.HOST_DOWN, host_id),
                )
            else:
                yield found


class Transmitter:
    """The pipeline of these stages, and the way past it."""

    def __init__(self, node: Node) -> None:
        self._context = node.context
        self._transport = TransportStage(node)
        self._cipher = CipherStage(node, self._transport)
        self._compressor = CompressorStage(node, self._cipher)
        self._filter = FilterStage(node, self._compressor)

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
                self._transport.send_one(self._cipher.seal(compressed))

    async def flush(self) -> None:
        """Wait until all that was handed over before has gone through the last stage."""
        flushed = trio.Event()
        await self._filter.send((), (flushed,))
        await flushed.wait()

    async def run(self) -> None:
        """Run the stages until cancelled."""
        async with trio.open_nursery() as nursery:
            for stage in (self._filter, self._compressor, self._cipher, self._transport):
                nursery.start_soon(stage.run, name=f"tx {stage.name}")


def _try(path: Path, datagrams: Sequence[bytes]) -> list[OSError]:
    """Send over that link; an error for each datagram that it refuses."""
    if path.outbox.full:
        path.data_delayed(len(datagrams))
        return [BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))] * len(datagrams)
    return path.outbox.send(path, datagrams)


def _all_full(outboxes: Collection[Outbox]) -> bool:
    return bool(outboxes) and all(outbox.full for outbox in outboxes)


async def _wait_any_room(outboxes: Iterable[Outbox]) -> None:
    """Return once one of ``outboxes`` is not full."""
    async with trio.open_nursery() as nursery:

        async def wait(outbox: Outbox) -> None:
            await outbox.wait_room()
            nursery.cancel_scope.cancel()

        for outbox in outboxes:
            nursery.start_soon(wait, outbox)


def _join(first: Sequence[bytes], second: Sequence[bytes]) -> list[bytes] | None:
    """Both in one, if they are short enough for one item."""
    if len(first) + len(second) > ITEM_MESSAGES or max(map(len, second)) > SHORT:
        return None
    # Lists are made here and in front of here, so nobody else has them.
    joined: list[bytes] = first if isinstance(first, list) else list(first)
    joined.extend(second)
    return joined


def _timed(compress: Callable[[bytes], bytes], data: bytes) -> tuple[bytes, float]:
    """What ``compress`` makes of it, and how many seconds that took."""
    began = time.perf_counter()
    smaller = compress(data)
    return smaller, time.perf_counter() - began


def _count_lost(context: Context, error: SendError, messages: int = 1) -> None:
    context.counters.drop(error.cause, messages)
    _log_lost(context.log, error)


def _log_lost(log: HandleLog, error: SendError) -> None:
    why = error.args[0]
    if isinstance(error, FilterError):
        log_filter_error(log, error, Direction.TX)
    elif isinstance(error, SealError):
        cause = error.__cause__
        log.error(LogSubsystem.CRYPTO, "a message is lost: %s", why, key=repr(cause), cause=cause)
    elif isinstance(error, DestinationError):
        log.warning(LogSubsystem.FILTER, "a message is lost: %s", why, key=error.cause)
    else:
        log.debug(LogSubsystem.TX, "a message is not sent: %s", why, key=error.cause)
