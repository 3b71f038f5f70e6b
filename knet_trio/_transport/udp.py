"""UDP: one socket for each local address and port, and more for single peers where that helps.

A peer recognizes a link by the exact address and port that its packets come from, so all packets go
out from that address. System calls are made on the plain non-blocking socket, and Trio only waits:
that costs a third of ``trio.socket``'s calls. Many datagrams of one size go in one call if the
kernel can do that (``offload``). This module opens, connects and closes the sockets and sends;
``udp_receiver`` receives.
"""

from __future__ import annotations

import errno
import socket
import sys
import termios
from collections.abc import Sequence
from fcntl import ioctl
from ipaddress import ip_address
from typing import ClassVar, Final

import trio

from knet_trio._core.coupled import joined
from knet_trio._core.parted import Parted, Parts
from knet_trio._core.sizes import UDP_HEADER
from knet_trio._transport import offload, options
from knet_trio._transport.backlog import Backlogs
from knet_trio._transport.errqueue import REPORTED_LATE
from knet_trio._transport.interfaces import GONE, SocketName
from knet_trio._transport.udp_receiver import UdpReceiver
from knet_trio.abc import Transport
from knet_trio.address import Address, socket_address
from knet_trio.errors import TransportError

_MOST_DESTINATIONS: Final = 4096
# After this number of trains in a row were refused, though each of their datagrams was taken alone,
# no more trains are sent.
_MOST_REFUSALS: Final = 3
_backlogs: Final = Backlogs()


class UdpTransport(Transport):
    """Plain UDP over IPv4 or IPv6."""

    name: ClassVar[str] = "udp"
    transport_id: ClassVar[int] = 1
    header_size: ClassVar[int] = UDP_HEADER

    def open_endpoint(
        self, local: Address, *, privileged: bool, high_priority: bool, dscp: int
    ) -> UdpEndpoint:
        """Bind a socket with the options that the protocol needs."""
        doing = f"cannot bind UDP {local}"
        mark = dscp if high_priority else None
        try:
            name = socket_address(local)
            sock = options.new_socket(socket.AF_INET6 if local.is_ipv6 else socket.AF_INET)
        except OSError as error:
            raise TransportError.from_os_error(doing, error) from error
        with options.opening(sock, doing):
            small = options.set_all(sock, options.SOCKET_BUFFER, mark)
            if privileged:
                options.insist_on_buffers(small)
            sock.bind(name)
        endpoint = UdpEndpoint(sock, mark)
        endpoint.small_buffers = small
        return endpoint


class UdpEndpoint(UdpReceiver):
    """A bound UDP socket. ``UdpReceiver`` is its receiving side.

    Args:
        sock: The socket.
        mark: The DSCP of its packets; None without high priority.
        shared: The unconnected endpoint at the same address; None if this is the one.
        peer: The address that the socket is connected to; None if it is not connected.
    """

    def __init__(
        self,
        sock: socket.socket,
        mark: int | None,
        shared: UdpEndpoint | None = None,
        peer: Address | None = None,
    ) -> None:
        super().__init__(sock, shared)
        self.local = shared.local if shared else self._interfaces.from_kernel(sock.getsockname())
        # This remembers the name of its interface.
        self._interfaces.to_kernel(self.local)
        self._mark = mark
        self._shared = shared
        self._connected: dict[Address, UdpEndpoint] = {}
        self._peer = peer
        # The names of destinations for the socket; None for the one that it is connected to.
        self._names: dict[Address, SocketName | None] = {} if peer is None else {peer: None}
        self._segmented = True
        self._trains_refused = 0
        self._crowded = offload.Crowded()
        self._send_buffer = options.buffer_size(sock, socket.SO_SNDBUF)

    # Sending.

    def send_nowait(self, datagrams: Sequence[bytes], destination: Address) -> int:
        """Send datagrams until the send buffer, or a queue behind it, is full.

        Returns:
            How many datagrams were sent.

        Raises:
            OSError: The system refuses the first datagram.
        """
        try:
            name = self._names[destination]
        except KeyError:
            name = self._find_name(destination)
        sent, count = 0, len(datagrams)
        try:
            if type(datagrams) is Parted:
                for parts in datagrams.parts:
                    self._send_parts(parts, name)
                    sent += 1
                return sent
            if count == 1:
                if name is None:
                    self._send(datagrams[0], name)
                else:
                    try:
                        self._sock.sendto(datagrams[0], name)
                    except OSError as error:
                        self._send_again(datagrams[0], name, error)
                return 1
            while sent < count:
                length = 1
                if self._segmented and destination not in self._crowded:
                    length = offload.train_length(datagrams, sent)
                    if length > 1 and not _backlogs.allow_train(self):
                        length = 1
                if length == 1:
                    self._send(datagrams[sent], name)
                    sent += 1
                    continue
                taken = self._send_train(datagrams[sent : sent + length], name, destination)
                sent += taken
                if taken < length:
                    break
        except BlockingIOError:
            return sent
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                self._crowded.add(destination)
            elif error.errno in GONE and "%" in destination.host:
                # The interface may come back with the same name and another index.
                self._names.pop(destination, None)
            if not sent:
                raise
        return sent

    def _find_name(self, destination: Address) -> SocketName | None:
        is_bound = "%" not in destination.host or self._come_back()
        if destination == self._peer:
            name = None
        else:
            name = self._interfaces.to_kernel(destination)
            if len(self._names) >= _MOST_DESTINATIONS:
                self._names.clear()
        if is_bound:
            self._names[destination] = name
        return name

    def _come_back(self) -> bool:
        """Open the socket again if its interface has come back with another index.

        Returns:
            True if the socket is bound to the interface that has the name now.
        """
        interface = self.local.host.partition("%")[2]
        if not interface:
            return True
        shared = self._shared
        if shared is not None:
            shared._come_back()
        try:
            if self._interfaces.find_index(interface) == self._sock.getsockname()[3]:
                return True
            sock = options.new_socket(socket.AF_INET6)
        except OSError:
            # The interface is gone, or has another name.
            return False
        try:
            if shared is None or self._peer is None:
                options.set_all(sock, options.SOCKET_BUFFER, self._mark)
                sock.bind(self._interfaces.to_kernel(self.local))
            else:
                options.set_all(sock, options.CONNECTED_SEND_BUFFER, self._mark)
                shared._bind_beside(sock)
                sock.connect(self._interfaces.to_kernel(self._peer))
            offload.receive_coalesced(sock)
        except OSError:
            # The next send tries again.
            sock.close()
            return False
        self._wake()
        old, self._sock = self._sock, sock
        old.close()
        return True

    def _send(self, datagram: bytes, name: SocketName | None) -> None:
        try:
            if name is None:
                self._sock.send(datagram)
            else:
                self._sock.sendto(datagram, name)
        except OSError as error:
            self._send_again(datagram, name, error)

    def _send_parts(self, parts: Parts, name: SocketName | None) -> None:
        try:
            self._sock.sendmsg(parts, (), 0, name)
        except OSError as error:
            self._send_again(b"".join(parts), name, error)

    def _send_again(self, datagram: bytes, name: SocketName | None, error: OSError) -> None:
        """Send a refused datagram again, if ``error`` may be about an earlier one; else raise it.

        The kernel reports an ICMP error on the next send, which it does not carry out. The error is
        also on the error queue, so the datagram is sent again.
        """
        if error.errno not in REPORTED_LATE:
            raise error
        self._errors_queued = True
        if name is None:
            self._sock.send(datagram)
        else:
            self._sock.sendto(datagram, name)

    def _send_train(
        self, train: Sequence[bytes], name: SocketName | None, destination: Address
    ) -> int:
        """Send a train in one call, or else one by one; return how many datagrams were taken."""
        try:
            data, size = joined(train)
            self._sock.sendmsg([data], offload.cut_into(size), 0, name)
        except BlockingIOError:
            raise
        except OSError as error:
            is_full = error.errno == errno.ENOBUFS
            if is_full:
                self._crowded.add(destination)
            else:
                self._errors_queued = True
            # Sending the datagrams alone shows whether the train or one datagram is refused.
            taken = 0
            try:
                for datagram in train:
                    self._send(datagram, name)
                    taken += 1
            except OSError:
                if not taken:
                    raise
            else:
                # An error that may be about an earlier datagram says nothing about trains.
                if not is_full and error.errno not in REPORTED_LATE:
                    self._trains_refused += 1
                    self._segmented = self._trains_refused < _MOST_REFUSALS
            return taken
        self._trains_refused = 0
        return len(train)

    async def wait_sendable(self) -> None:
        """Wait for room in the send buffer.

        Raises:
            trio.ClosedResourceError: The endpoint was closed.
        """
        if self._closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("the endpoint was closed")
        try:
            await trio.lowlevel.wait_writable(self._sock)
        except trio.ClosedResourceError:
            # If it is not closed, ``troubles`` has woken all tasks. That there is room is only a
            # hint.
            if self._closed:
                raise

    @property
    def backlog(self) -> float:
        """The share of the send buffer in use, by data that has not left the machine, 0 to 1."""
        if self._closed:
            return 0.0
        return min(1.0, self.unsent() / self._send_buffer)

    def unsent(self) -> int:
        """Return the bytes that wait to be sent, including the kernel's bookkeeping."""
        return int.from_bytes(ioctl(self._sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    # The socket itself.

    def connect(self, destination: Address) -> UdpEndpoint | None:
        """Bind another socket to the same address, and connect it to ``destination``.

        Returns:
            The endpoint of the socket. None if this endpoint is connected itself, has a socket for
            ``destination``, or has a wildcard address (the kernel would choose one of this
            machine's addresses for good), or if the system refuses.
        """
        if self._shared is not None or destination in self._connected:
            return None
        if ip_address(self.local.host.partition("%")[0]).is_unspecified:
            return None
        try:
            name = self._interfaces.to_kernel(destination)
            sock = options.new_socket(self._sock.family)
        except OSError:
            return None
        try:
            options.set_all(sock, options.CONNECTED_SEND_BUFFER, self._mark)
            self._bind_beside(sock)
            sock.connect(name)
            endpoint = UdpEndpoint(sock, self._mark, self, destination)
        except OSError:
            sock.close()
            return None
        except BaseException:
            sock.close()
            raise
        self._connected[destination] = endpoint
        return endpoint

    def _bind_beside(self, sock: socket.socket) -> None:
        """Bind ``sock`` to the address of this endpoint.

        All sockets at the address must allow sharing. This one allows it only during the call,
        since any program may bind the address meanwhile. The connected sockets may allow it all the
        time, as long as this one does not.
        """
        options.allow_sharing(sock, True)
        options.allow_sharing(self._sock, True)
        try:
            sock.bind(self._sock.getsockname())
        finally:
            options.allow_sharing(self._sock, False)

    def set_dscp(self, dscp: int) -> None:
        """Set the DSCP of packets, and their priority in this machine's queues."""
        self._mark = dscp
        try:
            options.set_priority(self._sock, dscp)
        except OSError as error:
            raise TransportError.from_os_error(
                f"cannot mark packets of {self.local}", error
            ) from error
        for endpoint in self._connected.values():
            endpoint.set_dscp(dscp)

    def close(self) -> None:
        """Close the socket."""
        if self._closed:
            return
        _backlogs.forget(self)
        for endpoint in self._connected.values():
            options.allow_sharing(endpoint._sock, False)
        if self._shared is not None and self._peer is not None:
            self._shared._connected.pop(self._peer, None)
        super().close()
