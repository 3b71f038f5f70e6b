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
- An envelope of model ``aead`` tells which life of its host it is from, and only that whose pong
  has brought back a stamp of now is believed (``confirmation``). Of another, a ping is a reason to
  ask.

The table is that of ``docs/security.md``. The first row that fits decides.
"""

from __future__ import annotations

import enum
from ipaddress import IPv4Address, ip_address
from itertools import product
from typing import TYPE_CHECKING, Final, NamedTuple, Never

from knet_trio._core.stamps import Place
from knet_trio.errors import DropCause


class Feature(enum.Enum):
    """Something that decides about a packet. Members are only ever compared by identity."""

    # That of enums is a function in Python, and each packet would take seven calls of it.
    if TYPE_CHECKING:

        def __hash__(self) -> int: ...
    else:
        __hash__ = object.__hash__


class PacketKind(Feature):
    """What a packet is."""

    DATA = "data"
    PING = "ping"
    PONG = "pong"
    PROBE = "path MTU probe"
    REPLY = "path MTU reply"


class LinkKind(Feature):
    """How a link got the address it leads to."""

    STATIC = "static"
    DYNAMIC = "dynamic"


class LinkPhase(Feature):
    """What a link is doing."""

    DISABLED = "disabled"
    SILENT = "down"
    ANSWERED = "down, with pongs counted"
    UP = "up"


class Origin(Feature):
    """Where a packet came from."""

    PEER = "the address the link leads to"
    SIBLING = "the address of another link of its host that is up"
    ELSEWHERE = "elsewhere"
    REJECTED = "an address that the access list rejects"
    IMPOSSIBLE = "an address that no peer has"


class Action(enum.Enum):
    """What happens to a packet that is not refused."""

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
    """What decides about a packet.

    Attributes:
        reachable: Whether the host can be reached, over whichever link.
        believed: Whether the host is known to live the life that the packet was sealed in. Only
            envelopes of model ``aead`` tell a life; packets of all others are believed.
    """

    packet: PacketKind
    link: LinkKind
    phase: LinkPhase
    reachable: bool
    origin: Origin
    believed: bool = True


class Rule(NamedTuple):
    """A row of the table: where all six fit, ``verdict`` holds. An empty set fits everything.

    Attributes:
        verdict: What happens to the packet, or under which cause it is counted and goes no further.
    """

    packets: frozenset[PacketKind]
    links: frozenset[LinkKind]
    phases: frozenset[LinkPhase]
    reachable: frozenset[bool]
    origins: frozenset[Origin]
    believed: frozenset[bool]
    verdict: Action | DropCause

    def fits(self, situation: Situation) -> bool:
        """Return whether it is about ``situation``."""
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
# What is taken as it is, and brings no proof.
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
    # Silence, so that the other end takes its end down too and uses another link.
    Rule(_ANY,   _ANY,     _DISABLED, _ANY,      _ANY,      _ANY,     DropCause.LINK_DISABLED),
    # It may be a recording, as long as nothing of that life has answered. A ping is answered, so
    # that the peer finds out that this host is there, and asks it in turn.
    Rule(_PING,  _STATIC,  _ANY,      _ANY,      _ANY,      _OTHER,   Action.ASK),
    Rule(_PING,  _DYNAMIC, _ANY,      _ANY,      _PEER,     _OTHER,   Action.ASK),
    Rule(_TAKEN, _ANY,     _ANY,      _ANY,      _ANY,      _OTHER,   DropCause.UNCONFIRMED),
    # A peer that has begun to answer may have found this host before this host found it: its first
    # messages are not to be lost for that. And a link may be down here that is still up there.
    Rule(_DATA,  _ANY,     _SILENT,   _LOST,     _PEER,     _ANY,     DropCause.PEER_UNREACHABLE),
    Rule(_DATA,  _ANY,     _ANY,      _ANY,      _PEER,     _ANY,     Action.ACT),
    Rule(_PING,  _ANY,     _ANY,      _ANY,      _PEER,     _ANY,     Action.ACT),
    # Access lists do not compare ports, and without them the link's own address is all there is.
    Rule(_PING,  _STATIC,  _ANY,      _ANY,      _ANY,      _ANY,     Action.ANSWER),
    # A peer that is not reached waits for a pong, by which it finds out that this host is there.
    Rule(_PING,  _DYNAMIC, _DOWN,     _ANY,      _ANY,      _ANY,     Action.GREET),
    Rule(_PING,  _DYNAMIC, _UP,       _ANY,      _ANY,      _ANY,     Action.CHALLENGE),
    Rule(_PONG,  _ANY,     _ANY,      _ANY,      _PEER,     _ANY,     Action.CHECK),
    Rule(_PONG,  _DYNAMIC, _ANY,      _ANY,      _ANY,      _ANY,     Action.FOLLOW),
    Rule(_PROBE, _ANY,     _ANY,      _ANY,      _PEER,     _ANY,     Action.ACT),
    Rule(_PROBE, _STATIC,  _ANY,      _ANY,      _ANY,      _ANY,     Action.ANSWER),
    # The coming libknet finds the link to reply on by address, without the port. That a reply is
    # real is shown by the number that was drawn for its probe.
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
"""What happens in each situation."""

_BROADCAST: Final = IPv4Address("255.255.255.255")


def is_possible(source: Place) -> bool:
    """Return whether somebody can have the address ``source``.

    Nobody sends from port 0, or from a multicast or broadcast address. Who answered such a packet
    would answer to many.
    """
    host, port = source
    if not port:
        return False
    ip = ip_address(host.partition("%")[0])
    return not (ip.is_multicast or ip.is_unspecified or ip == _BROADCAST)
