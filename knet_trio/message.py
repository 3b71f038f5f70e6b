"""Messages, and the questions and answers of a filter."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, cast

import attrs

from knet_trio.config import check_host_id
from knet_trio.errors import InvalidArgumentError, shown

if TYPE_CHECKING:
    # A host is far above a message.
    from knet_trio.host import Destination, Destinations


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
    """Send it to every host.

    Attributes:
        channel: The channel, 0 to 31; None is the one it was sent on.
    """

    channel: int | None = None


def _to_hosts(hosts: Destinations) -> tuple[Destination, ...]:
    several: Iterable[object] = (hosts,)
    if isinstance(hosts, Iterable) and not isinstance(hosts, str | bytes):
        several = cast("Iterable[object]", hosts)
    # Each once: a host that is named twice still gets one message.
    return tuple(dict.fromkeys(map(_check_host, several)))


def _check_host(host: object) -> Destination:
    if isinstance(host, int):
        return check_host_id(host)
    # Which hosts there are is known to the handle, when it gets the answer.
    if isinstance(host, str) or hasattr(host, "host_id"):
        return cast("Destination", host)
    raise InvalidArgumentError(
        f"{shown(host)} is no host: give ids, names or Host objects, such as Unicast([2])"
    )


@attrs.frozen
class Unicast:
    """Send it to some hosts.

    Attributes:
        hosts: The hosts: given as one or several, by ids, names or ``Host`` objects.
        channel: The channel, 0 to 31; None is the one it was sent on.

    Raises:
        InvalidArgumentError: Something in ``hosts`` is no host.
    """

    hosts: tuple[Destination, ...] = attrs.field(converter=_to_hosts)
    channel: int | None = None


@attrs.frozen
class Drop:
    """Send it to nobody."""


FilterResult: TypeAlias = Broadcast | Unicast | Drop
"""What a filter answers."""


class Filter(Protocol):
    """Any callable that decides where a message goes (TX) and whether this host takes it (RX).

    ::

        def by_first_byte(packet: FilterPacket) -> FilterResult:
            if packet.direction is Direction.RX:
                return Broadcast()
            return Unicast([2]) if packet.data.startswith(b"!") else Drop()

    It is called for each message in the middle of the pipeline, so it must not block. An exception
    out of it drops the message, is counted, and makes ``send_sync`` raise.

    See knet_handle_enable_filter(3).
    """

    def __call__(self, packet: FilterPacket, /) -> FilterResult:
        """Return ``Broadcast()``, ``Unicast(hosts)`` or ``Drop()``."""
        ...
