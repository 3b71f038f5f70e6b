from __future__ import annotations

import errno
import os

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from knet_trio._constructors import construct
from knet_trio.events import (
    EVENT_BUFFER,
    ChannelError,
    DataMtuChanged,
    Event,
    EventReceiver,
    EventsLost,
    HostStatusChanged,
    LinkStatusChanged,
)
from knet_trio.message import Direction
from tests.state.stepping import CancelAt


def put(receiver: EventReceiver, start: int, stop: int) -> None:
    for number in range(start, stop):
        receiver.put(DataMtuChanged(number))


async def receive_all(receiver: EventReceiver) -> list[Event]:
    receiver.end()
    return [event async for event in receiver]


def numbered(start: int, stop: int) -> list[Event]:
    return [DataMtuChanged(number) for number in range(start, stop)]


async def test_events_come_in_order() -> None:
    receiver = construct(EventReceiver)
    events: list[Event] = [
        HostStatusChanged(2, True),
        LinkStatusChanged(2, 0, True, "the peer answers"),
        DataMtuChanged(1472),
        ChannelError(0, Direction.TX, OSError(errno.EIO, os.strerror(errno.EIO))),
    ]
    for event in events:
        receiver.put(event)
    with assert_checkpoints():
        assert await receiver.receive() is events[0]
    assert await receive_all(receiver) == events[1:]


def test_a_reachable_host_is_neither_remote_nor_external() -> None:
    event = HostStatusChanged(2, True)
    assert (event.remote, event.external) == (False, False)


async def test_a_full_buffer_loses_nothing() -> None:
    receiver = construct(EventReceiver)
    put(receiver, 0, EVENT_BUFFER)
    assert await receive_all(receiver) == numbered(0, EVENT_BUFFER)


@pytest.mark.parametrize("lost", [1, 7, 3 * EVENT_BUFFER])
async def test_a_slow_reader_loses_the_oldest_and_is_told_first(lost: int) -> None:
    receiver = construct(EventReceiver)
    put(receiver, 0, EVENT_BUFFER + lost)
    assert await receive_all(receiver) == [EventsLost(lost), *numbered(lost, EVENT_BUFFER + lost)]


async def test_each_loss_is_told_where_it_happened() -> None:
    receiver = construct(EventReceiver)
    put(receiver, 0, EVENT_BUFFER + 2)
    assert await receiver.receive() == EventsLost(2)
    assert await receiver.receive() == DataMtuChanged(2)
    put(receiver, EVENT_BUFFER + 2, EVENT_BUFFER + 6)
    with assert_checkpoints():
        assert await receiver.receive() == EventsLost(3)
    assert await receive_all(receiver) == numbered(6, EVENT_BUFFER + 6)


async def test_a_burst_while_the_reader_waits_is_told_before_what_is_left() -> None:
    receiver = construct(EventReceiver)
    received: list[Event] = []

    async def read() -> None:
        received.extend([event async for event in receiver])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        put(receiver, 0, EVENT_BUFFER + 5)
        await wait_all_tasks_blocked()
        receiver.end()
    assert received == [EventsLost(5), *numbered(5, EVENT_BUFFER + 5)]


@pytest.mark.parametrize("surplus", [0, 5])
async def test_cancelled_at_any_step_loses_nothing_more(surplus: int) -> None:
    step, reached = 0, True
    while reached:
        receiver = construct(EventReceiver)
        put(receiver, 0, EVENT_BUFFER + surplus)
        got: list[Event] = []
        scope = trio.CancelScope()
        at = CancelAt(receiver.receive, step, scope)
        with scope:
            got = [await at]
        reached = at.reached
        expected: list[Event] = [EventsLost(surplus)] if surplus else []
        expected += numbered(surplus, EVENT_BUFFER + surplus)
        assert got + await receive_all(receiver) == expected
        step += 1
    assert step > 1


async def test_waits_for_an_event(nursery: trio.Nursery) -> None:
    receiver = construct(EventReceiver)

    async def put_event() -> None:
        await wait_all_tasks_blocked()
        receiver.put(DataMtuChanged(1))

    nursery.start_soon(put_event)
    assert await receiver.receive() == DataMtuChanged(1)


async def test_the_end_of_the_handle_ends_it() -> None:
    receiver = construct(EventReceiver)
    receiver.put(DataMtuChanged(1))
    receiver.end()
    assert await receiver.receive() == DataMtuChanged(1)
    with assert_checkpoints(), pytest.raises(trio.EndOfChannel):
        await receiver.receive()


async def test_closed_it_receives_no_more() -> None:
    receiver = construct(EventReceiver)
    put(receiver, 0, EVENT_BUFFER + 1)
    with assert_checkpoints():
        await receiver.aclose()
    with assert_checkpoints(), pytest.raises(trio.ClosedResourceError):
        await receiver.receive()


async def test_closing_wakes_who_waits() -> None:
    receiver = construct(EventReceiver)

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await receiver.receive()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            nursery.start_soon(receiver.aclose)
