"""The interfaces of what a handle is made of: ciphers, compressors, transports, filters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

from knet_trio._watch import SocketWatch
from knet_trio.address import Address
from knet_trio.errors import PacketError
from knet_trio.message import Filter

__all__ = [
    "Arrivals",
    "Cipher",
    "Compressor",
    "Endpoint",
    "Filter",
    "OpenedTrain",
    "PathTrouble",
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
    """

    salt_size: int
    hash_size: int
    block_size: int

    @abstractmethod
    def seal(self, packets: Sequence[bytes]) -> list[bytes]:
        """Return the envelopes of ``packets``, in their order.

        Raises:
            OSError, MemoryError: No random bytes, or no memory: the packets are lost. Anything
                else that is raised is a bug, and ends the handle.
        """

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
        """Return the packets in envelopes that follow each other, if all of them open.

        A cipher that does that with less work than one by one overrides this.

        Args:
            train: The envelopes.
            size: The bytes of each; the last may have fewer.

        Returns:
            None if one does not open, or this cipher has no such way: ``open_many_untrusted`` has
            the packets and the errors then.
        """
        return None


class OpenedTrain(NamedTuple):
    """Packets at equal distances.

    Attributes:
        data: The packets, with other bytes between them.
        start: Where the first one begins.
        stride: How many bytes further each of the next begins.
        ends: Where each ends.
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


class Arrivals(NamedTuple):
    """What came in at once: datagrams, and troubles with what was sent.

    What has arrived is worth more than what is said of its sender: troubles are told once all that
    had arrived before them has been taken, at the latest with ``trains``, which come first. Where
    there is always more to take, that is once as much has been taken as the receive buffer holds.
    """

    trains: list[Train]
    troubles: list[PathTrouble]


class Endpoint(ABC):
    """One local address that datagrams go out of and come in at; links may share it.

    Attributes:
        local: The address.
        small_buffers: What is wrong and what helps, in words, if the system gives it smaller
            buffers than the protocol wants; else None.
        is_welcome: Whether all that was received last was of use. Whoever receives sets it: for
            what is refused nobody has to hurry.
    """

    local: Address
    small_buffers: str | None = None
    is_welcome: bool = True

    @abstractmethod
    async def receive(self) -> Arrivals:
        """Wait until something arrives, and take what is there, up to a bound.

        Raises:
            trio.ClosedResourceError: The endpoint is closed.
        """

    def use_watch(  # noqa: B027 - where nothing can be watched, there is nothing to do
        self, watch: SocketWatch, take: Callable[[bytes, Address], bool]
    ) -> None:
        """Let ``receive`` wait together with the other endpoints of its handle, where it can.

        Args:
            watch: Waits for sockets.
            take: May be given a datagram that came alone while ``receive`` waits, with the address
                that it came from. Then ``receive`` does not return for it. It says whether it was
                data.
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

    @abstractmethod
    async def wait_sendable(self) -> None:
        """Wait until there may be room in the send buffer again."""

    @property
    def backlog(self) -> float:
        """How full the send buffer is: 0.0 is empty, 1.0 full; 0.0 where nobody can tell."""
        return 0.0

    @property
    def drained(self) -> bool:
        """Whether all that has arrived was taken and worked on; True where nobody can tell."""
        return True

    def connect(self, destination: Address) -> Endpoint | None:
        """Open an endpoint at the same local address for one peer alone.

        What is sent over it has a send buffer of its own, so a slow way to another peer does not
        hold it up. What the peer sends from now on arrives there, and what the network says of
        packets to it; what arrived before stays here. Whoever else was quick may have got a packet
        in there too, so look at the source. It has the DSCP of this endpoint, also when that
        changes. Close it before this endpoint: what it has not given by then is lost.

        Returns:
            The endpoint, or None if the system or the transport has no such thing, there is no
            way to the peer now, or it has one already: then this one goes on to serve that peer.
        """
        return None

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


class Transport(ABC):
    """A way of carrying datagrams.

    Attributes:
        name: Its name, as ``add_link`` takes it.
        transport_id: Its number in libknet.
        header_size: The bytes that it adds to the IP header.
    """

    name: ClassVar[str]
    transport_id: ClassVar[int]
    header_size: ClassVar[int]

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
