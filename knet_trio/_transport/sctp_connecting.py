"""The association that this host makes for a link, and makes again whenever it is lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final

import trio

from knet_trio._core.connection import Connector, ConnectPhase
from knet_trio._transport.sctp_association import Association
from knet_trio._transport.sctp_system import AssociationSocket, ListeningSocket
from knet_trio.abc import ConnectionChange
from knet_trio.address import ANY_PORT, Address

# The seconds without an answer after which the path to a peer counts as cut.
_CUT: Final = 1.0
# The errors of an attempt that the peer has not answered.
_UNANSWERED: Final = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH})


class ConnectingAssociation(Association):
    """The association that this host makes with the peer of a link.

    Args:
        listener: The listening socket, whose address the association comes from.
        peer: The address of the peer.
        interval: The seconds from one attempt to the next.
        mark: The DSCP of its packets; None without high priority.
        mended: Called when the peer has accepted after a cut, with the peer and when the cut began.
        pace: The limit on how many attempts begin at once, shared with other associations.
    """

    def __init__(
        self,
        listener: ListeningSocket,
        peer: Address,
        interval: float,
        mark: int | None,
        mended: Callable[[Address, float], None],
        pace: trio.CapacityLimiter,
    ) -> None:
        source = peer._replace(port=ANY_PORT)
        super().__init__(listener.local, peer, source, can_watch=listener.can_watch)
        self.fault = f"{peer} has not answered yet"
        self._listener = listener
        self._mark = mark
        self._mended = mended
        self._pace = pace
        self._connector = Connector(interval)
        self._attempt: AssociationSocket | None = None
        # When the first attempt began that the peer did not answer, not even by a refusal.
        self._unanswered_since: float | None = None

    async def _wait_connected(self) -> None:
        attempt = self._attempt
        if attempt is None:
            deadline = self._connector.deadline
            if trio.current_time() < deadline:
                with trio.move_on_at(deadline):
                    await self._changed.wait()
                return
            async with self._pace:
                # The association may have been closed meanwhile, or the interval changed.
                if not self._closed and trio.current_time() >= self._connector.deadline:
                    self._begin()
            return
        await attempt.wait_writable()
        if self._attempt is not attempt:
            return
        number = attempt.find_error()
        if number:
            if number not in _UNANSWERED:
                self._unanswered_since = None
            self._break(f"cannot connect to {self.peer}: {os.strerror(number)}", number)
            return
        self._attempt = None
        self._connector.taken()
        since, self._unanswered_since = self._unanswered_since, None
        if since is not None and trio.current_time() - since > _CUT:
            self._mended(self.peer, since)
        self._use(attempt)
        reason = f"the peer at {self.peer} has accepted an association"
        self._changes.append(ConnectionChange(self.peer, True, reason))

    def _begin(self) -> None:
        """Begin an attempt to connect."""
        self._connector.begin(trio.current_time())
        if self._unanswered_since is None:
            self._unanswered_since = trio.current_time()
        try:
            self._attempt = self._listener.connect(self.peer, self._connector.interval, self._mark)
        except OSError as error:
            number = error.errno or 0
            self._fail(f"cannot connect to {self.peer}: {os.strerror(number)}", number, local=True)

    def _break(self, reason: str, number: int = 0) -> None:
        self._fail(reason, number, local=False)

    def _fail(self, reason: str, number: int, *, local: bool) -> None:
        if self._stop():
            self.fault = reason
            self._changes.append(ConnectionChange(self.peer, False, reason, number, local))

    def _stop(self) -> bool:
        """Give up the association or the attempt; return whether there was one."""
        self._give_up_attempt()
        sock = self._drop()
        if sock is not None:
            sock.abort()
        return self._connector.broken()

    def _give_up_attempt(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.wake()
            attempt.close()

    def set_reconnect_interval(self, interval: float) -> None:
        """Set how often a connection is tried, in seconds."""
        before, self._connector.interval = self._connector.interval, interval
        if self._connector.phase is ConnectPhase.CONNECTING and interval < before:
            # An attempt under way would keep retransmitting at the old interval.
            self._stop()
        self._notify()

    def reset(self, reason: str) -> None:
        """Abort the association, and make a new one."""
        if self._connector.phase is ConnectPhase.CONNECTED:
            self._stop()
            self.fault = reason
            self._changes.clear()

    def set_dscp(self, dscp: int) -> None:
        """Set the DSCP, also of later associations."""
        self._mark = dscp
        if self._attempt is not None:
            self._set_dscp_of(self._attempt, dscp)
        super().set_dscp(dscp)

    def close(self) -> None:
        """Close the association, and connect no more."""
        if self._closed:
            return
        self._give_up_attempt()
        super().close()
