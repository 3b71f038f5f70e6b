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
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple, TypeVar

import trio

from knet_trio.core.onwire import encode_message
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
from knet_trio.pipeline.stage import Stage, open_batch_channel

In = TypeVar("In")
Out = TypeVar("Out")


class Outgoing(NamedTuple):
    """A message as the user gave it; ``to`` None leaves its way to the filter."""

    data: bytes
    channel: int
    to: tuple[int, ...] | None


class Addressed(NamedTuple):
    """A message that knows where to go: ``hosts`` None is everybody."""

    data: bytes
    channel: int
    hosts: tuple[int, ...] | None
    compress: int = 0


class Sealed(NamedTuple):
    """A message as the datagrams that go on the wire, the same ones to every host."""

    datagrams: list[bytes]
    hosts: tuple[int, ...] | None


class FilterStage(Stage[Outgoing, Addressed]):
    """1. Who gets it, on which channel."""

    name: ClassVar[str] = "filter"

    def __init__(self, node: Node) -> None:
        self._node = node
        self._context = node.context

    async def process(self, items: Sequence[Outgoing]) -> list[Addressed]:
        """Address each message, and keep what is for this host."""
        return self.keep_own(_each(self.address, items, self._context))

    def keep_own(self, messages: list[Addressed]) -> list[Addressed]:
        """Have this host's loopback link carry what it gets itself; what others get of it."""
        loopback = self._node.loopback
        if loopback is None:
            return messages
        me = self._context.host_id
        own = [message for message in messages if message.hosts is None or me in message.hosts]
        if own:
            loopback.carry([Message(message.data, me, message.channel) for message in own])
        # Where nobody else can be reached, everybody has got it now.
        alone = not any(peer.ranked for peer in self._node.peers.values())
        others: list[Addressed] = []
        for message in messages:
            if message.hosts is None:
                if not alone:
                    others.append(message)
            elif hosts := tuple(host for host in message.hosts if host != me):
                others.append(message._replace(hosts=hosts))
        return others

    def address(self, message: Outgoing) -> Addressed:
        """Address one message, or raise SendError."""
        if not self._context.forwarding:
            raise ForwardingDisabledError(
                "data forwarding is off: set_forwarding(True) turns it on"
            )
        data, channel, to = message
        if to is not None:
            return Addressed(data, channel, to)
        decide = self._context.filter
        if decide is None:
            return Addressed(data, channel, None)
        me = self._context.host_id
        answer = ask_filter(decide, FilterPacket(data, Direction.TX, me, me, channel))
        if isinstance(answer, Drop):
            raise DroppedByFilterError("the filter dropped the message")
        if answer.channel is not None:
            channel = answer.channel
        if isinstance(answer, Broadcast):
            return Addressed(data, channel, None)
        if not answer.hosts:
            raise DestinationError("the filter answered Unicast without a host", errno=errno.EINVAL)
        return Addressed(data, channel, answer.hosts)


class CompressorStage(Stage[Addressed, Addressed]):
    """2. Smaller, if that is worth it."""

    name: ClassVar[str] = "compressor"

    def __init__(self, node: Node) -> None:
        self._context = node.context

    async def process(self, items: Sequence[Addressed]) -> list[Addressed]:
        """Compress each message, in a thread if that takes long."""
        compression = self._context.compression
        if compression is None:
            self._context.counters.tx_uncompressed += len(items)
            return list(items)
        counters = self._context.counters
        compressor, threshold = compression
        done: list[Addressed] = []
        for message in items:
            original = message.data
            if len(original) > threshold:
                began = time.perf_counter()
                if compressor.slow:
                    # One at a time, since what a thread does cannot be cancelled.
                    smaller = await trio.to_thread.run_sync(compressor.compress, original)
                else:
                    smaller = compressor.compress(original)
                if len(smaller) < len(original):
                    elapsed = time.perf_counter() - began
                    counters.tx_compress.add(len(original), len(smaller), elapsed)
                    done.append(message._replace(data=smaller, compress=compressor.wire_id))
                    continue
            counters.tx_uncompressed += 1
            done.append(message)
        return done


class CipherStage(Stage[Addressed, Sealed]):
    """3. Number, fragments, envelope."""

    name: ClassVar[str] = "cipher"

    def __init__(self, node: Node) -> None:
        self._node = node
        self._context = node.context

    async def process(self, items: Sequence[Addressed]) -> list[Sealed]:
        """Seal each message."""
        return _each(self.seal, items, self._context)

    def seal(self, message: Addressed) -> Sealed:
        """Seal one message, or raise SendError."""
        context = self._context
        packets = encode_message(
            message.data,
            node=context.host_id,
            seq=self._node.next_seq(),
            compress=message.compress,
            broadcast=message.hosts is None,
            channel=message.channel,
            fragment_size=self._node.data_mtu,
        )
        if context.crypto.sealer is None:
            return Sealed(packets, message.hosts)
        began = time.perf_counter()
        try:
            datagrams = context.crypto.seal(packets)
        except Exception as error:
            raise SealError(f"the cipher failed: {error!r}") from error
        counters = context.counters
        counters.tx_crypt.add(time.perf_counter() - began, len(packets))
        counters.tx_crypt_overhead += sum(map(len, datagrams)) - sum(map(len, packets))
        return Sealed(datagrams, message.hosts)


class TransportStage(Stage[Sealed, Sealed]):
    """4. The links that the policies of its hosts choose, one batch a link."""

    name: ClassVar[str] = "transport"

    def __init__(self, node: Node) -> None:
        self._node = node
        self._drop = node.context.counters.drop
        self._log = node.context.log

    async def process(self, items: Sequence[Sealed]) -> list[Sealed]:
        """Send each message; nothing is left for a next stage."""
        batches: dict[Peer, dict[Path, list[bytes]]] = {}
        for message in items:
            for peer in self._peers(message):
                batch = batches.setdefault(peer, {})
                for path in peer.choose():
                    batch.setdefault(path, []).extend(message.datagrams)
        # Waiting for room is backpressure, as long as it holds up nobody else: so only if
        # there is no link at all that could take something now.
        outboxes = {path.outbox for batch in batches.values() for path in batch}
        if outboxes and all(outbox.full for outbox in outboxes):
            await _wait_any_room(outboxes)
        for peer, batch in batches.items():
            self._send_to(peer, batch)
        return []

    def send(self, message: Sealed) -> None:
        """Send one message to its one host, or raise SendError."""
        for peer in self._peers(message):
            refusals = self._send_to(peer, dict.fromkeys(peer.choose(), message.datagrams))
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

    def _peers(self, message: Sealed) -> Iterator[Peer]:
        """The hosts the message can be sent to now; the others are counted."""
        reached = False
        if message.hosts is None:
            for peer in self._node.peers.values():
                if peer.ranked:
                    reached = True
                    yield peer
            if not reached:
                self._drop(DropCause.HOST_DOWN)
                self._log.info(
                    LogSubsystem.TX,
                    "a message to every host is lost, none is reachable",
                    key=DropCause.HOST_DOWN,
                )
            return
        for host_id in message.hosts:
            found = self._node.peers.get(host_id)
            if found is None:
                self._drop(DropCause.UNKNOWN_DESTINATION)
                self._log.warning(
                    LogSubsystem.TX,
                    "a message to host %d is lost, the handle has no such host",
                    host_id,
                    key=(DropCause.UNKNOWN_DESTINATION, host_id),
                )
            elif not found.ranked:
                self._drop(DropCause.HOST_DOWN)
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
        self._filter = FilterStage(node)
        self._compressor = CompressorStage(node)
        self._cipher = CipherStage(node)
        self._transport = TransportStage(node)
        self._head, self._source = open_batch_channel(Outgoing)

    def send_nowait(self, messages: Sequence[Outgoing]) -> None:
        """Hand over ``messages``, all or none; ``trio.WouldBlock`` if there is no room."""
        self._head.send_nowait(messages)

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Hand over ``messages`` once there is room; when cancelled, none was handed over."""
        await self._head.send(messages)

    async def send_sync(self, message: Outgoing) -> None:
        """All steps at once for a message to one host; raises the SendError of one that fails."""
        if message.to is None and self._context.filter is None:
            raise NoFilterError("say where to with to=[host_id], or set a filter")
        addressed = self._filter.address(message)
        hosts = addressed.hosts
        if hosts is None or len(hosts) != 1:
            raise DestinationError(
                "send_sync takes exactly one destination",
                errno=errno.EINVAL if hosts == () else errno.E2BIG,
            )
        for compressed in await self._compressor.process(self._filter.keep_own([addressed])):
            self._transport.send(self._cipher.seal(compressed))

    async def flush(self) -> None:
        """Wait until all that was handed over before has gone through the last stage."""
        flushed = trio.Event()
        await self._head.send((), (flushed,))
        await flushed.wait()

    async def run(self) -> None:
        """Run the stages until cancelled."""
        compressor, compressor_source = open_batch_channel(Addressed)
        cipher, cipher_source = open_batch_channel(Addressed)
        transport, transport_source = open_batch_channel(Sealed)
        async with trio.open_nursery() as nursery:
            start = nursery.start_soon
            start(self._filter.run, self._source, compressor, name="tx filter")
            start(self._compressor.run, compressor_source, cipher, name="tx compressor")
            start(self._cipher.run, cipher_source, transport, name="tx cipher")
            start(self._transport.run, transport_source, None, name="tx transport")


def _try(path: Path, datagrams: Sequence[bytes]) -> list[OSError]:
    """Send over that link; an error for each datagram that it refuses."""
    if path.outbox.full:
        path.data_delayed(len(datagrams))
        return [BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))] * len(datagrams)
    return path.outbox.send(path, datagrams)


async def _wait_any_room(outboxes: Iterable[Outbox]) -> None:
    """Return once one of ``outboxes`` is not full."""
    async with trio.open_nursery() as nursery:

        async def wait(outbox: Outbox) -> None:
            await outbox.wait_room()
            nursery.cancel_scope.cancel()

        for outbox in outboxes:
            nursery.start_soon(wait, outbox)


def _each(step: Callable[[In], Out], items: Iterable[In], context: Context) -> list[Out]:
    """What ``step`` makes of each item; those it raises SendError for are counted and logged."""
    done: list[Out] = []
    for item in items:
        try:
            done.append(step(item))
        except SendError as error:
            context.counters.drop(error.cause)
            _log_lost(context.log, error)
    return done


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
