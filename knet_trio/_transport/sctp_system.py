"""What associations need of the system that has SCTP: the kernel, or a simulated network."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from typing import ClassVar

from knet_trio._core.parted import Parts
from knet_trio.address import Address


class AssociationLostError(Exception):
    """An association is lost.

    Args:
        reason: Why, in words.
        number: The system's number of the error, 0 for none.

    Attributes:
        reason: Why, in words.
        number: The system's number of the error, 0 for none.
    """

    def __init__(self, reason: str, number: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.number = number


class AssociationSocket(ABC):
    """A socket with an association, or with an attempt to make one. Nothing but ``wait_*`` waits.

    Attributes:
        watched: What a ``SocketWatch`` waits for in its place, None if none can.
    """

    watched: socket.socket | None = None

    @abstractmethod
    def find_error(self) -> int:
        """Return why an attempt that is over has failed, 0 if there is an association now."""

    @abstractmethod
    def read(self) -> bytes | None:
        """Read once.

        Returns:
            A whole packet; None if what was read is none, and there may be more to read.

        Raises:
            BlockingIOError: There is nothing to read.
            AssociationLostError: The association is lost.
        """

    @abstractmethod
    def is_empty(self) -> bool:
        """Return whether there is nothing to read, not even that the association is lost."""

    @abstractmethod
    def send(self, packet: bytes) -> None:
        """Send a packet.

        Raises:
            BlockingIOError: The send buffer is full.
            OSError: The system refuses it.
        """

    def send_urgent(self, packet: bytes) -> None:
        """Send a packet before those that wait in the send buffer, where possible.

        Raises:
            OSError: As ``send`` does.
        """
        self.send(packet)

    @abstractmethod
    def send_parts(self, parts: Parts) -> None:
        """Send a packet that is in parts, as ``send`` does."""

    @abstractmethod
    def backlog(self) -> float:
        """Return how much of the send buffer is in use by what the peer has not acknowledged.

        Returns:
            From 0 to 1.
        """

    @abstractmethod
    async def wait_readable(self) -> None:
        """Wait until there may be something to read; returns once ``wake`` was called, too."""

    @abstractmethod
    async def wait_writable(self) -> None:
        """Wait until an attempt is over, or until there may be room in the send buffer.

        Returns once ``wake`` was called, too.
        """

    @abstractmethod
    def wake(self) -> None:
        """Wake whoever waits, since it is about to be closed."""

    @abstractmethod
    def set_dscp(self, dscp: int) -> None:
        """Set the type of service, and the priority in this machine's own queues."""

    @abstractmethod
    def abort(self) -> None:
        """Close it so that the peer is told at once; nothing that waits is sent any more."""

    @abstractmethod
    def close(self) -> None:
        """Close it; what waits to be sent is still sent."""


class ListeningSocket(ABC):
    """A socket that listens at a local address.

    Attributes:
        local: The address.
        can_watch: Whether its associations are sockets that a ``SocketWatch`` can wait for.
        small_buffers: What is wrong if the system gives smaller buffers than wanted; else None.
    """

    can_watch: ClassVar[bool] = False
    local: Address
    small_buffers: str | None = None

    @abstractmethod
    def accept(self) -> tuple[AssociationSocket, Address]:
        """Take an association that a peer has made, and the address of the peer.

        Raises:
            BlockingIOError: None waits.
            AssociationLostError: It was lost before it could be taken.
            OSError: The system has no descriptor or memory for it.
        """

    @abstractmethod
    def connect(self, peer: Address, retry: float, mark: int | None) -> AssociationSocket:
        """Begin to make an association with ``peer``, from the same host and another port.

        Args:
            peer: Where to.
            retry: Seconds until the peer is asked again.
            mark: The DSCP of its packets, None for those without priority.

        Raises:
            OSError: The system refuses.
        """

    @abstractmethod
    async def wait_acceptable(self) -> None:
        """Wait until there may be something to accept, or until it is closed."""

    @abstractmethod
    def set_dscp(self, dscp: int) -> None:
        """Set the type of service, also of what is accepted later."""

    @abstractmethod
    def close(self) -> None:
        """Listen no more, and wake whoever waits."""
