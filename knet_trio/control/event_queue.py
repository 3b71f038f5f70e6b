"""The events of a handle as records, and a queue of events for each reader."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import trio

from knet_trio import (
    ChannelError,
    DataMtuChanged,
    Event,
    EventsLost,
    HostStatusChanged,
)
from knet_trio.control.lines import EVENT_QUEUE
from knet_trio.control.records import (
    ChannelEvent,
    ControlEvent,
    DataMtuEvent,
    HostEvent,
    LinkEvent,
    MissedEvents,
)

if TYPE_CHECKING:
    from knet_trio import Handle


def describe_event(handle: Handle, event: Event) -> ControlEvent:
    """Return an event with its time, the name of its host and the reason."""
    now = time.time()
    if isinstance(event, EventsLost):
        return MissedEvents(time=now, count=event.count)
    if isinstance(event, DataMtuChanged):
        return DataMtuEvent(time=now, data_mtu=event.data_mtu)
    if isinstance(event, ChannelError):
        reason = "there is nothing more to read" if event.error is None else str(event.error)
        direction = event.direction.name.lower()
        return ChannelEvent(time=now, channel=event.channel, direction=direction, reason=reason)
    host = handle.hosts.get(event.host_id)
    name = str(event.host_id) if host is None else host.name
    if isinstance(event, HostStatusChanged):
        reason = ""
        if host is not None and host.status.reachable is event.reachable:
            # "host 2 (beta) is reachable: messages go over link 0"
            first = host.explain().partition("\n")[0]
            reason = first.partition("reachable: ")[2]
        return HostEvent(
            time=now,
            host_id=event.host_id,
            host_name=name,
            reachable=event.reachable,
            reason=reason,
        )
    return LinkEvent(
        time=now,
        host_id=event.host_id,
        host_name=name,
        link_id=event.link_id,
        connected=event.connected,
        reason=event.reason,
    )


class EventQueue:
    """The events that one reader has not taken yet; the oldest are dropped if it is too slow."""

    def __init__(self, limit: int = EVENT_QUEUE) -> None:
        self._events: deque[ControlEvent] = deque()
        self._limit = limit
        self._missed = 0
        self._filled = trio.Event()
        self._why_ended: str | None = None

    def put(self, event: ControlEvent) -> None:
        """Add an event."""
        if isinstance(event, MissedEvents):
            # The missed events are older than all that follow, and those in the queue older still.
            self._missed += event.count + len(self._events)
            self._events.clear()
        else:
            self._events.append(event)
            if len(self._events) > self._limit:
                self._missed += 1
                self._events.popleft()
        self._filled.set()

    def clear(self) -> None:
        """Drop all events in the queue."""
        self._events.clear()
        self._missed = 0

    def end(self, why: str) -> None:
        """Make ``take`` raise ``trio.BrokenResourceError`` once the queue is empty."""
        self._why_ended = why
        self._filled.set()

    async def take(self) -> ControlEvent:
        """Wait for the next event and take it; a ``MissedEvents`` first if any were dropped.

        Raises:
            trio.BrokenResourceError: ``end`` was called and the queue is empty.
        """
        await trio.lowlevel.checkpoint()
        while not self._events and not self._missed:
            if self._why_ended is not None:
                raise trio.BrokenResourceError(self._why_ended)
            self._filled = trio.Event()
            await self._filled.wait()
        if self._missed:
            missed, self._missed = self._missed, 0
            return MissedEvents(time=time.time(), count=missed)
        return self._events.popleft()
