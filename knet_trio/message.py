"""Messages, and the arguments and results of filters."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, cast

import attrs

from knet_trio.config import check_host_id
from knet_trio.errors import InvalidArgumentError, shown

if TYPE_CHECKING:
    # hosts import this module.
    from knet_trio.host import Destination, Destinations


class Message(NamedTuple):
    """A received message.

    Attributes:
        data: The bytes of the message.
        source: The id of the host that sent it.
        channel: The channel on which it was received, 0 to 31.
    """

    data: bytes
    source: int
    channel: int


class Direction(enum.Enum):
    """The direction of a message: TX if it is sent by this host, RX if it is received."""

    TX = "tx"
    RX = "rx"


class FilterPacket(NamedTuple):
    """A message, as a filter sees it.

    Attributes:
        data: The bytes of the message.
        direction: TX if it is about to be sent, RX if it was received.
        this_host: The id of the host on which the filter runs.
        source: The id of the host that sent it; ``this_host`` for TX.
        channel: The channel on which it was sent, 0 to 31.
    """

    data: bytes
    direction: Direction
    this_host: int
    source: int
    channel: int


@attrs.frozen
class Broadcast:
    """The result of a filter: send the message to every host, or accept it.

    Attributes:
        channel: The channel, 0 to 31. None: the one on which it was sent.
    """

    channel: int | None = None


def _to_hosts(hosts: Destinations) -> tuple[Destination, ...]:
    several: Iterable[object] = (hosts,)
    if isinstance(hosts, Iterable) and not isinstance(hosts, str | bytes):
        several = cast("Iterable[object]", hosts)
    # A host that is named twice still receives one message.
    return tuple(dict.fromkeys(map(_check_host, several)))


def _check_host(host: object) -> Destination:
    if isinstance(host, int):
        return check_host_id(host)
    # The handle checks whether the host exists when it gets the result.
    if isinstance(host, str) or hasattr(host, "host_id"):
        return cast("Destination", host)
    raise InvalidArgumentError(
        f"{shown(host)} is not a host: give ids, names or Host objects, such as Unicast([2])"
    )


@attrs.frozen
class Unicast:
    """The result of a filter: send the message to some hosts.

    Attributes:
        hosts: The destinations, one or several: ids, names or ``Host`` objects.
        channel: The channel, 0 to 31. None: the one on which it was sent.

    Raises:
        InvalidArgumentError: Something in ``hosts`` is not a host.
    """

    hosts: tuple[Destination, ...] = attrs.field(converter=_to_hosts)
    channel: int | None = None


@attrs.frozen
class Drop:
    """The result of a filter: drop the message. It is counted."""


FilterResult: TypeAlias = Broadcast | Unicast | Drop
"""The result of a filter."""


class Filter(Protocol):
    """A callable that chooses where a message goes (TX) and whether this host accepts it (RX).

    ::

        def by_first_byte(packet: FilterPacket) -> FilterResult:
            if packet.direction is Direction.RX:
                return Broadcast()
            return Unicast([2]) if packet.data.startswith(b"!") else Drop()

    It is called for each message by the event loop, so it must not block. If it raises, the message
    is dropped and counted, and ``send_sync`` raises FilterError.

    See knet_handle_enable_filter(3).
    """

    def __call__(self, packet: FilterPacket, /) -> FilterResult:
        """Return ``Broadcast()``, ``Unicast(hosts)`` or ``Drop()``."""
        ...
