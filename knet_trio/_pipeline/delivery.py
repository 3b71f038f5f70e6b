"""The last step of the way in: the filter, then the queue of the channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat

from knet_trio._pipeline.ask_filter import ask_filter
from knet_trio._state.channel_queue import ChannelQueue
from knet_trio._state.handle import HandleState
from knet_trio.errors import DropCause, FilterError
from knet_trio.message import Broadcast, Direction, Drop, FilterPacket, Message, Unicast


class Delivery:
    """Puts messages into the queues of their channels.

    Args:
        handle: The handle.
        channels: The queues of the open channels, by their numbers.

    Attributes:
        crowded: A queue above its high-water mark, whose reader should run before more is put into
            it; None once ``take_crowded`` or ``let_readers_run`` has been called.
    """

    def __init__(self, handle: HandleState, channels: Mapping[int, ChannelQueue]) -> None:
        self.crowded: ChannelQueue | None = None
        self._handle = handle
        self._context = handle.context
        self._channels = channels

    def take_crowded(self) -> ChannelQueue | None:
        """Return the queue that has become crowded since the last call, None if there is none."""
        queue, self.crowded = self.crowded, None
        return queue

    async def let_readers_run(self, seconds: float) -> float:
        """Give up turns while the crowded queue is above its high-water mark and is being read.

        Return at once when its reader takes nothing.

        Args:
            seconds: The longest time, in seconds; the last turn may end later.

        Returns:
            The time that this took, in seconds.
        """
        turns = self._context.turns
        queue = self.take_crowded()
        began = turns.now()
        spent = 0.0
        while queue is not None and queue.size > queue.high_water and spent < seconds:
            before = queue.size
            await turns.give_up()
            spent = turns.now() - began
            if queue.size >= before:
                break
        return spent

    def deliver(self, data: bytes, source: int, channel: int) -> None:
        """Ask the filter about one message of host ``source``, and put it into its channel."""
        # The same as Message(...), without its two calls.
        message = tuple.__new__(Message, (data, source, channel))  # pyright: ignore[reportUnknownMemberType]
        if self._context.filter is not None:
            admitted = self._filter(message)
            if admitted is None:
                return
            message = admitted
            channel = message.channel
        queue = self._channels.get(channel)
        if queue is None:
            self._refuse_closed(channel, source, (message.data,))
            return
        if queue.put_one(message):
            self._context.refuse(DropCause.CHANNEL_FULL, channel, key=channel)
        if queue.size > queue.high_water:
            self.crowded = queue

    def deliver_run(self, datas: Sequence[bytes], source: int, channel: int) -> None:
        """Put messages of one host into their channel, while no filter is set."""
        messages = list(map(Message._make, zip(datas, repeat(source), repeat(channel))))
        self._put(messages, source, channel)

    def deliver_own(self, messages: Iterable[Message]) -> None:
        """Put messages of this host to itself into their channels.

        The filter has seen them on their way out and is not asked again, as in libknet.
        """
        together: dict[int, list[Message]] = {}
        for message in messages:
            together.setdefault(message.channel, []).append(message)
        for channel, several in together.items():
            self._put(several, self._context.host_id, channel)

    def _put(self, messages: Sequence[Message], source: int, channel: int) -> None:
        queue = self._channels.get(channel)
        if queue is None:
            self._refuse_closed(channel, source, [message.data for message in messages])
            return
        lost = queue.put(source, messages)
        if lost:
            self._context.refuse(DropCause.CHANNEL_FULL, channel, times=lost, key=channel)
        if queue.size > queue.high_water:
            self.crowded = queue

    def _refuse_closed(self, channel: int, source: int, datas: Sequence[bytes]) -> None:
        """Count messages of host ``source`` for a channel that is not open."""
        context = self._context
        now = context.now()
        lost, greetings = context.closed_channels.sort_out(channel, source, datas, now)
        if greetings:
            context.refuse(DropCause.GREETING, source, channel, times=greetings, key=channel)
        if lost:
            context.counters.came_for_closed(channel, source, lost, now)
            context.refuse(DropCause.NO_CHANNEL, channel, times=lost, key=channel)

    def _names_me(self, answer: Unicast) -> bool:
        """Return whether this host is a destination of ``answer``."""
        me = self._context.host_id
        if me in answer.hosts:
            return True
        # The answer may contain its name or its object, if this host was added as a host.
        myself = self._handle.hosts.get(me)
        if myself is None:
            return False
        return any(
            host == myself.name if isinstance(host, str) else getattr(host, "state", None) is myself
            for host in answer.hosts
        )

    def _filter(self, message: Message) -> Message | None:
        """Return the message, on the channel that the filter chose, or None if it is dropped."""
        context = self._context
        decide = context.filter
        if decide is None:
            return message
        me = context.host_id
        packet = FilterPacket(message.data, Direction.RX, me, message.source, message.channel)
        try:
            answer = ask_filter(decide, packet)
        except FilterError as error:
            cause = error.__cause__
            key = (Direction.RX, type(cause).__name__)
            context.refuse(error.cause, "in", error.args[0], key=key, error=cause)
            return None
        if isinstance(answer, Drop):
            context.refuse(DropCause.FILTER_DROP, "the filter dropped it on its way in")
            return None
        # The filter decides about broadcast messages too, as in libknet.
        if not isinstance(answer, Broadcast) and not self._names_me(answer):
            context.refuse(DropCause.NOT_FOR_THIS_HOST)
            return None
        if answer.channel is None or answer.channel == message.channel:
            return message
        return message._replace(channel=answer.channel)
