"""``knet-trio events``: the events of a running host, as they happen."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import trio
from rich.console import Console
from rich.text import Text

from knet_trio.cli.looking import json_option, look, open_console, socket_option
from knet_trio.cli.names import title_of
from knet_trio.cli.units import format_time
from knet_trio.control import (
    ChannelEvent,
    ControlClient,
    ControlEvent,
    DataMtuEvent,
    HostEvent,
    LinkEvent,
    MissedEvents,
)
from knet_trio.control.codec import dump, to_json
from knet_trio.control.records import EVENT_TYPES

# Seconds without another data MTU after which one has settled.
_SETTLING: Final = 1.0

_NAMES = {kind: name for name, kind in EVENT_TYPES.items()}


@click.command()
@socket_option
@click.option(
    "--count", type=click.IntRange(min=1), default=None, help="End after this number of events."
)
@json_option("a JSON object for each event, in a line of its own, instead")
def events(socket: Path | None, count: int | None, as_json: bool) -> None:
    r"""Print the events of the hosts and links of a running host, as they happen.

    Each line has the time, the event and its reason. A first line on standard error names the host.
    A data MTU is shown once it has not changed for a second. The command ends when the host ends,
    or with Ctrl-C.

    \b
    Example:
      knet-trio events
      knet-trio events --json | jq -r 'select(.event == "link") | .reason'

    Exit status: 0 after --count events, 2 for wrong arguments, 3 if there is no running host to
    ask or it ends, 130 after Ctrl-C.
    """
    console = open_console()
    look(socket, partial(_follow, console=console, count=count, as_json=as_json))


async def _follow(
    client: ControlClient, *, console: Console, count: int | None, as_json: bool
) -> None:
    async with client.events() as events:
        # There may be no event for hours, and earlier ones are not shown.
        if sys.stdout.isatty() or not as_json:
            host = title_of(client.hello.host_id, client.hello.name or str(client.hello.host_id))
            click.echo(f"watching {host}; end with Ctrl-C", err=True)
        receive = events.receive
        if not as_json:
            receive = SettledEvents(receive, (await client.status()).data_mtu).receive
        for _ in itertools.count() if count is None else range(count):
            event = await receive()
            if as_json:
                # A reader of a pipe gets each line at once.
                print(dump(describe(event)), flush=True)
            else:
                console.print(event_text(event), soft_wrap=True)
                sys.stdout.flush()


class SettledEvents:
    """Events for people, without data MTUs that only hold for a moment.

    When a link comes up, the data MTU falls to the smallest one until the search for the path MTU
    has ended. An event with a data MTU is held back, and returned if no other one follows within
    ``_SETTLING`` seconds and the value is not the last one that was known.

    Args:
        receive: Returns the next event.
        data_mtu: The data MTU at the beginning, in bytes.
    """

    def __init__(self, receive: Callable[[], Awaitable[ControlEvent]], data_mtu: int) -> None:
        self._receive = receive
        self._known = data_mtu
        self._held: DataMtuEvent | None = None
        self._due = math.inf

    async def receive(self) -> ControlEvent:
        """Return the next event."""
        while True:
            with trio.move_on_at(self._due):
                event = await self._receive()
                if not isinstance(event, DataMtuEvent):
                    return event
                self._held, self._due = event, trio.current_time() + _SETTLING
                continue
            held, self._held, self._due = self._held, None, math.inf
            if held is not None and held.data_mtu != self._known:
                self._known = held.data_mtu
                return held


def describe(event: ControlEvent) -> Any:
    """Return an event as ``--json`` prints it: the line of the control protocol."""
    members: Any = to_json(event)
    return {"event": _NAMES[type(event)], **members}


def event_text(event: ControlEvent) -> Text:
    """Return an event as a line for people."""
    line = Text(f"{format_time(event.time)}  ", "dim")
    match event:
        case LinkEvent():
            host = title_of(event.host_id, event.host_name)
            style = "green" if event.connected else "bold red"
            state = "up" if event.connected else "down"
            line.append(f"link {event.link_id} to {host} is {state}", style)
            line.append(f": {event.reason}", "default")
        case HostEvent():
            style = "green" if event.reachable else "bold red"
            state = "reachable" if event.reachable else "unreachable"
            line.append(f"{title_of(event.host_id, event.host_name)} is {state}", style)
            if event.reason:
                line.append(f": {event.reason}", "default")
        case DataMtuEvent():
            line.append(f"messages of up to {event.data_mtu} bytes go in one packet", "default")
        case ChannelEvent():
            way = "reading from" if event.direction == "tx" else "writing to"
            line.append(f"channel {event.channel}, {way} its descriptor: {event.reason}", "yellow")
        case MissedEvents():
            line.append(f"{event.count} events were missed: this reader was too slow", "yellow")
    return line
