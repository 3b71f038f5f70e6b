"""Where a link sends to, and where its peer may have moved to."""

from __future__ import annotations

from typing import NamedTuple

from knet_trio._core.acl import AccessList, AclEntry
from knet_trio._core.admission import LinkKind
from knet_trio._core.challenges import ChallengeLimit
from knet_trio._core.freshness import SeenPings
from knet_trio._core.onwire import Ping
from knet_trio.address import Address


class _Challenged(NamedTuple):
    """The place that was asked last whether the peer is there, and the ping that came from it."""

    place: Address
    ping: Ping


class LinkAddress:
    """The address at the other end of a link, fixed or learned.

    Args:
        dst: The fixed address, None if it is to be learned.

    Attributes:
        acl: The access list: which addresses may speak on the link.
        kind: Whether the address is fixed or learned.
        destination: The address, None while a dynamic link has not learned it.
        challenges: How often a dynamic link may ask another place whether the peer is there.
    """

    def __init__(self, dst: Address | None) -> None:
        self.acl = AccessList()
        if dst is not None:
            self.acl.append(AclEntry.address(dst.host))
        self.kind = LinkKind.DYNAMIC if dst is None else LinkKind.STATIC
        self.destination = dst
        self.challenges = ChallengeLimit()
        self._challenged: _Challenged | None = None
        self._seen_pings = SeenPings()

    @property
    def dynamic(self) -> bool:
        """Whether the address is learned from the peer."""
        return self.kind is LinkKind.DYNAMIC

    def forget(self) -> None:
        """Forget the address if it was learned."""
        if self.dynamic:
            self.destination = self._challenged = None

    def is_copy(self, ping: Ping) -> bool:
        """Return whether ``ping`` came before, and could start the numbers of its host afresh.

        Other pings of the peer have no effect that a copy could repeat: for them it is False.
        """
        may_start_afresh = not ping.timed or ping.seq == 0
        return may_start_afresh and self._seen_pings.is_copy(ping.time)

    def is_known(self, ping: Ping) -> bool:
        """Return whether ``ping``, which came from elsewhere, came before; remember it."""
        return self._seen_pings.is_copy(ping.time)

    def challenge(self, place: Address, ping: Ping) -> None:
        """Remember ``ping``, which came from ``place``, until it is known who is there."""
        self._challenged = _Challenged(place, ping)

    def follow(self, place: Address) -> Ping | None:
        """Lead to ``place`` from now on, since the peer has answered from there.

        Returns:
            The ping by which it showed that it had moved there; None if it is not known any more.
        """
        self.destination = place
        challenged, self._challenged = self._challenged, None
        if challenged is None or challenged.place != place:
            return None
        return challenged.ping
