"""One side of a case: the commands of a peer, with a handle that is already open."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from knet_trio import Handle, Host, KnetError
from knet_trio.cli.bench.peer.commands import (
    Answer,
    Arguments,
    Command,
    CommandError,
    carry_out,
    usage,
)
from knet_trio.cli.bench.peer.handles import OpenHandles, open_channels
from knet_trio.cli.bench.peer.knet import Setup
from knet_trio.cli.bench.peer.knet_streams import KnetStreams
from knet_trio.cli.bench.peer.traffic import Traffic
from knet_trio.control.reports import report_links

# Errors in the tasks of a case when the other side goes or sends wrong commands.
TROUBLE: Final = (CommandError, KnetError, trio.BrokenResourceError)
# The commands that can be called over the network.
_COMMANDS: Final = (
    *("usage", "status", "disable"),
    *("sink", "sunk", "source", "echo", "roundtrip", "stream", "collect", "collected"),
    *("drain", "drained", "feed"),
)
# Arguments with host ids, which are valid only for the bench on one machine.
_HOSTS: Final = ("handle", "to", "host")


class Side:
    """Commands for the traffic between this host and another. Returned by ``open_side``."""

    def __init__(self, handle: Handle, host: Host, commands: Mapping[str, Command]) -> None:
        self._handle = handle
        self._host = host
        self._commands = {name: {**commands, "disable": self._disable}[name] for name in _COMMANDS}

    async def carry_out(self, command: str, arguments: Mapping[str, Any]) -> Answer:
        """Carry out a command, and return its answer, with ``error`` if it fails."""
        values = {name: str(value) for name, value in arguments.items() if name not in _HOSTS}
        values["handle"] = str(self._handle.host_id)
        if "to" in arguments:
            values["to"] = str(self._host.host_id)
        return await carry_out(self._commands, command, Arguments(values))

    async def _disable(self, arguments: Arguments) -> Answer:
        """Carry out ``disable``: disable a link until the case is over."""
        self._host.links[arguments.integer("id")].enabled = False
        return {"ok": True}


@asynccontextmanager
async def open_side(handle: Handle, host: Host, channels: Sequence[int]) -> AsyncGenerator[Side]:
    """Open the channels to a host; leaving the block closes them and restores the links.

    Args:
        handle: The handle of this host.
        host: The other host.
        channels: The channels for data, credits, messages beside them, and streams.

    Yields:
        This side.
    """
    data, credits, quiet, streams = channels
    enabled = {link: link.enabled for link in host.links.values()}
    opened = open_channels(handle, (data, credits, quiet), host.host_id)
    opened.links = list(host.links.values())
    try:
        async with trio.open_nursery() as nursery:
            handles = OpenHandles(nursery)
            handles.use(opened)
            yield Side(
                handle,
                host,
                {
                    "usage": usage,
                    **Setup(handles).commands,
                    **Traffic(handles, nursery).commands,
                    **KnetStreams(handles, nursery, streams).commands,
                },
            )
            nursery.cancel_scope.cancel()
    finally:
        for channel in (opened.data, opened.control, opened.quiet):
            channel.close()
        for link, was_enabled in enabled.items():
            if link.enabled != was_enabled:
                link.enabled = was_enabled


def find_link_in_use(host: Host) -> int | None:
    """Return the id of the first link that messages to a host go over, None if there is none."""
    return next((link.link_id for link in report_links(host) if link.in_use), None)
