"""What a handle is made of and can be given another kind of: ciphers, transports, filters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from knet_trio.address import Address
from knet_trio.errors import PacketError
from knet_trio.message import Filter

__all__ = [
    "Arrivals",
    "Cipher",
    "Compressor",
    "Endpoint",
    "Filter",
    "PathTrouble",
    "Train",
    "Transport",
]


class Cipher(ABC):
    """Puts packets into envelopes and takes them out.

    ``salt_size`` and ``hash_size`` are the bytes an envelope adds, ``block_size`` what it pads to
    (0: nothing, 1: a stream).
    """

    salt_size: int
    hash_size: int
    block_size: int

    @abstractmethod
    def seal(self, packets: Sequence[bytes]) -> list[bytes]:
        """The envelopes of ``packets``, in their order."""

    @abstractmethod
    def open_untrusted(self, envelope: bytes) -> bytes:
        """The packet in ``envelope``. Raises PacketError, and nothing else, if it is not one."""

    def open_many_untrusted(self, envelopes: Sequence[bytes]) -> list[bytes | PacketError]:
        """The packets in ``envelopes``, in their order; an error in the place of one that is none.

        For ciphers that open many with little more work than one.
        """
        packets: list[bytes | PacketError] = []
        for envelope in envelopes:
            try:
                packets.append(self.open_untrusted(envelope))
            except PacketError as error:
                # The traceback leads to this list, and so in a ring, with all that is in it.
                packets.append(error.with_traceback(None))
        return packets


class Compressor(ABC):
    """Makes messages smaller, and large again.

    Attributes:
        wire_id: Names the algorithm in packets, 1 to 255.
        slow: Whether opening 64 KiB takes more than a millisecond: then a thread does it, and
            compresses too.
        compress_at_once: Messages of up to this length, in bytes, are compressed in less than half
            a millisecond. A thread compresses longer ones.
    """

    wire_id: int
    slow: bool = False
    compress_at_once: int = 65536

    @abstractmethod
    def compress(self, message: bytes) -> bytes:
        """A shorter form of ``message``, or one that is not shorter if there is none."""

    @abstractmethod
    def decompress_untrusted(self, data: bytes, limit: int) -> bytes:
        """The message in ``data``.

        Raises PacketError, and nothing else, if it is none or has more than ``limit`` bytes; no
        more memory than that is used in finding out.
        """


class PathTrouble(NamedTuple):
    """What the network, or this machine's kernel, says of packets sent to ``destination``.

    ``errno`` is the system's number for it. With EMSGSIZE, ``mtu`` is the largest on-wire size that
    would have gone, None if nobody said. ``local`` is True when this machine itself said so.
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
    """Datagrams that came in a row from one source, coupled in ``data``.

    Each has ``size`` bytes; the last may have fewer. One datagram on its own is a train too.
    """

    data: bytes
    size: int
    source: Address

    def datagrams(self) -> list[bytes]:
        """The datagrams one by one."""
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

    ``small_buffers`` says what is wrong and what helps if the system gives it smaller buffers than
    the protocol wants, else it is None.
    """

    local: Address
    small_buffers: str | None = None

    @abstractmethod
    async def receive(self) -> Arrivals:
        """Wait until something arrives, and take what is there, up to a bound.

        Raises ``trio.ClosedResourceError`` once the endpoint is closed.
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
        """Return when there may be room again."""

    @property
    def backlog(self) -> float:
        """How full the send buffer is: 0.0 is empty, 1.0 full; 0.0 where nobody can tell."""
        return 0.0

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

        With ``dscp`` (1 to 63), or with the low-delay type of service when that is 0. Raises
        TransportError if the system refuses.
        """

    @abstractmethod
    def close(self) -> None:
        """Give the address back; whoever waits is woken with ClosedResourceError."""


class Transport(ABC):
    """A way of carrying datagrams. ``header_size`` is what it adds to the IP header."""

    name: ClassVar[str]
    transport_id: ClassVar[int]
    header_size: ClassVar[int]

    @abstractmethod
    def open_endpoint(
        self, local: Address, *, privileged: bool, high_priority: bool, dscp: int
    ) -> Endpoint:
        """Bind ``local``; port 0 takes a free one.

        ``privileged`` insists on large socket buffers (ENAMETOOLONG when refused);
        ``high_priority`` marks packets for the network with ``dscp``, or with the low-delay type of
        service when that is 0. Raises TransportError if the system refuses.
        """
