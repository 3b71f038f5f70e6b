"""Frozen settings of a simulated network, checked when they are made."""

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


def _boolean(_: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"{attribute.name} {value!r} is neither True nor False")


def _at_least_one(_: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    _check(attribute, value, 1, math.inf)


@attrs.frozen(kw_only=True)
class Conditions:
    """What a wire does to packets, in one direction. The defaults only take 1 ms.

    Attributes:
        latency: Seconds that every packet takes.
        jitter: More seconds at most, drawn for each packet; none overtakes another for that.
        reorder: The share of packets, 0 to 1, that are held back, so that others overtake them.
        reorder_delay: For how many seconds at most.
        loss: The share of packets that get lost.
        burst: How many in a row on average; 1 loses each on its own.
        duplicate: The share of packets that arrive twice.
        corrupt: The share of packets that are damaged on the way.
        checksum: True drops damaged packets, as UDP's checksum does; with False they arrive.
        mtu: The largest packet that passes, in bytes with IP and UDP headers.
        black_hole: Whether larger packets are lost silently; else a router says so (ICMP).
        rate: Bytes a second that pass at the narrowest place.
        queue: Bytes that may wait there; beyond them packets are lost.

    Raises:
        InvalidArgumentError: A value is out of range.
    """

    latency: float = attrs.field(default=0.001, validator=_seconds)
    jitter: float = attrs.field(default=0.0, validator=_seconds)
    reorder: float = attrs.field(default=0.0, validator=_share)
    reorder_delay: float = attrs.field(default=0.01, validator=_seconds)
    loss: float = attrs.field(default=0.0, validator=_share)
    burst: float = attrs.field(default=1.0, validator=_at_least_one)
    duplicate: float = attrs.field(default=0.0, validator=_share)
    corrupt: float = attrs.field(default=0.0, validator=_share)
    checksum: bool = attrs.field(default=True, validator=_boolean)
    mtu: int = attrs.field(default=MAX_MTU, validator=_mtu)
    black_hole: bool = attrs.field(default=False, validator=_boolean)
    rate: float = attrs.field(default=math.inf, validator=_at_least_one)
    queue: float = attrs.field(default=262144, validator=_at_least_one)


@attrs.frozen(kw_only=True)
class Interface:
    """The interface with an address, and the buffers of the sockets there.

    Attributes:
        mtu: The largest packet it sends and takes, in bytes with IP and UDP headers. The sender is
            told of larger ones at once.
        rate: Bytes a second that it sends.
        send_buffer: Bytes of each socket that may wait on this machine, in whatever queue; then the
            socket takes no more for a while (EAGAIN). A socket for one peer alone has an eighth.
        queue: Bytes of all sockets that may wait for the interface, and for each of its routes that
            has a queue of its own; what is sent beyond is refused (ENOBUFS). With the default, the
            send buffers are full before.
        receive_buffer: Bytes that a socket keeps until the handle takes them; more are lost.

    Raises:
        InvalidArgumentError: A value is out of range.
    """

    mtu: int = attrs.field(default=ETHERNET_MTU, validator=_mtu)
    rate: float = attrs.field(default=math.inf, validator=_at_least_one)
    send_buffer: float = attrs.field(default=SOCKET_BUFFER, validator=_at_least_one)
    queue: float = attrs.field(default=math.inf, validator=_at_least_one)
    receive_buffer: float = attrs.field(default=SOCKET_BUFFER, validator=_at_least_one)


@attrs.frozen(kw_only=True)
class Route:
    """The way from an address to others, as long as it is on the sending machine.

    Attributes:
        rate: Bytes a second that pass.
        queue: Bytes that may wait before that place; beyond them sending is refused (ENOBUFS). None
            is as many as the interface's.

    Raises:
        InvalidArgumentError: A value is out of range.
    """

    rate: float = attrs.field(default=math.inf, validator=_at_least_one)
    queue: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(_at_least_one)
    )
