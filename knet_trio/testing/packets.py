"""Packets of a simulated network, and how their ways ended."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

import attrs

from knet_trio.address import Address


class Fate(enum.StrEnum):
    """How the way of a packet ended."""

    DELIVERED = "delivered"
    """A socket has it."""
    DAMAGED = "damaged"
    """A socket has it, but some of its bits turned on the way, and no checksum told."""
    LOST = "lost"
    """By the loss in the wire's conditions."""
    CUT = "cut"
    """The wire was cut."""
    CORRUPTED = "corrupted"
    """It was damaged, and the checksum told."""
    TOO_BIG = "too_big"
    """For the wire, or for the interface it arrived at."""
    QUEUE_FULL = "queue_full"
    """At the narrowest place of the wire."""
    NO_HOST = "no_host"
    """Nothing was ever bound to its address."""
    DOWN = "down"
    """The interface it arrived at was down."""
    REFUSED = "refused"
    """Nothing is bound to its port any more, which the sender is told; of associations also what
    belongs to none that is there."""
    BUFFER_FULL = "buffer_full"
    """The socket had no room for it."""


class PacketRecord(NamedTuple):
    """One packet on its way, or one of two copies of it. Times are seconds on Trio's clock.

    Attributes:
        sent: When it left the interface of its machine.
        ended: When it arrived, or was lost.
        source: The address that sent it.
        destination: The address that it was sent to.
        data: The bytes that were sent; of an association the piece of a message, if any.
        fate: How it ended.
        taken: When the socket took it.
        transport: The transport that it is of: ``udp`` or ``sctp``.
    """

    sent: float
    ended: float
    source: Address
    destination: Address
    data: bytes
    fate: Fate
    taken: float
    transport: str = "udp"


@attrs.frozen(kw_only=True)
class NetworkStatistics:
    """The counters of a simulated network.

    Attributes:
        sent: Packets that left an interface.
        duplicated: Copies made of them.
        in_flight: Packets and copies on their way.
        fates: How many of the others ended how.
        too_big: Packets that an interface did not send because of its MTU.
        troubles: ICMP messages that reached a sender.
    """

    sent: int
    duplicated: int
    in_flight: int
    fates: Mapping[Fate, int]
    too_big: int
    troubles: int
