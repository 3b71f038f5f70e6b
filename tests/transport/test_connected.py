"""Sockets for one peer alone, beside the one that others use."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio._transport import options
from knet_trio._transport.udp import UdpEndpoint
from knet_trio.abc import PathTrouble
from knet_trio.address import Address, parse_address, socket_address
from tests.transport.conftest import Opener, Socket
from tests.transport.test_udp import (
    PATIENCE,
    V4,
    V6,
    both,
    made_namespaces,
    open_plain,
    priority,
    receive,
    receive_troubles,
)


def connect(shared: UdpEndpoint, peer: Address) -> UdpEndpoint:
    """A socket for ``peer``, which there has to be."""
    endpoint = shared.connect(peer)
    assert endpoint is not None
    return endpoint


def bind_elsewhere(address: Address, *, reuse: bool) -> None:
    """What another program would do."""
    family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
        sock.bind(socket_address(address))


async def expect(endpoint: UdpEndpoint, datagrams: list[tuple[bytes, Address]]) -> None:
    """Receive just these, and nothing after them."""
    assert await receive(endpoint, len(datagrams)) == datagrams
    with trio.move_on_after(0) as scope:
        await endpoint.receive()
    assert scope.cancelled_caught


class TestOrder:
    """What came to the shared socket first is worked on first."""

    @both
    async def test_a_connected_socket_is_read_when_the_shared_one_has_been(
        self, local: Address, open_udp: Opener
    ) -> None:
        shared, peer = open_udp(local), open_udp(local)
        got: list[bytes] = []

        async def read(endpoint: UdpEndpoint, turns: int) -> None:
            while True:
                trains = (await endpoint.receive()).trains
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
                got.extend(datagram for train in trains for datagram in train.datagrams())

        peer.send_nowait([b"%d" % number for number in range(300)], shared.local)
        connected = connect(shared, peer.local)
        try:
            peer.send_nowait([b"%d" % number for number in range(300, 600)], shared.local)
            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(read, connected, 0)
                    await wait_all_tasks_blocked()
                    assert got == []
                    # It takes its time.
                    nursery.start_soon(read, shared, 10)
                    while len(got) < 600:
                        await trio.lowlevel.checkpoint()
                    nursery.cancel_scope.cancel()
        finally:
            connected.close()
        assert got == [b"%d" % number for number in range(600)]

    async def test_a_flood_of_others_does_not_hold_it_up_for_good(self, open_udp: Opener) -> None:
        shared, peer, stranger = (open_udp(V4) for _ in range(3))
        size = 60_000
        stranger.send_nowait([bytes(size)], shared.local)
        connected = connect(shared, peer.local)
        received = 0
        try:
            peer.send_nowait([b"x"], shared.local)

            async def flood() -> None:
                nonlocal received
                while True:
                    await shared.receive()
                    received += size
                    # There is always something.
                    stranger.send_nowait([bytes(size)] * 4, shared.local)

            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(flood)
                    assert await receive(connected, 1) == [(b"x", peer.local)]
                    nursery.cancel_scope.cancel()
        finally:
            connected.close()
        assert received > size

    async def test_or_when_the_shared_one_is_closed(self, open_udp: Opener) -> None:
        shared, peer, stranger = (open_udp(V4) for _ in range(3))
        stranger.send_nowait([b"x"], shared.local)
        connected = connect(shared, peer.local)
        try:
            peer.send_nowait([b"y"], shared.local)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(expect, connected, [(b"y", peer.local)])
                await wait_all_tasks_blocked()
                shared.close()
        finally:
            connected.close()


class TestPackets:
    @both
    async def test_of_the_peer_arrive_there_and_others_do_not(
        self, local: Address, open_udp: Opener
    ) -> None:
        shared, peer, stranger = (open_udp(local) for _ in range(3))
        connected = connect(shared, peer.local)
        try:
            assert connected.local == shared.local
            peer.send_nowait([b"one"], shared.local)
            stranger.send_nowait([b"two"], shared.local)
            peer.send_nowait([b"3"] * 40, shared.local)
            # Each has a task that reads it.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(expect, shared, [(b"two", stranger.local)])
                nursery.start_soon(
                    expect, connected, [(b"one", peer.local)] + [(b"3", peer.local)] * 40
                )
        finally:
            connected.close()

    @both
    async def test_go_out_of_the_same_port(self, local: Address, open_udp: Opener) -> None:
        shared, peer, other = (open_udp(local) for _ in range(3))
        connected = connect(shared, peer.local)
        try:
            for sender, datagrams in (
                (shared, [b"a"]),
                (connected, [b"b"]),
                (connected, [b"c"] * 40),
            ):
                assert sender.send_nowait(datagrams, peer.local) == len(datagrams)
                expected = [(datagram, shared.local) for datagram in datagrams]
                assert await receive(peer, len(datagrams)) == expected
            # Nobody should, but it gets where it is sent.
            assert connected.send_nowait([b"d"], other.local) == 1
            assert await receive(other, 1) == [(b"d", shared.local)]
        finally:
            connected.close()

    @both
    async def test_that_were_quicker_keep_their_source(
        self, local: Address, open_udp: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between binding and connecting anybody's may get in."""
        shared, peer, stranger = (open_udp(local) for _ in range(3))
        plain = Socket.connect

        def connect_late(sock: Socket, name: Any) -> None:
            stranger.send_nowait([b"quick"], shared.local)
            plain(sock, name)

        monkeypatch.setattr(Socket, "connect", connect_late)
        connected = connect(shared, peer.local)
        try:
            assert await receive(connected, 1) == [(b"quick", stranger.local)]
        finally:
            connected.close()

    @both
    async def test_that_arrived_before_are_where_they_were(
        self, local: Address, open_udp: Opener
    ) -> None:
        shared, peer = open_udp(local), open_udp(local)
        peer.send_nowait([b"early"], shared.local)
        connected = connect(shared, peer.local)
        connected.close()
        peer.send_nowait([b"late"], shared.local)
        assert await receive(shared, 2) == [(b"early", peer.local), (b"late", peer.local)]

    async def test_between_link_local_addresses(self) -> None:
        with made_namespaces(1500) as pair, ExitStack() as stack:
            with pair.inside(0):
                shared = open_plain(Address(pair.link_local(0, 0), 0))
            stack.callback(shared.close)
            with pair.inside(1):
                peer = open_plain(Address(pair.link_local(1, 0), 0))
            stack.callback(peer.close)
            with pair.inside(0):
                connected = connect(shared, peer.local)
                stack.callback(connected.close)
                assert connected.local.host == "fe80::1%veth0"
                connected.send_nowait([b"hello"], peer.local)
                assert await receive(peer, 1) == [(b"hello", connected.local)]
                peer.send_nowait([b"hello"], shared.local)
                assert await receive(connected, 1) == [(b"hello", peer.local)]


class TestTrouble:
    @both
    async def test_of_the_peer_comes_there(self, local: Address, open_udp: Opener) -> None:
        shared = open_udp(local)
        nobody = open_udp.free_address(local)
        connected = connect(shared, nobody)
        try:
            for datagrams in ([b"lost"], [b"lost"] * 2):
                assert connected.send_nowait(datagrams, nobody) == len(datagrams)
                troubles = await receive_troubles(connected)
                assert set(troubles) == {PathTrouble(nobody, errno.ECONNREFUSED, None, False)}
                # Each of a train may have its answer.
                while connected.troubles():
                    pass
            with trio.move_on_after(0) as scope:
                await shared.receive()
            assert scope.cancelled_caught
        finally:
            connected.close()


class TestTheAddress:
    @both
    @pytest.mark.parametrize("reuse", [False, True])
    @pytest.mark.parametrize("closed", ["none", "connected", "shared"])
    async def test_is_nobody_elses(
        self, local: Address, reuse: bool, closed: str, open_udp: Opener
    ) -> None:
        shared = open_udp(local)
        peers = [open_udp(local) for _ in range(3)]
        connected = [connect(shared, peer.local) for peer in peers]
        try:
            if closed == "connected":
                connected.pop().close()
            elif closed == "shared":
                shared.close()
            with pytest.raises(OSError, match="already in use"):
                bind_elsewhere(shared.local, reuse=reuse)
            wildcard = Address("::" if local.is_ipv6 else "0.0.0.0", shared.local.port)
            with pytest.raises(OSError, match="already in use"):
                bind_elsewhere(wildcard, reuse=reuse)
        finally:
            for endpoint in connected:
                endpoint.close()
        shared.close()
        bind_elsewhere(shared.local, reuse=False)

    @both
    async def test_closing_the_shared_one_first_leaves_the_others(
        self, local: Address, open_udp: Opener
    ) -> None:
        shared, peer = open_udp(local), open_udp(local)
        connected = connect(shared, peer.local)
        shared.close()
        connected.send_nowait([b"there"], peer.local)
        assert await receive(peer, 1) == [(b"there", shared.local)]
        peer.send_nowait([b"back"], shared.local)
        assert await receive(connected, 1) == [(b"back", peer.local)]
        connected.close()
        peer.close()
        assert open_udp.left_open == 0


class TestOptions:
    @both
    async def test_are_those_of_the_shared_one(self, local: Address, open_udp: Opener) -> None:
        shared, peer, other = (open_udp(local, high_priority=True, dscp=46) for _ in range(3))
        connected = connect(shared, peer.local)
        level = socket.IPPROTO_IPV6 if local.is_ipv6 else socket.IPPROTO_IP
        names = (23, 25, 78, 26) if local.is_ipv6 else (10, 11, 15)
        try:
            socks = open_udp.sockets(shared)
            assert len(socks) == 2
            assert (
                len({tuple(sock.getsockopt(level, name) for name in names) for sock in socks}) == 1
            )
            assert not any(sock.getblocking() or sock.get_inheritable() for sock in socks)
            assert [priority(sock) for sock in socks] == [(6, 0xB8)] * 2
            shared.set_dscp(63)
            assert [priority(sock) for sock in socks] == [(6, 0xFC)] * 2
            late = connect(shared, other.local)
            assert priority(open_udp.sockets(shared)[-1]) == (6, 0xFC)
            late.close()
            # What is closed is not marked any more.
            shared.set_dscp(46)
        finally:
            connected.close()

    async def test_its_send_buffer_is_small(
        self, open_udp: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Below what any system allows.
        monkeypatch.setattr(options, "SOCKET_BUFFER", 64 * 1024)
        monkeypatch.setattr(options, "CONNECTED_SEND_BUFFER", 32 * 1024)
        shared, peer = open_udp(V4), open_udp(V4)
        connected = connect(shared, peer.local)
        sock = open_udp.sockets(shared)[-1]
        sizes = [
            sock.getsockopt(socket.SOL_SOCKET, option)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF)
        ]
        connected.close()
        # The kernel shows twice what was asked for.
        assert sizes == [2 * 64 * 1024, 2 * 32 * 1024]


class TestWhereThereIsNone:
    """Then the shared one serves the peer, and nothing is left open."""

    async def expect_none(self, shared: UdpEndpoint, peer: Address, open_udp: Opener) -> None:
        before = open_udp.left_open
        assert shared.connect(peer) is None
        assert open_udp.left_open == before
        with pytest.raises(OSError, match="already in use"):
            bind_elsewhere(shared.local, reuse=True)

    @pytest.mark.parametrize("call", ["bind", "connect", "setsockopt"])
    @pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EADDRINUSE, errno.ENOBUFS])
    async def test_the_system_refuses(
        self, call: str, number: int, open_udp: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shared, peer = open_udp(V4), open_udp(V4)

        def refuse(*_: Any) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(Socket, call, refuse)
            if call == "setsockopt":
                # Not for the shared one.
                open_udp.socket(shared).setsockopt = plain(open_udp.socket(shared))  # type: ignore[method-assign]
            before = open_udp.left_open
            assert shared.connect(peer.local) is None
            assert open_udp.left_open == before
        # It may be there later.
        connect(shared, peer.local).close()

    async def test_no_more_descriptors(
        self, open_udp: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shared, peer = open_udp(V4), open_udp(V4)

        def refuse(*_: int) -> socket.socket:
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr("socket.socket", refuse)
        assert shared.connect(peer.local) is None

    async def test_no_route(self) -> None:
        with made_namespaces(1500) as pair:
            for local, nowhere in ((pair.v4(0, 0), "203.0.113.1"), (pair.v6(0, 0), "2001:db8::1")):
                with pair.inside(0):
                    shared = open_plain(parse_address(local, 0))
                    descriptors = os.listdir("/proc/self/fd")
                    assert shared.connect(Address(nowhere, 5405)) is None
                    assert os.listdir("/proc/self/fd") == descriptors
                    with pytest.raises(OSError, match="already in use"):
                        bind_elsewhere(shared.local, reuse=True)
                    shared.close()

    @pytest.mark.parametrize(("host", "local"), [("0.0.0.0", V4), ("::", V6)])
    async def test_an_address_that_stands_for_all(
        self, host: str, local: Address, open_udp: Opener
    ) -> None:
        peer = open_udp(local)
        await self.expect_none(open_udp(Address(host, 0)), peer.local, open_udp)

    async def test_one_is_there_already(self, open_udp: Opener) -> None:
        shared, peer, other = (open_udp(V4) for _ in range(3))
        connected = connect(shared, peer.local)
        await self.expect_none(shared, peer.local, open_udp)
        await self.expect_none(connected, other.local, open_udp)
        connected.close()
        connect(shared, peer.local).close()

    async def test_the_interface_of_the_peer_is_gone(self, open_udp: Opener) -> None:
        shared = open_udp(V6)
        await self.expect_none(shared, Address("fe80::1%gone0", 5405), open_udp)

    async def test_the_shared_one_is_closed(self, open_udp: Opener) -> None:
        shared, peer = open_udp(V4), open_udp(V4)
        shared.close()
        before = open_udp.left_open
        assert shared.connect(peer.local) is None
        assert open_udp.left_open == before


def plain(sock: socket.socket) -> Callable[..., None]:
    """What sets an option of ``sock``, whatever its class does."""

    def set_option(*arguments: Any) -> None:
        socket.SocketType.setsockopt(sock, *arguments)

    return set_option


class TestClosing:
    async def test_wakes_who_receives(self, open_udp: Opener) -> None:
        shared, peer = open_udp(V4), open_udp(V4)
        connected = connect(shared, peer.local)
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:

                async def wait() -> None:
                    with pytest.raises(trio.ClosedResourceError):
                        await connected.receive()

                nursery.start_soon(wait)
                await wait_all_tasks_blocked()
                connected.close()
                connected.close()
        with pytest.raises(trio.ClosedResourceError):
            await connected.wait_sendable()
        peer.send_nowait([b"x"], shared.local)
        assert await receive(shared, 1) == [(b"x", peer.local)]
