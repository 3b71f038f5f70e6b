"""Trains of datagrams go only where no queue of this machine may become full."""

from __future__ import annotations

import errno
import threading

import pytest
import trio

from knet_trio._transport.backlog import STANDS_STILL, TRAINS_BELOW, Backlogs
from knet_trio._transport.udp import UdpEndpoint
from knet_trio.address import Address
from tests.transport.conftest import Opener
from tests.transport.test_room import slow
from tests.transport.test_udp import PATIENCE, V4, open_plain


class Socket:
    """A socket of which so many bytes wait."""

    def __init__(self, waiting: int = 0) -> None:
        self.waiting = waiting

    def unsent(self) -> int:
        return self.waiting


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


class TestBacklogs:
    def test_one_socket_counts_its_own(self) -> None:
        backlogs, one = Backlogs(), Socket()
        for waiting in (0, TRAINS_BELOW, TRAINS_BELOW + 1, TRAINS_BELOW):
            one.waiting = waiting
            assert backlogs.allow_train(one) is (waiting <= TRAINS_BELOW)

    def test_what_others_have_waiting_counts_too(self) -> None:
        backlogs, one, other = Backlogs(), Socket(), Socket(TRAINS_BELOW // 2)
        assert backlogs.allow_train(other)
        one.waiting = TRAINS_BELOW // 2
        assert backlogs.allow_train(one)
        other.waiting += 1
        assert not backlogs.allow_train(one)
        other.waiting = 0
        assert backlogs.allow_train(one)

    def test_but_not_what_stands_still(self, clock: list[float]) -> None:
        backlogs, one, stuck = Backlogs(), Socket(), Socket(TRAINS_BELOW + 1)
        assert not backlogs.allow_train(stuck)
        assert not backlogs.allow_train(one)
        clock[0] += STANDS_STILL
        assert backlogs.allow_train(one)
        # Its own bytes always count.
        assert not backlogs.allow_train(stuck)
        stuck.waiting += 1
        assert not backlogs.allow_train(one)

    def test_where_many_have_something_there_are_none(self) -> None:
        backlogs, one = Backlogs(), Socket()
        many = [Socket(1) for _ in range(100)]
        for socket in many:
            backlogs.allow_train(socket)
        assert not backlogs.allow_train(one)
        for socket in many:
            backlogs.forget(socket)
        assert backlogs.allow_train(one)

    def test_those_that_have_nothing_any_more_are_forgotten(self) -> None:
        backlogs, one = Backlogs(), Socket()
        many = [Socket(1) for _ in range(100)]
        for socket in many:
            backlogs.allow_train(socket)
            socket.waiting = 0
        assert [backlogs.allow_train(one) for _ in range(10)][-1]

    def test_however_many_stand_still_there_are_trains(self, clock: list[float]) -> None:
        backlogs, one = Backlogs(), Socket()
        stuck = [Socket(TRAINS_BELOW) for _ in range(100)]
        for socket in stuck:
            backlogs.allow_train(socket)
        assert not backlogs.allow_train(one)
        clock[0] += 3600
        # Some are looked at each time, so that it shows after a few.
        answers = [backlogs.allow_train(one) for _ in range(10)]
        assert answers[0] is False
        assert answers[-1] is True
        # Any of them that moves on is noticed, as early.
        stuck[70].waiting += 1
        assert not all(backlogs.allow_train(one) for _ in range(10))
        assert not backlogs.allow_train(one)
        clock[0] += STANDS_STILL
        assert backlogs.allow_train(one)

    def test_those_behind_many_that_stand_still_are_forgotten_too(self, clock: list[float]) -> None:
        backlogs, one = Backlogs(), Socket()
        stuck = [Socket(1) for _ in range(16)]
        busy = [Socket(1) for _ in range(20)]
        for socket in (*stuck, *busy):
            backlogs.allow_train(socket)
        clock[0] += 3600
        for socket in busy:
            backlogs.allow_train(socket)
            socket.waiting = 0
        assert [backlogs.allow_train(one) for _ in range(3)][-1]

    def test_it_looks_at_few_at_a_time(self, clock: list[float]) -> None:
        backlogs, one = Backlogs(), Socket()
        looks: list[Socket] = []

        class Watched(Socket):
            def unsent(self) -> int:
                looks.append(self)
                return super().unsent()

        watched = [Watched(1) for _ in range(1000)]
        for seconds in (0, 3600):
            clock[0] += seconds
            for socket in watched:
                backlogs.allow_train(socket)
                clock[0] += STANDS_STILL / 100
            looks.clear()
            backlogs.allow_train(one)
            assert 16 <= len(looks) <= 32

    def test_each_thread_has_its_own(self) -> None:
        backlogs, one = Backlogs(), Socket()
        assert not backlogs.allow_train(Socket(TRAINS_BELOW + 1))
        answers: list[bool] = []
        thread = threading.Thread(target=lambda: answers.append(backlogs.allow_train(one)))
        thread.start()
        thread.join(PATIENCE)
        assert answers == [True]


async def test_a_closed_socket_is_forgotten(
    open_udp: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = open_udp(V4), open_udp(V4)

    def unsent(_: object) -> int:
        return TRAINS_BELOW

    monkeypatch.setattr(UdpEndpoint, "unsent", unsent)
    assert one.send_nowait([b"x"] * 4, two.local) == 4
    one.close()
    assert two.send_nowait([b"x"] * 4, two.local) == 4


@pytest.mark.parametrize("sockets", [1, 4])
async def test_nothing_is_lost_without_a_word_in_a_queue_of_this_machine(sockets: int) -> None:
    size = 1400
    with slow(rate="100mbit", limit=200_000) as (_, two, pair):
        with pair.inside(0):
            ours = [open_plain(Address(pair.v4(0, 0), 0)) for _ in range(sockets)]
        taken = arrived = 0
        wanted = 3000 * sockets

        def accounted_for() -> int:
            # A machine that is busy with other things may be late to empty the buffer.
            return arrived + two.overflows

        async def send(sock: UdpEndpoint) -> None:
            nonlocal taken
            while taken < wanted:
                try:
                    taken += sock.send_nowait([bytes(size)] * 200, two.local)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                await trio.sleep(0.001)

        try:
            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    for sock in ours:
                        nursery.start_soon(send, sock)
                    while taken < wanted or accounted_for() < taken:
                        # The last ones may have found the buffer full.
                        with trio.move_on_after(0.1):
                            for train in (await two.receive()).trains:
                                arrived += len(train.datagrams())
        finally:
            for sock in ours:
                sock.close()
        assert accounted_for() == taken
