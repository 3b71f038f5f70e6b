"""The way in of a message.

::

    a receive task for each socket
      1. cipher        opens the envelope (aead_opening); control packets act here
      2. window        lets each message pass once
      3. defrag        puts fragments together
    a lane for each host, for messages that cannot be delivered at once (receive_lanes)
      4. decompressor  restores what the sender compressed (decompression)
      5. delivery      asks the filter, then fills the channel's queue (delivery)

A receive task waits for nothing but its socket, so that control packets act in the order in which
they came, however much data there is. Datagrams are hostile until the cipher has opened them, and
with crypto off all the way. A step that finds something wrong drops the packet, counts the cause,
and goes on with the next packet.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Final, cast

from knet_trio._core.admission import PacketKind, is_possible
from knet_trio._core.onwire import (
    DATA_HEADER_SIZE,
    PING_SIZE,
    Data,
    decode_untrusted,
    read_data_untrusted,
)
from knet_trio._core.runs import (
    DataRun,
    decode_packets_untrusted,
    decode_spread_untrusted,
    decode_train_untrusted,
)
from knet_trio._pipeline.aead_opening import AeadOpening
from knet_trio._pipeline.decompression import Decompression
from knet_trio._pipeline.delivery import Delivery
from knet_trio._pipeline.receive_lanes import ReceiveLanes
from knet_trio._pipeline.receive_work import CLEAR_SHARE, DATA, count_clear_train, share_of_sealed
from knet_trio._state.admit import admit, refuse_host, refuse_packet
from knet_trio._state.channel_queue import ChannelQueue
from knet_trio._state.control import (
    receive_connection,
    receive_control,
    receive_scheduled,
    receive_troubles,
)
from knet_trio._state.counters import Kind
from knet_trio._state.handle import HandleState
from knet_trio._state.host import HostState
from knet_trio._state.network_link import NetworkLinkState
from knet_trio._state.receive_lane import WaitingMessage
from knet_trio._state.trust import Credentials
from knet_trio.abc import Endpoint, OpenedTrain, Train
from knet_trio.address import Address
from knet_trio.errors import DropCause, PacketError
from knet_trio.message import Message

PACKETS_AT_ONCE: Final = 16
"""Packets that are read one by one between two checks of the turn. At least this number is read in
each round of the loop, however busy the program is."""

RECEIVED_AT_ONCE: Final = 128 * 1024
"""Bytes that all receive tasks together work on in a round of the loop; one train may exceed it. It
keeps other tasks from waiting for many sockets in one round."""

LARGE_PACKET: Final = 4096
"""Bytes of a large packet that are as much work as one small packet."""

OPENED_AT_ONCE: Final = 64
"""Envelopes that are opened between two checks of the turn."""

READERS_FIRST: Final = 0.002
"""The most time that readers of crowded channels get for the datagrams of one receive call, in
seconds. While a queue is less than half full, readers get no more time than the receive tasks take:
with more, the socket would become full and lose pings too."""


class Receiver:
    """Receives the packets of one handle.

    Attributes:
        channels: The queues of the open channels, by their numbers.
    """

    def __init__(self, handle: HandleState) -> None:
        self._handle = handle
        self._context = handle.context
        self._turns = handle.context.turns
        self._decompression = Decompression(handle.context)
        self._refuse = partial(refuse_packet, handle)
        self._aead = AeadOpening(handle, self._refuse)
        self.channels: dict[int, ChannelQueue] = {}
        self._delivery = Delivery(handle, self.channels)
        # The lanes wait for the channels that they have crowded themselves.
        delivery = Delivery(handle, self.channels)
        self._lanes = ReceiveLanes(handle.context, self._decompression, delivery)

    def deliver(self, messages: Sequence[Message]) -> None:
        """Deliver messages that this host sent to itself."""
        self._delivery.deliver_own(messages)

    async def run(self) -> None:
        """Work on messages that cannot be delivered at once, until cancelled."""
        await self._lanes.run()

    async def receive_from(self, endpoint: Endpoint) -> None:
        """Receive datagrams at ``endpoint``, until cancelled or until it has ended."""
        turns, delivery, context = self._turns, self._delivery, self._context
        crypto = context.crypto
        # The time that readers may still have, and when that was last updated.
        credit = 0.0
        since = turns.now()
        while True:
            before = turns.round
            trains, troubles, connection = await endpoint.receive()
            turns.resumed(before)
            # A debt is forgotten, so that readers get a turn after each receive.
            credit = max(credit, 0.0)
            # A piece of work comes before the turn is checked, so that every task progresses,
            # whatever the others do.
            piece = 0
            patience = READERS_FIRST
            is_welcome = True
            for train in trains:
                data, size, source = train
                while turns.received > RECEIVED_AT_ONCE:
                    await turns.give_up()
                length = len(data)
                is_alone = length <= size
                if crypto.is_set:
                    turns.received += length
                elif is_alone:
                    turns.received += length // CLEAR_SHARE
                else:
                    turns.received += count_clear_train(length, size)
                # Other tasks may refuse packets between two pieces of work.
                refusals = context.refusals
                if is_alone:
                    self._receive_one(data, source)
                    piece += 1 + length // LARGE_PACKET
                else:
                    await self._receive_train(train)
                    piece = PACKETS_AT_ONCE
                is_welcome = is_welcome and context.refusals == refusals
                crowded = delivery.crowded
                if crowded is not None:
                    worked = turns.now() - max(since, turns.began)
                    credit = min(credit + worked, READERS_FIRST)
                    most = patience if crowded.is_half_full else min(credit, patience)
                    spent = await delivery.let_readers_run(most)
                    credit -= spent
                    patience -= spent
                    since = turns.now()
                if piece >= PACKETS_AT_ONCE:
                    piece = 0
                    if turns.is_over():
                        await turns.give_up()
            endpoint.is_welcome = is_welcome
            # Packets that have arrived matter more than errors about their sender.
            if troubles:
                receive_troubles(self._handle, endpoint, troubles)
            if connection is not None:
                # Many connections may be lost at once.
                if turns.is_over():
                    await turns.give_up()
                receive_connection(self._handle, endpoint, connection)
                if endpoint.ended:
                    return

    def receive_alone(self, datagram: bytes, source: Address) -> bool:
        """Receive a small datagram that came alone to a quiet socket.

        Returns:
            True if it was data: more of it may follow.
        """
        self._turns.received += len(datagram)
        return self._receive_one(datagram, source)

    # 1. Out of the envelope.

    def _receive_one(self, datagram: bytes, source: Address) -> bool:
        """Receive a single datagram; return whether it was data."""
        crypto = self._context.crypto
        if not crypto.is_set and crypto.allow_clear_traffic:
            if len(datagram) == PING_SIZE and receive_scheduled(self._handle, datagram, source):
                return False
            self._receive_packet(datagram, source)
            return datagram[1:2] == DATA
        began = time.perf_counter()
        credentials = None
        packet: bytes | PacketError
        if crypto.aead:
            opened = self._aead.open_untrusted(datagram, source)
            if opened is None:
                return False
            packet, credentials = opened
        else:
            packet = crypto.open_one_untrusted(datagram)
            if isinstance(packet, PacketError):
                self._refuse(packet, datagram, source)
                return False
        is_data = packet[1:2] == DATA
        if is_data and packet is not datagram:
            self._context.counters.rx_crypt.add(time.perf_counter() - began, 1)
        self._receive_packet(packet, source, credentials)
        return is_data

    async def _receive_train(self, train: Train) -> None:
        """Receive datagrams that came together, in turns."""
        turns = self._turns
        crypto = self._context.crypto
        if not crypto.is_set and crypto.allow_clear_traffic:
            run = decode_train_untrusted(train.data, train.size) if self._takes_runs() else None
            if run is not None:
                left = len(run.payloads) * train.size
                self._receive_run(run, min(left, len(train.data)), train.source)
                if left < len(train.data):
                    self._receive_packet(train.data[left:], train.source)
            else:
                datagrams = train.datagrams()
                await self._receive_each(datagrams, datagrams, train.source)
            return
        if crypto.aead:
            await self._receive_addressed(train)
            return
        if len(train.data) <= OPENED_AT_ONCE * train.size and self._takes_runs():
            began = time.perf_counter()
            opened = crypto.open_train_untrusted(train.data, train.size)
            if opened is not None:
                await self._receive_opened(opened, time.perf_counter() - began, train.source)
                return
        datagrams = train.datagrams()
        for start in range(0, len(datagrams), OPENED_AT_ONCE):
            if start and turns.is_over():
                await turns.give_up()
            await self._open(datagrams[start : start + OPENED_AT_ONCE], train.source)

    async def _receive_addressed(self, train: Train) -> None:
        """Receive datagrams that may be envelopes of model ``aead``, in turns."""
        turns = self._turns
        data, size, source = train
        piece_size = OPENED_AT_ONCE * size
        for start in range(0, len(data), piece_size):
            if start and turns.is_over():
                await turns.give_up()
            piece = data[start : start + piece_size]
            if self._takes_runs() and self._receive_addressed_run(piece, size, source):
                continue
            for number, place in enumerate(range(0, len(piece), size), start=1):
                self._receive_one(piece[place : place + size], source)
                if not number % PACKETS_AT_ONCE and turns.is_over():
                    await turns.give_up()

    def _receive_addressed_run(self, train: bytes, size: int, source: Address) -> bool:
        """Receive a train of envelopes if it is a run of data of one host; return whether it is."""
        began = time.perf_counter()
        opened = self._aead.open_run_untrusted(train, size)
        if opened is None:
            return False
        packets, credentials = opened
        run = decode_packets_untrusted(packets)
        if run is None or run.node != int.from_bytes(train[2:4], "big"):
            return False
        self._context.counters.rx_crypt.add(time.perf_counter() - began, len(packets))
        self._receive_run(run, sum(map(len, packets)), source, credentials)
        return True

    async def _receive_opened(self, opened: OpenedTrain, elapsed: float, source: Address) -> None:
        """Receive packets that were opened together in ``elapsed`` seconds."""
        counted = self._context.counters.rx_crypt
        run = decode_spread_untrusted(*opened)
        if run is not None:
            count = len(run.payloads)
            counted.add(elapsed, count)
            size = count * DATA_HEADER_SIZE + sum(map(len, run.payloads))
            self._receive_run(run, size, source)
            return
        packets = opened.packets()
        sealed = sum(packet[1:2] == DATA for packet in packets)
        counted.add(elapsed * sealed / len(packets), sealed)
        await self._receive_each(packets, packets, source)

    async def _open(self, datagrams: Sequence[bytes], source: Address) -> None:
        """Receive datagrams, most of them probably sealed."""
        began = time.perf_counter()
        opened = self._context.crypto.open_many_untrusted(datagrams)
        elapsed = time.perf_counter() - began
        sealed = sum(
            packet is not datagram and isinstance(packet, bytes) and packet[1:2] == DATA
            for packet, datagram in zip(opened, datagrams, strict=True)
        )
        if sealed < len(datagrams):
            elapsed *= share_of_sealed(opened, datagrams, sealed)
        self._context.counters.rx_crypt.add(elapsed, sealed)
        if sealed == len(datagrams) and self._takes_runs():
            packets = cast("list[bytes]", opened)
            run = decode_packets_untrusted(packets)
            if run is not None:
                self._receive_run(run, sum(map(len, packets)), source)
                return
        await self._receive_each(opened, datagrams, source)

    async def _receive_each(
        self,
        opened: Sequence[bytes | PacketError],
        datagrams: Sequence[bytes],
        source: Address,
    ) -> None:
        """Receive packets of any kind, or errors in their place, in turns."""
        turns = self._turns
        for number, (packet, datagram) in enumerate(zip(opened, datagrams, strict=True), start=1):
            if isinstance(packet, PacketError):
                self._refuse(packet, datagram, source)
            else:
                self._receive_packet(packet, source)
            if not number % PACKETS_AT_ONCE and turns.is_over():
                await turns.give_up()

    # Packets, and who may send them.

    def _takes_runs(self) -> bool:
        # A filter sees messages one by one.
        return self._context.filter is None

    def _takes_views(self, channel: int, host: HostState) -> bool:
        """Return whether the reader of a channel accepts a view of a packet as a message."""
        queue = self.channels.get(channel)
        if queue is None or queue.take_alone is None:
            return False
        return self._takes_runs() and not host.receive_lane.count

    def _receive_run(
        self, run: DataRun, size: int, source: Address, credentials: Credentials | None = None
    ) -> None:
        """Receive data packets that differ only in their payloads and numbers.

        Args:
            run: The packets.
            size: The size of all packets together, in bytes.
            source: The address that they came from.
            credentials: The proof of their sender; None if envelopes do not name it.
        """
        host = self._admit(run.node, len(run.payloads), size, source, credentials)
        if host is not None:
            is_newest = None if credentials is None else credentials.is_newest
            datas = host.inbound.receive_run(run, is_newest)
            if datas:
                self._pass_run(host, datas, run)

    def _receive_packet(
        self, packet: bytes, source: Address, credentials: Credentials | None = None
    ) -> None:
        """Receive one packet."""
        fields = read_data_untrusted(packet)
        if fields is None:
            if not receive_scheduled(self._handle, packet, source, credentials):
                self._receive_other(packet, source, credentials)
            return
        _, _, host_id, _, _, seq, compress, _, broadcast, frag_num, frag_seq, channel = fields
        host = self._admit(host_id, 1, len(packet), source, credentials)
        if host is None:
            return
        is_newest = None if credentials is None else credentials.is_newest
        if frag_num == 1:
            if not host.inbound.receive_whole(seq, is_newest):
                return
            if len(packet) > LARGE_PACKET and not compress and self._takes_views(channel, host):
                # A copy would take longer than everything else.
                view = memoryview(packet)[DATA_HEADER_SIZE:]
                self._delivery.deliver(cast("bytes", view), host_id, channel)
                return
            data = packet[DATA_HEADER_SIZE:]
        else:
            data = packet[DATA_HEADER_SIZE:]
            whole = host.inbound.receive(
                Data(host_id, seq, compress, broadcast != 0, frag_num, frag_seq, channel, data),
                is_newest,
            )
            if whole is None:
                return
            data = whole
        # No message overtakes those that wait in the lane of its host.
        if compress or host.receive_lane.count:
            self._pass_later(host, data, channel, compress)
        else:
            self._delivery.deliver(data, host_id, channel)

    def _receive_other(
        self, packet: bytes, source: Address, credentials: Credentials | None
    ) -> None:
        """Receive a packet that is not a valid data packet."""
        try:
            decoded = decode_untrusted(packet)
        except PacketError as error:
            self._refuse(error, packet, source)
            return
        # Every valid data packet has taken the short way.
        assert not isinstance(decoded, Data)
        receive_control(self._handle, decoded, len(packet), source, credentials)

    def _admit(
        self,
        host_id: int,
        packets: int,
        size: int,
        source: Address,
        credentials: Credentials | None,
    ) -> HostState | None:
        """Return the host that sent data packets; count them and return None if it may not.

        Args:
            host_id: The host that the packets name as their sender.
            packets: The number of packets.
            size: Their size together without envelopes, in bytes.
            source: The address that they came from.
            credentials: The proof of their sender; None if envelopes do not name it.
        """
        context = self._context
        host = self._handle.hosts.get(host_id)
        if host is None:
            refuse_host(self._handle, host_id, source, packets)
            return None
        link = host.admitted.get(source)
        believed = credentials is None or credentials.believed
        if (
            link is None
            or not believed
            or (context.access_lists and not link.acl.accepts(source.host))
        ):
            # This is rare, so a closer look may take longer.
            link = self._look_up(host, source, packets, believed=believed)
            if link is None:
                return None
        if credentials is not None and credentials.take_data():
            # A part of an earlier message must not pass for one of this.
            host.inbound.clear()
        link.counters.received(Kind.DATA, packets, size)
        if not context.forwarding:
            context.refuse(DropCause.FORWARDING_DISABLED, "it came in", times=packets)
            return None
        return host

    def _look_up(
        self, host: HostState, source: Address, packets: int, *, believed: bool
    ) -> NetworkLinkState | None:
        """Return the link over which data came; count the data and return None if it is refused."""
        link = host.by_address.get(source)
        if link is not None:
            action = admit(host, link, PacketKind.DATA, source, packets, believed=believed)
            return None if action is None else link
        # A data packet does not name its link, and no link leads to its source.
        if is_possible(source) and not self._context.is_own(source):
            self._context.refuse(
                DropCause.UNKNOWN_ADDRESS,
                f"data of host {host.host_id}",
                source,
                "an address of one of its links",
                times=packets,
                key=host.host_id,
            )
        else:
            self._context.refuse(
                DropCause.IMPOSSIBLE_SOURCE, source, times=packets, key=host.host_id
            )
        return None

    # 4 and 5. Into the lane of the host, or past it.

    def _pass_run(self, host: HostState, datas: Sequence[bytes], run: DataRun) -> None:
        """Deliver the messages of one run of packets, or add them to the lane of their host."""
        if run.compress or host.receive_lane.count:
            for data in datas:
                self._pass_later(host, data, run.channel, run.compress)
        else:
            self._delivery.deliver_run(datas, host.host_id, run.channel)

    def _pass_later(self, host: HostState, data: bytes, channel: int, compress: int) -> None:
        """Deliver a message, or add it to the lane of its host."""
        lane = host.receive_lane
        compressor = None
        if compress:
            compressor = self._decompression.find(compress, host.host_id)
            if compressor is None:
                return
        message = WaitingMessage(data, channel, compressor)
        if compressor is None or lane.count or message.is_slow or self._turns.is_over():
            self._lanes.put(lane, message)
            return
        opened = self._decompression.open(compressor, data)
        plain = self._decompression.count(opened, host.host_id)
        if plain is not None:
            self._delivery.deliver(plain, host.host_id, channel)
