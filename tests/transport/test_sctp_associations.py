"""Associations over a system that does what the test wants: what they ask of it, and when."""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Callable
from typing import ClassVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio._core.parted import Parts
from knet_trio._transport.sctp import TRIED_AT_ONCE, SctpListener
from knet_trio._transport.sctp_association import AcceptedAssociation, Association
from knet_trio._transport.sctp_connecting import ConnectingAssociation
from knet_trio._transport.sctp_system import (
    AssociationLostError,
    AssociationSocket,
    ListeningSocket,
)
from knet_trio.abc import Arrivals, PeerEndpoint, SocketWatch
from knet_trio.address import Address

LOCAL = Address("192.0.2.1", 5405)
PEER = Address("192.0.2.2", 5405)


class FakeSocket(AssociationSocket):
    """Its peer never answers; what the test puts in ``waiting`` can be read."""

    def __init__(self, watched: socket.socket | None = None) -> None:
        self.watched = watched
        self.waiting: deque[bytes] = deque()
        self.dscp: int | None = None
        self.sent: list[bytes] = []
        self.refusals: deque[int] = deque()
        self._woken = trio.Event()

    def find_error(self) -> int:
        return 0

    def read(self) -> bytes | None:
        if not self.waiting:
            raise BlockingIOError
        return self.waiting.popleft()

    def is_empty(self) -> bool:
        return not self.waiting

    def send(self, packet: bytes) -> None:
        raise NotImplementedError

    def send_parts(self, parts: Parts) -> None:
        raise NotImplementedError

    def send_urgent(self, packet: bytes) -> None:
        if self.refusals:
            raise OSError(self.refusals.popleft(), "as the test wants it")
        self.sent.append(packet)

    def backlog(self) -> float:
        return 0.0

    async def wait_readable(self) -> None:
        await self._woken.wait()

    async def wait_writable(self) -> None:
        await self._woken.wait()

    def wake(self) -> None:
        self._woken.set()

    def set_dscp(self, dscp: int) -> None:
        self.dscp = dscp

    def abort(self) -> None:
        self.wake()

    def close(self) -> None:
        self.wake()


class FakeListener(ListeningSocket):
    """Remembers attempts to connect."""

    can_watch: ClassVar[bool] = True

    def __init__(self) -> None:
        self.local = LOCAL
        self.made: list[FakeSocket] = []
        self.waiting: deque[Address | Exception] = deque()

    def accept(self) -> tuple[AssociationSocket, Address]:
        if not self.waiting:
            raise BlockingIOError
        peer = self.waiting.popleft()
        if isinstance(peer, Exception):
            raise peer
        return FakeSocket(), peer

    def connect(self, peer: Address, retry: float, mark: int | None) -> AssociationSocket:
        self.made.append(FakeSocket())
        return self.made[-1]

    async def wait_acceptable(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self.waiting:
            await trio.sleep_forever()

    def set_dscp(self, dscp: int) -> None:
        pass

    def close(self) -> None:
        pass


class FakeWatch(SocketWatch):
    """Keeps what is to be called when the socket is readable."""

    def __init__(self) -> None:
        self.sockets = 0
        self.take: Callable[[], bool] | None = None
        self._woken = trio.Event()

    def join(self) -> None:
        self.sockets += 1

    def leave(self) -> None:
        self.sockets -= 1

    async def wait_readable(self, sock: socket.socket, take: Callable[[], bool]) -> None:
        self.take, self._woken = take, trio.Event()
        await self._woken.wait()
        self.take = None

    def wake(self, sock: socket.socket) -> None:
        self._woken.set()

    def arrive(self) -> bool:
        """The socket is readable; return whether its task was woken."""
        assert self.take is not None
        if self.take():
            return False
        self._woken.set()
        return True


def listen(system: FakeListener) -> SctpListener:
    return SctpListener(system, None)


class TestAttempts:
    async def test_few_begin_in_one_round_of_the_loop(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        system = FakeListener()
        listener = listen(system)
        connections = [listener.connect(PEER._replace(port=port)) for port in range(1, 41)]
        for connection in connections:
            assert isinstance(connection, ConnectingAssociation)
            nursery.start_soon(connection.receive)
        most = before = 0
        while before < len(connections):
            await trio.lowlevel.checkpoint()
            most = max(most, len(system.made) - before)
            before = len(system.made)
        # The order in which tasks run in a round may put two lots between two of our looks.
        assert 0 < most <= 2 * TRIED_AT_ONCE
        nursery.cancel_scope.cancel()

    async def test_one_that_is_closed_while_others_begin_does_not(
        self, autojump_clock: MockClock
    ) -> None:
        system = FakeListener()
        listener = listen(system)

        async def receive(connection: Association, scope: trio.CancelScope) -> None:
            with scope:
                await connection.receive()

        scopes = [trio.CancelScope() for _ in range(40)]
        async with trio.open_nursery() as nursery:
            connections: list[Association] = []
            for port, scope in enumerate(scopes, start=1):
                connection = listener.connect(PEER._replace(port=port))
                assert isinstance(connection, ConnectingAssociation)
                connections.append(connection)
                nursery.start_soon(receive, connection, scope)
            await trio.lowlevel.checkpoint()
            # As the handle closes them.
            for scope, connection in zip(scopes, connections, strict=True):
                scope.cancel()
                connection.close()
        assert len(system.made) <= 2 * TRIED_AT_ONCE

    async def test_one_under_way_gets_a_new_mark(self, nursery: trio.Nursery) -> None:
        system = FakeListener()
        connection = listen(system).connect(PEER)
        assert isinstance(connection, ConnectingAssociation)
        nursery.start_soon(connection.receive)
        await wait_all_tasks_blocked()
        connection.set_dscp(46)
        assert [sock.dscp for sock in system.made] == [46]
        nursery.cancel_scope.cancel()


class TestPeers:
    async def test_who_is_refused_takes_no_room_from_others(
        self, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("knet_trio._transport.sctp.MOST_ACCEPTED", 2)
        taken: list[PeerEndpoint] = []

        def accept(endpoint: PeerEndpoint) -> None:
            if endpoint.peer.host == PEER.host:
                taken.append(endpoint)
            else:
                endpoint.reset("nobody knows it")
                endpoint.close()

        system = FakeListener()
        listener = listen(system)
        listener.use_connections(accept, 1.0, connects=False)
        nursery.start_soon(listener.receive)
        stranger = Address("192.0.2.66", 1)
        system.waiting += [PEER._replace(port=1), PEER._replace(port=2), stranger]
        await wait_all_tasks_blocked()
        assert not system.waiting
        assert [endpoint.ended for endpoint in taken] == [False, False]
        assert listener.connect(PEER._replace(port=1)) is taken[0]
        assert listener.connect(stranger) is None
        nursery.cancel_scope.cancel()

    async def test_one_that_is_lost_hinders_no_other(self, nursery: trio.Nursery) -> None:
        taken: list[PeerEndpoint] = []
        system = FakeListener()
        listener = listen(system)
        listener.use_connections(taken.append, 1.0, connects=False)
        system.waiting += [AssociationLostError("gone"), PEER]
        nursery.start_soon(listener.receive)
        await wait_all_tasks_blocked()
        assert [endpoint.peer for endpoint in taken] == [PEER]
        nursery.cancel_scope.cancel()

    async def test_without_descriptors_it_waits(
        self, nursery: trio.Nursery, autojump_clock: MockClock
    ) -> None:
        taken: list[PeerEndpoint] = []
        system = FakeListener()
        listener = listen(system)
        listener.use_connections(taken.append, 1.0, connects=False)
        system.waiting += [OSError(errno.EMFILE, "as the test wants it"), PEER]
        nursery.start_soon(listener.receive)
        await wait_all_tasks_blocked()
        assert not taken
        await trio.sleep(1)
        assert [endpoint.peer for endpoint in taken] == [PEER]
        nursery.cancel_scope.cancel()

    async def test_what_is_a_mistake_of_ours_comes_out(self) -> None:
        system = FakeListener()
        listener = listen(system)
        system.waiting += [OSError(errno.EINVAL, "as the test wants it")]
        with pytest.raises(OSError, match="as the test wants it"):
            await listener.receive()


class TestUrgent:
    async def test_what_the_system_refuses_is_not_sent_later(self) -> None:
        """It was counted as failed, and would be in front of everything else."""
        sock = FakeSocket()
        association = AcceptedAssociation(LOCAL, PEER, sock, lambda _: None, can_watch=False)
        sock.refusals += [errno.ENOMEM]
        with pytest.raises(OSError, match="as the test wants it"):
            association.send_urgent_nowait(b"first", PEER)
        assert association.send_urgent_nowait(b"second", PEER)
        assert sock.sent == [b"second"]

    async def test_what_finds_no_room_is(self) -> None:
        sock = FakeSocket()
        association = AcceptedAssociation(LOCAL, PEER, sock, lambda _: None, can_watch=False)
        sock.refusals += [errno.EAGAIN]
        assert association.send_urgent_nowait(b"first", PEER)
        assert sock.sent == []
        assert association.send_urgent_nowait(b"second", PEER)
        assert sock.sent == [b"first", b"second"]


class TestWatch:
    async def test_what_has_not_been_of_use_yet_is_for_the_task(
        self, nursery: trio.Nursery
    ) -> None:
        """Only that finds out whether it is refused, and so which connection is worth least."""
        taken: list[bytes] = []

        def take(packet: bytes, source: Address) -> bool:
            taken.append(packet)
            return False

        watch = FakeWatch()
        with socket.socket() as watched:
            sock = FakeSocket(watched)
            association = AcceptedAssociation(LOCAL, PEER, sock, lambda _: None, can_watch=True)
            association.use_watch(watch, take)
            assert watch.sockets == 1
            arrived: list[Arrivals] = []

            async def receive() -> None:
                while not association.ended:
                    arrived.append(await association.receive())
                    association.is_welcome = b"refused" not in {
                        train.data for train in arrived[-1].trains
                    }

            nursery.start_soon(receive)
            for packet, is_woken in (
                (b"refused", True),
                (b"refused", True),
                (b"good", True),
                (b"better", False),
                (b"best", False),
            ):
                # What comes closely is not waited for in the watch.
                await trio.sleep(0.002)
                await wait_all_tasks_blocked()
                sock.waiting.append(packet)
                assert watch.arrive() is is_woken
            await wait_all_tasks_blocked()
            assert taken == [b"better", b"best"]
            assert [train.data for each in arrived for train in each.trains] == [
                *(b"refused", b"refused", b"good")
            ]
            association.reset("the test is over")
            await wait_all_tasks_blocked()
            assert watch.sockets == 0
