from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any

import pytest

from knet_trio._transport.errqueue import (
    IP_RECVERR,
    IPV6_RECVERR,
    read_errors,
)
from knet_trio._transport.interfaces import Interfaces
from knet_trio.abc import PathTrouble
from knet_trio.address import Address

LO = socket.if_nametoindex("lo")
DESTINATION = ("198.51.100.2", 5405)
LOCAL, ICMP = 1, 2


class Scripted(socket.socket):
    """A socket whose error queue holds what the test puts there."""

    def __init__(self, *entries: object) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self.entries = list(entries)

    def recvmsg(self, *_: int) -> Any:
        if not self.entries:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        entry = self.entries.pop(0)
        if isinstance(entry, OSError):
            raise entry
        return entry


def extended(number: int, origin: int, info: int = 0) -> bytes:
    """A struct sock_extended_err, followed by the offender's address as the kernel has it."""
    return struct.pack("=IBBBBII", number, origin, 0, 0, 0, info, 0) + bytes(16)


def entry(
    data: bytes,
    *,
    level: int = socket.IPPROTO_IP,
    kind: int = IP_RECVERR,
    name: tuple[str, int] | tuple[str, int, int, int] = DESTINATION,
) -> object:
    return b"", [(level, kind, data)], 0, name


def read(*entries: object) -> list[PathTrouble]:
    with Scripted(*entries) as sock:
        return read_errors(sock, Interfaces())


class TestReading:
    def test_nothing(self) -> None:
        assert read() == []

    @pytest.mark.parametrize(("origin", "local"), [(LOCAL, True), (ICMP, False), (3, False)])
    def test_says_what_and_who(self, origin: int, local: bool) -> None:
        (trouble,) = read(entry(extended(errno.EHOSTUNREACH, origin)))
        assert trouble == PathTrouble(Address(*DESTINATION), errno.EHOSTUNREACH, None, local)
        assert isinstance(trouble.destination, Address)

    @pytest.mark.parametrize(
        ("number", "info", "mtu"),
        [(errno.EMSGSIZE, 1400, 1400), (errno.EMSGSIZE, 0, None), (errno.ECONNREFUSED, 9, None)],
    )
    def test_the_mtu_comes_with_a_datagram_that_is_too_large(
        self, number: int, info: int, mtu: int | None
    ) -> None:
        (trouble,) = read(entry(extended(number, ICMP, info)))
        assert trouble.mtu == mtu

    def test_ipv6(self) -> None:
        (trouble,) = read(
            entry(
                extended(errno.ECONNREFUSED, ICMP),
                level=socket.IPPROTO_IPV6,
                kind=IPV6_RECVERR,
                name=("fe80::1", 5405, 0, LO),
            )
        )
        assert trouble.destination == ("fe80::1%lo", 5405)

    def test_takes_all_there_are(self) -> None:
        troubles = read(*[entry(extended(errno.ECONNREFUSED, ICMP))] * 10)
        assert len(troubles) == 10

    def test_but_only_so_many_at_once(self) -> None:
        with Scripted(*[entry(extended(errno.ECONNREFUSED, ICMP))] * 100) as sock:
            first = read_errors(sock, Interfaces())
            second = read_errors(sock, Interfaces())
        assert 0 < len(first) < 100
        assert len(first) + len(second) == 100

    def test_other_ancillary_data_is_left_aside(self) -> None:
        unlike = [
            entry(extended(errno.ECONNREFUSED, ICMP), kind=99),
            entry(extended(errno.ECONNREFUSED, ICMP), level=socket.SOL_SOCKET),
            entry(b"short"),
        ]
        assert read(*unlike) == []

    def test_the_pending_error_of_the_socket_hides_nothing(self) -> None:
        pending = OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        assert len(read(pending, entry(extended(errno.ECONNREFUSED, ICMP)))) == 1

    @pytest.mark.parametrize("number", [errno.EBADF, errno.EINVAL])
    def test_a_socket_that_cannot_be_read(self, number: int) -> None:
        with pytest.raises(OSError, match=os.strerror(number)):
            read(OSError(number, os.strerror(number)))


class TestReceivedAddress:
    @pytest.mark.parametrize(
        ("name", "address"),
        [
            (("10.0.0.1", 5405), ("10.0.0.1", 5405)),
            (("fd00::1", 5405, 0, 0), ("fd00::1", 5405)),
            (("fe80::1", 5405, 0, LO), ("fe80::1%lo", 5405)),
            (("fe80::1%lo", 5405, 0, LO), ("fe80::1%lo", 5405)),
            # The interface has gone meanwhile.
            (("fe80::1", 5405, 0, 99999), ("fe80::1%99999", 5405)),
        ],
    )
    def test_is_canonical(
        self, name: tuple[str, int] | tuple[str, int, int, int], address: tuple[str, int]
    ) -> None:
        received = Interfaces().from_kernel(name)
        assert received == address
        assert isinstance(received, Address)
