"""What is behind ``Streams``: the conversations with all hosts, and the tasks that receive."""

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
from knet_trio.streams._takers import Takers

# Messages that are taken from the channel at once, and how many of them, or frames in them, are
# worked on before other tasks run.
_RECEIVED_AT_ONCE: Final = 256
_RECEIVED_IN_A_TURN: Final = 64
# Hosts that are sent what follows from that before other tasks run.
_HOSTS_IN_A_TURN: Final = 16


class StreamsState:
    """The conversations with all hosts over one channel.

    Attributes:
        channel: The channel.
        max_size: How many bytes a request, an answer or a message may have.
        takers: Who takes what other hosts open.
        faults: How many packets were refused, by cause.
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
        self.takers = Takers()
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
        """Those of the hosts that there was anything with."""
        return list(self._pumps.values())

    def get_pump(self, host_id: int) -> HostPump | None:
        """Return the pump of a host, None if there was nothing with it."""
        return self._pumps.get(host_id)

    def check_open(self) -> None:
        """Raise ``trio.ClosedResourceError`` if it was closed."""
        if self._closed:
            raise trio.ClosedResourceError("the streams were closed here")

    def start(self) -> None:
        """Begin to receive."""
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
        """Take what has arrived, and send what follows from it.

        Those who are concerned are told at once. An acknowledgement waits until all that is there
        has been taken. One that is not asked for waits longer: an answer takes it along.
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
        """Do for a message that came alone what ``_receive`` does, in the task that received it."""
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
        """Give packets to the conversations they are of, and add these to ``heard``.

        It is one turn, unless there is much in them.
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
        """Greet hosts that can be reached, and look after those whose links have changed."""
        async with self._handle.events() as events:
            await self._greet_all()
            async for event in events:
                if isinstance(event, HostStatusChanged) and event.reachable:
                    self._greet(event.host_id)
                elif isinstance(event, LinkStatusChanged) and event.host_id in self._pumps:
                    self._pumps[event.host_id].hint()
                elif isinstance(event, EventsLost):
                    # They may have been of any host.
                    await self._greet_all()

    async def _greet_all(self) -> None:
        for host in list(self._handle.hosts.values()):
            if host.status.reachable:
                self._greet(host.host_id)
                # There may be many.
                await trio.lowlevel.checkpoint()

    def _greet(self, host_id: int) -> None:
        pump = self._pump_of(host_id)
        if pump is not None:
            if pump.conversation.connection is None:
                pump.greet()
            else:
                pump.hint()

    async def linger(self) -> None:
        """Wait until what was sent has arrived, while some of it does."""
        async with trio.open_nursery() as nursery:
            for pump in self._pumps.values():
                nursery.start_soon(pump.wait_idle)

    def close(self, reason: str = "") -> None:
        """End everything, and tell the hosts."""
        self._closed = True
        for pump in self._pumps.values():
            pump.close(Failure(FailureCause.CLOSED_HERE, reason))

    def pump(self, host: Destination) -> HostPump:
        """Return the pump of a host that the program names.

        Raises:
            UnknownHostError: The handle does not have it.
            InvalidArgumentError: It is this host, or nothing that names a host.
            trio.ClosedResourceError: The streams were closed.
        """
        if type(host) is int:
            known = self._pumps.get(host)
            if known is not None and host in self._direct.hosts and not self._closed:
                return known
        self.check_open()
        found = self._handle.get_host(host.host_id if isinstance(host, Host) else host)
        if isinstance(host, Host) and found is not host:
            raise InvalidArgumentError(f"host {host.host_id} is another handle's, or was removed")
        pump = self._pump_of(found.host_id)
        if pump is None:
            raise InvalidArgumentError(
                f"host {found.host_id} is this host itself: streams lead to other hosts"
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
