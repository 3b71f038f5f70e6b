"""The way in of a message.

::

    a receive task for each socket
      1. cipher        out of the envelope; control packets act here   Arrived   -> Authentic
      2. defrag        each message once, and whole                    Authentic -> Whole
      3. decompressor  as its sender's user gave it                    Whole     -> Message
      4. delivery      filter, then the channel's queue                Message   -> Channel.receive

What comes in is hostile until the cipher has opened it, and with crypto off all the way: each step
may find something wrong, counts why, and goes on with the next.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

import trio

from knet_trio.abc import Endpoint
from knet_trio.address import Address
from knet_trio.compress import Decompressors
from knet_trio.core.onwire import MAX_MESSAGE, Data, decode_untrusted
from knet_trio.errors import DropCause, FilterError, PacketError
from knet_trio.logs.names import LogSubsystem
from knet_trio.message import Broadcast, Direction, Drop, FilterPacket, Message
from knet_trio.node.control import receive_control, receive_trouble
from knet_trio.node.counters import Kind
from knet_trio.node.node import Node
from knet_trio.node.peer import Peer
from knet_trio.pipeline.filtering import ask_filter, log_filter_error
from knet_trio.pipeline.stage import Stage, open_batch_channel
from knet_trio.waiting import Mailbox


class Arrived(NamedTuple):
    """A datagram and where it came from."""

    datagram: bytes
    source: Address


class Authentic(NamedTuple):
    """A data packet of a host that may send it."""

    packet: Data
    peer: Peer


class Whole(NamedTuple):
    """A message as it was sent, and the id of what compressed it, 0 for nothing."""

    message: Message
    compress: int


class CipherStage(Stage[Arrived, Authentic]):
    """1. Out of the envelope, and control packets to those they concern."""

    name: ClassVar[str] = "cipher"

    def __init__(self, node: Node) -> None:
        self._node = node
        self._context = node.context

    async def process(self, items: Sequence[Arrived]) -> list[Authentic]:
        """Open each datagram and sort the packets."""
        authentic: list[Authentic] = []
        began = time.perf_counter()
        opened = 0
        for datagram, source in items:
            try:
                plain = self._context.crypto.open_untrusted(datagram)
                opened += plain is not datagram
                packet = decode_untrusted(plain)
            except PacketError as error:
                self._refuse(error, source)
                continue
            if isinstance(packet, Data):
                peer = self._admit(packet, len(datagram), source)
                if peer is not None:
                    authentic.append(Authentic(packet, peer))
            else:
                receive_control(self._node, packet, len(datagram), source)
        if opened:
            self._context.counters.rx_crypt.add(time.perf_counter() - began, opened)
        return authentic

    def _admit(self, packet: Data, size: int, source: Address) -> Peer | None:
        """The host that sent the packet, if data may come from it and from that address."""
        counters = self._context.counters
        log = self._context.log
        peer = self._node.peers.get(packet.node)
        if peer is None:
            counters.drop(DropCause.UNKNOWN_HOST)
            log.info(
                LogSubsystem.RX,
                "data from %s is of host %d, which the handle does not have",
                source,
                packet.node,
                key=DropCause.UNKNOWN_HOST,
            )
            return None
        path = peer.by_address.get(source)
        if path is None:
            counters.drop(DropCause.UNKNOWN_ADDRESS)
            log.info(
                LogSubsystem.RX,
                "data of host %d from %s is refused, none of its links is there",
                packet.node,
                source,
                key=(DropCause.UNKNOWN_ADDRESS, packet.node),
            )
            return None
        if self._context.access_lists and not path.acl.accepts(source.host):
            path.drop(DropCause.ACCESS_LIST)
            log.warning(
                LogSubsystem.RX,
                "%s: data from %s is refused by the access list",
                path.title,
                source,
                key=(DropCause.ACCESS_LIST, path.title),
            )
            return None
        if not self._context.forwarding:
            counters.drop(DropCause.FORWARDING_DISABLED)
            return None
        # A peer that has begun to answer may have found this host before this host found it: its
        # first messages are not to be lost for that.
        if not peer.ranked and not path.liveness.counted:
            path.drop(DropCause.PEER_UNREACHABLE)
            log.debug(
                LogSubsystem.RX,
                "%s: data is refused, the host is unreachable",
                path.title,
                key=(DropCause.PEER_UNREACHABLE, path.title),
            )
            return None
        tally = path.counters.tallies[Kind.DATA]
        tally.rx_packets += 1
        tally.rx_bytes += size
        return peer

    def _refuse(self, error: PacketError, source: Address) -> None:
        """Count bytes that are no packet, with the link they came over if that is known."""
        path = self._node.by_address.get(source)
        if path is None:
            title = "no link"
            self._context.counters.drop(error.cause)
        else:
            title = path.title
            path.drop(error.cause)
            path.note(f"a packet from {source} was refused: {error.args[0]}")
        self._context.log.warning(
            LogSubsystem.RX,
            "%s: a packet from %s is refused: %s",
            title,
            source,
            error.args[0],
            key=(error.cause, title),
        )


class DefragStage(Stage[Authentic, Whole]):
    """2. Each message once, and whole."""

    name: ClassVar[str] = "defrag"

    async def process(self, items: Sequence[Authentic]) -> list[Whole]:
        """Put messages together and leave out those that were seen."""
        whole: list[Whole] = []
        for packet, peer in items:
            payload = peer.source.receive(packet)
            if payload is not None:
                message = Message(payload, packet.node, packet.channel)
                whole.append(Whole(message, packet.compress))
        return whole


class DecompressorStage(Stage[Whole, Message]):
    """3. As its sender's user gave it."""

    name: ClassVar[str] = "decompressor"

    def __init__(self, node: Node) -> None:
        self._counters = node.context.counters
        self._log = node.context.log
        self._decompressors = Decompressors()

    async def process(self, items: Sequence[Whole]) -> list[Message]:
        """Decompress what is compressed, in a thread where that takes long."""
        done: list[Message] = []
        for message, compress in items:
            if not compress:
                done.append(message)
                continue
            try:
                compressor = self._decompressors.find_untrusted(compress)
                began = time.perf_counter()
                call = compressor.decompress_untrusted
                if compressor.slow:
                    data = await trio.to_thread.run_sync(call, message.data, MAX_MESSAGE)
                else:
                    data = call(message.data, MAX_MESSAGE)
            except PacketError as error:
                self._counters.drop(error.cause)
                self._log.warning(
                    LogSubsystem.COMPRESS,
                    "a message of host %d is lost, it cannot be decompressed: %s",
                    message.source,
                    error.args[0],
                    key=(error.cause, message.source),
                )
                continue
            elapsed = time.perf_counter() - began
            self._counters.rx_compress.add(len(data), len(message.data), elapsed)
            done.append(message._replace(data=data))
        return done


class DeliveryStage(Stage[Message, Message]):
    """4. Filter, then the queue of the channel."""

    name: ClassVar[str] = "delivery"

    def __init__(self, node: Node, mailboxes: dict[int, Mailbox[Message]]) -> None:
        self._context = node.context
        self._mailboxes = mailboxes

    async def process(self, items: Sequence[Message]) -> list[Message]:
        """Deliver each message; nothing is left for a next stage."""
        admitted = (self._filter(message) for message in items)
        self.deliver(message for message in admitted if message is not None)
        return []

    def deliver(self, messages: Iterable[Message]) -> None:
        """Put each message into the queue of its channel, if that is open and has room."""
        queues: dict[int, list[Message]] = {}
        for message in messages:
            queues.setdefault(message.channel, []).append(message)
        drop, log = self._context.counters.drop, self._context.log
        for channel, queue in queues.items():
            mailbox = self._mailboxes.get(channel)
            if mailbox is None:
                drop(DropCause.NO_CHANNEL, len(queue))
                log.info(
                    LogSubsystem.RX,
                    "messages for channel %d are lost, it is not open",
                    channel,
                    key=(DropCause.NO_CHANNEL, channel),
                )
            else:
                lost = mailbox.put(queue)
                if lost:
                    drop(DropCause.CHANNEL_FULL, lost)
                    log.warning(
                        LogSubsystem.RX,
                        "%d messages for channel %d are lost, its reader is too slow",
                        lost,
                        channel,
                        key=(DropCause.CHANNEL_FULL, channel),
                    )

    def _filter(self, message: Message) -> Message | None:
        """The message on the channel where it belongs, if this host takes it."""
        decide = self._context.filter
        if decide is None:
            return message
        me = self._context.host_id
        packet = FilterPacket(message.data, Direction.RX, me, message.source, message.channel)
        try:
            answer = ask_filter(decide, packet)
        except FilterError as error:
            self._context.counters.drop(error.cause)
            log_filter_error(self._context.log, error, Direction.RX)
            return None
        if isinstance(answer, Drop):
            self._context.counters.drop(DropCause.FILTER_DROP)
            return None
        # The filter here decides, even about what its sender meant for everybody: so does C's.
        if not isinstance(answer, Broadcast) and me not in answer.hosts:
            self._context.counters.drop(DropCause.NOT_FOR_THIS_HOST)
            return None
        if answer.channel is None or answer.channel == message.channel:
            return message
        return message._replace(channel=answer.channel)


class Receiver:
    """The pipeline of these stages. ``mailboxes`` are the queues of the open channels."""

    def __init__(self, node: Node) -> None:
        self.mailboxes: dict[int, Mailbox[Message]] = {}
        self._node = node
        self._postman = DeliveryStage(node, self.mailboxes)
        self._head, self._source = open_batch_channel(Arrived)

    def deliver(self, messages: Sequence[Message]) -> None:
        """Deliver what this host sent to itself.

        The filter has seen it on its way out and is not asked again, as in C.
        """
        self._postman.deliver(messages)

    async def receive_from(self, endpoint: Endpoint) -> None:
        """Take in what arrives at ``endpoint``, until cancelled: a task for each of them.

        Where the pipeline is behind, the tasks wait for it in turn, so an endpoint that is flooded
        gets no more than its share.
        """
        while True:
            arrivals = await endpoint.receive()
            for trouble in arrivals.troubles:
                receive_trouble(self._node, endpoint, trouble)
            if arrivals.trains:
                await self._head.send(
                    [
                        Arrived(datagram, train.source)
                        for train in arrivals.trains
                        for datagram in train.datagrams()
                    ]
                )

    async def run(self) -> None:
        """Run the stages until cancelled."""
        defrag, defrag_source = open_batch_channel(Authentic)
        decompressor, decompressor_source = open_batch_channel(Whole)
        delivery, delivery_source = open_batch_channel(Message)
        async with trio.open_nursery() as nursery:
            start = nursery.start_soon
            start(CipherStage(self._node).run, self._source, defrag, name="rx cipher")
            start(DefragStage().run, defrag_source, decompressor, name="rx defrag")
            opener = DecompressorStage(self._node)
            start(opener.run, decompressor_source, delivery, name="rx decompressor")
            start(self._postman.run, delivery_source, None, name="rx delivery")
