"""The interface of associations to the kernel's SCTP."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from typing import ClassVar, Final

import trio

from knet_trio._core.parted import Parts
from knet_trio._transport import options, sctp_socket
from knet_trio._transport.interfaces import Interfaces
from knet_trio._transport.sctp_system import (
    AssociationLostError,
    AssociationSocket,
    ListeningSocket,
)
from knet_trio.address import Address
from knet_trio.errors import TransportError

# The largest packet, in bytes.
_PACKET: Final = 65536
# The errors of accept(2) for an association that is already lost, or that a firewall forbids:
# accept(2) also returns errors of the network.
_NOT_ACCEPTED: Final = (
    errno.ECONNABORTED,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENONET,
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EPROTO,
)


def listen_in_kernel(local: Address, mark: int | None, *, privileged: bool) -> KernelListener:
    """Bind a socket of the kernel, and listen.

    Args:
        local: The local address.
        mark: The DSCP of its packets; None without high priority.
        privileged: True if buffers smaller than wanted are an error.

    Raises:
        TransportError: The system refuses.
    """
    doing = f"cannot bind SCTP {local}"
    interfaces = Interfaces()
    try:
        name = interfaces.to_kernel(local)
        sock = sctp_socket.new_socket(_family(local))
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            raise sctp_socket.no_support_error(doing) from error
        raise TransportError.from_os_error(doing, error) from error
    with options.opening(sock, doing):
        small = sctp_socket.set_options(sock, mark)
        if privileged:
            options.insist_on_buffers(small)
        # Associations that are ending still hold the address.
        options.allow_sharing(sock, True)
        sock.bind(name)
        sock.listen(sctp_socket.BACKLOG)
    listener = KernelListener(sock, mark, interfaces)
    listener.small_buffers = small
    return listener


class KernelListener(ListeningSocket):
    """A listening socket of the kernel.

    Args:
        sock: The socket.
        mark: The DSCP of its packets; None without high priority.
        interfaces: The interface names for its addresses.
    """

    can_watch: ClassVar[bool] = True

    def __init__(self, sock: socket.socket, mark: int | None, interfaces: Interfaces) -> None:
        self.local = interfaces.from_kernel(sock.getsockname())
        self._sock = sock
        self._mark = mark
        self._interfaces = interfaces

    def accept(self) -> tuple[KernelAssociation, Address]:
        """Accept an association that a peer has made."""
        try:
            sock, name = self._sock.accept()
        except OSError as error:
            if error.errno in _NOT_ACCEPTED:
                raise _loss("not accepted", error.errno) from None
            raise
        try:
            sctp_socket.set_options(sock, self._mark)
            association = KernelAssociation(sock)
            association.connected()
            return association, self._interfaces.from_kernel(name)
        except OSError:
            lost = _is_lost(sock)
            sock.close()
            if lost:
                raise AssociationLostError(sctp_socket.CLOSED) from None
            raise
        except BaseException:
            sock.close()
            raise

    def connect(self, peer: Address, retry: float, mark: int | None) -> KernelAssociation:
        """Begin to make an association."""
        local = self._interfaces.to_kernel(self.local._replace(port=0))
        name = self._interfaces.to_kernel(peer)
        sock = sctp_socket.new_socket(_family(self.local))
        try:
            sctp_socket.set_options(sock, mark)
            sctp_socket.set_retry(sock, retry)
            sock.bind(local)
            # The attempt goes on in the background.
            with suppress(BlockingIOError):
                sock.connect(name)
            return KernelAssociation(sock)
        except BaseException:
            sock.close()
            raise

    async def wait_acceptable(self) -> None:
        """Wait until there may be an association to accept, or the socket is closed."""
        try:
            await trio.lowlevel.wait_readable(self._sock)
        except trio.ClosedResourceError:
            return

    def set_dscp(self, dscp: int) -> None:
        """Set the DSCP of packets, also of associations that are accepted later."""
        self._mark = dscp
        options.set_priority(self._sock, dscp)

    def close(self) -> None:
        """Close the socket, and wake all waiting tasks."""
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()


class KernelAssociation(AssociationSocket):
    """A socket of the kernel with one association."""

    def __init__(self, sock: socket.socket) -> None:
        self.watched: socket.socket | None = sock
        self._send_buffer = options.buffer_size(sock, socket.SO_SNDBUF)
        self._sock = sock
        self._has_urgent_stream = False
        # The beginning of a packet whose rest is still to come; None while the rest is discarded.
        self._begun: bytes | None = b""

    def find_error(self) -> int:
        """Return the error number of a failed attempt; 0 if there is an association."""
        number = sctp_socket.take_error(self._sock)
        if not number:
            try:
                self._sock.getpeername()
            except OSError as error:
                return error.errno or errno.ENOTCONN
            self.connected()
        return number

    def read(self) -> bytes | None:
        """Read once."""
        try:
            data, _, flags, _ = self._sock.recvmsg(_PACKET)
        except BlockingIOError:
            raise
        except OSError as error:
            raise _loss("the association is lost", error.errno or 0) from error
        if flags & sctp_socket.MSG_NOTIFICATION:
            lost = sctp_socket.read_loss_untrusted(data)
            if lost is not None:
                raise _loss(lost, sctp_socket.take_error(self._sock))
            if sctp_socket.is_restart_untrusted(data):
                self._begun = b""
            return None
        if not data:
            raise AssociationLostError(sctp_socket.CLOSED)
        return self._join(data, is_end=bool(flags & socket.MSG_EOR))

    def _join(self, data: bytes, *, is_end: bool) -> bytes | None:
        """Return the packet that ``data`` completes, else None.

        A packet over the largest size is returned incomplete, and refused for its size.
        """
        begun = self._begun
        if begun is None:
            if is_end:
                self._begun = b""
            return None
        packet = begun + data if begun else data
        if is_end:
            self._begun = b""
            return packet
        if len(packet) >= _PACKET:
            self._begun = None
            return packet
        self._begun = packet
        return None

    def is_empty(self) -> bool:
        """Return whether there is nothing to read."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            # The association is lost, which `read` reports.
            return False
        return False

    def send(self, packet: bytes) -> None:
        """Send a packet."""
        self._sock.send(packet, socket.MSG_NOSIGNAL)

    def connected(self) -> None:
        """Note that there is an association."""
        self._has_urgent_stream = sctp_socket.have_urgent_stream(self._sock)

    def send_urgent(self, packet: bytes) -> None:
        """Send a packet, ahead of those that wait if there is an urgent stream."""
        if self._has_urgent_stream:
            sctp_socket.send_urgent(self._sock, packet)
        else:
            self.send(packet)

    def send_parts(self, parts: Parts) -> None:
        """Send a packet in parts."""
        self._sock.sendmsg(parts, (), socket.MSG_NOSIGNAL)

    def backlog(self) -> float:
        """Return the share of the send buffer in use, from 0 to 1."""
        return min(1.0, options.queued_bytes(self._sock) / self._send_buffer)

    async def wait_readable(self) -> None:
        """Wait until there may be something to read."""
        try:
            await trio.lowlevel.wait_readable(self._sock)
        except trio.ClosedResourceError:
            return

    async def wait_writable(self) -> None:
        """Wait until an attempt has ended, or there may be room to send."""
        try:
            await trio.lowlevel.wait_writable(self._sock)
        except trio.ClosedResourceError:
            return

    def wake(self) -> None:
        """Wake all waiting tasks."""
        trio.lowlevel.notify_closing(self._sock)

    def set_dscp(self, dscp: int) -> None:
        """Set the DSCP of packets."""
        options.set_priority(self._sock, dscp)

    def abort(self) -> None:
        """Close the socket and notify the peer at once."""
        sctp_socket.abort(self._sock)

    def close(self) -> None:
        """Close the socket. Packets in the send buffer are still sent."""
        self._sock.close()


def _is_lost(sock: socket.socket) -> bool:
    """Return whether an accepted socket has lost its association."""
    try:
        sock.getpeername()
    except OSError:
        return True
    return False


def _loss(words: str, number: int) -> AssociationLostError:
    return AssociationLostError(f"{words}: {os.strerror(number)}" if number else words, number)


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
