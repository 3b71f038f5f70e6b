"""SCTP, as libknet 1.x has it: an association each way between two hosts.

Each host listens at the local address of its links, and connects to the peer's from a port that
the kernel chooses. It sends over what it has connected, and receives over what the peer has. A
link without ``dst`` connects nowhere: it sends over what the peer of the other end has connected.
So what a listener accepts is recognised by its address alone.

This module listens and accepts; ``sctp_connecting`` connects, ``sctp_association`` sends and
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
"""Associations that are accepted in one turn."""
TRIED_AT_ONCE: Final = 4
"""Attempts to connect that a listener's links begin in one round of the loop: after a cut all of
them may be due at once."""
MOST_OF_AN_ADDRESS: Final = 32
"""Associations that one address may have with a listener; with more one is broken, by preference
one over which nothing of use has come."""
MOST_ACCEPTED: Final = 4096
"""Associations that all addresses together may have with a listener."""
# Seconds until it is tried again to accept what the system had no descriptor or memory for.
_NO_DESCRIPTOR: Final = 0.1
_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listen(Protocol):
    """Opens the listening sockets of a system, as ``listen_in_kernel`` does."""

    def __call__(self, local: Address, mark: int | None, *, privileged: bool) -> ListeningSocket:
        """Listen at ``local``. Raises TransportError if that cannot be."""
        ...


class SctpTransport(Transport):
    """SCTP over IPv4 or IPv6.

    Args:
        listen: Opens listening sockets, by default those of the kernel.
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
    """A listening socket: accepts what peers connect, and makes the connections of its links.

    Args:
        sock: The socket.
        mark: The DSCP of its packets, None for those without priority.
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
        # By their addresses, the oldest first.
        self._accepted: dict[Address, AcceptedAssociation] = {}
        self._by_host: dict[str, dict[AcceptedAssociation, None]] = {}

    def use_connections(
        self, accept: Callable[[PeerEndpoint], None], interval: float, *, connects: bool
    ) -> None:
        """Hand over what peers connect, and connect every ``interval`` seconds."""
        self._accept, self._interval, self._connects = accept, interval, connects

    def set_reconnect_interval(self, interval: float) -> None:
        """Have later connections be tried every ``interval`` seconds."""
        self._interval = interval

    async def receive(self) -> Arrivals:
        """Accept what peers connect; nothing else comes to a listener, so this never returns."""
        while True:
            if self._closed:
                await trio.lowlevel.checkpoint()
                raise trio.ClosedResourceError("the endpoint was closed")
            await self._sock.wait_acceptable()
            if not self._accept_some():
                await trio.sleep(_NO_DESCRIPTOR)

    def _accept_some(self) -> bool:
        """Accept what waits, up to a bound; return False if the system has no room for it."""
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
            # One that is refused takes no room from others.
            if not association.ended:
                self._remember(association)
        return True

    def _remember(self, association: AcceptedAssociation) -> None:
        """Remember an association, and break the oldest where there are too many."""
        peer = association.peer
        siblings = self._by_host.setdefault(peer.host, {})
        if len(siblings) >= MOST_OF_AN_ADDRESS:
            _find_least(siblings).reset("its address has many newer ones")
        if len(self._accepted) >= MOST_ACCEPTED:
            oldest = islice(self._accepted.values(), MOST_OF_AN_ADDRESS)
            _find_least(tuple(oldest)).reset("there are too many")
        self._accepted[peer] = association
        self._by_host.setdefault(peer.host, {})[association] = None

    def _forget(self, association: AcceptedAssociation) -> None:
        """Forget an association that has ended."""
        peer = association.peer
        # A peer may have the same port again.
        if self._accepted.get(peer) is association:
            del self._accepted[peer]
        siblings = self._by_host.get(peer.host, {})
        siblings.pop(association, None)
        if not siblings:
            self._by_host.pop(peer.host, None)

    def send_nowait(self, datagrams: Sequence[bytes], destination: Address) -> int:
        """Send over what the peer at ``destination`` has connected."""
        association = self._accepted.get(destination)
        if association is None:
            raise OSError(errno.ENOTCONN, f"{destination} has made no association")
        return association.send_nowait(datagrams, destination)

    async def wait_sendable(self) -> None:
        """Return, for a listener has no send buffer."""
        await trio.lowlevel.checkpoint()

    def connect(self, destination: Address) -> Endpoint | None:
        """Connect to ``destination``, or return what the peer there has connected."""
        if not self._connects:
            return self._accepted.get(destination)
        return ConnectingAssociation(
            self._sock, destination, self._interval, self._mark, self._mended, self._pace
        )

    def _mended(self, peer: Address, since: float) -> None:
        """Break what a peer has made before the way from it was cut, and not used since.

        Its system tries again after twice as long each time, up to a minute. Told that the
        association is no more, the peer makes a new one.
        """
        for association in tuple(self._by_host.get(peer.host, ())):
            if association.heard_at < since:
                association.reset("the way was cut, and its peer waits to try again")

    def troubles(self) -> list[PathTrouble]:
        """Return nothing: nothing is sent over a listener."""
        return []

    def set_dscp(self, dscp: int) -> None:
        """Set the type of service of what is accepted or connected later."""
        self._mark = dscp
        try:
            self._sock.set_dscp(dscp)
        except OSError as error:
            raise TransportError.from_os_error(
                f"cannot mark packets of {self.local}", error
            ) from error

    def close(self) -> None:
        """Listen no more. Whoever took the associations closes them."""
        if not self._closed:
            self._closed = True
            self._sock.close()


def _find_least(associations: Collection[AcceptedAssociation]) -> AcceptedAssociation:
    """Return one that is of the least use: the oldest of those that are of none, or of all."""
    for association in associations:
        if not (association.has_spoken and association.is_welcome):
            return association
    return next(iter(associations))
