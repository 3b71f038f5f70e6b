"""The frozen settings of a simulated network, validated on creation."""

from __future__ import annotations

import math
from typing import Any, Final

import attrs

from knet_trio.errors import InvalidArgumentError, is_integer, shown

# Ethernet's MTU, and the largest MTU of IP.
ETHERNET_MTU: Final = 1500
MAX_MTU: Final = 65535
# The socket buffers that a handle requests.
SOCKET_BUFFER: Final = 8 * 1024 * 1024


def _check(attribute: attrs.Attribute[Any], value: object, low: float, high: float) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        return
    raise InvalidArgumentError(
        f"{attribute.name} {value!r} is not valid: give a number from {low:g} to {high:g}"
    )


def _share(_: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    _check(attribute, value, 0, 1)


def _seconds(_: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    _check(attribute, value, 0, 86400)


def _mtu(_: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    _check(attribute, value, 68, MAX_MTU)


def _boolean(_: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"{attribute.name} {value!r} is not valid: give True or False")


def _at_least_one(_: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    _check(attribute, value, 1, math.inf)


def check_type(name: str, value: object, kind: type[object]) -> None:
    """Raise InvalidArgumentError if an argument is not a record of this module."""
    if not isinstance(value, kind):
        raise InvalidArgumentError(
            f"{name} {shown(value)} is not of type knet_trio.testing.{kind.__name__}"
        )


def check_seed(seed: object) -> None:
    """Raise InvalidArgumentError if ``seed`` is neither a whole number nor None."""
    if seed is not None and not is_integer(seed):
        raise InvalidArgumentError(f"seed {shown(seed)} is not a whole number")


@attrs.frozen(kw_only=True)
class Conditions:
    """The conditions of a wire in one direction. The defaults only delay packets by 1 ms.

    Attributes:
        latency: The delay of every packet [seconds].
        jitter: The largest additional random delay [seconds]; it does not reorder packets.
        reorder: The share of packets, 0 to 1, that are held back and overtaken by others.
        reorder_delay: The longest time that such a packet is held back [seconds].
        loss: The share of packets that are lost, 0 to 1.
        burst: The mean number of packets lost in a row; 1 for independent losses.
        duplicate: The share of packets that arrive twice, 0 to 1.
        corrupt: The share of packets that are damaged, 0 to 1.
        checksum: True to drop damaged packets, as UDP's checksum does; False to deliver them.
        mtu: The largest packet that passes, with IP and UDP headers [bytes].
        black_hole: True to lose larger packets silently; False for an ICMP message of a router.
        rate: The rate of the bottleneck [bytes/second].
        queue: The queue of the bottleneck [bytes]; further packets are lost.

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
        mtu: The largest packet that it sends and receives, with IP and UDP headers [bytes]. Sending
            a larger one fails at once (EMSGSIZE).
        rate: The sending rate [bytes/second].
        send_buffer: The send buffer of each socket [bytes]. It holds all packets of the socket that
            are still on this machine; when it is full, sending blocks (EAGAIN). A connected socket
            has an eighth of it.
        queue: The queue of the interface, and of each of its routes that has a queue of its own
            [bytes]; when it is full, sending fails (ENOBUFS). With the default, the send buffers
            are full before.
        receive_buffer: The receive buffer of each socket [bytes]; further packets are lost.

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
    """The part of the way from an address to others that is on the sending machine.

    Attributes:
        rate: The rate of the route [bytes/second].
        queue: The queue of the route [bytes]; when it is full, sending fails (ENOBUFS). None for
            the size of the interface's queue.

    Raises:
        InvalidArgumentError: A value is out of range.
    """

    rate: float = attrs.field(default=math.inf, validator=_at_least_one)
    queue: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(_at_least_one)
    )
