"""The numbers of reachable hosts and of links that are up, in a line that is kept up to date."""

from __future__ import annotations

from typing import Final

import trio

from knet_trio import Event, EventsLost, Handle, HostStatusChanged, LinkStatusChanged

# Seconds between two lines at least, since links may go up and down often.
_PAUSE: Final = 1.0


class LinksUp:
    """The counts, kept by events; all links are visited only when hosts or links have changed.

    Attributes:
        trouble: A remark for the end of the line, empty for none.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._links: dict[tuple[int, int], bool] = {}
        self._hosts: dict[int, bool] = {}
        self._changed = trio.Event()
        self._stale = True
        # A line made while another task still counts would have a part of the hosts.
        self._counting = trio.Lock()
        self.trouble = ""

    def recount(self) -> None:
        """Count everything again, after a change of hosts, links or ``trouble``."""
        self._stale = True
        self._changed.set()

    async def watch(self) -> None:
        """Follow the events, until the handle ends."""
        async with self._handle.events() as events:
            async for event in events:
                self._take(event)

    async def wait_changed(self) -> str:
        """Wait for a change, a pause at least, and return the new line."""
        await trio.sleep(_PAUSE)
        await self._changed.wait()
        return await self.describe()

    async def describe(self) -> str:
        """Return the current line."""
        async with self._counting:
            self._changed = trio.Event()
            if self._stale:
                await self._walk()
        hosts, links = self._hosts.values(), self._links.values()
        line = (
            f"{sum(hosts)} of {len(hosts)} hosts reachable, {sum(links)} of {len(links)} links up"
        )
        return f"{line}; {self.trouble}" if self.trouble else line

    def _take(self, event: Event) -> None:
        match event:
            case LinkStatusChanged(host_id, link_id, connected) if (
                host_id,
                link_id,
            ) in self._links:
                self._links[host_id, link_id] = connected
            case HostStatusChanged(host_id, reachable) if host_id in self._hosts:
                self._hosts[host_id] = reachable
            case LinkStatusChanged() | HostStatusChanged() | EventsLost():
                # About a link or host that is new or gone, or about unknown ones.
                self._stale = True
            case _:
                return
        self._changed.set()

    async def _walk(self) -> None:
        self._stale = False
        self._links.clear()
        self._hosts.clear()
        # A tuple: other tasks run in between, and may remove hosts.
        for host_id, host in tuple(self._handle.hosts.items()):
            if self._handle.hosts.get(host_id) is host:
                self._hosts[host_id] = host.status.reachable
                for link_id, link in host.links.items():
                    self._links[host_id, link_id] = link.status.connected
            await trio.lowlevel.checkpoint()
