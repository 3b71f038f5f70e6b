"""How one link sends: over which socket, what was taken, and what the system refused."""

from __future__ import annotations

import errno
import math
import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from knet_trio._state.context import Context
from knet_trio._state.counters import Kind, Tally
from knet_trio._state.outlet import FIRST_RETRY, LAST_POLL, LAST_RETRY, Outlet
from knet_trio.address import Address


class Refusal(NamedTuple):
    """The system would not send datagram number ``place``."""

    place: int
    error: OSError


class SendResult(NamedTuple):
    """What became of datagrams.

    Attributes:
        done: How many of them, from the first, are dealt with; the rest found no room.
        refusals: Those of them that the system refused.
    """

    done: int
    refusals: Sequence[Refusal]


class Sender(Protocol):
    """The link, as its sender sees it."""

    @property
    @abstractmethod
    def host_id(self) -> int:
        """The host it leads to."""

    @property
    @abstractmethod
    def destination(self) -> Address | None:
        """Where to send to, None while that is not known."""

    @property
    @abstractmethod
    def tallies(self) -> Sequence[Tally]:
        """What is counted, by the kind of packet."""

    @abstractmethod
    def send_failed(self, error: OSError) -> None:
        """The system refused a datagram, and not for its size."""

    @abstractmethod
    def send_too_large(self) -> None:
        """The system refused a datagram of data for its size."""


class LinkSender:
    """The sending part of a link.

    A link shares a socket with others at first. When the buffer of that is full because of what
    they send, the link opens a socket for itself by ``connect``, if the transport has such.

    Attributes:
        outlet: The socket in use.
        shared: The one that it shares.
    """

    def __init__(
        self,
        context: Context,
        link: Sender,
        outlet: Outlet,
        connect: Callable[[Outlet, Address], Outlet | None],
        disconnect: Callable[[Outlet], None],
    ) -> None:
        self.outlet = self.shared = outlet
        self._context = context
        self._link = link
        self._connect = connect
        self._disconnect = disconnect
        # Whether a queue behind the socket was full, and how long to wait before the next try.
        self._no_buffers = False
        self._delay = FIRST_RETRY
        self._blocked_at = -math.inf
        # Where a socket of its own could not be had.
        self._unconnectable: Address | None = None

    def flows(self, since: float) -> bool:
        """Whether its way out is at most half full, and has not been full after ``since``."""
        return self._blocked_at <= since and self.outlet.endpoint.backlog < 0.5

    def send_data(self, datagrams: Sequence[bytes]) -> SendResult:
        """Send datagrams of data, as many as there is room for."""
        link = self._link
        destination = link.destination
        tally = link.tallies[Kind.DATA]
        if destination is None:
            # It went down meanwhile and forgot where its peer is.
            nowhere = OSError(errno.EDESTADDRREQ, os.strerror(errno.EDESTADDRREQ))
            return SendResult(len(datagrams), [Refusal(i, nowhere) for i in range(len(datagrams))])
        refusals: list[Refusal] = []
        done = 0
        while not self._no_buffers:
            if self.outlet.full and not self._go_alone(destination):
                break
            rest = datagrams[done:] if done else datagrams
            try:
                taken = self.outlet.endpoint.send_nowait(rest, destination)
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    self._wait_for_buffers()
                    break
                tally.tx_errors += 1
                refusals.append(Refusal(done, error))
                if error.errno == errno.EMSGSIZE:
                    # The path has become narrower than the last search found it.
                    link.send_too_large()
                else:
                    link.send_failed(error)
                done += 1
            else:
                if taken:
                    self._delay = FIRST_RETRY
                tally.tx_packets += taken
                tally.tx_bytes += len(rest[0]) if taken == 1 else sum(map(len, rest[:taken]))
                done += taken
                if not taken and not self._go_alone(destination):
                    break
            if done == len(datagrams):
                return SendResult(done, refusals)
        tally.tx_retries += len(datagrams) - done
        return SendResult(done, refusals)

    def send_control(self, kind: Kind, datagram: bytes, destination: Address) -> OSError | None:
        """Send a control packet, or lose it: the next one comes anyway.

        Returns:
            Why the system refused it, None if it did not.
        """
        tally = self._link.tallies[kind]
        try:
            taken = self.outlet.endpoint.send_nowait((datagram,), destination)
            if not taken and destination == self._link.destination and self._go_alone(destination):
                taken = self.outlet.endpoint.send_nowait((datagram,), destination)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                tally.tx_retries += 1
                return None
            tally.tx_errors += 1
            if error.errno != errno.EMSGSIZE:
                self._link.send_failed(error)
            return error
        if taken:
            tally.tx_packets += 1
            tally.tx_bytes += len(datagram)
        else:
            tally.tx_retries += 1
        return None

    def wait_for_room(self) -> None:
        """Wake the lane of the host when the link may take something again."""
        # A queue that was full behind the socket is tried again by a timer that runs already.
        if self.outlet.full:
            self.outlet.wait(self._link.host_id)

    def moved(self) -> None:
        """The peer is somewhere else, or nowhere: a socket for its old address is of no use."""
        self._unconnectable = None
        if self.outlet is not self.shared:
            own, self.outlet = self.outlet, self.shared
            self._disconnect(own)

    def close(self) -> None:
        """The link is being removed."""
        self._context.buffers.forget(self._try_again)
        self.moved()

    def _go_alone(self, destination: Address) -> bool:
        """There is no room: open a socket for this link if others have filled the one they share.

        Returns:
            Whether it is worth trying again at once.
        """
        outlet = self.outlet
        if outlet is self.shared and outlet.users > 1 and destination != self._unconnectable:
            own = self._connect(outlet, destination)
            if own is not None:
                self.outlet = own
                return True
            self._unconnectable = destination
        outlet.mark_full()
        self._blocked_at = self._context.now()
        # The system speaks of room when half of the buffer is free. Until then others that are no
        # faster would be far ahead, so a buffer that does empty is filled up meanwhile.
        if self._delay <= LAST_POLL:
            self._retry_later()
        return False

    def _wait_for_buffers(self) -> None:
        self._no_buffers = True
        self._blocked_at = self._context.now()
        self._retry_later()

    def _retry_later(self) -> None:
        context = self._context
        context.buffers.wait(self._link.host_id, self._try_again, context.now(), self._delay)
        self._delay = min(2 * self._delay, LAST_RETRY)

    def _try_again(self) -> None:
        self._no_buffers = False
        self.outlet.full = False
