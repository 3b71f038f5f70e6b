"""A handle's inner parts on a fake network, where the test says what happens and when."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple, cast

import trio

from knet_trio._core.onwire import Packet, Ping, PmtudProbe, PmtudReply, Pong, decode_untrusted
from knet_trio._core.policy import LinkPolicy
from knet_trio._core.stamps import Stamps
from knet_trio._crypto.slots import CryptoSlots
from knet_trio._state.context import Context
from knet_trio._state.control import receive_control, receive_troubles
from knet_trio._state.handle import HandleState
from knet_trio._state.host import HostState
from knet_trio._state.network_link import NetworkLinkState
from knet_trio._state.send_socket import SendSocket
from knet_trio._transport.offload import MOST_DATAGRAMS
from knet_trio._transport.udp import UdpTransport
from knet_trio.abc import Arrivals, Endpoint, PathTrouble, Train, Transport
from knet_trio.address import Address
from knet_trio.config import CryptoConfig, LinkConfig
from knet_trio.events import Event, EventReceiver

ME: Final = 1
LOCAL: Final = Address("192.0.2.1", 5405)
KEY: Final = bytes(range(128))
UDP: Final = UdpTransport()
# IPv4 and UDP headers.
HEADERS: Final = 28


def address(number: int) -> Address:
    """Where link or host number so-and-so is."""
    return Address(f"198.51.100.{number}", 5405)


def refusal(number: int) -> OSError:
    """What the system raises."""
    return OSError(number, os.strerror(number))


class Sent(NamedTuple):
    """A datagram the endpoint took, and when."""

    time: float
    datagram: bytes
    destination: Address


class FakeEndpoint(Endpoint):
    """A socket with as much room as the test gives it.

    ``refuse`` may raise what the system would raise of a datagram. ``on_sent`` is told of those
    taken. What the test puts with ``arrive`` is received, in trains if it ``coalesces``. While
    ``unread``, something has come in that nobody has worked on.
    """

    coalesces = False

    def __init__(self, local: Address = LOCAL) -> None:
        self.local = local
        self.sent: list[Sent] = []
        self.room: float = math.inf
        self.refuse: Callable[[bytes, Address], None] | None = None
        self.on_sent: Callable[[Sent], None] | None = None
        self.closed = False
        self.dscp: int | None = None
        self._troubles: list[PathTrouble] = []
        self._has_room = trio.Event()
        self.unread = False
        self._arriving, self._arrived = trio.open_memory_channel[Arrivals](math.inf)

    @property
    def datagrams(self) -> list[bytes]:
        """What was sent, in order."""
        return [sent.datagram for sent in self.sent]

    def packets(self, destination: Address | None = None) -> list[Packet]:
        """What was sent in the clear, all of it or that to one destination."""
        return [
            decode_untrusted(sent.datagram)
            for sent in self.sent
            if destination in (None, sent.destination)
        ]

    @property
    def drained(self) -> bool:
        return not self.unread

    def give_room(self, datagrams: float) -> None:
        """Take so many datagrams more."""
        self.room = datagrams
        self._has_room.set()
        self._has_room = trio.Event()

    def arrive(
        self, *datagrams: tuple[bytes, Address], troubles: Sequence[PathTrouble] = ()
    ) -> None:
        """Let something come in."""
        if self.coalesces:
            trains = couple(datagrams)
        else:
            trains = [Train(datagram, len(datagram), source) for datagram, source in datagrams]
        self._arriving.send_nowait(Arrivals(trains, list(troubles)))

    def queue_trouble(self, trouble: PathTrouble) -> None:
        """Put something on the error queue."""
        self._troubles.append(trouble)

    async def receive(self) -> Arrivals:
        return await self._arrived.receive()

    def send_nowait(self, datagrams: Sequence[bytes], destination: Address) -> int:
        for taken, datagram in enumerate(datagrams):
            if self.room < 1:
                return taken
            if self.refuse is not None:
                try:
                    self.refuse(datagram, destination)
                except OSError:
                    if taken:
                        return taken
                    raise
            self.room -= 1
            sent = Sent(trio.current_time(), datagram, destination)
            self.sent.append(sent)
            if self.on_sent is not None:
                self.on_sent(sent)
        return len(datagrams)

    async def wait_sendable(self) -> None:
        if self.room < 1:
            await self._has_room.wait()
        else:
            await trio.lowlevel.checkpoint()

    def troubles(self) -> list[PathTrouble]:
        taken, self._troubles = self._troubles, []
        return taken

    def set_dscp(self, dscp: int) -> None:
        self.dscp = dscp

    def close(self) -> None:
        self.closed = True

    def limit_mtu(self, mtu: int, *, tells: bool = True) -> None:
        """Refuse what is larger on the wire than ``mtu``, and say so on the error queue or not."""

        def refuse(datagram: bytes, destination: Address) -> None:
            if len(datagram) + HEADERS > mtu:
                if tells:
                    # As Linux has it for IPv4, without the port.
                    refused = destination._replace(port=0)
                    self.queue_trouble(PathTrouble(refused, errno.EMSGSIZE, mtu, True))
                raise refusal(errno.EMSGSIZE)

        self.refuse = refuse


def couple(datagrams: Sequence[tuple[bytes, Address]]) -> list[Train]:
    """The trains in which a kernel hands them over: of one size, but a shorter one is the last."""
    trains: list[Train] = []
    room = 0
    for datagram, source in datagrams:
        size = len(datagram)
        if room and trains[-1].source == source and 0 < size <= trains[-1].size:
            last = trains.pop()
            trains.append(last._replace(data=last.data + datagram))
            room = room - 1 if size == last.size else 0
        else:
            trains.append(Train(datagram, size, source))
            room = MOST_DATAGRAMS - 1 if size else 0
    return trains


class World:
    """One node on one fake endpoint."""

    def __init__(
        self,
        *,
        access_lists: bool = True,
        crypto: CryptoConfig | None = None,
        pmtud_interval: float = 60.0,
        fixed_mtu: int | None = None,
    ) -> None:
        slots = CryptoSlots()
        if crypto is not None:
            slots.set(crypto, 1)
            slots.use(1)
        self.context = Context(
            ME,
            crypto=slots,
            access_lists=access_lists,
            pmtud_interval=pmtud_interval,
            fixed_mtu=fixed_mtu,
        )
        self.context.is_own = lambda place: place == LOCAL
        self.handle = HandleState(self.context)
        self.endpoint = FakeEndpoint()
        self.send_socket = self.make_send_socket(self.endpoint)
        self._recorder = Recorder()
        self.context.event_receivers.add(cast("EventReceiver", self._recorder))

    def make_send_socket(self, endpoint: Endpoint) -> SendSocket:
        """A socket that wakes the lanes of this handle."""
        return SendSocket(endpoint, lambda host_ids: self.context.on_room(host_ids))

    def add_host(self, host_id: int = 2, policy: LinkPolicy = LinkPolicy.PASSIVE) -> HostState:
        return self.handle.add(host_id, f"host{host_id}", policy)

    def add_link(
        self,
        host: HostState,
        link_id: int = 0,
        *,
        dst: Address | None,
        priority: int = 0,
        pong_count: int = 1,
        ping_interval: float = 1.0,
        pong_timeout: float = 2.0,
        send_socket: SendSocket | None = None,
        transport: Transport = UDP,
    ) -> NetworkLinkState:
        """A link that is enabled. Without ``dst`` it is dynamic and accepts every address."""
        config = LinkConfig(
            link_id=link_id,
            src=LOCAL,
            dst=dst,
            priority=priority,
            pong_count=pong_count,
            ping_interval=ping_interval,
            pong_timeout=pong_timeout,
        )
        send_socket = send_socket or self.send_socket
        link = NetworkLinkState(
            self.context,
            host.host_id,
            config,
            transport,
            send_socket,
            host.lane,
            host.trust,
            host.refresh,
            partial(receive_troubles, self.handle),
        )
        send_socket.users += 1
        host.add(link)
        link.set_enabled(True)
        return link

    def receive(self, packet: Ping | Pong | PmtudProbe | PmtudReply, source: Address) -> None:
        """A control packet comes in."""
        receive_control(self.handle, packet, 26, source)

    def bring_up(self, link: NetworkLinkState) -> None:
        """Have the peer answer at once until the link is up."""
        for _ in range(link.heartbeat.liveness.pong_count + 1):
            self.pong(link)
        assert link.connected.is_on

    def prove(self, link: NetworkLinkState, place: Address) -> None:
        """Have the peer of a dynamic link answer a ping that was sent to ``place``."""
        sent = link.heartbeat.liveness.challenge_time(self.context.now())
        self.forge(link, self.stamp(link, sent, place), place)
        assert link.destination == place

    def pong(self, link: NetworkLinkState, sent: float | None = None) -> None:
        """The peer answers a ping that was sent at that time, or just now."""
        if sent is None:
            sent = link.heartbeat.liveness.ping_time(self.context.now())
        source = link.address.source
        assert source is not None
        self.forge(link, self.stamp(link, sent, source), source)

    def forge(self, link: NetworkLinkState, stamp: bytes, source: Address) -> None:
        """A pong with ``stamp`` comes from ``source``."""
        self.receive(Pong(link.host_id, link.link_id, stamp, 0, True), source)

    def stamp(self, link: NetworkLinkState, sent: float, place: Address) -> bytes:
        """What a ping carries that is sent to ``place`` at that time."""
        where = Stamps.describe(link.host_id, link.link_id, place)
        return self.context.stamps.make(sent, where)

    def reply(self, link: NetworkLinkState) -> None:
        """The peer answers the last probe."""
        assert link.destination is not None
        self.receive(reply_to_last_probe(link), link.destination)

    def trouble(
        self, destination: Address, number: int, mtu: int | None = None, *, local: bool = False
    ) -> None:
        """The network complains, or this machine."""
        trouble = PathTrouble(destination, number, mtu, local)
        receive_troubles(self.handle, self.endpoint, [trouble])

    def events(self) -> list[Event]:
        """What was told since the last call."""
        events, self._recorder.events = self._recorder.events, []
        return events


def reply_to_last_probe(link: NetworkLinkState) -> PmtudReply:
    """What the peer answers the last probe that was sent to it."""
    endpoint = link.sender.send_socket.endpoint
    assert isinstance(endpoint, FakeEndpoint)
    packets = [
        decode_untrusted(link.context.crypto.open_untrusted(sent.datagram))
        for sent in endpoint.sent
        if sent.destination == link.destination
    ]
    probe = [packet for packet in packets if isinstance(packet, PmtudProbe)][-1]
    return PmtudReply(link.host_id, link.link_id, probe.size)


class Recorder:
    """Keeps every event, in the place of a receiver."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def put(self, event: Event) -> None:
        self.events.append(event)


class Answerer:
    """The other end of a fake endpoint's paths: answers pings and probes ``latency`` later.

    It answers while ``alive``, in the clear, and probes of up to ``mtu`` bytes on the wire; those
    that were lost are in ``lost``.
    """

    def __init__(self, world: World, host_id: int = 2, *, latency: float = 0.01) -> None:
        self.alive = True
        self.mtu = 65535
        self.latency = latency
        self.lost: list[int] = []
        self._world = world
        self._host_id = host_id
        self._inbox, self._outbox = trio.open_memory_channel[Sent](math.inf)
        world.endpoint.on_sent = self.take

    def take(self, sent: Sent) -> None:
        """A datagram was sent to this end."""
        self._inbox.send_nowait(sent)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            async for sent in self._outbox:
                nursery.start_soon(self._answer, sent)

    async def _answer(self, sent: Sent) -> None:
        packet = decode_untrusted(sent.datagram)
        if not self.alive:
            return
        if isinstance(packet, PmtudProbe) and len(sent.datagram) + HEADERS > self.mtu:
            self.lost.append(packet.length + HEADERS)
            return
        await trio.sleep(self.latency)
        if isinstance(packet, Ping):
            answer = Pong(self._host_id, packet.link, packet.time, packet.seq, packet.timed)
            self._world.receive(answer, sent.destination)
        elif isinstance(packet, PmtudProbe):
            reply = PmtudReply(self._host_id, packet.link, packet.size)
            self._world.receive(reply, sent.destination)


def start(world: World, nursery: trio.Nursery) -> Answerer:
    """The tasks of a handle, and a peer that answers."""
    answerer = Answerer(world)
    nursery.start_soon(world.context.heartbeats.run)
    nursery.start_soon(world.context.discoveries.run)
    nursery.start_soon(answerer.run)
    return answerer
