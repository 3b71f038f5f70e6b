"""How many hosts can be reached and how many links are up, in a line that is kept up to date."""

from __future__ import annotations

from typing import Final

import trio

from knet_trio import Event, EventsLost, Handle, HostStatusChanged, LinkStatusChanged

# Seconds between two lines: links that come and go are no reason for more.
_PAUSE: Final = 1.0


class LinksUp:
    """Counts by events, and walks through all links only when hosts and links have changed."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._links: dict[tuple[int, int], bool] = {}
        self._hosts: dict[int, bool] = {}
        self._changed = trio.Event()
        self._stale = True
        # Who describes while another task still counts would see a part of the hosts.
        self._counting = trio.Lock()
        self.trouble = ""
        """What else is to be said in the line."""

    def recount(self) -> None:
        """Count all anew: there are other hosts or links, or something else to be said."""
        self._stale = True
        self._changed.set()

    async def watch(self) -> None:
        """Count, until the handle ends."""
        async with self._handle.events() as events:
            async for event in events:
                self._take(event)

    async def wait_changed(self) -> str:
        """Return the line when it is another one, after a pause."""
        await trio.sleep(_PAUSE)
        await self._changed.wait()
        return await self.describe()

    async def describe(self) -> str:
        """Return the line as it is now."""
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
                # Of one that is not known, since it is new or gone, or of who knows which.
                self._stale = True
            case _:
                return
        self._changed.set()

    async def _walk(self) -> None:
        self._stale = False
        self._links.clear()
        self._hosts.clear()
        # Tuples: others get their turns in between, and may remove some.
        for host_id, host in tuple(self._handle.hosts.items()):
            if self._handle.hosts.get(host_id) is host:
                self._hosts[host_id] = host.status.reachable
                for link_id, link in host.links.items():
                    self._links[host_id, link_id] = link.status.connected
            await trio.lowlevel.checkpoint()
