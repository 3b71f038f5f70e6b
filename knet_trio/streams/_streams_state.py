"""The state behind ``Streams``: the conversations with all hosts, and the receiving tasks."""

from __future__ import annotations

import secrets
from collections import Counter
from itertools import groupby
from operator import attrgetter
from typing import Final

import trio

from knet_trio import (
    Channel,
    Destination,
    EventsLost,
    Handle,
    Host,
    HostStatusChanged,
    InvalidArgumentError,
    LinkStatusChanged,
    Message,
)
from knet_trio.channel import direct
from knet_trio.streams._core.conversation import Conversation
from knet_trio.streams._core.faults import Fault, StreamPacketError
from knet_trio.streams._core.stream_state import Failure, FailureCause
from knet_trio.streams._core.tolerant_cubic import TolerantCubic
from knet_trio.streams._host_pump import HostPump
from knet_trio.streams._late_packets import LATE, LatePackets
from knet_trio.streams._takers import Takers

# Messages that are taken from the channel in one call; and messages, or frames in them, that are
# processed before other tasks run.
_RECEIVED_AT_ONCE: Final = 256
_RECEIVED_IN_A_TURN: Final = 64
# Hosts that are sent the resulting packets before other tasks run.
_HOSTS_IN_A_TURN: Final = 16


class StreamsState:
    """The conversations with all hosts over one channel.

    Attributes:
        channel: The channel.
        max_size: The largest request, answer or message [bytes].
        takers: The listener and the receivers for what other hosts open.
        faults: The number of refused packets, by cause.
    """

    def __init__(
        self,
        handle: Handle,
        channel: Channel,
        nursery: trio.Nursery,
        patience: float,
        max_size: int,
    ) -> None:
        self.channel = channel
        self.max_size = max_size
        self.takers: Takers = Takers()
        self.faults: Counter[Fault] = Counter()
        self._handle = handle
        self._direct = direct(channel)
        self._nursery = nursery
        self._patience = patience
        self._incarnation = secrets.randbits(64)
        self._pumps: dict[int, HostPump] = {}
        self._closed = False

    @property
    def host_id(self) -> int:
        """The id of this host."""
        return self._handle.host_id

    @property
    def pumps(self) -> list[HostPump]:
        """The pumps of all hosts with which streams were used."""
        return list(self._pumps.values())

    def get_pump(self, host_id: int) -> HostPump | None:
        """Return the pump of a host, None if no streams were used with it."""
        return self._pumps.get(host_id)

    def check_open(self) -> None:
        """Raise ``trio.ClosedResourceError`` if the streams were closed."""
        if self._closed:
            raise trio.ClosedResourceError("the streams were closed here")

    def start(self) -> None:
        """Start the receiving tasks."""
        start = self._nursery.start_soon
        self._direct.take_alone(self._take_alone)
        start(self._run, name="streams, receiving")
        start(self._watch, name="streams, events")
        start(self.takers.end_grace, name="streams, refusing")

    async def _run(self) -> None:
        try:
            while True:
                await self._receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            self.close("the handle has ended")

    async def _receive(self) -> None:
        """Process the messages that have arrived, and send the resulting packets.

        The users of streams are notified at once. An acknowledgement waits until all messages
        are processed. An acknowledgement that was not asked for waits longer, to go with an answer.
        """
        messages = await self.channel.receive_many(_RECEIVED_AT_ONCE)
        heard: dict[HostPump, None] = {}
        for start in range(0, len(messages), _RECEIVED_IN_A_TURN):
            if start:
                await trio.lowlevel.checkpoint()
            await self._take(messages[start : start + _RECEIVED_IN_A_TURN], heard)
        now = trio.current_time()
        for number, pump in enumerate(heard, start=1):
            if not pump.wait_for(now):
                pump.flush()
            if not number % _HOSTS_IN_A_TURN:
                await trio.lowlevel.checkpoint()

    def _take_alone(self, message: Message) -> None:
        """Process a message that arrived alone, in the task of the handle that received it."""
        now = trio.current_time()
        try:
            pump = self._pumps.get(message.source) or self._pump_of(message.source)
            if pump is not None and not self._closed:
                errors: list[StreamPacketError] = []
                pump.receive((message.data,), 0, now, errors)
                for error in errors:
                    self.faults[error.fault] += 1
                if not pump.wait_for(now):
                    pump.flush()
        except Exception as error:
            # A bug of the streams ends them, not the handle.
            self._nursery.start_soon(_raise, error, name="streams, receiving alone")

    async def _take(self, messages: list[Message], heard: dict[HostPump, None]) -> None:
        """Give packets to the conversations of their hosts, and add their pumps to ``heard``.

        Takes one turn, or several if the packets have many frames.
        """
        now = trio.current_time()
        errors: list[StreamPacketError] = []
        frames = 0
        for source, of_source in groupby(messages, key=attrgetter("source")):
            pump = self._pumps.get(source) or self._pump_of(source)
            if pump is None:
                continue
            packets = [message.data for message in of_source]
            heard[pump] = None
            taken = 0
            while taken < len(packets):
                if frames >= _RECEIVED_IN_A_TURN:
                    await trio.lowlevel.checkpoint()
                    now = trio.current_time()
                    frames = 0
                taken = pump.receive(packets, taken, now, errors)
                frames += pump.conversation.frames
        for error in errors:
            self.faults[error.fault] += 1

    async def _watch(self) -> None:
        """Greet hosts that become reachable, and probe hosts whose links have changed."""
        async with self._handle.events() as events:
            await self._greet_all()
            async for event in events:
                if isinstance(event, HostStatusChanged) and event.reachable:
                    self._greet(event.host_id)
                elif isinstance(event, LinkStatusChanged) and event.host_id in self._pumps:
                    self._pumps[event.host_id].hint()
                elif isinstance(event, EventsLost):
                    # The lost events may concern any host.
                    await self._greet_all()

    async def _greet_all(self) -> None:
        for host in list(self._handle.hosts.values()):
            if host.status.reachable:
                self._greet(host.host_id)
                # There may be thousands of hosts.
                await trio.lowlevel.checkpoint()

    def _greet(self, host_id: int) -> None:
        pump = self._pump_of(host_id)
        if pump is not None:
            if pump.conversation.connection is None:
                pump.greet()
            else:
                pump.hint()

    async def linger(self) -> None:
        """Wait until everything sent has arrived, as long as there is progress."""
        async with trio.open_nursery() as nursery:
            for pump in self._pumps.values():
                nursery.start_soon(pump.wait_idle)

    def close(self, reason: str = "") -> None:
        """Close all streams and notify the hosts."""
        self._closed = True
        for pump in self._pumps.values():
            pump.close(Failure(FailureCause.CLOSED_HERE, reason))

    def close_channel(self) -> None:
        """Close the channel. Packets of other hosts that are on their way count as refused."""
        late = LatePackets(self._incarnation, self.faults)
        self.faults[Fault.NO_CONNECTION] += self._direct.leave(late.take, LATE)
        self.channel.close()

    def pump(self, host: Destination) -> HostPump:
        """Return the pump of a host that the program has given.

        Raises:
            UnknownHostError: The handle does not have the host.
            InvalidArgumentError: ``host`` is this host itself, of another handle, or not a host.
            trio.ClosedResourceError: The streams were closed.
        """
        if type(host) is int:
            known = self._pumps.get(host)
            if known is not None and host in self._direct.hosts and not self._closed:
                return known
        self.check_open()
        found = self._handle.get_host(host.host_id if isinstance(host, Host) else host)
        if isinstance(host, Host) and found is not host:
            raise InvalidArgumentError(
                f"host {host.host_id} was removed, or belongs to another handle: give a host of"
                " this handle"
            )
        pump = self._pump_of(found.host_id)
        if pump is None:
            raise InvalidArgumentError(
                f"host {found.host_id} is this host itself: give another host"
            )
        return pump

    def _pump_of(self, host_id: int) -> HostPump | None:
        pump = self._pumps.get(host_id)
        if pump is None and host_id != self._handle.host_id and not self._closed:
            conversation = Conversation(
                self._incarnation,
                patience=self._patience,
                checked=self._handle.allow_clear_traffic,
                congestion=TolerantCubic,
            )
            pump = HostPump(
                host_id,
                self._handle,
                self.channel,
                self._direct,
                conversation,
                self.takers.opened,
            )
            self._pumps[host_id] = pump
            self._nursery.start_soon(pump.run, name=f"streams with host {host_id}")
        return pump


async def _raise(error: Exception) -> None:
    raise error
