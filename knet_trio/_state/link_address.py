"""The destination of a link, and the addresses that its peer may have moved to."""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import NamedTuple

from knet_trio._core.acl import AccessList, AclEntry
from knet_trio._core.admission import LinkKind
from knet_trio._core.challenges import ChallengeLimit
from knet_trio._core.freshness import SeenPings
from knet_trio._core.onwire import Ping
from knet_trio.address import ANY_PORT, Address
from knet_trio.errors import DropCause


class Challenged(NamedTuple):
    """An address to which a ping was sent, to find out if the peer is there.

    Attributes:
        place: The address.
        ping: The last ping that came from there.
        greeted: True if that ping was answered at once.
    """

    place: Address
    ping: Ping
    greeted: bool


class HeardElsewhere(NamedTuple):
    """A ping that came from another address than the destination.

    Attributes:
        place: The address that it came from.
        at: The time, in seconds on Trio's clock.
    """

    place: Address
    at: float


class LinkAddress:
    """The address at the other end of a link, fixed or learned.

    Args:
        dst: The fixed address, None if it is to be learned.
        any_port: True if packets from a fixed address come from an unknown port, as with
            connections.

    Attributes:
        acl: The access list: the addresses from which packets are accepted.
        kind: Static if the address is fixed, dynamic if it is learned.
        destination: The address, None while a dynamic link has not learned it.
        heard: The last ping of the peer that came from another address; None after a ping from the
            destination or when the link went up.
        heard_peer_at: When the last ping of the peer came from the destination, in seconds on
            Trio's clock.
    """

    def __init__(self, dst: Address | None, *, any_port: bool = False) -> None:
        self.acl: AccessList = AccessList()
        if dst is not None:
            self.acl.append(AclEntry.address(dst.host))
        self.kind = LinkKind.DYNAMIC if dst is None else LinkKind.STATIC
        self.destination = dst
        self._any_port = any_port and dst is not None
        self.heard: HeardElsewhere | None = None
        self.heard_peer_at: float = -math.inf
        # The address from which the peer has answered last.
        self._proven: Address | None = None
        self._limit = ChallengeLimit()
        self._challenged: Challenged | None = None
        # Pings of the peer that may reset its numbers, and pings from other addresses: a flood of
        # the latter must not displace the former.
        self._seen_pings = SeenPings()
        self._seen_elsewhere = SeenPings()
        # Pings from the proven address: copies from other addresses must not count against them.
        self._seen_proven = SeenPings()

    @property
    def dynamic(self) -> bool:
        """True if the address is learned from the peer."""
        return self.kind is LinkKind.DYNAMIC

    @property
    def source(self) -> Address | None:
        """The address that packets of the peer come from, None while it is not known."""
        return None if self.destination is None else self.name_source(self.destination)

    def name_source(self, place: Address) -> Address:
        """Return the address that packets of the peer come from if the peer is at ``place``."""
        if not self._any_port or place != self.destination:
            return place
        return place._replace(port=ANY_PORT)

    @property
    def challenged(self) -> Challenged | None:
        """The address that was asked last and has not answered yet, None if there is none."""
        return self._challenged

    @property
    def proven(self) -> Address | None:
        """The address from which the peer of a dynamic link answered last, None if it never did."""
        return self._proven

    def hear(self, place: Address, now: float) -> None:
        """Note that a ping of the peer came from ``place``, which is not the destination."""
        self.heard = HeardElsewhere(place, now)

    def hear_peer(self, now: float) -> None:
        """Note that a ping of the peer came from the destination."""
        self.heard = None
        self.heard_peer_at = now

    def forget_heard(self) -> None:
        """Forget pings from other addresses: the peer has answered from the destination."""
        self.heard = None

    def forget(self) -> None:
        """Forget the address if it was learned."""
        if self.dynamic:
            self.destination = self._challenged = None

    def is_copy(self, ping: Ping) -> bool:
        """Return whether ``ping`` is a copy of an earlier one, and could reset the peer's numbers.

        Return False for other pings: a copy of them has no effect.
        """
        may_be_restart = not ping.timed or ping.seq == 0
        return may_be_restart and self.is_seen(ping.time)

    def is_seen(self, stamp: bytes) -> bool:
        """Return whether a ping with ``stamp``, which may reset numbers, came before."""
        return self._seen_pings.is_copy(stamp)

    def find_fault(
        self,
        place: Address,
        ping: Ping,
        now: float,
        *,
        anywhere: bool = True,
        highest: bool = False,
    ) -> DropCause | None:
        """Return why no ping is sent to ``place``, where ``ping`` came from, to find the peer.

        A copy of an earlier ping from another address is not answered, and not counted in the
        limit.

        Args:
            place: The address.
            ping: The ping.
            now: The time, in seconds.
            anywhere: True if a ping that came from another address before is a copy. False if the
                envelope reveals copies: then the peer is asked even if somebody else was quicker
                with its ping.
            highest: True if the envelope shows that it is no recording of an earlier ping from
                elsewhere: then recordings do not use up its share of the limit.

        Returns:
            None if a ping is to be sent now; it is counted in the limit.
        """
        proven = place == self._proven
        seen = self._seen_proven if proven else self._seen_elsewhere
        stamp = ping.time
        if not anywhere:
            stamp = blake2b(stamp + repr(place).encode(), digest_size=len(stamp)).digest()
        if stamp in seen:
            return DropCause.REPLAYED
        if not self._limit.admits(place, now, proven=proven, highest=highest):
            return DropCause.RATE_LIMITED
        seen.add(stamp)
        return None

    def challenge(self, place: Address, ping: Ping, *, greeted: bool) -> None:
        """Remember ``ping``, which came from ``place``, until the peer has answered from there."""
        self._challenged = Challenged(place, ping, greeted)

    def follow(self, place: Address) -> Challenged | None:
        """Use ``place`` as destination from now on, since the peer has answered from there.

        Returns:
            The ping from the place and its answer; None if another place was asked since.
        """
        self.destination = self._proven = place
        challenged, self._challenged = self._challenged, None
        if challenged is None or challenged.place != place:
            return None
        return challenged
