"""Who may speak on a link: what happens to a packet, by its kind, its link and where it came from.

A packet says itself whose it is and which link it is for, and crypto says only that a member has
made it, some time. So where it came from decides what it may do:

- Only the address that a link leads to acts for the peer. A static link has it from the program. A
  dynamic link has it from a pong: to a ping that was sent to that address, with a stamp that nobody
  else could have made (``stamps``). What was recorded proves nothing.
- A ping from elsewhere may be of a peer that is there by now: behind a translator of addresses, or
  after it got another one. The link asks: a ping to that place, a *challenge*. Until its pong has
  come, nothing has changed.
- Data and answers from elsewhere are nobody's.

The table is that of ``docs/security.md``. The first row that fits decides.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from ipaddress import IPv4Address, ip_address
from itertools import product
from typing import Final, NamedTuple

from knet_trio.address import Address
from knet_trio.errors import DropCause


class PacketKind(enum.Enum):
    """What a packet is."""

    DATA = "data"
    PING = "ping"
    PONG = "pong"
    PROBE = "path MTU probe"
    REPLY = "path MTU reply"


class LinkKind(enum.Enum):
    """How a link got the address it leads to."""

    STATIC = "static"
    DYNAMIC = "dynamic"


class LinkPhase(enum.Enum):
    """What a link is doing."""

    DISABLED = "disabled"
    SILENT = "down"
    ANSWERED = "down, with pongs counted"
    UP = "up"


class Origin(enum.Enum):
    """Where a packet came from."""

    PEER = "the address it leads to"
    SIBLING = "that of another link of its host that is up"
    ELSEWHERE = "elsewhere"
    REJECTED = "an address that the access list rejects"
    IMPOSSIBLE = "an address that is no peer's"


class Action(enum.Enum):
    """What happens to a packet that is not refused."""

    ACT = "acts, and is answered if it asks"
    ANSWER = "answered to the address it leads to; changes nothing"
    CHALLENGE = "a ping goes there, with a stamp for that place"
    GREET = "a pong goes there, and a ping with a stamp for that place"
    CHECK = "acts if its stamp is one that was sent there"
    FOLLOW = "if its stamp is one that was sent there, the link leads there from now on"


class Situation(NamedTuple):
    """What decides about a packet.

    Attributes:
        reachable: Whether the host can be reached, over whichever link.
    """

    packet: PacketKind
    link: LinkKind
    phase: LinkPhase
    reachable: bool
    origin: Origin


class Rule(NamedTuple):
    """A row of the table: where all five fit, ``verdict`` holds. An empty set fits everything.

    Attributes:
        verdict: What happens to the packet, or under which cause it is counted and goes no further.
    """

    packets: Collection[PacketKind]
    links: Collection[LinkKind]
    phases: Collection[LinkPhase]
    reachable: Collection[bool]
    origins: Collection[Origin]
    verdict: Action | DropCause


_STATIC, _DYNAMIC = {LinkKind.STATIC}, {LinkKind.DYNAMIC}
_DATA, _PING, _PONG = {PacketKind.DATA}, {PacketKind.PING}, {PacketKind.PONG}
_PROBE, _REPLY = {PacketKind.PROBE}, {PacketKind.REPLY}
_DOWN = {LinkPhase.SILENT, LinkPhase.ANSWERED}
_PEER = {Origin.PEER}

# fmt: off
RULES: Final = (
    #    packets  links     phases                  reachable origins
    Rule((),      (),       (),                     (),       {Origin.IMPOSSIBLE}, DropCause.IMPOSSIBLE_SOURCE),
    Rule((),      (),       (),                     (),       {Origin.REJECTED},   DropCause.ACCESS_LIST),
    Rule((),      (),       {LinkPhase.DISABLED},   (),       (),                  DropCause.LINK_DISABLED),
    # A peer that has begun to answer may have found this host before this host found it: its first
    # messages are not to be lost for that. A link may be down here and still up there.
    Rule(_DATA,   (),       {LinkPhase.SILENT},     {False},  _PEER,               DropCause.PEER_UNREACHABLE),
    Rule(_DATA,   (),       (),                     (),       _PEER,               Action.ACT),
    Rule(_PING,   (),       (),                     (),       _PEER,               Action.ACT),
    # Its port may be another than that of the link: access lists do not compare ports.
    Rule(_PING,   _STATIC,  (),                     (),       (),                  Action.ANSWER),
    # Only a peer that is not reached needs the pong before it is known to be there.
    Rule(_PING,   _DYNAMIC, {LinkPhase.UP},         (),       (),                  Action.CHALLENGE),
    Rule(_PING,   _DYNAMIC, _DOWN,                  (),       (),                  Action.GREET),
    Rule(_PONG,   (),       (),                     (),       _PEER,               Action.CHECK),
    Rule(_PONG,   _DYNAMIC, (),                     (),       (),                  Action.FOLLOW),
    Rule(_PROBE,  (),       (),                     (),       _PEER,               Action.ACT),
    Rule(_PROBE,  _STATIC,  (),                     (),       (),                  Action.ANSWER),
    # The coming libknet finds the link to reply on by address, without the port. What shows that a
    # reply is real is the number that was drawn for its probe.
    Rule(_REPLY,  (),       (),                     (),       {Origin.PEER, Origin.SIBLING}, Action.ACT),
    Rule((),      (),       (),                     (),       (),                  DropCause.UNKNOWN_ADDRESS),
)
# fmt: on


def _decide(situation: Situation) -> Action | DropCause:
    return next(
        rule.verdict
        for rule in RULES
        if all(
            not fitting or value in fitting for value, fitting in zip(situation, rule, strict=False)
        )
    )


VERDICTS: Final[dict[Situation, Action | DropCause]] = {
    situation: _decide(situation)
    for situation in map(
        Situation._make, product(PacketKind, LinkKind, LinkPhase, (False, True), Origin)
    )
}
"""What happens in each situation."""


def is_possible(source: Address, local: Address) -> bool:
    """Return whether a peer can have the address ``source``, seen from a socket at ``local``.

    Nobody sends from port 0, from a multicast or broadcast address, or from this very socket. Who
    answered such a packet would answer to many, or to itself.
    """
    if not source.port or source == local:
        return False
    ip = ip_address(source.host.partition("%")[0])
    if ip.is_multicast or ip.is_unspecified:
        return False
    return not (isinstance(ip, IPv4Address) and ip.is_reserved)
