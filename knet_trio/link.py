"""The link a user holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knet_trio._core.acl import AccessList
from knet_trio._runtime import Runtime
from knet_trio._state.link import LinkState
from knet_trio.config import LinkConfig
from knet_trio.errors import UnknownLinkError
from knet_trio.status import LinkStatus

if TYPE_CHECKING:
    # A link can be asked for its host, which holds it.
    from knet_trio.host import Host


class Link:
    """A link to a host, over one network. Made by ``Host.add_link``."""

    def __init__(self, runtime: Runtime, host: Host, state: LinkState) -> None:
        self._runtime = runtime
        self._host = host
        self._state = state

    def __repr__(self) -> str:
        state = "up" if self._state.connected.is_on else "down"
        return f"<Link {self.link_id} to host {self._state.host_id}: {state}>"

    @property
    def link_id(self) -> int:
        """0 to 7, the same on both ends."""
        return self._state.link_id

    @property
    def host(self) -> Host:
        """The host at the other end."""
        return self._host

    @property
    def config(self) -> LinkConfig:
        """The settings in force. ``src`` has the real port where 0 was asked for."""
        return self._state.config

    @property
    def status(self) -> LinkStatus:
        """How it is now, with its counters. Source: man knet_link_get_status."""
        return self._state.status()

    @property
    def acl(self) -> AccessList:
        """Which addresses may speak on it; that of its peer to begin with, if it has ``dst``."""
        return self._state.acl

    @property
    def enabled(self) -> bool:
        """Whether it runs. A disabled link is silent. Source: man knet_link_set_enable."""
        return self._state.enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._check()
        self._state.set_enabled(enabled)

    @property
    def priority(self) -> int:
        """0 to 255: the passive policy prefers the highest. Source: man knet_link_set_priority."""
        return self._state.config.priority

    @priority.setter
    def priority(self, priority: int) -> None:
        self._check()
        self._state.set_priority(priority)

    @property
    def pong_count(self) -> int:
        """How many pongs take it up. Source: man knet_link_set_pong_count."""
        return self._state.config.pong_count

    @pong_count.setter
    def pong_count(self, pong_count: int) -> None:
        self._check()
        self._state.set_pong_count(pong_count)

    def set_ping_timers(self, interval: float, timeout: float, samples: int) -> None:
        """Change how often it pings and how long it waits for a pong, in seconds.

        ``samples`` is how many round trips the average latency is of. Raises InvalidArgumentError
        for values out of range; then nothing has changed. Source: man knet_link_set_ping_timers.
        """
        self._check()
        self._state.set_timers(interval, timeout, samples)

    async def wait_connected(self) -> None:
        """Return once it is up. ``trio.ClosedResourceError`` if it is removed meanwhile."""
        await self._state.connected.wait(True)

    async def wait_disconnected(self) -> None:
        """Return once it is down. ``trio.ClosedResourceError`` if it is removed meanwhile."""
        await self._state.connected.wait(False)

    def explain(self) -> str:
        """Why it is as it is, in words a person can act on."""
        return self._state.explain()

    async def remove(self) -> None:
        """Take it down and away. When cancelled, it has done so all the same.

        Source: man knet_link_clear_config.
        """
        self._check()
        await self._host.remove_link(self.link_id)

    def _check(self) -> None:
        self._runtime.check_running()
        if self._host.links.get(self.link_id) is not self:
            raise UnknownLinkError(
                f"link {self.link_id} to host {self._state.host_id} was removed; add it again"
            )
