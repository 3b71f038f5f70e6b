"""Endpoints on real sockets that are closed when the test ends."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from knet_trio._transport.udp import UdpEndpoint, UdpTransport
from knet_trio.address import Address


class Socket(socket.socket):
    """A real socket, of which the test may say what single calls run into.

    ``sends`` are the errors of the next sends, 0 for one that is made; ``calls`` is how many were
    tried. ``unprivileged`` refuses what needs CAP_NET_ADMIN; without ``offload`` the kernel knows
    nothing of trains.
    """

    made: list[Socket]
    unprivileged = False
    offload = True

    def __init__(self, family: int, kind: int) -> None:
        super().__init__(family, kind)
        self.sends: list[int] = []
        self.calls = 0
        self.made.append(self)

    def sendto(self, *arguments: Any) -> int:
        self._next_send()
        return super().sendto(*arguments)

    def sendmsg(self, *arguments: Any) -> int:
        self._next_send()
        if not self.offload:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return super().sendmsg(*arguments)

    def _next_send(self) -> None:
        self.calls += 1
        number = self.sends.pop(0) if self.sends else 0
        if number:
            raise OSError(number, os.strerror(number))

    def setsockopt(self, *arguments: Any) -> None:
        if not self.offload and arguments[:2] == (17, 104):
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
        # SO_SNDBUFFORCE and SO_RCVBUFFORCE.
        if self.unprivileged and arguments[:2] in [
            (socket.SOL_SOCKET, 32),
            (socket.SOL_SOCKET, 33),
        ]:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        super().setsockopt(*arguments)


class Opener:
    """Opens endpoints, and has their sockets."""

    def __init__(self, made: list[Socket]) -> None:
        self._made = made
        self._endpoints: list[UdpEndpoint] = []

    def __call__(
        self,
        local: Address,
        *,
        privileged: bool = False,
        high_priority: bool = False,
        dscp: int = 0,
    ) -> UdpEndpoint:
        endpoint = UdpTransport().open_endpoint(
            local, privileged=privileged, high_priority=high_priority, dscp=dscp
        )
        self._endpoints.append(endpoint)
        return endpoint

    def socket(self, endpoint: UdpEndpoint) -> Socket:
        """What the endpoint sends through, the first of its address."""
        return self.sockets(endpoint)[0]

    def sockets(self, endpoint: UdpEndpoint) -> list[Socket]:
        """The sockets with the address of the endpoint, in the order in which they were made."""
        name = (endpoint.local.host, endpoint.local.port)
        return [s for s in self._made if s.fileno() >= 0 and s.getsockname()[:2] == name]

    @property
    def left_open(self) -> int:
        """How many sockets are open."""
        return sum(sock.fileno() >= 0 for sock in self._made)

    def free_address(self, local: Address) -> Address:
        """An address that was in use a moment ago, and nobody listens on."""
        endpoint = self(local)
        endpoint.close()
        return endpoint.local

    def close(self) -> None:
        for endpoint in self._endpoints:
            endpoint.close()


@pytest.fixture
async def open_udp(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Opener]:
    made: list[Socket] = []
    kind = type("Socket", (Socket,), {"made": made})
    monkeypatch.setattr("socket.socket", kind)
    opener = Opener(made)
    yield opener
    opener.close()


@pytest.fixture
def unprivileged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CAP_NET_ADMIN."""
    monkeypatch.setattr(Socket, "unprivileged", True)
