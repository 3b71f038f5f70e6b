"""What is sent and received: messages that say themselves who sent them, to whom, and which."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

import attrs

from knet_trio import Broadcast, Direction, FilterPacket, FilterResult, Unicast

# Magic, sender, its life, number, recipients by their bits (0: all), channel it is meant for,
# whether only the receiving filters know the recipients.
_HEADER: Final = struct.Struct(">4sHHIHB?")
_MAGIC: Final = b"knet"
MIN_SIZE: Final = _HEADER.size
MAX_SIZE: Final = 65536
SIZES: Final = (0, 0, 100, 100, 1000, 1000, 3000, 3000, 10000, 10000, 30000, MAX_SIZE)
# They can all be made small, which takes its time.
BULK_SIZES: Final = (10000,)


class Name(NamedTuple):
    """Which message it is: who sent it in which life, and the number there."""

    sender: int
    life: int
    number: int


@attrs.define(eq=False)
class Call:
    """A call that sends messages, by one of the tasks of a host.

    ``one``: whether it sends a single message, which is all or nothing. ``sync``: whether it may
    overtake others. ``done``: when it returned or was ``cancelled``.
    """

    life: tuple[int, int]
    talker: int
    began: float
    one: bool = True
    sync: bool = False
    done: float = math.inf
    cancelled: bool = False


@attrs.frozen
class Sent:
    """A message that was given to a handle at ``at``, for the hosts in ``recipients``.

    ``must`` it arrive? ``refused``, if ``send_sync`` raised.
    """

    name: Name
    at: float
    recipients: frozenset[int]
    channel: int
    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")
    explicit: bool
    call: Call = attrs.field(repr=False)
    must: bool = False
    refused: bool = False


def _bits(hosts: frozenset[int]) -> int:
    return sum(1 << host for host in hosts)


def _hosts(bits: int) -> tuple[int, ...]:
    return tuple(host for host in range(16) if bits >> host & 1)


def make_data(
    rng: random.Random,
    name: Name,
    to: frozenset[int] | None,
    channel: int,
    *,
    wide: bool,
    sizes: Sequence[int] = SIZES,
) -> bytes:
    """A message of one of ``sizes`` or up to half of it less, compressible or not."""
    header = _HEADER.pack(_MAGIC, *name, _bits(to or frozenset()), channel, wide)
    size = rng.choice(sizes)
    if size:
        size = rng.randint(size // 2, size)
    rest = max(0, size - len(header))
    noise = sizes is not BULK_SIZES and rng.random() < 0.5
    filler = rng.randbytes(rest) if noise else (b"%d " % name.number * rest)[:rest]
    return header + filler


def read_name(data: bytes) -> Name | None:
    """Which message it is, None if it is none of these."""
    if len(data) < MIN_SIZE:
        return None
    magic, sender, life, number, *_ = _HEADER.unpack_from(data)
    return Name(sender, life, number) if magic == _MAGIC else None


def decide(packet: FilterPacket) -> FilterResult:
    """A filter that goes by what the message says."""
    *_, bits, channel, wide = _HEADER.unpack_from(packet.data)
    if not bits:
        return Broadcast(channel)
    if wide and packet.direction is Direction.TX:
        return Broadcast(channel)
    return Unicast(_hosts(bits), channel)
