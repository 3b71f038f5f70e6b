"""A channel for other parts of the package: short ways, without checks of arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from knet_trio._pipeline.batches import pack
from knet_trio._pipeline.transmitter import ChannelState, Transmitter
from knet_trio._state.channel_queue import ChannelQueue
from knet_trio._state.destinations import find_host
from knet_trio._state.handle import HandleState
from knet_trio._state.host import HostState
from knet_trio.message import Message


class DirectChannel:
    """The short ways of a channel, for calls in the handle's own Trio program.

    Attributes:
        handle: The state of the handle, read only.
        hosts: The hosts by their ids, read only.
    """

    __slots__ = ("_channel", "_owner", "_queue", "_reachable", "_transmitter", "handle", "hosts")

    def __init__(
        self,
        handle: HandleState,
        transmitter: Transmitter,
        channel: int,
        queue: ChannelQueue,
        owner: ChannelState,
    ) -> None:
        self.hosts: dict[int, HostState] = handle.hosts
        self.handle: HandleState = handle
        self._transmitter = transmitter
        self._reachable = handle.reachable
        self._channel = channel
        self._queue = queue
        self._owner = owner

    def take_alone(self, take: Callable[[Message], None]) -> None:
        """Have ``take`` called with a message that a task waits for, in place of waking the task.

        The task that has received the message calls ``take``, once in each round of the loop. The
        waiting task gets the other messages of that round. ``take`` must not raise.
        """
        self._queue.take_alone = take

    def leave(self, take: Callable[[bytes], bool], seconds: float) -> int:
        """Take no more messages, and have ``take`` called with those that come late.

        ``ClosedChannels.keep`` says how. The program still has to close the channel.

        Args:
            take: Returns True if it has counted the message.
            seconds: How long it is called.

        Returns:
            The number of messages that were not received, which are not counted as lost.
        """
        context = self.handle.context
        context.closed_channels.keep(self._channel, take, context.now() + seconds)
        return self._queue.close()

    def is_reachable(self, host_id: int) -> bool:
        """Return whether a host is reachable.

        Return True for a host that the handle does not have too: sending to it raises the error.
        """
        return host_id in self._reachable or host_id not in self.hosts

    def send_nowait(self, data: bytes, host_id: int) -> None:
        """Do what ``Channel.send_nowait`` does, for one host.

        Raises:
            trio.WouldBlock: The message would have to wait for room.
            trio.ClosedResourceError: The channel was closed, or the handle has ended.
            UnknownHostError: The handle does not have the host.
        """
        if self._owner.closed:
            raise trio.ClosedResourceError("this channel was closed")
        if host_id not in self.hosts:
            find_host(self.handle, host_id)
        self._transmitter.send_nowait((data,), self._channel, (host_id,))

    @trio.lowlevel.enable_ki_protection
    async def send_many(self, datas: Sequence[bytes], host_id: int) -> None:
        """Do what ``Channel.send_many`` does, for one host."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if host_id not in self.hosts:
            find_host(self.handle, host_id)
        for batch in pack(datas):
            await self._transmitter.send(batch, self._channel, (host_id,), self._owner)
