"""The interfaces of the parts of a handle: ciphers, compressors, transports and filters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from socket import socket
from typing import ClassVar, NamedTuple

from knet_trio.address import Address
from knet_trio.errors import PacketError
from knet_trio.message import Filter

__all__ = [
    "Arrivals",
    "Cipher",
    "Compressor",
    "ConnectionChange",
    "Endpoint",
    "Filter",
    "OpenedTrain",
    "PathTrouble",
    "PeerEndpoint",
    "SocketWatch",
    "Train",
    "Transport",
]


class Cipher(ABC):
    """Encrypts and authenticates packets: it seals them in envelopes and opens these.

    Attributes:
        salt_size: The bytes of an envelope before the encrypted packet.
        hash_size: The bytes of an envelope after the encrypted packet.
        block_size: A packet is padded to a multiple of this many bytes. 0 for no padding, 1 for a
            stream cipher.
        addresses: True if an envelope names the host that it is for, so that every destination gets
            its own.
    """

    salt_size: int
    hash_size: int
    block_size: int
    addresses: bool = False

    @abstractmethod
    def seal(self, packets: Sequence[bytes]) -> list[bytes]:
        """Return the envelopes of ``packets``, in the same order.

        Raises:
            OSError, MemoryError: No random bytes, or no memory: the packets are dropped. Any other
                exception is a bug, and ends the handle.
        """

    def seal_to(self, packets: Sequence[bytes], to: int | None) -> list[bytes]:
        """Return the envelopes of ``packets`` for one host, or for every host.

        Overridden by ciphers with ``addresses``.

        Args:
            packets: The packets.
            to: The id of the host, None for every host.

        Raises:
            OSError, MemoryError: As ``seal`` does.
        """
        return self.seal(packets)

    @abstractmethod
    def open_untrusted(self, envelope: bytes) -> bytes:
        """Return the packet in ``envelope``.

        Raises:
            PacketError: It is not an envelope of this cipher and key. No other exception is raised.
        """

    def open_many_untrusted(self, envelopes: Sequence[bytes]) -> list[bytes | PacketError]:
        """Return the packets in ``envelopes``, in the same order, and errors in place of bad ones.

        Overridden by ciphers that open many envelopes faster than one by one.
        """
        packets: list[bytes | PacketError] = []
        for envelope in envelopes:
            try:
                packets.append(self.open_untrusted(envelope))
            except PacketError as error:
                # With its traceback, the error and this list would keep each other in memory.
                packets.append(error.with_traceback(None))
        return packets

    def open_train_untrusted(self, train: bytes, size: int) -> OpenedTrain | None:
        """Return the packets in a train of envelopes, if all of them open.

        Overridden by ciphers that open a train faster than one envelope after the other. It raises
        no exceptions.

        Args:
            train: The envelopes, one after the other.
            size: The bytes of each; the last may have fewer.

        Returns:
            The packets. None if one does not open, or the cipher does not support trains: then
            ``open_many_untrusted`` is called for the packets and the errors.
        """
        return None


class OpenedTrain(NamedTuple):
    """The packets of a train of envelopes, without copying each.

    They begin at equal distances, and other bytes of the envelopes may be between them.

    Attributes:
        data: The bytes that contain the packets.
        start: The index in ``data`` of the first byte of the first packet.
        stride: The bytes from the beginning of one packet to that of the next.
        ends: The index in ``data`` after the last byte of each packet.
    """

    data: bytes
    start: int
    stride: int
    ends: Sequence[int]

    def packets(self) -> list[bytes]:
        """Return the packets as a list, each copied."""
        starts = range(self.start, len(self.data), self.stride)
        return [self.data[start:end] for start, end in zip(starts, self.ends, strict=True)]


class Compressor(ABC):
    """Compresses and decompresses messages.

    Attributes:
        wire_id: The number of the algorithm in packets, 1 to 255.
        slow: True if a message may take more than a millisecond, so that a thread does the work.
        slow_from: The compressed size, in bytes, from which on a message made to be slow takes more
            than a millisecond to decompress, so that a thread does it. None if there is none.
        compress_at_once: Messages of up to this length, in bytes, are compressed in less than half
            a millisecond; a thread compresses longer ones.
    """

    wire_id: int
    slow: bool = False
    slow_from: int | None = None
    compress_at_once: int = 65536

    @abstractmethod
    def compress(self, message: bytes) -> bytes:
        """Return ``message`` compressed. If that is not shorter, the message is sent uncompressed.

        Raises:
            MemoryError: There is not enough memory: the message is sent uncompressed. Any other
                exception is a bug, and ends the handle.
        """

    @abstractmethod
    def decompress_untrusted(self, data: bytes, limit: int) -> bytes:
        """Return the message in ``data``.

        Args:
            data: The compressed message.
            limit: The largest allowed size of the message, in bytes. No more memory is used for it,
                whatever is in ``data``.

        Raises:
            PacketError: ``data`` is not a compressed message, or of more than ``limit`` bytes.
            MemoryError: There is not enough memory: the message is dropped. Any other exception is
                a bug, and ends the handle.
        """


class PathTrouble(NamedTuple):
    """An error that the network, or this machine, reports for packets sent to a destination.

    Attributes:
        destination: The address that they were sent to.
        errno: The system's error number.
        mtu: With EMSGSIZE, the largest packet that would have passed, in bytes on the wire; None if
            unknown.
        local: True if this machine reported it, False if the network did.
    """

    destination: Address
    errno: int
    mtu: int | None
    local: bool

    def concerns(self, destination: Address | None) -> bool:
        """Return whether the error is about packets sent to ``destination``."""
        if destination is None:
            return False
        # For an IPv4 packet that is too large, the kernel names the path without a port.
        return self.destination in (destination, Address(destination.host, 0))


class Train(NamedTuple):
    """Datagrams of one size that were received in a row from one source; one or more.

    Attributes:
        data: The datagrams, one after the other.
        size: The bytes of each; the last may have fewer.
        source: The address that they came from.
    """

    data: bytes
    size: int
    source: Address

    def datagrams(self) -> list[bytes]:
        """Return the datagrams as a list."""
        data, size = self.data, self.size
        if len(data) <= size:
            return [data]
        return [data[start : start + size] for start in range(0, len(data), size)]


class ConnectionChange(NamedTuple):
    """A connection that was made, or lost, or could not be made.

    Attributes:
        destination: The address of the peer.
        is_up: True if there is a connection now.
        reason: Why, a text for people.
        errno: The system's error number; 0 for none.
        local: True if this machine reported the error without trying to connect.
    """

    destination: Address
    is_up: bool
    reason: str
    errno: int = 0
    local: bool = False


class Arrivals(NamedTuple):
    """Datagrams received at once, and errors for packets that were sent.

    Errors are reported after all datagrams that had arrived before them, so that these still count.
    If datagrams arrive without end, errors are reported after as many bytes as the receive buffer
    holds.

    Attributes:
        trains: The datagrams, which come first.
        troubles: Errors that the network, or this machine, reports for packets that were sent.
        connection: The change of the connection of an endpoint that has one, after ``trains``; None
            if it has not changed.
    """

    trains: list[Train]
    troubles: list[PathTrouble]
    connection: ConnectionChange | None = None


class SocketWatch(ABC):
    """One task of a handle that waits for many sockets that receive little.

    A task for each socket would need more time to sleep and wake up than to handle a ping, and a
    handle may have hundreds of sockets that receive pings at once.
    """

    @abstractmethod
    def join(self) -> None:
        """Add a socket. Call ``leave`` when it is closed."""

    @abstractmethod
    def leave(self) -> None:
        """Remove a socket."""

    @abstractmethod
    async def wait_readable(self, sock: socket, take: Callable[[], bool]) -> None:
        """Wait until ``sock`` is readable and ``take`` returns False, or until ``wake``.

        Only one task at a time may wait for a socket.

        Args:
            sock: The socket. Call ``wake`` before it is closed.
            take: Called in another task whenever the socket is readable. Returns True if this call
                should go on waiting. It must be quick and must not block. An exception is a bug,
                and ends the handle.

        Raises:
            trio.ClosedResourceError: ``trio.lowlevel.notify_closing`` was called for the socket
                while a task of its own waited for it.
        """

    @abstractmethod
    def wake(self, sock: socket) -> None:
        """Wake the task that waits for ``sock``, if there is one.

        A task of its own may wait for the socket: call ``trio.lowlevel.notify_closing``, too.
        """


class Endpoint(ABC):
    """A local address from which datagrams are sent and at which they are received.

    Links may share an endpoint.

    Attributes:
        local: The address.
        small_buffers: What is wrong and what helps, a text for people, if the system grants smaller
            buffers than the protocol wants; else None.
        is_welcome: True if everything received last was accepted. Set by the receiver: there is no
            hurry to receive what is refused.
        fault: Why nothing can be sent, a text for people, while a connection is needed and missing;
            else None.
        ended: True if nothing more will be received, because the peer's connection is lost. An
            endpoint that connects again does not end.
    """

    local: Address
    small_buffers: str | None = None
    is_welcome: bool = True
    fault: str | None = None
    ended: bool = False

    @abstractmethod
    async def receive(self) -> Arrivals:
        """Wait until something arrives, and return what has arrived, up to a bound.

        Cancelling loses nothing.

        Raises:
            trio.ClosedResourceError: The endpoint was closed.
        """

    def use_watch(  # noqa: B027 - an endpoint without a socket has nothing to wait for
        self, watch: SocketWatch, take: Callable[[bytes, Address], bool]
    ) -> None:
        """Set where ``receive`` waits, together with the other endpoints of the handle.

        Called once, before ``receive``. Optional: an endpoint without a socket, or one that waits
        by itself, does not override it. An endpoint that does calls ``SocketWatch.join`` here and
        ``SocketWatch.leave`` when it is closed.

        Args:
            watch: The watch to wait in, while little arrives.
            take: Handles a single datagram, and the address that it came from, while ``receive``
                waits; ``receive`` does not return it. Returns True if it was data, so that more may
                follow soon. It does not block.
        """

    @abstractmethod
    def send_nowait(self, datagrams: Sequence[bytes], destination: Address) -> int:
        """Send datagrams without waiting.

        Args:
            datagrams: The datagrams.
            destination: The address to send them to.

        Returns:
            The number of datagrams, from the first, that were sent. 0 if the send buffer is full:
            ``wait_sendable`` returns when there may be room.

        Raises:
            OSError: The system refuses the first one. ENOBUFS means that a queue behind the send
                buffer is full, which cannot be waited for: try again a little later.
        """

    def send_urgent_nowait(self, datagram: bytes, destination: Address) -> bool:
        """Send a small datagram ahead of a full send buffer, if the transport can.

        Args:
            datagram: The datagram.
            destination: The address to send it to.

        Returns:
            True if it was sent.

        Raises:
            OSError: As ``send_nowait`` does.
        """
        return self.send_nowait((datagram,), destination) == 1

    @abstractmethod
    async def wait_sendable(self) -> None:
        """Wait until there may be room in the send buffer again."""

    @property
    def backlog(self) -> float:
        """The share of the send buffer in use, 0.0 to 1.0; 0.0 if unknown."""
        return 0.0

    @property
    def overflows(self) -> int:
        """The number of packets that the system dropped because the receive buffer was full.

        0 if unknown.
        """
        return 0

    @property
    def drained(self) -> bool:
        """True if everything that has arrived was received and handled; True if unknown."""
        return True

    def connect(self, destination: Address) -> Endpoint | None:
        """Open an endpoint at the same local address for one peer only.

        It has a send buffer of its own, so that a slow path to another peer does not delay it.
        Packets that the peer sends from now on arrive there, and so do errors for packets to it. A
        packet of another sender may have got in before, so check the source. The endpoint has the
        DSCP of this one at first; later ``set_dscp`` is called for both. It is closed before this
        endpoint; what it has not returned by then is lost.

        A transport with connections returns an endpoint that connects, now and whenever the
        connection is lost, or one for the connection that the peer has made.

        Args:
            destination: The address of the peer.

        Returns:
            The endpoint. None if the system or the transport does not support it, there is no route
            to the peer now, or the peer has an endpoint already: this one then serves the peer.
        """
        return None

    def use_connections(  # noqa: B027 - most transports have none
        self, accept: Callable[[PeerEndpoint], None], interval: float, *, connects: bool
    ) -> None:
        """Set how connections are accepted and made. Called once, before ``receive``.

        Only for endpoints of a transport with connections.

        Args:
            accept: Called with the endpoint of each peer that has connected. It does not block.
            interval: Seconds from the beginning of one attempt to connect to that of the next.
            connects: True if ``connect`` makes connections. If False, it returns those that peers
                have made, for links that do not know the address of their peer beforehand.
        """

    def set_reconnect_interval(self, interval: float) -> None:  # noqa: B027 - as above
        """Set the interval between attempts to connect.

        Called for each endpoint: the one that links share, and those that its ``connect`` returned.

        Args:
            interval: Seconds from the beginning of one attempt to that of the next.
        """

    def reset(self, reason: str) -> None:  # noqa: B027 - most transports have no connections
        """Abort the connection, and make a new one.

        The peer is notified at once. ``receive`` does not report it, except for a ``PeerEndpoint``,
        which does not connect again and has ``ended``.

        Args:
            reason: Why, a text for people; the ``fault`` until there is a new connection.
        """

    @abstractmethod
    def troubles(self) -> list[PathTrouble]:
        """Return, once, the errors of this machine for earlier packets: the sizes that it refused.

        Errors of the network are returned by ``receive``, after what has arrived.
        """

    @abstractmethod
    def set_dscp(self, dscp: int) -> None:
        """Set the DSCP of packets sent from now on.

        Args:
            dscp: The DSCP, 1 to 63, or 0 for the low-delay type of service.

        Raises:
            TransportError: The system refuses.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the endpoint. Calls that wait raise ``trio.ClosedResourceError``."""


class PeerEndpoint(Endpoint):
    """An endpoint for a connection that a peer has made.

    Attributes:
        peer: The address from which the peer connected.
        source: The address that ``receive`` returns as the source of its datagrams, at first
            ``peer``. The handle may set another one.
    """

    peer: Address
    source: Address


class Transport(ABC):
    """A transport protocol for datagrams.

    Attributes:
        name: The name for ``Host.add_link``.
        transport_id: The number in libknet.
        header_size: The bytes of its header, without the IP header.
        has_connections: True if connections are needed to send. Then ``Endpoint.connect`` makes one
            for each link, and tries again until it succeeds; peers connect from a port that is not
            known beforehand; and datagrams of any size pass, as the transport splits them.
    """

    name: ClassVar[str]
    transport_id: ClassVar[int]
    header_size: ClassVar[int]
    has_connections: ClassVar[bool] = False

    @abstractmethod
    def open_endpoint(
        self, local: Address, *, privileged: bool, high_priority: bool, dscp: int
    ) -> Endpoint:
        """Bind a local address.

        Args:
            local: The address. Port 0 takes a free port.
            privileged: Raise an error if the system does not grant large socket buffers.
            high_priority: Mark packets with ``dscp``.
            dscp: The DSCP, 1 to 63, or 0 for the low-delay type of service.

        Returns:
            The endpoint, whose ``local`` has the actual port.

        Raises:
            TransportError: The system refuses; ENAMETOOLONG if it refuses the buffers.
        """
