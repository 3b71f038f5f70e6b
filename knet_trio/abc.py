"""The interfaces of what a handle is made of: ciphers, compressors, transports, filters."""

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
    """Puts packets into envelopes and takes them out.

    Attributes:
        salt_size: The bytes of salt that an envelope has.
        hash_size: The bytes of hash that an envelope has.
        block_size: The bytes to whose multiple a packet is padded; 0 for no padding, 1 for a
            stream cipher.
        addresses: Whether an envelope says which host it is for, so that each gets its own.
    """

    salt_size: int
    hash_size: int
    block_size: int
    addresses: bool = False

    @abstractmethod
    def seal(self, packets: Sequence[bytes]) -> list[bytes]:
        """Return the envelopes of ``packets``, in their order.

        Raises:
            OSError, MemoryError: No random bytes, or no memory: the packets are lost. Anything
                else that is raised is a bug, and ends the handle.
        """

    def seal_to(self, packets: Sequence[bytes], to: int | None) -> list[bytes]:
        """Return the envelopes of ``packets`` for host ``to``, or with None for every host.

        A cipher whose envelopes say that overrides this. It raises what ``seal`` does.
        """
        return self.seal(packets)

    @abstractmethod
    def open_untrusted(self, envelope: bytes) -> bytes:
        """Return the packet in ``envelope``.

        Raises:
            PacketError: It is not an envelope of this cipher and key. Nothing else is raised.
        """

    def open_many_untrusted(self, envelopes: Sequence[bytes]) -> list[bytes | PacketError]:
        """Return the packets in ``envelopes``, in their order; an error in the place of a bad one.

        A cipher that opens many with little more work than one overrides this.
        """
        packets: list[bytes | PacketError] = []
        for envelope in envelopes:
            try:
                packets.append(self.open_untrusted(envelope))
            except PacketError as error:
                # The traceback leads to this list, and so in a ring, with all that is in it.
                packets.append(error.with_traceback(None))
        return packets

    def open_train_untrusted(self, train: bytes, size: int) -> OpenedTrain | None:
        """Return the packets in envelopes that came as one train, if all of them open.

        This is for ciphers that can do it with less work than one by one. Without an override, the
        envelopes are cut out and given to ``open_many_untrusted``.

        Args:
            train: The envelopes, one after the other.
            size: The bytes of each; the last may have fewer.

        Returns:
            None if one of them does not open, or this cipher has no such way. Then
            ``open_many_untrusted`` is called for the packets and the errors. Nothing is raised.
        """
        return None


class OpenedTrain(NamedTuple):
    """The packets of a train of envelopes, not cut out of what is around them.

    They begin at equal distances. Between them may be what else the envelopes had.

    Attributes:
        data: The bytes that have the packets in them.
        start: The index in ``data`` where the first packet begins.
        stride: The bytes from the beginning of one packet to that of the next.
        ends: The index in ``data`` after the last byte of each packet; one for each of them.
    """

    data: bytes
    start: int
    stride: int
    ends: Sequence[int]

    def packets(self) -> list[bytes]:
        """Return the packets one by one."""
        starts = range(self.start, len(self.data), self.stride)
        return [self.data[start:end] for start, end in zip(starts, self.ends, strict=True)]


class Compressor(ABC):
    """Compresses messages and decompresses them.

    Attributes:
        wire_id: Names the algorithm in packets, 1 to 255.
        slow: Whether its work may take more than a millisecond, so that a thread does it.
        slow_from: Where decompressing is quick but for what somebody has made to be slow: messages
            of that many compressed bytes, and more, are decompressed in a thread. None for no such
            size.
        compress_at_once: Messages of up to this length, in bytes, are compressed in less than half
            a millisecond. A thread compresses longer ones.
    """

    wire_id: int
    slow: bool = False
    slow_from: int | None = None
    compress_at_once: int = 65536

    @abstractmethod
    def compress(self, message: bytes) -> bytes:
        """Return ``message`` compressed. If that is not shorter, the message is sent as it is.

        Raises:
            MemoryError: There is not enough memory: the message is sent as it is. Anything else
                that is raised is a bug, and ends the handle.
        """

    @abstractmethod
    def decompress_untrusted(self, data: bytes, limit: int) -> bytes:
        """Return the message in ``data``.

        No more memory than ``limit`` bytes is used for the message, whatever is in ``data``.

        Raises:
            PacketError: It is no message, or has more than ``limit`` bytes.
            MemoryError: There is not enough memory: the message is dropped. Anything else that is
                raised is a bug, and ends the handle.
        """


class PathTrouble(NamedTuple):
    """What the network, or this machine's kernel, says of packets sent to ``destination``.

    Attributes:
        destination: Where they were sent.
        errno: The system's number of the error.
        mtu: With EMSGSIZE the largest on-wire size that would have gone, in bytes; None if unknown.
        local: Whether this machine itself said so.
    """

    destination: Address
    errno: int
    mtu: int | None
    local: bool

    def concerns(self, destination: Address | None) -> bool:
        """Whether it is about packets sent to ``destination``."""
        if destination is None:
            return False
        # Refusing an IPv4 packet for its size, the kernel speaks of the path, and of no port.
        return self.destination in (destination, Address(destination.host, 0))


class Train(NamedTuple):
    """Datagrams of one size that came in a row from one source. One on its own is a train too.

    Attributes:
        data: The datagrams, one after the other.
        size: The bytes of each; the last may have fewer.
        source: Where they came from.
    """

    data: bytes
    size: int
    source: Address

    def datagrams(self) -> list[bytes]:
        """Return the datagrams one by one."""
        data, size = self.data, self.size
        if len(data) <= size:
            return [data]
        return [data[start : start + size] for start in range(0, len(data), size)]


class ConnectionChange(NamedTuple):
    """What became of a connection to ``destination``.

    Attributes:
        destination: Where it leads to.
        is_up: Whether it is there now.
        reason: Why it is there, or is not.
        errno: The system's number of the error; 0 for none.
        local: Whether this machine has not even tried, and says why.
    """

    destination: Address
    is_up: bool
    reason: str
    errno: int = 0
    local: bool = False


class Arrivals(NamedTuple):
    """What came in at once: datagrams, and troubles with what was sent.

    What has arrived is worth more than what is said of its sender: troubles are told once all that
    had arrived before them has been taken, at the latest with ``trains``, which come first. Where
    there is always more to take, that is once as much has been taken as the receive buffer holds.

    Attributes:
        trains: The datagrams.
        troubles: What the network, or this machine, says of packets that were sent.
        connection: What became of the connection of an endpoint that has one, after ``trains``;
            None if nothing did.
    """

    trains: list[Train]
    troubles: list[PathTrouble]
    connection: ConnectionChange | None = None


class SocketWatch(ABC):
    """One task of a handle that waits for many sockets to which something comes now and then.

    For a task that waits for its own socket, falling asleep and waking up takes longer than the
    work on a ping, and a handle may have hundreds of sockets with pings to all of them at once.
    """

    @abstractmethod
    def join(self) -> None:
        """Note that there is one socket more; call ``leave`` when it is closed."""

    @abstractmethod
    def leave(self) -> None:
        """Note that there is one socket less."""

    @abstractmethod
    async def wait_readable(self, sock: socket, take: Callable[[], bool]) -> None:
        """Wait until ``sock`` is readable and ``take`` leaves something to be done, or ``wake``.

        One task at a time may wait for a socket. A checkpoint.

        Args:
            sock: The socket. Call ``wake`` before it is closed.
            take: May be called whenever the socket is readable, in another task. Returns whether
                to go on waiting. It must neither wait nor take long, and what it raises is a bug,
                which ends the handle.

        Raises:
            trio.ClosedResourceError: Somebody called ``trio.lowlevel.notify_closing`` for the
                socket, and it was waited for on its own.
        """

    @abstractmethod
    def wake(self, sock: socket) -> None:
        """Let ``wait_readable`` return for ``sock``, if a task waits for it here.

        It may be waited for on its own: call ``trio.lowlevel.notify_closing`` too.
        """


class Endpoint(ABC):
    """One local address that datagrams go out of and come in at; links may share it.

    Attributes:
        local: The address.
        small_buffers: What is wrong and what helps, in words, if the system gives it smaller
            buffers than the protocol wants; else None.
        is_welcome: Whether all that was received last was of use. Whoever receives sets it: for
            what is refused nobody has to hurry.
        fault: Why nothing can be sent, in words, while a connection has to be there first and is
            not; else None.
        ended: Whether nothing will come any more, since the peer's connection is lost. An endpoint
            that makes a new connection has not ended.
    """

    local: Address
    small_buffers: str | None = None
    is_welcome: bool = True
    fault: str | None = None
    ended: bool = False

    @abstractmethod
    async def receive(self) -> Arrivals:
        """Wait until something arrives, and take what is there, up to a bound.

        Raises:
            trio.ClosedResourceError: The endpoint is closed.
        """

    def use_watch(  # noqa: B027 - an endpoint without a socket has nothing to wait for
        self, watch: SocketWatch, take: Callable[[bytes, Address], bool]
    ) -> None:
        """Let ``receive`` wait in ``watch``, together with the other endpoints of the handle.

        It is called once, before ``receive``. An endpoint that has no socket, or rather waits for
        it on its own, need not override this. One that does calls ``join`` here and ``leave`` when
        it is closed.

        Args:
            watch: What to wait in, while little comes to the socket.
            take: Works on a datagram that came alone while ``receive`` waits, and on the address
                that it came from. ``receive`` does not return for what was given to it. Returns
                whether it was data: then there may soon be more. It does not wait.
        """

    @abstractmethod
    def send_nowait(self, datagrams: Sequence[bytes], destination: Address) -> int:
        """Send without waiting.

        Returns:
            How many of ``datagrams``, from the first, were taken. 0 means that the send buffer is
            full: ``wait_sendable`` returns when there may be room.

        Raises:
            OSError: The system refuses the first one. ENOBUFS means that a queue behind the send
                buffer is full, which nobody can wait for: try again a little later.
        """

    def send_urgent_nowait(self, datagram: bytes, destination: Address) -> bool:
        """Send a small datagram that does not wait behind a full send buffer, where possible.

        Returns:
            Whether it was taken.

        Raises:
            OSError: As ``send_nowait`` does.
        """
        return self.send_nowait((datagram,), destination) == 1

    @abstractmethod
    async def wait_sendable(self) -> None:
        """Wait until there may be room in the send buffer again."""

    @property
    def backlog(self) -> float:
        """How full the send buffer is: 0.0 is empty, 1.0 full; 0.0 where nobody can tell."""
        return 0.0

    @property
    def overflows(self) -> int:
        """How many packets the system has dropped because there was no room for them here.

        0 where nobody can tell.
        """
        return 0

    @property
    def drained(self) -> bool:
        """Whether all that has arrived was taken and worked on; True where nobody can tell."""
        return True

    def connect(self, destination: Address) -> Endpoint | None:
        """Open an endpoint at the same local address for one peer alone.

        What is sent over it has a send buffer of its own, so a slow way to another peer does not
        hold it up. What the peer sends from now on arrives there, and what the network says of
        packets to it; what arrived before stays here. Whoever else was quick may have got a packet
        in there too, so look at the source. It has the DSCP of this endpoint at first; later
        ``set_dscp`` is called for both. Close it before this endpoint: what it has not given by
        then is lost.

        A transport with connections returns one that connects by itself, now and whenever the
        connection is lost, or what the peer has connected.

        Returns:
            The endpoint, or None if the system or the transport has no such thing, there is no
            way to the peer now, or it has one already: then this one goes on to serve that peer.
        """
        return None

    def use_connections(  # noqa: B027 - most transports have none
        self, accept: Callable[[PeerEndpoint], None], interval: float, *, connects: bool
    ) -> None:
        """Hand over the connections that peers make; called once, before ``receive``.

        Only endpoints of a transport that has connections are asked.

        Args:
            accept: Takes an endpoint for a peer that has connected. It does not wait.
            interval: Seconds from the beginning of one attempt to connect to that of the next.
            connects: Whether ``connect`` is to make connections. If not, it returns those that
                peers have made, for links that do not know beforehand where their peer is.
        """

    def set_reconnect_interval(self, interval: float) -> None:  # noqa: B027 - as above
        """Try every ``interval`` seconds to connect, from now on.

        It is called for each endpoint: the one that links share, and those that its ``connect`` has
        returned.
        """

    def reset(self, reason: str) -> None:  # noqa: B027 - most transports have no connections
        """Break the connection, since it is of no use, and make a new one.

        The peer is told at once. ``receive`` does not tell of it, but for a ``PeerEndpoint``, which
        makes no new one: it has ``ended``.

        Args:
            reason: Why it is of no use, in words; the ``fault`` until there is a new one.
        """

    @abstractmethod
    def troubles(self) -> list[PathTrouble]:
        """Take what this machine says of earlier sends: the sizes that it refused.

        What the network says comes with ``receive``, after what has arrived.
        """

    @abstractmethod
    def set_dscp(self, dscp: int) -> None:
        """Mark what is sent from now on for the network, ahead of other traffic.

        Args:
            dscp: 1 to 63, or 0 for the low-delay type of service.

        Raises:
            TransportError: The system refuses.
        """

    @abstractmethod
    def close(self) -> None:
        """Close it; whoever waits gets ``trio.ClosedResourceError``."""


class PeerEndpoint(Endpoint):
    """An endpoint for the connection that a peer has made.

    Attributes:
        peer: The address that it came from.
        source: The address that ``receive`` names for what comes over it, at first ``peer``.
            Whoever takes it may set another one.
    """

    peer: Address
    source: Address


class Transport(ABC):
    """A way of carrying datagrams.

    Attributes:
        name: Its name, as ``add_link`` takes it.
        transport_id: Its number in libknet.
        header_size: The bytes that it adds to the IP header.
        has_connections: Whether there have to be connections before anything can be sent. Then
            ``Endpoint.connect`` makes one for each link, and goes on to try; whoever connects comes
            from a port that nobody knows before; and datagrams of any size pass, since the
            transport cuts them to what the path takes.
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
            local: The address; port 0 takes a free one.
            privileged: Insist on large socket buffers.
            high_priority: Mark packets for the network.
            dscp: The mark, 1 to 63, or 0 for the low-delay type of service.

        Raises:
            TransportError: The system refuses; ENAMETOOLONG if it refuses the buffers.
        """
