"""SCTP as in libknet 1.x: an association each way between two hosts.

Each host listens at the local address of its links, and connects to the peer's address from a port
that the kernel chooses. It sends over the association that it has made, and receives over the one
that the peer has made. A link without ``dst`` makes no association: it sends over the one that its
peer has made. So a listener recognizes an accepted association by the peer's address alone.

This module listens and accepts; ``sctp_connecting`` connects; ``sctp_association`` sends and
receives.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import ClassVar, Final, Protocol

import trio

from knet_trio._core.sizes import SCTP_HEADERS
from knet_trio._transport.sctp_association import AcceptedAssociation
from knet_trio._transport.sctp_connecting import ConnectingAssociation
from knet_trio._transport.sctp_kernel import listen_in_kernel
from knet_trio._transport.sctp_system import AssociationLostError, ListeningSocket
from knet_trio.abc import Arrivals, Endpoint, PathTrouble, PeerEndpoint, Transport
from knet_trio.address import Address
from knet_trio.errors import TransportError

ACCEPTED_AT_ONCE: Final = 8
"""The most associations that are accepted in one turn."""
TRIED_AT_ONCE: Final = 4
"""The most attempts to connect that a listener's links begin in one round of the loop: after a cut
all of them may be due at once."""
MOST_OF_AN_ADDRESS: Final = 32
"""The most associations of one address with a listener. With more, one is broken, preferably one
over which nothing useful has come."""
MOST_ACCEPTED: Final = 4096
"""The most associations of all addresses together with a listener."""
# The seconds until the next attempt to accept, after the system had no descriptor or memory.
_NO_DESCRIPTOR: Final = 0.1
_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listen(Protocol):
    """A function that opens the listening sockets of a system, such as ``listen_in_kernel``."""

    def __call__(self, local: Address, mark: int | None, *, privileged: bool) -> ListeningSocket:
        """Listen at ``local``.

        Raises:
            TransportError: The system refuses.
        """
        ...


class SctpTransport(Transport):
    """SCTP over IPv4 or IPv6.

    Args:
        listen: Opens listening sockets; by default those of the kernel.
    """

    name: ClassVar[str] = "sctp"
    transport_id: ClassVar[int] = 2
    header_size: ClassVar[int] = SCTP_HEADERS
    has_connections: ClassVar[bool] = True

    def __init__(self, listen: Listen = listen_in_kernel) -> None:
        self._listen = listen

    def open_endpoint(
        self, local: Address, *, privileged: bool, high_priority: bool, dscp: int
    ) -> SctpListener:
        """Bind a socket and listen."""
        mark = dscp if high_priority else None
        return SctpListener(self._listen(local, mark, privileged=privileged), mark)


class SctpListener(Endpoint):
    """A listening socket, which accepts peers' associations and makes those of its links.

    Args:
        sock: The socket.
        mark: The DSCP of its packets; None without high priority.
    """

    def __init__(self, sock: ListeningSocket, mark: int | None) -> None:
        self.local = sock.local
        self.small_buffers = sock.small_buffers
        self._sock = sock
        self._mark = mark
        self._closed = False
        self._accept: Callable[[PeerEndpoint], None] = lambda endpoint: endpoint.close()
        self._interval = 1.0
        self._connects = True
        self._pace = trio.CapacityLimiter(TRIED_AT_ONCE)
        # By the addresses of their peers, the oldest first.
        self._accepted: dict[Address, AcceptedAssociation] = {}
        self._by_host: dict[str, dict[AcceptedAssociation, None]] = {}

    def use_connections(
        self, accept: Callable[[PeerEndpoint], None], interval: float, *, connects: bool
    ) -> None:
        """Set who takes accepted associations, and how its links connect.

        Args:
            accept: Called with each association that a peer has made.
            interval: The seconds from one attempt to connect to the next.
            connects: True if links connect; False if they use the associations of their peers.
        """
        self._accept, self._interval, self._connects = accept, interval, connects

    def set_reconnect_interval(self, interval: float) -> None:
        """Set how often later connections are tried, in seconds."""
        self._interval = interval

    async def receive(self) -> Arrivals:
        """Accept the associations of peers. Nothing else comes to a listener: this never returns.

        Raises:
            trio.ClosedResourceError: The endpoint was closed.
        """
        while True:
            if self._closed:
                await trio.lowlevel.checkpoint()
                raise trio.ClosedResourceError("the endpoint was closed")
            await self._sock.wait_acceptable()
            if not self._accept_some():
                await trio.sleep(_NO_DESCRIPTOR)

    def _accept_some(self) -> bool:
        """Accept waiting associations, up to a bound; return False if the system has no room."""
        for _ in range(ACCEPTED_AT_ONCE):
            if self._closed:
                return True
            try:
                sock, peer = self._sock.accept()
            except BlockingIOError:
                return True
            except AssociationLostError:
                continue
            except OSError as error:
                if error.errno in _NO_ROOM:
                    return False
                raise
            association = AcceptedAssociation(
                self.local, peer, sock, self._forget, can_watch=self._sock.can_watch
            )
            self._accept(association)
            # A refused association takes no room from others.
            if not association.ended:
                self._remember(association)
        return True

    def _remember(self, association: AcceptedAssociation) -> None:
        """Remember an association; break another one if there are too many."""
        peer = association.peer
        siblings = self._by_host.setdefault(peer.host, {})
        if len(siblings) >= MOST_OF_AN_ADDRESS:
            _find_least(siblings).reset("its peer has made too many newer associations")
        if len(self._accepted) >= MOST_ACCEPTED:
            oldest = islice(self._accepted.values(), MOST_OF_AN_ADDRESS)
            _find_least(tuple(oldest)).reset("there are too many associations")
        self._accepted[peer] = association
        self._by_host.setdefault(peer.host, {})[association] = None

    def _forget(self, association: AcceptedAssociation) -> None:
        """Forget an association that has ended."""
        peer = association.peer
        # The peer may have made another association from the same port.
        if self._accepted.get(peer) is association:
            del self._accepted[peer]
        siblings = self._by_host.get(peer.host, {})
        siblings.pop(association, None)
        if not siblings:
            self._by_host.pop(peer.host, None)

    def send_nowait(self, datagrams: Sequence[bytes], destination: Address) -> int:
        """Send over the association that the peer at ``destination`` has made."""
        association = self._accepted.get(destination)
        if association is None:
            raise OSError(errno.ENOTCONN, f"{destination} has made no association")
        return association.send_nowait(datagrams, destination)

    async def wait_sendable(self) -> None:
        """Return at once: a listener has no send buffer."""
        await trio.lowlevel.checkpoint()

    def connect(self, destination: Address) -> Endpoint | None:
        """Connect to ``destination``; without ``connects``, return its peer's association."""
        if not self._connects:
            return self._accepted.get(destination)
        return ConnectingAssociation(
            self._sock, destination, self._interval, self._mark, self._mended, self._pace
        )

    def _mended(self, peer: Address, since: float) -> None:
        """Break the peer's associations that have been silent since the path was cut.

        Over them the peer's system retransmits after twice as long each time, up to a minute. Once
        an association is aborted, the peer makes a new one at once.

        Args:
            peer: The peer.
            since: When the cut began, in seconds on Trio's clock.
        """
        for association in tuple(self._by_host.get(peer.host, ())):
            if association.heard_at < since:
                association.reset("the path was cut, and its peer would wait to retransmit")

    def troubles(self) -> list[PathTrouble]:
        """Return an empty list: nothing is sent over a listener."""
        return []

    def set_dscp(self, dscp: int) -> None:
        """Set the DSCP of associations that are accepted or made later."""
        self._mark = dscp
        try:
            self._sock.set_dscp(dscp)
        except OSError as error:
            raise TransportError.from_os_error(
                f"cannot mark packets of {self.local}", error
            ) from error

    def close(self) -> None:
        """Close the listening socket. Accepted associations are closed by those who took them."""
        if not self._closed:
            self._closed = True
            self._sock.close()


def _find_least(associations: Collection[AcceptedAssociation]) -> AcceptedAssociation:
    """Return the oldest association over which nothing useful has come, or else the oldest."""
    for association in associations:
        if not (association.has_spoken and association.is_welcome):
            return association
    return next(iter(associations))
