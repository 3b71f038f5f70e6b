"""What comes to a quiet socket is taken by the watch; a stream has a task of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from socket import socket

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio._state.turns import Turns
from knet_trio._transport import udp_receiver
from knet_trio._transport.udp import UdpEndpoint
from knet_trio._transport.watch import EpollWatch
from knet_trio.abc import Arrivals, SocketWatch
from knet_trio.address import Address
from tests.transport.conftest import Opener

HERE = Address("127.0.0.1", 0)
LIMIT = 10.0


class Quiet:
    """An endpoint that a task receives from, with a watch, and one that sends to it."""

    def __init__(self, open_udp: Opener) -> None:
        self.here, self.there = open_udp(HERE), open_udp(HERE)
        self.taken: list[bytes] = []
        self.received: list[Arrivals] = []
        self.is_data = False
        self.drained_meanwhile: list[bool] = []
        self.closed = False
        self.watch = EpollWatch()
        # One socket alone is not watched.
        self.watch.join()
        self.there.use_watch(self.watch, self.take)

    def take(self, datagram: bytes, source: Address) -> bool:
        assert source == self.here.local
        self.taken.append(datagram)
        self.drained_meanwhile.append(self.there.drained)
        return self.is_data

    async def run(self) -> None:
        try:
            while True:
                self.received.append(await self.there.receive())
        except trio.ClosedResourceError:
            self.closed = True

    async def send(self, *datagrams: bytes) -> None:
        assert self.here.send_nowait(datagrams, self.there.local) == len(datagrams)
        await wait_all_tasks_blocked()

    @property
    def trains(self) -> list[tuple[bytes, int]]:
        return [(train.data, train.size) for arrivals in self.received for train in arrivals.trains]


@asynccontextmanager
async def open_quiet(open_udp: Opener) -> AsyncGenerator[Quiet, None]:
    quiet = Quiet(open_udp)
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(quiet.watch.run, Turns())
            await wait_all_tasks_blocked()
            nursery.start_soon(quiet.run)
            await wait_all_tasks_blocked()
            yield quiet
            nursery.cancel_scope.cancel()


async def test_control_packets_never_wake_the_task(open_udp: Opener) -> None:
    async with open_quiet(open_udp) as quiet:
        for _ in range(5):
            await quiet.send(b"ping")
        assert quiet.taken == [b"ping"] * 5
        assert quiet.received == []
        # What is being worked on has not been worked on.
        assert quiet.drained_meanwhile == [False] * 5
        assert quiet.there.drained


async def test_one_message_after_the_other_wakes_it(
    open_udp: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp_receiver, "CLOSE", 1000.0)
    async with open_quiet(open_udp) as quiet:
        quiet.is_data = True
        await quiet.send(b"one")
        await quiet.send(b"two")
        assert (quiet.taken, quiet.received) == ([b"one", b"two"], [])
        await quiet.send(b"three")
        assert quiet.taken == [b"one", b"two"]
        assert quiet.trains == [(b"three", 5)]
        # They are not close any more.
        monkeypatch.setattr(udp_receiver, "CLOSE", 0.0)
        await quiet.send(b"four")
        assert quiet.trains == [(b"three", 5), (b"four", 4)]
        await quiet.send(b"five")
        assert quiet.taken[2:] == [b"five"]


async def test_a_train_and_a_large_one_are_for_the_task(open_udp: Opener) -> None:
    async with open_quiet(open_udp) as quiet:
        await quiet.send(*[b"ab"] * 10)
        assert quiet.taken == []
        assert sum(len(data) for data, _ in quiet.trains) == 20
    async with open_quiet(open_udp) as quiet:
        await quiet.send(bytes(5000))
        assert quiet.taken == []
        assert quiet.trains == [(bytes(5000), 5000)]


async def test_one_that_is_closed_meanwhile(open_udp: Opener) -> None:
    async with open_quiet(open_udp) as quiet:
        quiet.there.close()
        await wait_all_tasks_blocked()
        assert quiet.closed


async def test_an_error_comes_with_what_arrived_before_it(open_udp: Opener) -> None:
    async with open_quiet(open_udp) as quiet:
        gone = open_udp(HERE)
        refused = gone.local
        gone.close()
        quiet.there.send_nowait([b"x"], refused)
        await wait_all_tasks_blocked()
        (arrivals,) = quiet.received
        assert [trouble.destination for trouble in arrivals.troubles] == [refused]


class HeldWatch(SocketWatch):
    """Has what comes taken, and wakes the task that waits when somebody asks for it."""

    def __init__(self) -> None:
        self.goes_on = True
        self._woken = trio.Event()

    def join(self) -> None:
        pass

    def leave(self) -> None:
        pass

    async def wait_readable(self, sock: socket, take: Callable[[], bool]) -> None:
        await trio.lowlevel.wait_readable(sock)
        self.goes_on = take()
        await self._woken.wait()

    def wake(self, sock: socket) -> None:
        self._woken.set()


async def test_a_connected_one_waits_for_what_came_before(open_udp: Opener) -> None:
    """The peer sent it earlier, to the shared socket, whose task has not worked on it yet."""
    here, there = open_udp(HERE), open_udp(HERE)
    received: list[int] = []

    async def receive_from(endpoint: UdpEndpoint) -> None:
        while True:
            received.extend(len(train.data) for train in (await endpoint.receive()).trains)

    def take(datagram: bytes, source: Address) -> bool:
        raise AssertionError

    watch = HeldWatch()
    there.use_watch(watch, take)
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_from, there)
            await wait_all_tasks_blocked()
            here.send_nowait([bytes(5000)], there.local)
            await wait_all_tasks_blocked()
            assert not watch.goes_on
            assert received == []
            connected = there.connect(here.local)
            assert connected is not None
            here.send_nowait([b"after"], there.local)
            nursery.start_soon(receive_from, connected)
            await wait_all_tasks_blocked()
            assert received == [5000, 5]
            nursery.cancel_scope.cancel()
    connected.close()
