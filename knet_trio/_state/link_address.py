"""Where a link sends to, and from where its packets may come."""

from __future__ import annotations

import secrets
from typing import NamedTuple

from knet_trio._core.acl import AccessList, AclEntry
from knet_trio._core.freshness import SeenPings
from knet_trio._core.onwire import TIME_SIZE, Ping, Pong
from knet_trio.address import Address


class _Move(NamedTuple):
    """A question whether the host has moved.

    Attributes:
        source: The address that ``ping`` came from.
        stamp: What the question carries; the host is there when a pong brings it back from there.
        ping: The ping.
    """

    source: Address
    stamp: bytes
    ping: Ping


class LinkAddress:
    """The address at the other end of a link, fixed or learned.

    Args:
        dst: The fixed address, None if it is to be learned.

    Attributes:
        acl: The access list: which addresses may speak on the link.
        dynamic: Whether the address is learned from the host that is there.
        destination: The address, None while a dynamic link has not learned it.
    """

    def __init__(self, dst: Address | None) -> None:
        self.acl = AccessList()
        if dst is not None:
            self.acl.append(AclEntry.address(dst.host))
        self.dynamic = dst is None
        self.destination = dst
        self._move: _Move | None = None
        self._seen_pings = SeenPings()

    def learn(self, source: Address) -> None:
        """Send to ``source`` from now on."""
        self.destination = source
        self._move = None

    def forget(self) -> None:
        """Forget the address if it was learned."""
        if self.dynamic:
            self.destination = self._move = None

    def is_copy(self, ping: Ping) -> bool:
        """Return whether ``ping`` came before, and could start the numbers of its host afresh.

        Other pings have no effect that a copy could repeat: for them it is always False.
        """
        may_start_afresh = not ping.timed or ping.seq == 0
        return may_start_afresh and self._seen_pings.is_copy(ping.time)

    def ask_moved(self, source: Address, ping: Ping) -> bytes:
        """Return the stamp for a ping to ``source`` that shows whether the host has moved there.

        Anybody could have recorded ``ping`` and sent it from there. The pong to a ping that is sent
        there comes back from there only if the host is there.
        """
        asked = self._move
        if asked is not None and asked.source == source:
            # The pong may take longer than the next ping, which must not make it worthless.
            stamp = asked.stamp
        else:
            stamp = secrets.token_bytes(TIME_SIZE)
        self._move = _Move(source, stamp, ping)
        return stamp

    def find_move(self, source: Address, pong: Pong) -> Ping | None:
        """Return the ping of the host that ``pong`` shows to be at ``source``, else None."""
        move = self._move
        if move is None or move.source != source or move.stamp != pong.time:
            return None
        return move.ping
