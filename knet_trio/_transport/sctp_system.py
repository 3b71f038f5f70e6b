"""The interface of associations to a system with SCTP: the kernel, or a simulated network."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from typing import ClassVar

from knet_trio._core.parted import Parts
from knet_trio.address import Address


class AssociationLostError(Exception):
    """An association is lost.

    Args:
        reason: The reason, in words.
        number: The error number of the system, 0 for none.

    Attributes:
        reason: The reason, in words.
        number: The error number of the system, 0 for none.
    """

    def __init__(self, reason: str, number: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.number = number


class AssociationSocket(ABC):
    """A socket with an association, or with an attempt to make one. Only ``wait_*`` wait.

    Attributes:
        watched: The socket that a ``SocketWatch`` waits for; None if it cannot wait for this one.
    """

    watched: socket.socket | None = None

    @abstractmethod
    def find_error(self) -> int:
        """Return the error number of an attempt that has ended; 0 if there is an association."""

    @abstractmethod
    def read(self) -> bytes | None:
        """Read once.

        Returns:
            A whole packet. None if something else was read; there may be more to read.

        Raises:
            BlockingIOError: There is nothing to read.
            AssociationLostError: The association is lost.
        """

    @abstractmethod
    def is_empty(self) -> bool:
        """Return whether there is nothing to read: neither data nor the loss of the association."""

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
        """Send a packet in parts, otherwise as ``send`` does."""

    @abstractmethod
    def backlog(self) -> float:
        """Return the share of the send buffer in use, by data not acknowledged yet, from 0 to 1."""

    @abstractmethod
    async def wait_readable(self) -> None:
        """Wait until there may be something to read, or until ``wake`` is called."""

    @abstractmethod
    async def wait_writable(self) -> None:
        """Wait until an attempt has ended, there may be room to send, or ``wake`` is called."""

    @abstractmethod
    def wake(self) -> None:
        """Wake all waiting tasks, since the socket is about to be closed."""

    @abstractmethod
    def set_dscp(self, dscp: int) -> None:
        """Set the DSCP of packets, and their priority in this machine's queues."""

    @abstractmethod
    def abort(self) -> None:
        """Close the socket and notify the peer at once. Packets in the send buffer are dropped."""

    @abstractmethod
    def close(self) -> None:
        """Close the socket. Packets in the send buffer are still sent."""


class ListeningSocket(ABC):
    """A socket that listens at a local address.

    Attributes:
        local: The local address.
        can_watch: True if a ``SocketWatch`` can wait for its associations.
        small_buffers: An explanation if the buffers are smaller than wanted; else None.
    """

    can_watch: ClassVar[bool] = False
    local: Address
    small_buffers: str | None = None

    @abstractmethod
    def accept(self) -> tuple[AssociationSocket, Address]:
        """Accept an association that a peer has made.

        Returns:
            The association, and the address of the peer.

        Raises:
            BlockingIOError: No association waits.
            AssociationLostError: The association was lost before it could be accepted.
            OSError: The system has no descriptor or memory for it.
        """

    @abstractmethod
    def connect(self, peer: Address, retry: float, mark: int | None) -> AssociationSocket:
        """Begin to make an association with ``peer``, from the local host and another port.

        Args:
            peer: The address of the peer.
            retry: The seconds until the peer is asked again.
            mark: The DSCP of its packets; None without high priority.

        Raises:
            OSError: The system refuses.
        """

    @abstractmethod
    async def wait_acceptable(self) -> None:
        """Wait until there may be an association to accept, or the socket is closed."""

    @abstractmethod
    def set_dscp(self, dscp: int) -> None:
        """Set the DSCP of packets, also of associations that are accepted later."""

    @abstractmethod
    def close(self) -> None:
        """Close the socket, and wake all waiting tasks."""
