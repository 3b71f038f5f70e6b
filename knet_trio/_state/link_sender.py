"""How one link sends: over which socket, what that took, and what the system refused."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from knet_trio._core.coupled import size_of
from knet_trio._state.context import Context
from knet_trio._state.counters import Kind, LinkCounters
from knet_trio._state.link_address import LinkAddress
from knet_trio._state.send_socket import FIRST_RETRY, LAST_POLL, LAST_RETRY, SendSocket
from knet_trio.abc import Endpoint
from knet_trio.address import Address

# What the system says to those who send over a connection that is lost.
_LOST: Final = frozenset(
    {
        errno.EPIPE,
        errno.ENOTCONN,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ESHUTDOWN,
        errno.ETIMEDOUT,
    }
)


class Refusal(NamedTuple):
    """The error with which the system refused to send datagram number ``place``."""

    place: int
    error: OSError


class SendResult(NamedTuple):
    """What became of datagrams.

    Attributes:
        done: How many of them, from the first, were taken or refused. The others found no room.
        refusals: Those of them that the system refused.
    """

    done: int
    refusals: Sequence[Refusal]


class LinkSender:
    """The sending part of a link.

    A link shares a socket with others at first. When the buffer of that is full because of what
    they send, the link opens a socket of its own, if the transport has such.

    Args:
        refused: Called with the error when the system refuses to send.
        too_large: Called when it refuses data for its size.
        rerouted: Called when the link sends over another socket.
        has_connections: Whether it has to connect to its peer first.

    Attributes:
        send_socket: The socket in use.
        shared: The socket that it shares.
    """

    def __init__(
        self,
        context: Context,
        host_id: int,
        send_socket: SendSocket,
        address: LinkAddress,
        counters: LinkCounters,
        *,
        refused: Callable[[OSError], None],
        too_large: Callable[[], None],
        rerouted: Callable[[], None],
        has_connections: bool,
    ) -> None:
        self.send_socket: SendSocket = send_socket
        self.shared: SendSocket = send_socket
        self._context = context
        self._host_id = host_id
        self._address = address
        self._counters = counters
        self._refused = refused
        self._too_large = too_large
        self._rerouted = rerouted
        self._has_connections = has_connections
        # Whether a queue behind the socket was full, and how long to wait before the next try.
        self._no_buffers = False
        self._delay = FIRST_RETRY
        self._blocked_at = -math.inf
        # Where a socket of its own could not be had.
        self._unconnectable: Address | None = None

    @property
    def fault(self) -> str | None:
        """Why nothing can be sent while there is no connection, None if something can."""
        return self.send_socket.endpoint.fault

    @property
    def peer_connected(self) -> bool | None:
        """Whether the peer has made a connection to this host, None if there are none to be made.

        None too for a link that leads nowhere.
        """
        destination = self._address.destination
        if not self._has_connections or destination is None:
            return None
        return self._context.connections.is_connected_from(self.shared, destination.host)

    def is_lost(self, error: OSError) -> bool:
        """Return whether ``error`` says no more than that the connection of the link is lost."""
        has_own = self._has_connections and self.send_socket is not self.shared
        return has_own and error.errno in _LOST

    def connect(self) -> None:
        """Connect to where the link leads, if that has to be done first."""
        destination = self._address.destination
        if not self._has_connections or destination is None:
            return
        own = self._context.connections.connect(self.shared, destination)
        if own is not None:
            self.send_socket = own
            self._rerouted()

    def reset(self, reason: str) -> None:
        """Break the connection, which is of no use for that reason, and make a new one."""
        if self._has_connections:
            self.send_socket.endpoint.reset(reason)

    @property
    def drained(self) -> bool:
        """Whether all that has come to its sockets has been worked on."""
        return all(endpoint.drained for endpoint in self.endpoints)

    @property
    def endpoints(self) -> list[Endpoint]:
        """The sockets that it has sent through."""
        return list(dict.fromkeys((self.shared.endpoint, self.send_socket.endpoint)))

    def flows(self, since: float) -> bool:
        """Return whether its way out is at most half full, and has not been full after ``since``.

        ``since`` is a time in seconds on Trio's clock.
        """
        if self._blocked_at > since:
            return False
        if self.send_socket.endpoint.backlog < 0.5:
            return True
        # What fills a shared socket may all be for another peer, which takes nothing.
        destination = self._address.destination
        return destination is not None and self._open_own(destination)

    def send_data(self, datagrams: Sequence[bytes], *, in_order: bool = True) -> SendResult:
        """Send datagrams of data, as many as there is room for.

        Args:
            datagrams: What to send.
            in_order: Whether to stop behind one that is too large for the path: in smaller
                fragments it may go before the others.
        """
        destination = self._address.destination
        counters = self._counters
        if destination is None:
            # It went down meanwhile and forgot where its peer is.
            nowhere = OSError(errno.EDESTADDRREQ, os.strerror(errno.EDESTADDRREQ))
            return SendResult(len(datagrams), [Refusal(i, nowhere) for i in range(len(datagrams))])
        refusals: list[Refusal] = []
        done = 0
        while not self._no_buffers:
            if self.send_socket.full and not self._go_alone(destination):
                break
            rest = datagrams[done:] if done else datagrams
            try:
                taken = self.send_socket.endpoint.send_nowait(rest, destination)
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    self._wait_for_buffers()
                    break
                counters.failed(Kind.DATA, len(rest[0]))
                refusals.append(Refusal(done, error))
                self._refused(error)
                done += 1
                if error.errno == errno.EMSGSIZE:
                    # The path has become narrower than the last search found it.
                    self._too_large()
                    if in_order:
                        return SendResult(done, refusals)
            else:
                if taken:
                    self._delay = FIRST_RETRY
                    counters.sent(Kind.DATA, taken, size_of(rest, taken))
                done += taken
                if not taken and not self._go_alone(destination):
                    break
            if done == len(datagrams):
                return SendResult(done, refusals)
        counters.delayed(Kind.DATA, len(datagrams) - done)
        return SendResult(done, refusals)

    def send_control(self, kind: Kind, datagram: bytes, destination: Address) -> OSError | None:
        """Send a control packet. One that finds no room is lost: the next one comes anyway.

        Returns:
            The error with which the system refused it; EAGAIN or ENOBUFS if it found no room; None
            if it was taken.
        """
        counters = self._counters
        # A ping may go elsewhere, to ask whether the peer is there, which says nothing of the link.
        is_its_own = destination == self._address.destination
        endpoint = self.send_socket.endpoint
        if not is_its_own and self._has_connections:
            # Over what the peer has connected there, which is another connection.
            endpoint = self.shared.endpoint
        elif endpoint.fault is not None:
            # Nobody has refused anything.
            return OSError(errno.ENOTCONN, endpoint.fault)
        try:
            taken = endpoint.send_urgent_nowait(datagram, destination)
            if not taken and is_its_own and self._go_alone(destination):
                taken = self.send_socket.endpoint.send_urgent_nowait(datagram, destination)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                counters.delayed(kind, 1)
                return error
            # How the search for the path MTU finds out what the interface takes, and no trouble.
            if kind is not Kind.PMTU or error.errno != errno.EMSGSIZE:
                counters.failed(kind, len(datagram))
            if error.errno != errno.EMSGSIZE and is_its_own:
                self._refused(error)
            return error
        if taken:
            counters.sent(kind, 1, len(datagram))
            return None
        counters.delayed(kind, 1)
        return BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def control_failed(self, kind: Kind, size: int, error: OSError) -> OSError:
        """Count a control packet of ``size`` bytes that could not be sealed, and return why."""
        self._counters.failed(kind, size)
        self._refused(error)
        return error

    def wait_for_room(self) -> None:
        """Wake the lane of the host when the link may have room again."""
        # A queue that was full behind the socket is tried again by a timer that runs already.
        if self.send_socket.full:
            self.send_socket.wait(self._host_id)

    def moved(self) -> None:
        """Send to another address, or to none: a socket connected to the old one is closed."""
        self._disconnect()
        self.connect()

    def _disconnect(self) -> None:
        self._unconnectable = None
        if self.send_socket is not self.shared:
            own, self.send_socket = self.send_socket, self.shared
            self._context.connections.disconnect(own)

    def close(self) -> None:
        """Stop sending: the link is being removed."""
        self._context.buffers.forget(self._try_again)
        self._disconnect()

    def _go_alone(self, destination: Address) -> bool:
        """Open a socket for this link, if it found one full that others share.

        Returns:
            Whether it is worth trying again at once.
        """
        if self._open_own(destination):
            return True
        self.send_socket.mark_full()
        self._blocked_at = self._context.now()
        # The system speaks of room when half of the buffer is free. Until then others that are no
        # faster would be far ahead, so a buffer that does empty is filled up meanwhile. Of one that
        # is for a single peer it speaks as soon as there is any.
        if self._delay <= LAST_POLL and not self._has_connections:
            self._retry_later()
        return False

    def _open_own(self, destination: Address) -> bool:
        """Open a socket for this link, if it shares one with others; return whether it was."""
        send_socket = self.send_socket
        if (
            send_socket is not self.shared
            or send_socket.users < 2
            or destination == self._unconnectable
        ):
            return False
        own = self._context.connections.connect(send_socket, destination)
        if own is None:
            self._unconnectable = destination
            return False
        self.send_socket = own
        self._rerouted()
        return True

    def _wait_for_buffers(self) -> None:
        self._no_buffers = True
        self._blocked_at = self._context.now()
        self._retry_later()

    def _retry_later(self) -> None:
        context = self._context
        context.buffers.wait(self._host_id, self._try_again, context.now(), self._delay)
        self._delay = min(2 * self._delay, LAST_RETRY)

    def _try_again(self) -> None:
        self._no_buffers = False
        self.send_socket.full = False
