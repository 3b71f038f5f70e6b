"""The first step of the way out: the destinations and the channel of a message."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import NamedTuple

from knet_trio._pipeline.ask_filter import ask_filter
from knet_trio._pipeline.drops import count_lost
from knet_trio._state.destinations import find_host
from knet_trio._state.handle import HandleState
from knet_trio.errors import (
    DestinationError,
    DropCause,
    DroppedByFilterError,
    FilterError,
    ForwardingDisabledError,
    InvalidArgumentError,
    SendError,
    UnknownHostError,
    shown,
)
from knet_trio.message import Broadcast, Direction, Drop, FilterPacket, Unicast


class Addressed(NamedTuple):
    """Messages with the same destinations and channel.

    Attributes:
        datas: The messages.
        channel: The channel, 0 to 31.
        hosts: The ids of the hosts that get them, None for every host.
    """

    datas: Sequence[bytes]
    channel: int
    hosts: tuple[int, ...] | None


class FilterStage:
    """Asks the user's filter, unless the sender has given the destinations."""

    def __init__(self, handle: HandleState) -> None:
        self._handle = handle
        self._context = handle.context

    def address_all(
        self, datas: Sequence[bytes], channel: int, to: tuple[int, ...] | None
    ) -> list[Addressed]:
        """Return the destinations of messages, and count those that are dropped."""
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
            except UnknownHostError:
                # Already counted.
                continue
            if addressed and addressed[-1][1:] == one[1:]:
                one = one._replace(datas=[*addressed.pop().datas, data])
            addressed.append(one)
        return addressed

    def address(
        self, data: bytes, channel: int, to: tuple[int, ...] | None, *, all_known: bool = False
    ) -> Addressed:
        """Return the destinations of one message.

        Args:
            data: The message.
            channel: The channel it was sent on.
            to: The ids of the hosts that get it, None to ask the filter.
            all_known: Raise an error if the filter names an unknown host. Otherwise the known hosts
                get the message all the same.

        Raises:
            SendError: The message is dropped.
            UnknownHostError: It is for unknown hosts; it was counted for each.
        """
        if not self._context.forwarding:
            raise ForwardingDisabledError(
                "data forwarding is off: turn it on with set_forwarding(True)"
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
        return Addressed((data,), channel, self._find_hosts(answer, all_known))

    def _find_hosts(self, answer: Unicast, all_known: bool) -> tuple[int, ...]:
        """Return the ids of the hosts that ``answer`` names, and count the unknown ones.

        Raises:
            UnknownHostError: None of the hosts is known; with ``all_known``, one is not.
        """
        unknown: UnknownHostError | None = None
        found: dict[int, None] = {}
        for host in answer.hosts:
            if type(host) is int and host in self._handle.hosts:
                found[host] = None
                continue
            try:
                found[find_host(self._handle, host).host_id] = None
            except UnknownHostError as error:
                unknown = error
                cause = DropCause.UNKNOWN_DESTINATION
                self._context.refuse(cause, error.args[0], key=shown(host))
            except InvalidArgumentError as error:
                raise FilterError(f"the filter failed: {error.args[0]}") from error
        if unknown is not None and (all_known or not found):
            raise unknown
        return tuple(found)
