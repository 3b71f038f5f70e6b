from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio._state.outbox import HIGH_WATER, Outbox, Refusal
from knet_trio.address import Address
from tests.state.fakes import FakeEndpoint, address, refusal


class Sender:
    """Notes what it is told."""

    def __init__(self, destination: Address | None) -> None:
        self.destination = destination
        self.packets = 0
        self.size = 0
        self.delayed = 0
        self.refusals: list[int | None] = []
        self.lost = 0

    def data_sent(self, packets: int, size: int) -> None:
        self.packets += packets
        self.size += size

    def data_refused(self, error: OSError) -> None:
        self.refusals.append(error.errno)

    def data_lost(self, refusals: Sequence[Refusal]) -> None:
        self.lost += len(refusals)

    def data_delayed(self, packets: int) -> None:
        self.delayed += packets


def numbered(start: int, stop: int) -> list[bytes]:
    return [number.to_bytes(4) for number in range(start, stop)]


def make() -> tuple[FakeEndpoint, Outbox]:
    endpoint = FakeEndpoint()
    return endpoint, Outbox(endpoint, lambda trouble: pytest.fail(f"no trouble here: {trouble}"))


async def test_what_there_is_room_for_goes_at_once() -> None:
    endpoint, outbox = make()
    sender = Sender(address(2))
    assert outbox.send(sender, [b"one", b"three"]) == []
    assert [(sent.datagram, sent.destination) for sent in endpoint.sent] == [
        (b"one", address(2)),
        (b"three", address(2)),
    ]
    assert (sender.packets, sender.size, sender.delayed) == (2, 8, 0)
    assert not outbox.full
    await outbox.wait_empty()


async def test_nothing_to_send() -> None:
    endpoint, outbox = make()
    assert outbox.send(Sender(address(2)), []) == []
    assert endpoint.sent == []


async def test_a_full_socket_keeps_the_order(nursery: trio.Nursery) -> None:
    endpoint, outbox = make()
    one, two = Sender(address(1)), Sender(address(2))
    nursery.start_soon(outbox.run)
    endpoint.room = 3
    assert outbox.send(one, numbered(0, 5)) == []
    assert (one.packets, one.delayed) == (3, 2)
    # There is room again, but what waits goes first.
    endpoint.give_room(2)
    outbox.send(two, numbered(5, 8))
    outbox.send(one, numbered(8, 9))
    assert len(endpoint.sent) == 3
    assert two.delayed == 3
    await wait_all_tasks_blocked()
    assert endpoint.datagrams == numbered(0, 5)
    for room in (1, 0, 2):
        endpoint.give_room(room)
        await wait_all_tasks_blocked()
    endpoint.give_room(100)
    with trio.fail_after(5):
        await outbox.wait_empty()
    assert endpoint.datagrams == numbered(0, 9)
    assert [sent.destination for sent in endpoint.sent] == [
        *[address(1)] * 5,
        *[address(2)] * 3,
        address(1),
    ]
    assert (one.packets, one.size, two.packets, two.size) == (6, 24, 3, 12)
    # And the next goes straight through again.
    outbox.send(one, numbered(9, 10))
    assert len(endpoint.sent) == 10
    nursery.cancel_scope.cancel()


async def test_the_backlog_is_bounded_by_full(nursery: trio.Nursery) -> None:
    endpoint, outbox = make()
    sender = Sender(address(2))
    endpoint.room = 0
    sent = 0
    while not outbox.full:
        outbox.send(sender, numbered(sent, sent + 100))
        sent += 100
    assert HIGH_WATER <= sent < HIGH_WATER + 100
    nursery.start_soon(outbox.run)
    room_again = trio.Event()

    async def wait_room() -> None:
        await outbox.wait_room()
        room_again.set()

    nursery.start_soon(wait_room)
    endpoint.give_room(sent - HIGH_WATER)
    await wait_all_tasks_blocked()
    assert (outbox.full, room_again.is_set()) == (True, False)
    endpoint.give_room(1)
    await wait_all_tasks_blocked()
    assert (outbox.full, room_again.is_set()) == (False, True)
    endpoint.give_room(sent)
    with trio.fail_after(5):
        await outbox.wait_empty()
    await outbox.wait_room()
    assert endpoint.datagrams == numbered(0, sent)
    nursery.cancel_scope.cancel()


async def test_wait_empty_waits_for_the_last(nursery: trio.Nursery) -> None:
    endpoint, outbox = make()
    endpoint.room = 0
    outbox.send(Sender(address(2)), numbered(0, 3))
    nursery.start_soon(outbox.run)
    empty = trio.Event()

    async def wait_empty() -> None:
        await outbox.wait_empty()
        empty.set()

    nursery.start_soon(wait_empty)
    for _ in range(2):
        endpoint.give_room(1)
        await wait_all_tasks_blocked()
        assert not empty.is_set()
    endpoint.give_room(1)
    await wait_all_tasks_blocked()
    assert empty.is_set()
    nursery.cancel_scope.cancel()


class TestRefusals:
    async def test_each_is_counted_and_skipped(self) -> None:
        endpoint, outbox = make()
        sender = Sender(address(2))
        numbers = {b"b": errno.EMSGSIZE, b"c": errno.EPERM}

        def refuse(datagram: bytes, _: Address) -> None:
            if datagram in numbers:
                raise refusal(numbers[datagram])

        endpoint.refuse = refuse
        refusals = outbox.send(sender, [b"a", b"b", b"c", b"d"])
        found = [(one.datagram, one.error.errno) for one in refusals]
        assert found == [(b"b", errno.EMSGSIZE), (b"c", errno.EPERM)]
        assert endpoint.datagrams == [b"a", b"d"]
        assert sender.refusals == [errno.EMSGSIZE, errno.EPERM]
        assert sender.packets == 2
        # Whoever sent them may send them over another link.
        assert sender.lost == 0
        await outbox.wait_empty()

    async def test_in_the_backlog_they_do_not_hold_up_the_rest(self, nursery: trio.Nursery) -> None:
        endpoint, outbox = make()
        bad, good = Sender(address(1)), Sender(address(2))

        def refuse(_: bytes, destination: Address) -> None:
            if destination == address(1):
                raise refusal(errno.ENETUNREACH)

        endpoint.room = 0
        outbox.send(bad, numbered(0, 2))
        outbox.send(good, numbered(2, 4))
        endpoint.refuse = refuse
        nursery.start_soon(outbox.run)
        endpoint.give_room(2)
        with trio.fail_after(5):
            await outbox.wait_empty()
        assert bad.refusals == [errno.ENETUNREACH] * 2
        # Nobody waits for them any more.
        assert (bad.lost, good.lost) == (2, 0)
        assert endpoint.datagrams == numbered(2, 4)
        nursery.cancel_scope.cancel()

    async def test_one_before_the_socket_is_full(self) -> None:
        endpoint, outbox = make()
        sender = Sender(address(2))

        def refuse(datagram: bytes, _: Address) -> None:
            if datagram == b"a":
                endpoint.room = 0
                raise refusal(errno.EPERM)

        endpoint.refuse = refuse
        (refused,) = outbox.send(sender, [b"a", b"b"])
        assert refused.error.errno == errno.EPERM
        assert sender.delayed == 1

    async def test_a_link_that_forgot_its_peer_has_nowhere_to_send(
        self, nursery: trio.Nursery
    ) -> None:
        endpoint, outbox = make()
        sender = Sender(address(2))
        endpoint.room = 0
        outbox.send(sender, numbered(0, 3))
        sender.destination = None
        nursery.start_soon(outbox.run)
        endpoint.give_room(10)
        with trio.fail_after(5):
            await outbox.wait_empty()
        assert endpoint.sent == []
        assert sender.refusals == [errno.EDESTADDRREQ] * 3
        assert sender.lost == 3
        (refused,) = outbox.send(sender, numbered(3, 4))
        assert refused.error.errno == errno.EDESTADDRREQ
        nursery.cancel_scope.cancel()


class TestForget:
    async def test_takes_out_one_sender_only(self, nursery: trio.Nursery) -> None:
        endpoint, outbox = make()
        gone, kept = Sender(address(1)), Sender(address(2))
        endpoint.room = 1
        outbox.send(gone, numbered(0, 3))
        outbox.send(kept, numbered(3, 5))
        outbox.send(gone, numbered(5, 9))
        assert outbox.forget(gone) == 6
        assert outbox.forget(gone) == 0
        nursery.start_soon(outbox.run)
        endpoint.give_room(10)
        with trio.fail_after(5):
            await outbox.wait_empty()
        assert endpoint.datagrams == [*numbered(0, 1), *numbered(3, 5)]
        nursery.cancel_scope.cancel()

    async def test_makes_room(self, nursery: trio.Nursery) -> None:
        endpoint, outbox = make()
        sender = Sender(address(2))
        endpoint.room = 0
        outbox.send(sender, numbered(0, HIGH_WATER))
        with trio.fail_after(5):
            async with trio.open_nursery() as waiting:
                waiting.start_soon(outbox.wait_room)
                waiting.start_soon(outbox.wait_empty)
                await wait_all_tasks_blocked()
                assert outbox.forget(sender) == HIGH_WATER
        assert not outbox.full

    async def test_nothing_waits(self) -> None:
        _, outbox = make()
        assert outbox.forget(Sender(address(2))) == 0
