"""The first step of the way out: who gets a message, on which channel."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import NamedTuple

from knet_trio._pipeline.ask_filter import ask_filter
from knet_trio._pipeline.drops import count_lost
from knet_trio._state.handle import HandleState
from knet_trio.errors import (
    DestinationError,
    DroppedByFilterError,
    ForwardingDisabledError,
    SendError,
)
from knet_trio.message import Broadcast, Direction, Drop, FilterPacket


class Addressed(NamedTuple):
    """Messages that go the same way.

    Attributes:
        datas: The messages.
        channel: The channel, 0 to 31.
        hosts: The hosts that get them, None for every host.
    """

    datas: Sequence[bytes]
    channel: int
    hosts: tuple[int, ...] | None


class FilterStage:
    """Asks the user's filter, unless the sender has said who gets the message."""

    def __init__(self, handle: HandleState) -> None:
        self._context = handle.context

    def address_all(
        self, datas: Sequence[bytes], channel: int, to: tuple[int, ...] | None
    ) -> list[Addressed]:
        """Return where messages go; those that are dropped are counted."""
        context = self._context
        if context.forwarding and (to is not None or context.filter is None):
            return [Addressed(datas, channel, to)]
        addressed: list[Addressed] = []
        for data in datas:
            try:
                one = self.address(data, channel, to)
            except SendError as error:
                count_lost(context, error)
                continue
            if addressed and addressed[-1][1:] == one[1:]:
                one = one._replace(datas=[*addressed.pop().datas, data])
            addressed.append(one)
        return addressed

    def address(self, data: bytes, channel: int, to: tuple[int, ...] | None) -> Addressed:
        """Return where one message goes; raise SendError if it is dropped."""
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
