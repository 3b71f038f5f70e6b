"""Messages, and the questions and answers of a filter."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import NamedTuple

import attrs

from knet_trio.config import check_host_id


class Message(NamedTuple):
    """A message as it arrived.

    Attributes:
        data: Its bytes.
        source: The id of the host that sent it.
        channel: The channel, 0 to 31.
    """

    data: bytes
    source: int
    channel: int


class Direction(enum.Enum):
    """Which way a message goes."""

    TX = "tx"
    RX = "rx"


class FilterPacket(NamedTuple):
    """A message that a filter decides on.

    Attributes:
        data: Its bytes.
        direction: Whether it is on its way out (TX) or in (RX).
        this_host: The id of the host on which the filter runs.
        source: The host that sent it; ``this_host`` for TX.
        channel: The channel it was sent on.
    """

    data: bytes
    direction: Direction
    this_host: int
    source: int
    channel: int


@attrs.frozen
class Broadcast:
    """Send it to every host, on ``channel``; None is the one it was sent on."""

    channel: int | None = None


def _host_ids(hosts: Iterable[int]) -> tuple[int, ...]:
    # Each once: a host that is named twice still gets one message.
    return tuple(dict.fromkeys(check_host_id(host) for host in hosts))


@attrs.frozen
class Unicast:
    """Send it to these hosts, on ``channel``; None is the one it was sent on."""

    hosts: tuple[int, ...] = attrs.field(converter=_host_ids)
    channel: int | None = None


@attrs.frozen
class Drop:
    """Send it to nobody."""


FilterResult = Broadcast | Unicast | Drop

Filter = Callable[[FilterPacket], FilterResult]
"""Decides where a message goes (TX) and whether this host takes it (RX).

It is called for each message in the middle of the pipeline, so it must not block. An exception
out of it drops the message, is counted, and makes ``send_sync`` raise.

See knet_handle_enable_filter(3).
"""
