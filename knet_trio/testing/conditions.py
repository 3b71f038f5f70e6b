"""What a simulated network is like: frozen settings, checked when they are made."""

from __future__ import annotations

import math
from typing import Any, Final

import attrs

from knet_trio.errors import InvalidArgumentError

# Ethernet's, and the largest there can be.
ETHERNET_MTU: Final = 1500
MAX_MTU: Final = 65535
# What a handle asks the system for.
SOCKET_BUFFER: Final = 8 * 1024 * 1024


def _check(attribute: attrs.Attribute[Any], value: object, low: float, high: float) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        return
    raise InvalidArgumentError(f"{attribute.name} {value!r} is not {low:g} to {high:g}")


def _share(_: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    _check(attribute, value, 0, 1)


def _seconds(_: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    _check(attribute, value, 0, 86400)


def _mtu(_: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    _check(attribute, value, 68, MAX_MTU)


def _at_least_one(_: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    _check(attribute, value, 1, math.inf)


@attrs.frozen(kw_only=True)
class Conditions:
    """What a wire does to packets, in one direction. As it is made, it does nothing but take 1 ms.

    ``latency``: the seconds every packet takes. ``jitter``: up to so many seconds more, for each
    packet anew; none overtakes another for that. ``reorder``: the share of packets, 0 to 1, that
    are held back for up to ``reorder_delay`` seconds more, so that others do overtake them.

    ``loss``: the share of packets that get lost; ``burst``: how many in a row on average, 1 for
    each on its own account. ``duplicate``: the share that arrives twice. ``corrupt``: the share
    that is damaged on the way, which UDP's checksum finds, so that the packet is dropped; with
    ``checksum=False`` it does not, and they arrive damaged.

    ``mtu``: the largest packet that passes, in bytes with IP and UDP headers. A router says so of
    larger ones (ICMP), or with ``black_hole`` nobody does.

    ``rate``: the bytes a second that pass at the narrowest place; ``queue``: how many bytes may
    wait there, beyond which packets are lost.

    Raises InvalidArgumentError for what is out of range.
    """

    latency: float = attrs.field(default=0.001, validator=_seconds)
    jitter: float = attrs.field(default=0.0, validator=_seconds)
    reorder: float = attrs.field(default=0.0, validator=_share)
    reorder_delay: float = attrs.field(default=0.01, validator=_seconds)
    loss: float = attrs.field(default=0.0, validator=_share)
    burst: float = attrs.field(default=1.0, validator=_at_least_one)
    duplicate: float = attrs.field(default=0.0, validator=_share)
    corrupt: float = attrs.field(default=0.0, validator=_share)
    checksum: bool = True
    mtu: int = attrs.field(default=MAX_MTU, validator=_mtu)
    black_hole: bool = False
    rate: float = attrs.field(default=math.inf, validator=_at_least_one)
    queue: float = attrs.field(default=262144, validator=_at_least_one)


@attrs.frozen(kw_only=True)
class Interface:
    """What the interface with an address, and a socket there, is like.

    ``mtu``: the largest packet it sends and takes, in bytes with IP and UDP headers; the sender is
    told of larger ones at once. ``rate``: the bytes a second it sends.

    ``send_buffer``: the bytes of each socket that may wait on this machine, in whatever queue;
    when they do, the socket takes no more for a while (EAGAIN). A socket for one peer alone has an
    eighth of it. ``queue``: the bytes of all sockets that may wait for the interface, and for each
    of its routes that has a queue of its own; what is sent beyond is refused (ENOBUFS). As it is
    made, the send buffers are full before.

    ``receive_buffer``: the bytes a socket keeps until the handle takes them; more are lost.

    Raises InvalidArgumentError for what is out of range.
    """

    mtu: int = attrs.field(default=ETHERNET_MTU, validator=_mtu)
    rate: float = attrs.field(default=math.inf, validator=_at_least_one)
    send_buffer: float = attrs.field(default=SOCKET_BUFFER, validator=_at_least_one)
    queue: float = attrs.field(default=math.inf, validator=_at_least_one)
    receive_buffer: float = attrs.field(default=SOCKET_BUFFER, validator=_at_least_one)


@attrs.frozen(kw_only=True)
class Route:
    """What the way from an address to others is like while it is on the machine itself.

    ``rate``: the bytes a second that pass. ``queue``: the bytes that may wait before that place,
    beyond which sending is refused (ENOBUFS); None is as many as the interface's.

    Raises InvalidArgumentError for what is out of range.
    """

    rate: float = attrs.field(default=math.inf, validator=_at_least_one)
    queue: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(_at_least_one)
    )
