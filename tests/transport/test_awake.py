"""A socket whose next datagram is about to come is not slept for."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio._transport import udp_receiver
from knet_trio._transport.udp import UdpEndpoint
from knet_trio._transport.udp_receiver import AWAKE_AFTER, AWAKE_TURNS, CLOSE
from knet_trio.address import Address
from tests.transport.conftest import Opener

HERE = Address("127.0.0.1", 0)


class Clocks:
    """The clocks of the module: they move when a test says so."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def perf_counter(self) -> float:
        return self.wall

    def thread_time(self) -> float:
        return self.cpu


class Reader:
    """A task that receives from ``there``, and how often it fell asleep for that."""

    def __init__(self, opener: Opener, nursery: trio.Nursery, patch: pytest.MonkeyPatch) -> None:
        self.slept = 0
        self.got = 0
        self.clocks = Clocks()
        self.here, self.there = opener(HERE), opener(HERE)
        wait_readable = trio.lowlevel.wait_readable

        async def wait(sock: int) -> None:
            self.slept += 1
            await wait_readable(sock)

        patch.setattr(udp_receiver, "time", self.clocks)
        patch.setattr(trio.lowlevel, "wait_readable", wait)
        nursery.start_soon(self._read, self.there)

    async def _read(self, endpoint: UdpEndpoint) -> None:
        while True:
            arrivals = await endpoint.receive()
            self.got += len(arrivals.trains)

    async def send(self, count: int, *, after: float, busy: float = 0.0, each: int = 1) -> None:
        """Send datagrams ``after`` seconds, ``each`` at once; the thread works for ``busy``."""
        for _ in range(count):
            self.clocks.wall += after
            self.clocks.cpu += busy
            expected = self.got + each
            for _ in range(each):
                self.here.send_nowait([b"x"], self.there.local)
            while self.got < expected:
                await trio.lowlevel.checkpoint()


async def test_close_datagrams_are_awaited_awake(
    open_udp: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trio.open_nursery() as nursery:
        reader = Reader(open_udp, nursery, monkeypatch)
        await reader.send(AWAKE_AFTER + 2, after=CLOSE / 2)
        asleep = reader.slept
        await reader.send(100, after=CLOSE / 2)
        assert reader.slept == asleep
        # Nothing comes any more: it goes to sleep after some turns.
        for _ in range(AWAKE_TURNS + 1):
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        assert reader.slept == asleep + 1
        await reader.send(AWAKE_AFTER - 1, after=CLOSE / 2)
        assert reader.slept == asleep + AWAKE_AFTER
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("after", "busy", "each"),
    [(CLOSE * 2, 0.0, 1), (CLOSE / 2, CLOSE / 2, 1), (CLOSE / 2, 0.0, 2)],
    ids=["far-apart", "while-other-tasks-work", "streams"],
)
async def test_others_are_slept_for(
    after: float, busy: float, each: int, open_udp: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trio.open_nursery() as nursery:
        reader = Reader(open_udp, nursery, monkeypatch)
        await reader.send(100, after=after, busy=busy, each=each)
        assert reader.slept >= 100
        nursery.cancel_scope.cancel()


async def test_a_stream_ends_it(open_udp: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    async with trio.open_nursery() as nursery:
        reader = Reader(open_udp, nursery, monkeypatch)
        await reader.send(AWAKE_AFTER + 2, after=CLOSE / 2)
        await reader.send(1, after=CLOSE / 2, each=2)
        asleep = reader.slept
        await reader.send(10, after=CLOSE / 2)
        assert reader.slept == asleep + 10
        nursery.cancel_scope.cancel()


async def test_nobody_stays_awake_for_what_is_refused(
    open_udp: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trio.open_nursery() as nursery:
        reader = Reader(open_udp, nursery, monkeypatch)
        await reader.send(AWAKE_AFTER + 2, after=CLOSE / 2)
        reader.there.is_welcome = False
        asleep = reader.slept
        await reader.send(100, after=CLOSE / 2)
        assert reader.slept >= asleep + 99
        nursery.cancel_scope.cancel()
