"""Admission: who may speak on a link, by the kind of a packet, its link and its source address.

The sender of a packet and the link it is for are claims of the packet itself; crypto proves only
that a member made the packet at some time. So the source address decides what a packet may do:

- Only packets from the address that a link leads to act for the peer. A static link gets this
  address from the program. A dynamic link gets it from a pong to a ping that was sent to that
  address, with a stamp that nobody else could have made (``stamps``). A recording proves nothing.
- A ping from elsewhere may come from a peer that has moved there: behind a translator of addresses,
  or with another address. The link sends a ping to that place, a *challenge*. Nothing changes
  before the pong to the challenge has come.
- Data and answers from elsewhere are refused.
- An envelope of model ``aead`` names the life of its host. Only the life whose pong has brought
  back a current stamp is believed (``confirmation``). A ping of another life is a reason to ask.

``docs/security.md`` has this table. The first row that fits decides.
"""

from __future__ import annotations

import enum
from ipaddress import IPv4Address, ip_address
from itertools import product
from typing import TYPE_CHECKING, Final, NamedTuple, Never

from knet_trio._core.stamps import Place
from knet_trio.errors import DropCause


class Feature(enum.Enum):
    """A property of a situation that decides about a packet. Members are compared by identity."""

    # The hash of enums is a Python function, which each packet would call seven times.
    if TYPE_CHECKING:

        def __hash__(self) -> int: ...
    else:
        __hash__ = object.__hash__


class PacketKind(Feature):
    """The kind of a packet."""

    DATA = "data"
    PING = "ping"
    PONG = "pong"
    PROBE = "path MTU probe"
    REPLY = "path MTU reply"


class LinkKind(Feature):
    """The kind of a link: the program or the peer gives the address it leads to."""

    STATIC = "static"
    DYNAMIC = "dynamic"


class LinkPhase(Feature):
    """The phase of a link."""

    DISABLED = "disabled"
    SILENT = "down"
    ANSWERED = "down, with pongs counted"
    UP = "up"


class Origin(Feature):
    """The source of a packet, as seen from its link."""

    PEER = "the address the link leads to"
    SIBLING = "the address of another link of its host that is up"
    ELSEWHERE = "elsewhere"
    REJECTED = "an address that the access list rejects"
    IMPOSSIBLE = "an address that no peer has"


class Action(enum.Enum):
    """The handling of a packet that is not refused."""

    ACT = "is taken"
    ASK = "a ping goes to the address the link leads to, and then a pong; nothing else changes"
    ANSWER = "is answered to the address the link leads to; changes nothing"
    GREET = "a pong goes there, and a ping with a stamp for that place"
    CHALLENGE = "a ping goes there, with a stamp for that place"
    CHECK = "is taken if its stamp was sent there; else refused (`unexpected_pong`)"
    FOLLOW = (
        "if its stamp was sent there, the link leads there from now on;"
        " else refused (`unknown_address`)"
    )


class Situation(NamedTuple):
    """All that decides about a packet.

    Attributes:
        packet: The kind of the packet.
        link: The kind of the link.
        phase: The phase of the link.
        reachable: True if the host can be reached over any link.
        origin: The source of the packet.
        believed: True if the packet was sealed in the confirmed life of the host. Only envelopes of
            model ``aead`` name a life; all other packets are believed.
    """

    packet: PacketKind
    link: LinkKind
    phase: LinkPhase
    reachable: bool
    origin: Origin
    believed: bool = True


class Rule(NamedTuple):
    """A row of the table. It fits if all six sets fit; an empty set fits everything.

    Attributes:
        packets: The kinds of packet that it fits.
        links: The kinds of link that it fits.
        phases: The phases of the link that it fits.
        reachable: The values of ``Situation.reachable`` that it fits.
        origins: The sources that it fits.
        believed: The values of ``Situation.believed`` that it fits.
        verdict: The handling of the packet, or the cause under which its drop is counted.
    """

    packets: frozenset[PacketKind]
    links: frozenset[LinkKind]
    phases: frozenset[LinkPhase]
    reachable: frozenset[bool]
    origins: frozenset[Origin]
    believed: frozenset[bool]
    verdict: Action | DropCause

    def fits(self, situation: Situation) -> bool:
        """Return whether the rule fits ``situation``."""
        return (
            (not self.packets or situation.packet in self.packets)
            and (not self.links or situation.link in self.links)
            and (not self.phases or situation.phase in self.phases)
            and (not self.reachable or situation.reachable in self.reachable)
            and (not self.origins or situation.origin in self.origins)
            and (not self.believed or situation.believed in self.believed)
        )


_ANY: Final[frozenset[Never]] = frozenset()

_DATA: Final = frozenset({PacketKind.DATA})
_PING: Final = frozenset({PacketKind.PING})
_PONG: Final = frozenset({PacketKind.PONG})
_PROBE: Final = frozenset({PacketKind.PROBE})
_REPLY: Final = frozenset({PacketKind.REPLY})
# Packets that are taken as they are, and prove nothing.
_TAKEN: Final = frozenset({PacketKind.DATA, PacketKind.PROBE, PacketKind.REPLY})

_STATIC: Final = frozenset({LinkKind.STATIC})
_DYNAMIC: Final = frozenset({LinkKind.DYNAMIC})

_DISABLED: Final = frozenset({LinkPhase.DISABLED})
_SILENT: Final = frozenset({LinkPhase.SILENT})
_DOWN: Final = frozenset({LinkPhase.SILENT, LinkPhase.ANSWERED})
_UP: Final = frozenset({LinkPhase.UP})

_LOST: Final = frozenset({False})

_NOWHERE: Final = frozenset({Origin.IMPOSSIBLE})
_REJECTED: Final = frozenset({Origin.REJECTED})
_PEER: Final = frozenset({Origin.PEER})
_ITS_HOST: Final = frozenset({Origin.PEER, Origin.SIBLING})

_OTHER: Final = frozenset({False})

# fmt: off
RULES: Final = (
    #    packet  link      it is      host       from       its life  verdict
    Rule(_ANY,   _ANY,     _ANY,      _ANY,      _NOWHERE,  _ANY,     DropCause.IMPOSSIBLE_SOURCE),
    Rule(_ANY,   _ANY,     _ANY,      _ANY,      _REJECTED, _ANY,     DropCause.ACCESS_LIST),
    # No answer, so that the peer takes its end of the link down too and uses another link.
    Rule(_ANY,   _ANY,     _DISABLED, _ANY,      _ANY,      _ANY,     DropCause.LINK_DISABLED),
    # The packet may be a recording until that life has answered a ping. A ping is answered, so that
    # the peer finds out that this host is there and asks it in turn.
    Rule(_PING,  _STATIC,  _ANY,      _ANY,      _ANY,      _OTHER,   Action.ASK),
    Rule(_PING,  _DYNAMIC, _ANY,      _ANY,      _PEER,     _OTHER,   Action.ASK),
    Rule(_TAKEN, _ANY,     _ANY,      _ANY,      _ANY,      _OTHER,   DropCause.UNCONFIRMED),
    # A peer that has begun to answer may have its end of the link up already: its first messages
    # must not be lost. Also, a link that is down here may still be up there.
    Rule(_DATA,  _ANY,     _SILENT,   _LOST,     _PEER,     _ANY,     DropCause.PEER_UNREACHABLE),
    Rule(_DATA,  _ANY,     _ANY,      _ANY,      _PEER,     _ANY,     Action.ACT),
    Rule(_PING,  _ANY,     _ANY,      _ANY,      _PEER,     _ANY,     Action.ACT),
    # Access lists do not compare ports; without access lists only the link's own address counts.
    Rule(_PING,  _STATIC,  _ANY,      _ANY,      _ANY,      _ANY,     Action.ANSWER),
    # While the link is down, the peer waits for a pong to find out that this host is there.
    Rule(_PING,  _DYNAMIC, _DOWN,     _ANY,      _ANY,      _ANY,     Action.GREET),
    Rule(_PING,  _DYNAMIC, _UP,       _ANY,      _ANY,      _ANY,     Action.CHALLENGE),
    Rule(_PONG,  _ANY,     _ANY,      _ANY,      _PEER,     _ANY,     Action.CHECK),
    Rule(_PONG,  _DYNAMIC, _ANY,      _ANY,      _ANY,      _ANY,     Action.FOLLOW),
    Rule(_PROBE, _ANY,     _ANY,      _ANY,      _PEER,     _ANY,     Action.ACT),
    Rule(_PROBE, _STATIC,  _ANY,      _ANY,      _ANY,      _ANY,     Action.ANSWER),
    # The next libknet picks the link to reply on by address, without the port. The number that was
    # drawn for the probe shows that a reply is real.
    Rule(_REPLY, _ANY,     _ANY,      _ANY,      _ITS_HOST, _ANY,     Action.ACT),
    Rule(_ANY,   _ANY,     _ANY,      _ANY,      _ANY,      _ANY,     DropCause.UNKNOWN_ADDRESS),
)
# fmt: on

VERDICTS: Final[dict[Situation, Action | DropCause]] = {
    situation: next(rule.verdict for rule in RULES if rule.fits(situation))
    for situation in map(
        Situation._make,
        product(PacketKind, LinkKind, LinkPhase, (False, True), Origin, (False, True)),
    )
}
"""The verdict in each situation."""

_BROADCAST: Final = IPv4Address("255.255.255.255")


def is_possible(source: Place) -> bool:
    """Return whether a host can have the address ``source``.

    No host sends from port 0, or from a multicast or broadcast address. An answer to such an
    address would go to many hosts.
    """
    host, port = source
    if not port:
        return False
    ip = ip_address(host.partition("%")[0])
    return not (ip.is_multicast or ip.is_unspecified or ip == _BROADCAST)
