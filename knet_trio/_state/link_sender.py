"""The sending part of a link: its socket, and the results of sending."""

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

# Errors of sending over a lost connection.
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
    """The result of sending datagrams.

    Attributes:
        done: How many of the first datagrams were sent or refused. The others found no room.
        refusals: The datagrams among them that the system refused.
    """

    done: int
    refusals: Sequence[Refusal]


class LinkSender:
    """The sending part of a link.

    At first a link shares a socket with others. When the buffer of that socket is full because of
    their packets, the link opens its own socket, if the transport allows it.

    Args:
        context: The shared state of the handle.
        host_id: The host at the other end.
        send_socket: The socket that the link shares.
        address: The destination of the link.
        counters: The counters of the link.
        refused: Called with the error when the system refuses to send.
        too_large: Called when the system refuses data because of its size.
        rerouted: Called when the link sends over another socket.
        has_connections: True if the link has to connect to its peer first.

    Attributes:
        send_socket: The socket in use.
        shared: The socket that the link shares.
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
        # True if a queue behind the socket was full; and the wait before the next try, in seconds.
        self._no_buffers = False
        self._delay = FIRST_RETRY
        self._blocked_at = -math.inf
        # The destination for which no own socket could be opened.
        self._unconnectable: Address | None = None

    @property
    def fault(self) -> str | None:
        """Why there is no connection to send over, None if the link can send."""
        return self.send_socket.endpoint.fault

    @property
    def peer_connected(self) -> bool | None:
        """True if the peer has made a connection to this host.

        None for transports without connections, and for a link without a destination.
        """
        destination = self._address.destination
        if not self._has_connections or destination is None:
            return None
        return self._context.connections.is_connected_from(self.shared, destination.host)

    def is_lost(self, error: OSError) -> bool:
        """Return whether ``error`` only means that the connection of the link is lost."""
        has_own = self._has_connections and self.send_socket is not self.shared
        return has_own and error.errno in _LOST

    def connect(self) -> None:
        """Connect to the destination, if the transport needs that."""
        destination = self._address.destination
        if not self._has_connections or destination is None:
            return
        own = self._context.connections.connect(self.shared, destination)
        if own is not None:
            self.send_socket = own
            self._rerouted()

    def reset(self, reason: str) -> None:
        """Close the connection because of ``reason``, and make a new one."""
        if self._has_connections:
            self.send_socket.endpoint.reset(reason)

    @property
    def drained(self) -> bool:
        """True if all packets that have arrived at its sockets were received."""
        return all(endpoint.drained for endpoint in self.endpoints)

    @property
    def endpoints(self) -> list[Endpoint]:
        """The sockets that the link may have sent through."""
        return list(dict.fromkeys((self.shared.endpoint, self.send_socket.endpoint)))

    def flows(self, since: float) -> bool:
        """Return whether the socket is at most half full, and has not been full after ``since``.

        Args:
            since: A time in seconds on Trio's clock.
        """
        if self._blocked_at > since:
            return False
        if self.send_socket.endpoint.backlog < 0.5:
            return True
        # A shared socket may be full of packets for another peer, which takes nothing.
        destination = self._address.destination
        return destination is not None and self._open_own(destination)

    def send_data(self, datagrams: Sequence[bytes], *, in_order: bool = True) -> SendResult:
        """Send datagrams of data, as many as there is room for.

        Args:
            datagrams: The datagrams.
            in_order: Stop after a datagram that is too large for the path, so that its message may
                be sent in smaller fragments before the others.
        """
        destination = self._address.destination
        counters = self._counters
        if destination is None:
            # The link went down meanwhile and forgot the address of its peer.
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
                    # The path takes less than the last search found.
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
        """Send a control packet. A packet that finds no room is lost; the next one follows soon.

        Args:
            kind: The kind of the packet.
            datagram: The packet, in its envelope.
            destination: The address to send it to.

        Returns:
            The error with which the system refused it; EAGAIN or ENOBUFS if it found no room; None
            if it was sent.
        """
        counters = self._counters
        # A ping may go to another address, to find the peer: its errors do not concern the link.
        is_its_own = destination == self._address.destination
        endpoint = self.send_socket.endpoint
        if not is_its_own and self._has_connections:
            # Over the connection that the peer has made from there.
            endpoint = self.shared.endpoint
        elif endpoint.fault is not None:
            # Not a refusal, so it is not counted.
            return OSError(errno.ENOTCONN, endpoint.fault)
        try:
            taken = endpoint.send_urgent_nowait(datagram, destination)
            if not taken and is_its_own and self._go_alone(destination):
                taken = self.send_socket.endpoint.send_urgent_nowait(datagram, destination)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                counters.delayed(kind, 1)
                return error
            # The search for the path MTU finds the interface's MTU this way: not a failure.
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
        """Count a control packet of ``size`` bytes that could not be sealed; return ``error``."""
        self._counters.failed(kind, size)
        self._refused(error)
        return error

    def wait_for_room(self) -> None:
        """Wake the lane of the host when the link may have room again."""
        # A full queue behind the socket is tried again by a timer that already runs.
        if self.send_socket.full:
            self.send_socket.wait(self._host_id)

    def moved(self) -> None:
        """Use the new destination, if any: close the socket connected to the old one."""
        self._disconnect()
        self.connect()

    def _disconnect(self) -> None:
        self._unconnectable = None
        if self.send_socket is not self.shared:
            own, self.send_socket = self.send_socket, self.shared
            self._context.connections.disconnect(own)

    def close(self) -> None:
        """Stop sending, since the link is being removed."""
        self._context.buffers.forget(self._try_again)
        self._disconnect()

    def _go_alone(self, destination: Address) -> bool:
        """Open a socket for this link, after its shared socket was found full.

        Returns:
            True if sending is worth another try at once.
        """
        if self._open_own(destination):
            return True
        self.send_socket.mark_full()
        self._blocked_at = self._context.now()
        # The system reports room when half of the buffer is free. Until then links that are not
        # faster would be far ahead, so a buffer that empties is filled up meanwhile. For a buffer
        # with a single peer the system reports room as soon as there is any.
        if self._delay <= LAST_POLL and not self._has_connections:
            self._retry_later()
        return False

    def _open_own(self, destination: Address) -> bool:
        """Open a socket for this link if it shares one; return whether it was opened."""
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
