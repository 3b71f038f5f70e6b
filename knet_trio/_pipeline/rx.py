"""The way in of a message.

::

    a receive task for each socket
      1. cipher        out of the envelope; control packets act here   Train     -> Authentic
      2. defrag        each message once, and whole                    Authentic -> Whole
      3. decompressor  as its sender's user gave it                    Whole     -> Whole
      4. delivery      filter, then the channel's queue                Whole     -> Channel.receive

What comes in is hostile until the cipher has opened it, and with crypto off all the way: each step
may find something wrong, counts why, and goes on with the next.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any, ClassVar, NamedTuple, Never, cast

import trio

from knet_trio._compress import Decompressors
from knet_trio._core.onwire import (
    MAX_MESSAGE,
    Data,
    DataRun,
    decode_run_untrusted,
    decode_untrusted,
)
from knet_trio._logs.names import LogSubsystem
from knet_trio._pipeline.filtering import ask_filter, log_filter_error
from knet_trio._pipeline.oldstage import Stage
from knet_trio._state.control import receive_control, receive_trouble
from knet_trio._state.counters import Kind
from knet_trio._state.handle import HandleState
from knet_trio._state.host import HostState
from knet_trio._waiting import Mailbox
from knet_trio.abc import Endpoint, Train
from knet_trio.address import Address
from knet_trio.errors import DropCause, FilterError, PacketError
from knet_trio.message import Broadcast, Direction, Drop, FilterPacket, Message


class Authentic(NamedTuple):
    """Data packets of a host that may send them."""

    packets: Data | DataRun
    host: HostState


class Whole(NamedTuple):
    """Messages as they were sent, and the id of what compressed them, 0 for nothing."""

    datas: Sequence[bytes]
    source: int
    channel: int
    compress: int = 0


class CipherStage(Stage[Train, Authentic]):
    """1. Out of the envelope, and control packets to those they concern."""

    name: ClassVar[str] = "cipher"

    def __init__(self, handle: HandleState, sink: Stage[Authentic, Any]) -> None:
        super().__init__(sink)
        self._handle = handle
        self._context = handle.context

    def step(self, item: Train) -> list[Authentic]:
        """Open the datagrams and sort the packets."""
        crypto = self._context.crypto
        if crypto.reads_plainly:
            if len(item.data) > item.size:
                run = decode_run_untrusted(item.data, item.size)
                if run is not None:
                    return self._receive_run(run, len(item.data), item.source)
            datagrams = item.datagrams()
            return self._receive_each(datagrams, datagrams, item.source)
        datagrams = item.datagrams()
        began = time.perf_counter()
        opened = crypto.open_many_untrusted(datagrams)
        elapsed = time.perf_counter() - began
        sealed = sum(
            packet is not datagram and isinstance(packet, bytes)
            for packet, datagram in zip(opened, datagrams, strict=True)
        )
        self._context.counters.rx_crypt.add(elapsed, sealed)
        if sealed == len(datagrams) > 1:
            packets = cast("list[bytes]", opened)
            size = len(packets[0])
            if all(len(packet) == size for packet in packets[:-1]) and 0 < len(packets[-1]) <= size:
                run = decode_run_untrusted(b"".join(packets), size)
                if run is not None:
                    return self._receive_run(run, len(item.data), item.source)
        return self._receive_each(opened, datagrams, item.source)

    def _receive_run(self, run: DataRun, size: int, source: Address) -> list[Authentic]:
        """Take in data packets of ``size`` bytes together on the wire."""
        host = self._admit(run.node, len(run.payloads), size, source)
        return [] if host is None else [Authentic(run, host)]

    def _receive_each(
        self,
        opened: Sequence[bytes | PacketError],
        datagrams: Sequence[bytes],
        source: Address,
    ) -> list[Authentic]:
        """Take in packets that may be of any kind, or none."""
        authentic: list[Authentic] = []
        for plain, datagram in zip(opened, datagrams, strict=True):
            if isinstance(plain, PacketError):
                self._refuse(plain, source)
                continue
            try:
                packet = decode_untrusted(plain)
            except PacketError as error:
                self._refuse(error, source)
                continue
            if isinstance(packet, Data):
                host = self._admit(packet.node, 1, len(datagram), source)
                if host is not None:
                    authentic.append(Authentic(packet, host))
            else:
                receive_control(self._handle, packet, len(datagram), source)
        return authentic

    def _admit(self, handle: int, packets: int, size: int, source: Address) -> HostState | None:
        """The host that sent data packets, if they may come from it and from that address."""
        counters = self._context.counters
        log = self._context.log
        host = self._handle.hosts.get(handle)
        if host is None:
            counters.drop(DropCause.UNKNOWN_HOST, packets)
            log.info(
                LogSubsystem.RX,
                "data from %s is of host %d, which the handle does not have",
                source,
                handle,
                key=DropCause.UNKNOWN_HOST,
            )
            return None
        link = host.by_address.get(source)
        if link is None:
            counters.drop(DropCause.UNKNOWN_ADDRESS, packets)
            log.info(
                LogSubsystem.RX,
                "data of host %d from %s is refused, none of its links is there",
                handle,
                source,
                key=(DropCause.UNKNOWN_ADDRESS, handle),
            )
            return None
        if self._context.access_lists and not link.acl.accepts(source.host):
            link.drop(DropCause.ACCESS_LIST, packets)
            log.warning(
                LogSubsystem.RX,
                "%s: data from %s is refused by the access list",
                link.title,
                source,
                key=(DropCause.ACCESS_LIST, link.title),
            )
            return None
        if not self._context.forwarding:
            counters.drop(DropCause.FORWARDING_DISABLED, packets)
            return None
        # A peer that has begun to answer may have found this host before this host found it: its
        # first messages are not to be lost for that.
        if not host.ranked and not link.liveness.counted:
            link.drop(DropCause.PEER_UNREACHABLE, packets)
            log.debug(
                LogSubsystem.RX,
                "%s: data is refused, the host is unreachable",
                link.title,
                key=(DropCause.PEER_UNREACHABLE, link.title),
            )
            return None
        tally = link.counters.tallies[Kind.DATA]
        tally.rx_packets += packets
        tally.rx_bytes += size
        return host

    def _refuse(self, error: PacketError, source: Address) -> None:
        """Count bytes that are no packet, with the link they came over if that is known."""
        link = self._handle.by_address.get(source)
        if link is None:
            title = "no link"
            self._context.counters.drop(error.cause)
        else:
            title = link.title
            link.drop(error.cause)
            link.note(f"a packet from {source} was refused: {error.args[0]}")
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

    def step(self, item: Authentic) -> list[Whole]:
        """Put messages together and leave out those that were seen."""
        packets, host = item
        if isinstance(packets, DataRun):
            datas = host.inbound.receive_run(packets)
        else:
            data = host.inbound.receive(packets)
            datas = [] if data is None else [data]
        if not datas:
            return []
        return [Whole(datas, packets.node, packets.channel, packets.compress)]


class _Opened(NamedTuple):
    """A decompressed message, its size before, and how many seconds it took."""

    data: bytes
    size: int
    elapsed: float


class DecompressorStage(Stage[Whole, Whole]):
    """3. As its sender's user gave it."""

    name: ClassVar[str] = "decompressor"

    def __init__(self, handle: HandleState, sink: Stage[Whole, Any]) -> None:
        super().__init__(sink)
        self._counters = handle.context.counters
        self._log = handle.context.log
        self._decompressors = Decompressors()

    def ready(self, item: Whole) -> bool:
        """Slow compressors need a thread, and the others some time for many messages."""
        if not item.compress:
            return True
        return len(item.datas) == 1 and not self._decompressors.is_slow(item.compress)

    def step(self, item: Whole) -> list[Whole]:
        """Decompress what is compressed."""
        if not item.compress:
            return [item]
        opened = [self._open(item.compress, data) for data in item.datas]
        return self._collect(item, opened)

    async def process(self, item: Whole) -> list[Whole]:
        """Decompress what is compressed, in a thread where that takes long."""
        if self.ready(item):
            return self.step(item)
        slow = self._decompressors.is_slow(item.compress)
        opened: list[_Opened | PacketError] = []
        for data in item.datas:
            if slow:
                # One at a time, since what a thread does cannot be cancelled.
                opened.append(await trio.to_thread.run_sync(self._open, item.compress, data))
            else:
                opened.append(self._open(item.compress, data))
                await trio.lowlevel.checkpoint()
        return self._collect(item, opened)

    def _open(self, compress: int, data: bytes) -> _Opened | PacketError:
        try:
            decompress = self._decompressors.find_untrusted(compress).decompress_untrusted
            began = time.perf_counter()
            plain = decompress(data, MAX_MESSAGE)
        except PacketError as error:
            # A new one: that one's traceback keeps all that the decompressor took, 64 MiB with
            # lzma, and the errors of a train of messages are kept together.
            return PacketError(error.cause, error.args[0])
        if not plain:
            return PacketError(DropCause.BAD_COMPRESSION, "nothing is left of it")
        return _Opened(plain, len(data), time.perf_counter() - began)

    def _collect(self, item: Whole, opened: Sequence[_Opened | PacketError]) -> list[Whole]:
        """Count all of them; what is left of ``item``."""
        datas: list[bytes] = []
        for one in opened:
            if isinstance(one, PacketError):
                self._counters.drop(one.cause)
                self._log.warning(
                    LogSubsystem.COMPRESS,
                    "a message of host %d is lost, it cannot be decompressed: %s",
                    item.source,
                    one.args[0],
                    key=(one.cause, item.source),
                )
            else:
                self._counters.rx_compress.add(len(one.data), one.size, one.elapsed)
                datas.append(one.data)
        return [item._replace(datas=datas, compress=0)] if datas else []


class DeliveryStage(Stage[Whole, Never]):
    """4. Filter, then the queue of the channel."""

    name: ClassVar[str] = "delivery"

    def __init__(self, handle: HandleState, mailboxes: dict[int, Mailbox[Message]]) -> None:
        super().__init__()
        self._context = handle.context
        self._mailboxes = mailboxes

    def step(self, item: Whole) -> Sequence[Never]:
        """Deliver each message; nothing is left for a next stage."""
        messages = map(Message._make, zip(item.datas, repeat(item.source), repeat(item.channel)))
        if self._context.filter is None:
            self._put(item.channel, list(messages))
        else:
            admitted = (self._filter(message) for message in messages)
            self.deliver([message for message in admitted if message is not None])
        return ()

    def deliver(self, messages: Iterable[Message]) -> None:
        """Put each message into the queue of its channel, if that is open and has room."""
        queues: dict[int, list[Message]] = {}
        for message in messages:
            queues.setdefault(message.channel, []).append(message)
        for channel, queue in queues.items():
            self._put(channel, queue)

    def _put(self, channel: int, messages: Sequence[Message]) -> None:
        drop, log = self._context.counters.drop, self._context.log
        mailbox = self._mailboxes.get(channel)
        if mailbox is None:
            drop(DropCause.NO_CHANNEL, len(messages))
            log.info(
                LogSubsystem.RX,
                "messages for channel %d are lost, it is not open",
                channel,
                key=(DropCause.NO_CHANNEL, channel),
            )
            return
        lost = mailbox.put(messages)
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

    def __init__(self, handle: HandleState) -> None:
        self.mailboxes: dict[int, Mailbox[Message]] = {}
        self._handle = handle
        self._delivery = DeliveryStage(handle, self.mailboxes)
        self._decompressor = DecompressorStage(handle, self._delivery)
        self._defrag = DefragStage(self._decompressor)
        self._cipher = CipherStage(handle, self._defrag)

    def deliver(self, messages: Sequence[Message]) -> None:
        """Deliver what this host sent to itself.

        The filter has seen it on its way out and is not asked again, as in C.
        """
        self._delivery.deliver(messages)

    async def receive_from(self, endpoint: Endpoint) -> None:
        """Take in what arrives at ``endpoint``, until cancelled: a task for each of them.

        Where the pipeline is behind, the tasks wait for it in turn, so an endpoint that is flooded
        gets no more than its share.
        """
        while True:
            arrivals = await endpoint.receive()
            for trouble in arrivals.troubles:
                receive_trouble(self._handle, endpoint, trouble)
            if arrivals.trains:
                await self._cipher.send_soon(arrivals.trains)

    async def run(self) -> None:
        """Run the stages until cancelled."""
        async with trio.open_nursery() as nursery:
            for stage in (self._cipher, self._defrag, self._decompressor, self._delivery):
                nursery.start_soon(stage.run, name=f"rx {stage.name}")
