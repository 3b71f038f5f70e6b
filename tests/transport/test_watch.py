"""Many quiet sockets are waited for by one task."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio._transport.watch import EpollWatch
from tests.datafds import open_fds

LIMIT = 10.0


class Turns:
    """Turns that are over when the test says so."""

    def __init__(self) -> None:
        self.round = 0
        self.over = False
        self.given_up = 0

    def is_over(self) -> bool:
        return self.over

    async def give_up(self) -> None:
        self.given_up += 1
        await trio.lowlevel.checkpoint()

    def resumed(self, before: int) -> None:
        self.round = before + 1


@contextmanager
def sockets(count: int) -> Generator[list[socket.socket], None, None]:
    made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    try:
        for sock in made:
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
        yield made
    finally:
        for sock in made:
            sock.close()


def send(text: bytes, *to: socket.socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for sock in to:
            sender.sendto(text, sock.getsockname())


def open_watch() -> EpollWatch:
    watch = EpollWatch()
    watch.join()
    watch.join()
    return watch


class Waiter:
    """A task that waits for a socket, whose datagrams are taken meanwhile."""

    def __init__(self, watch: EpollWatch, sock: socket.socket) -> None:
        self.sock = sock
        self.taken: list[bytes] = []
        self.woken = 0
        self.scope = trio.CancelScope()
        # A message that is not taken.
        self.stop_at = b"wake"
        self.on_taken: Callable[[], None] = lambda: None
        self._watch = watch

    def take(self) -> bool:
        if self.sock.recv(100, socket.MSG_PEEK) == self.stop_at:
            return False
        self.taken.append(self.sock.recv(100))
        self.on_taken()
        return True

    async def run(self) -> None:
        with self.scope:
            await self._watch.wait_readable(self.sock, self.take)
            self.woken += 1


async def test_what_comes_alone_is_taken_and_nobody_wakes_up() -> None:
    with sockets(3) as socks, trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            watch, turns = open_watch(), Turns()
            nursery.start_soon(watch.run, turns)
            await wait_all_tasks_blocked()
            waiters = [Waiter(watch, sock) for sock in socks]
            for waiter in waiters:
                nursery.start_soon(waiter.run)
            await wait_all_tasks_blocked()
            for text in (b"1", b"2"):
                send(text, *socks)
                await wait_all_tasks_blocked()
            assert [waiter.taken for waiter in waiters] == [[b"1", b"2"]] * 3
            assert [waiter.woken for waiter in waiters] == [0, 0, 0]
            send(b"wake", socks[1])
            await wait_all_tasks_blocked()
            assert [waiter.woken for waiter in waiters] == [0, 1, 0]
            # It is not looked at any more, and the others are.
            send(b"3", *socks)
            await wait_all_tasks_blocked()
            assert [len(waiter.taken) for waiter in waiters] == [3, 2, 3]
            nursery.cancel_scope.cancel()


async def test_several_that_wait_in_one_socket_are_taken_one_after_the_other() -> None:
    with sockets(1) as socks, trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            watch, turns = open_watch(), Turns()
            nursery.start_soon(watch.run, turns)
            await wait_all_tasks_blocked()
            waiter = Waiter(watch, socks[0])
            nursery.start_soon(waiter.run)
            await wait_all_tasks_blocked()
            turns.over = True
            send(b"x", *socks * 10)
            await wait_all_tasks_blocked()
            assert waiter.taken == [b"x"] * 10
            # The turn was over each time it was looked at, and others had theirs.
            assert turns.given_up == 2
            nursery.cancel_scope.cancel()


async def test_sockets_that_are_flooded_hold_up_no_others() -> None:
    """However short the turns are, and whoever is named first."""
    with sockets(9) as socks, trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            watch, turns = open_watch(), Turns()
            nursery.start_soon(watch.run, turns)
            await wait_all_tasks_blocked()
            *flooded, quiet = [Waiter(watch, sock) for sock in socks]
            for waiter in flooded:
                waiter.on_taken = partial(send, b"x", waiter.sock)
            for waiter in (*flooded, quiet):
                nursery.start_soon(waiter.run)
            await wait_all_tasks_blocked()
            turns.over = True
            send(b"x", *socks)
            while turns.given_up < 10:
                await trio.lowlevel.checkpoint()
            assert quiet.taken == [b"x"]
            taken = [len(waiter.taken) for waiter in flooded]
            assert max(taken) - min(taken) <= 1
            nursery.cancel_scope.cancel()


async def test_an_error_wakes_who_waits() -> None:
    """A connected socket whose peer refuses: it is up to its task to read that."""
    with sockets(1) as (sock,), trio.fail_after(LIMIT):
        with sockets(1) as (gone,):
            sock.connect(gone.getsockname())
        async with trio.open_nursery() as nursery:
            watch = open_watch()
            nursery.start_soon(watch.run, Turns())
            await wait_all_tasks_blocked()
            waiter = Waiter(watch, sock)
            nursery.start_soon(waiter.run)
            await wait_all_tasks_blocked()
            sock.send(b"x")
            await wait_all_tasks_blocked()
            assert waiter.woken == 1
            assert waiter.taken == []
            nursery.cancel_scope.cancel()


async def test_who_is_cancelled_waits_no_more_and_can_wait_again() -> None:
    with sockets(1) as socks, trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            watch = open_watch()
            nursery.start_soon(watch.run, Turns())
            await wait_all_tasks_blocked()
            first, second = Waiter(watch, socks[0]), Waiter(watch, socks[0])
            nursery.start_soon(first.run)
            await wait_all_tasks_blocked()
            first.scope.cancel()
            await wait_all_tasks_blocked()
            send(b"x", *socks)
            await wait_all_tasks_blocked()
            assert first.taken == []
            nursery.start_soon(second.run)
            await wait_all_tasks_blocked()
            assert second.taken == [b"x"]
            nursery.cancel_scope.cancel()


async def test_one_that_is_closed_by_what_came_to_another() -> None:
    with sockets(2) as socks, trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            watch = open_watch()
            nursery.start_soon(watch.run, Turns())
            await wait_all_tasks_blocked()
            waiters = [Waiter(watch, sock) for sock in socks]

            def close(other: Waiter) -> None:
                if other.sock.fileno() >= 0:
                    watch.wake(other.sock)
                    other.sock.close()

            for waiter, other in zip(waiters, reversed(waiters), strict=True):
                waiter.on_taken = partial(close, other)
                nursery.start_soon(waiter.run)
            await wait_all_tasks_blocked()
            send(b"x", *socks)
            await wait_all_tasks_blocked()
            assert sorted(waiter.woken for waiter in waiters) == [0, 1]
            assert sorted(len(waiter.taken) for waiter in waiters) == [0, 1]
            nursery.cancel_scope.cancel()


async def test_one_that_wakes_itself_by_what_it_takes() -> None:
    with sockets(1) as socks, trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            watch = open_watch()
            nursery.start_soon(watch.run, Turns())
            await wait_all_tasks_blocked()
            waiter = Waiter(watch, socks[0])
            waiter.on_taken = partial(watch.wake, socks[0])
            nursery.start_soon(waiter.run)
            await wait_all_tasks_blocked()
            send(b"x", *socks)
            await wait_all_tasks_blocked()
            assert (waiter.woken, waiter.taken) == (1, [b"x"])
            nursery.cancel_scope.cancel()


async def test_when_it_ends_those_who_wait_are_woken() -> None:
    with sockets(1) as socks, trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            watch = open_watch()
            waiter = Waiter(watch, socks[0])
            async with trio.open_nursery() as inner:
                inner.start_soon(watch.run, Turns())
                await wait_all_tasks_blocked()
                nursery.start_soon(waiter.run)
                await wait_all_tasks_blocked()
                inner.cancel_scope.cancel()
            await wait_all_tasks_blocked()
            assert waiter.woken == 1
            watch.wake(socks[0])


def fail() -> None:
    raise ZeroDivisionError


async def test_a_bug_comes_out_of_it() -> None:
    with sockets(1) as socks, trio.fail_after(LIMIT):
        waiter: Waiter | None = None
        with pytest.RaisesGroup(ZeroDivisionError):
            async with trio.open_nursery() as nursery:
                watch = open_watch()
                nursery.start_soon(watch.run, Turns())
                await wait_all_tasks_blocked()
                waiter = Waiter(watch, socks[0])
                waiter.on_taken = fail
                nursery.start_soon(waiter.run)
                await wait_all_tasks_blocked()
                send(b"x", *socks)
                await trio.sleep_forever()
        assert waiter is not None


async def test_without_descriptors_each_is_waited_for_on_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> select.epoll:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with sockets(1) as socks, trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            monkeypatch.setattr(select, "epoll", refuse)
            watch = open_watch()
            nursery.start_soon(watch.run, Turns())
            await wait_all_tasks_blocked()
            waiter = Waiter(watch, socks[0])
            nursery.start_soon(waiter.run)
            await wait_all_tasks_blocked()
            send(b"x", *socks)
            await wait_all_tasks_blocked()
            assert (waiter.woken, waiter.taken) == (1, [])
            nursery.cancel_scope.cancel()


async def test_the_last_socket_is_waited_for_on_its_own() -> None:
    before = open_fds()
    with sockets(1) as socks, trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            watch = EpollWatch()
            nursery.start_soon(watch.run, Turns())
            for _ in range(2):
                watch.join()
                assert len(open_fds() - before) == 1
                watch.join()
                assert len(open_fds() - before) == 2
                waiter = Waiter(watch, socks[0])
                nursery.start_soon(waiter.run)
                await wait_all_tasks_blocked()
                send(b"x", *socks)
                await wait_all_tasks_blocked()
                assert (waiter.taken, waiter.woken) == ([b"x"], 0)
                watch.leave()
                assert len(open_fds() - before) == 1
                await wait_all_tasks_blocked()
                # It looks again, and waits on.
                assert waiter.woken == 1
                alone = Waiter(watch, socks[0])
                nursery.start_soon(alone.run)
                await wait_all_tasks_blocked()
                send(b"x", *socks)
                await wait_all_tasks_blocked()
                assert (alone.taken, alone.woken) == ([], 1)
                assert socks[0].recv(100) == b"x"
                watch.leave()
            nursery.cancel_scope.cancel()


async def test_few_are_woken_in_a_turn_for_an_error() -> None:
    turns = Turns()
    with sockets(9) as socks, trio.fail_after(LIMIT):
        for sock in socks:
            # Nobody has that port any more.
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
                gone.bind(("127.0.0.1", 0))
                sock.connect(gone.getsockname())
        async with trio.open_nursery() as nursery:
            watch = open_watch()
            waiters = [Waiter(watch, sock) for sock in socks]
            for waiter in waiters:
                nursery.start_soon(waiter.run)
            await wait_all_tasks_blocked()
            for sock in socks:
                sock.send(b"x")
            nursery.start_soon(watch.run, turns)
            await wait_all_tasks_blocked()
            assert all(waiter.woken for waiter in waiters)
            assert turns.given_up == 2
            nursery.cancel_scope.cancel()
