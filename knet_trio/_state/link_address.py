"""Where a link sends to, and where its peer may have moved to."""

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
    """What is remembered of a place that was asked whether the peer is there.

    Attributes:
        place: The place.
        ping: The ping that came from there last.
        greeted: Whether it was answered when it came.
    """

    place: Address
    ping: Ping
    greeted: bool


class HeardElsewhere(NamedTuple):
    """A ping that came from elsewhere.

    Attributes:
        place: Where it came from.
        at: When, in seconds on Trio's clock.
    """

    place: Address
    at: float


class LinkAddress:
    """The address at the other end of a link, fixed or learned.

    Args:
        dst: The fixed address, None if it is to be learned.
        any_port: Whether packets of a fixed address come from a port that nobody knows before, as
            over connections.

    Attributes:
        acl: The access list: which addresses may speak on the link.
        kind: Whether the address is fixed or learned.
        destination: The address, None while a dynamic link has not learned it.
        heard: The last ping of its peer that came from elsewhere, since one came from there or the
            link went up; None if none did.
        heard_peer_at: When the last ping of its peer came from where it leads, in seconds.
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
        # Where the peer has answered from last.
        self._proven: Address | None = None
        self._limit = ChallengeLimit()
        self._challenged: Challenged | None = None
        # Pings of the peer that may start its numbers afresh, and those from elsewhere: a flood of
        # the latter must not make the former forgotten.
        self._seen_pings = SeenPings()
        self._seen_elsewhere = SeenPings()
        # Those from where the peer has answered from: what others repeat is not held against it.
        self._seen_proven = SeenPings()

    @property
    def dynamic(self) -> bool:
        """Whether the address is learned from the peer."""
        return self.kind is LinkKind.DYNAMIC

    @property
    def source(self) -> Address | None:
        """Where packets of the peer come from, None while that is not known."""
        return None if self.destination is None else self.name_source(self.destination)

    def name_source(self, place: Address) -> Address:
        """Return where packets of the peer come from if it is at ``place``."""
        if not self._any_port or place != self.destination:
            return place
        return place._replace(port=ANY_PORT)

    @property
    def challenged(self) -> Challenged | None:
        """The place that was asked last, while it has not answered."""
        return self._challenged

    @property
    def proven(self) -> Address | None:
        """Where the peer of a dynamic link has answered from last, None if it never has."""
        return self._proven

    def hear(self, place: Address, now: float) -> None:
        """Note that a ping of the peer came from ``place``, which is not where the link leads."""
        self.heard = HeardElsewhere(place, now)

    def hear_peer(self, now: float) -> None:
        """Note that a ping of the peer came from where the link leads."""
        self.heard = None
        self.heard_peer_at = now

    def forget_heard(self) -> None:
        """Forget what came from elsewhere: the peer has answered from where the link leads."""
        self.heard = None

    def forget(self) -> None:
        """Forget the address if it was learned."""
        if self.dynamic:
            self.destination = self._challenged = None

    def is_copy(self, ping: Ping) -> bool:
        """Return whether ``ping`` of the peer came before, and could start its numbers afresh.

        Other pings have no effect that a copy could repeat: for them it is always False.
        """
        may_start_afresh = not ping.timed or ping.seq == 0
        return may_start_afresh and self.is_seen(ping.time)

    def is_seen(self, stamp: bytes) -> bool:
        """Return whether a ping with ``stamp``, that may start numbers afresh, came before."""
        return self._seen_pings.is_copy(stamp)

    def find_fault(
        self, place: Address, ping: Ping, now: float, *, anywhere: bool = True
    ) -> DropCause | None:
        """Return why ``place``, where ``ping`` came from, is not asked whether the peer is there.

        A ping that came from elsewhere before gets no second answer, and takes none from others.

        Args:
            place: The place.
            ping: The ping.
            now: The time, in seconds.
            anywhere: Whether a ping that came from another place is a copy. Where the envelope
                tells copies of what was taken, a peer whose ping somebody else was quicker with is
                asked all the same.

        Returns:
            None if it is to be asked now, which counts.
        """
        proven = place == self._proven
        seen = self._seen_proven if proven else self._seen_elsewhere
        stamp = ping.time
        if not anywhere:
            stamp = blake2b(stamp + repr(place).encode(), digest_size=len(stamp)).digest()
        if stamp in seen:
            return DropCause.REPLAYED
        if not self._limit.admits(place, now, proven=proven):
            return DropCause.RATE_LIMITED
        seen.add(stamp)
        return None

    def challenge(self, place: Address, ping: Ping, *, greeted: bool) -> None:
        """Remember ``ping``, which came from ``place``, until it is known who is there."""
        self._challenged = Challenged(place, ping, greeted)

    def follow(self, place: Address) -> Challenged | None:
        """Lead to ``place`` from now on, since the peer has answered from there.

        Returns:
            What is remembered of the place; None if another one was asked since.
        """
        self.destination = self._proven = place
        challenged, self._challenged = self._challenged, None
        if challenged is None or challenged.place != place:
            return None
        return challenged
