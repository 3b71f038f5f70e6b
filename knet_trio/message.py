"""What goes through a handle: messages, and what a filter is asked and answers."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import NamedTuple

import attrs

from knet_trio.config import check_host_id


class Message(NamedTuple):
    """A message as it arrived: its bytes, the id of the host that sent it, and the channel."""

    data: bytes
    source: int
    channel: int


class Direction(enum.Enum):
    """Which way a message goes."""

    TX = "tx"
    RX = "rx"


class FilterPacket(NamedTuple):
    """What a filter decides on. ``source`` is the host that sent it, ``this_host`` for TX."""

    data: bytes
    direction: Direction
    this_host: int
    source: int
    channel: int


@attrs.frozen
class Broadcast:
    """To every host, on ``channel`` if that is given, else on the one it was sent on."""

    channel: int | None = None


def _host_ids(hosts: Iterable[int]) -> tuple[int, ...]:
    # Each once: a host that is named twice still gets one message.
    return tuple(dict.fromkeys(check_host_id(host) for host in hosts))


@attrs.frozen
class Unicast:
    """To these hosts, on ``channel`` if that is given, else on the one it was sent on."""

    hosts: tuple[int, ...] = attrs.field(converter=_host_ids)
    channel: int | None = None


@attrs.frozen
class Drop:
    """To nobody."""


FilterResult = Broadcast | Unicast | Drop

Filter = Callable[[FilterPacket], FilterResult]
"""Decides where a message goes (TX) and whether this host takes it (RX).

It is called for each message in the middle of the pipeline, so it must not block. An exception
out of it drops the message, is counted, and makes ``send_sync`` raise. Source: man
knet_handle_enable_filter.
"""
