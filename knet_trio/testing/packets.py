"""The packets of a simulated network and their fates."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

import attrs

from knet_trio.address import Address


class Fate(enum.StrEnum):
    """The fate of a packet."""

    DELIVERED = "delivered"
    """A socket received the packet."""
    DAMAGED = "damaged"
    """A socket received the packet with damage that no checksum detected."""
    LOST = "lost"
    """The packet was lost at random, by the wire's conditions."""
    CUT = "cut"
    """The wire was cut."""
    CORRUPTED = "corrupted"
    """The packet was damaged, and the checksum detected it."""
    TOO_BIG = "too_big"
    """The packet was too large for the wire or the receiving interface."""
    QUEUE_FULL = "queue_full"
    """The queue of the wire's bottleneck was full."""
    NO_HOST = "no_host"
    """No socket was ever bound to the destination address."""
    DOWN = "down"
    """The receiving interface was down."""
    REFUSED = "refused"
    """No socket is bound to the destination port, which the sender is notified of; or the packet
    belongs to an association that does not exist."""
    BUFFER_FULL = "buffer_full"
    """The receive buffer of the socket was full."""


class PacketRecord(NamedTuple):
    """A packet, or one of its copies, at the end of its way. Times are seconds on Trio's clock.

    Attributes:
        sent: When the packet left the interface of the sending machine.
        ended: When the packet arrived or was lost.
        source: The address of the sender.
        destination: The address of the receiver.
        data: The bytes sent; for SCTP, the piece of a message, if any.
        fate: The fate of the packet.
        taken: When the sending socket took the packet.
        transport: ``udp`` or ``sctp``.
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
        in_flight: Packets and copies that have not arrived or been lost yet.
        fates: The number of packets and copies by fate.
        too_big: Packets that an interface refused because of its MTU.
        troubles: ICMP messages that reached a sender.
    """

    sent: int
    duplicated: int
    in_flight: int
    fates: Mapping[Fate, int]
    too_big: int
    troubles: int
