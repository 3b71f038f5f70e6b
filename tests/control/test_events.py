from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio import (
    ChannelError,
    DataMtuChanged,
    Direction,
    EventsLost,
    HostStatusChanged,
    LinkStatusChanged,
    open_handle,
)
from knet_trio.control import (
    ChannelEvent,
    DataMtuEvent,
    HostEvent,
    LinkEvent,
    MissedEvents,
)
from knet_trio.control.event_queue import EventQueue, describe_event
from knet_trio.control.lines import EVENT_QUEUE
from tests.cluster import PATIENCE
from tests.control.serving import open_client, open_raw, open_served


async def test_events_come_as_they_happen_with_their_reasons(tmp_path: Path) -> None:
    async with open_client(tmp_path) as (served, client), client.events() as events:
        served.link.enabled = False
        link, host = await events.receive(), await events.receive()
        assert isinstance(link, LinkEvent)
        assert (link.host_id, link.host_name, link.link_id) == (1, "me", 0)
        assert (link.connected, link.reason) == (False, "it was disabled here")
        assert abs(link.time - time.time()) < PATIENCE
        assert isinstance(host, HostEvent)
        assert (host.host_name, host.reachable) == ("me", False)
        assert host.reason == "its links are disabled"
        served.link.enabled = True
        link = await events.receive()
        assert isinstance(link, LinkEvent)
        assert link.connected


async def test_two_readers_of_one_client_get_all_and_then_none(tmp_path: Path) -> None:
    async with open_client(tmp_path) as (served, client):
        async with client.events() as one:
            async with client.events() as other:
                served.link.enabled = False
                assert await one.receive() == await other.receive()
                assert await one.receive() == await other.receive()
            served.link.enabled = True
            event = await one.receive()
            assert isinstance(event, LinkEvent)
            assert event.connected
        # Nothing is sent any more, and it can begin again.
        served.link.enabled = False
        async with client.events() as events:
            served.link.enabled = True
            event = await events.receive()
            assert isinstance(event, LinkEvent)
            assert event.connected


async def test_switching_on_and_off_a_thousand_times_leaves_nothing_behind(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served, open_raw(served.path) as client:
        for number in range(1000):
            on = number % 2 == 0
            line = {"id": number, "method": "events", "params": {"on": on}}
            assert await client.ask(line) == {"id": number, "result": None}
            assert trio.lowlevel.current_statistics().tasks_living < 40
        served.link.enabled = False
        assert (await client.ask({"id": 1, "method": "history", "params": {"host": 1, "link": 0}}))[
            "id"
        ] == 1


async def test_a_reader_that_sleeps_is_told_how_many_it_missed(tmp_path: Path) -> None:
    changes = 20_000
    async with open_served(tmp_path) as served, open_raw(served.path) as client:
        assert await client.ask({"id": 1, "method": "events"}) == {"id": 1, "result": None}
        for number in range(changes):
            served.link.enabled = number % 2 == 1
            if number % 50 == 0:
                # So that nothing is lost between the handle and who serves it.
                await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        received = missed = 0
        while received + missed < 2 * changes:
            event = await client.receive()
            if event["event"] == "missed":
                missed += event["count"]
            else:
                received += 1
        assert received + missed == 2 * changes
        assert missed > changes
        # What it has got besides is what fits into a socket.
        assert received < 5000


async def test_a_queue_loses_the_oldest_and_counts_them() -> None:
    queue = EventQueue(3)
    for size in range(5):
        queue.put(DataMtuEvent(time=0, data_mtu=size))
    missed = await queue.take()
    assert isinstance(missed, MissedEvents)
    assert missed.count == 2
    assert [await queue.take() for _ in range(3)] == [
        DataMtuEvent(time=0, data_mtu=size) for size in (2, 3, 4)
    ]


async def test_what_was_lost_before_the_queue_is_counted_in_order() -> None:
    queue = EventQueue()
    queue.put(DataMtuEvent(time=0, data_mtu=1))
    queue.put(MissedEvents(time=0, count=10))
    queue.put(DataMtuEvent(time=0, data_mtu=2))
    missed = await queue.take()
    assert isinstance(missed, MissedEvents)
    assert missed.count == 11
    assert await queue.take() == DataMtuEvent(time=0, data_mtu=2)


async def test_a_queue_that_has_ended_gives_what_is_left() -> None:
    queue = EventQueue()
    queue.put(DataMtuEvent(time=0, data_mtu=1))
    queue.end("it is over")
    assert await queue.take() == DataMtuEvent(time=0, data_mtu=1)
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError, match="it is over"):
            await queue.take()


async def test_every_event_of_the_library_has_its_record() -> None:
    async with open_handle(1) as handle:
        handle.add_host(2, name="beta")
        mtu = describe_event(handle, DataMtuChanged(1400))
        assert isinstance(mtu, DataMtuEvent)
        assert mtu.data_mtu == 1400
        lost = describe_event(handle, EventsLost(7))
        assert isinstance(lost, MissedEvents)
        assert lost.count == 7
        broken = describe_event(handle, ChannelError(3, Direction.RX, OSError(5, "broken")))
        assert isinstance(broken, ChannelEvent)
        assert (broken.channel, broken.direction) == (3, "rx")
        assert broken.reason == "[Errno 5] broken"
        over = describe_event(handle, ChannelError(3, Direction.TX, None))
        assert isinstance(over, ChannelEvent)
        assert (over.direction, over.reason) == ("tx", "there is nothing more to read")
        link = describe_event(handle, LinkStatusChanged(9, 1, True, "why"))
        assert isinstance(link, LinkEvent)
        # A host that is not there any more.
        assert (link.host_name, link.reason) == ("9", "why")
        host = describe_event(handle, HostStatusChanged(2, False))
        assert isinstance(host, HostEvent)
        assert host.reason == "it has no links; add one with add_link"
        # It was reachable, and is not any more.
        host = describe_event(handle, HostStatusChanged(2, True))
        assert isinstance(host, HostEvent)
        assert host.reason == ""
    assert EVENT_QUEUE == 256
