"""The link object that a program holds."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from knet_trio._core.acl import AccessList
from knet_trio._facade import Facade
from knet_trio._runtime import Runtime
from knet_trio._state.link import LinkState
from knet_trio.config import LinkConfig, check_boolean
from knet_trio.errors import UnknownLinkError
from knet_trio.status import LinkDiagnosis, LinkStatus, LinkTransition

if TYPE_CHECKING:
    # A link can be asked for its host, which holds it.
    from knet_trio.host import Host


class Link(Facade):
    """A link to a host, over one network. ``Host.add_link`` makes it."""

    __slots__ = ("_host", "_runtime", "_state")
    _SET_OTHERWISE = MappingProxyType(
        {
            "acl": "`link.acl.append(entry)` and its other methods change it",
            "config": "`enabled`, `priority`, `pong_count` and set_ping_timers() change what can be"
            " changed; for the rest, remove the link and add another one",
        }
    )

    def __init__(self, runtime: Runtime, host: Host, state: LinkState) -> None:
        self._runtime = runtime
        self._host = host
        self._state = state

    def __repr__(self) -> str:
        state = "up" if self._state.connected.is_on else "down"
        return f"<Link {self.link_id} to host {self._state.host_id}: {state}>"

    @property
    def link_id(self) -> int:
        """The id of the link, 0 to 7, the same on both sides."""
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
        """The state of the link now, with its counters. See knet_link_get_status(3)."""
        return self._state.status()

    @property
    def history(self) -> tuple[LinkTransition, ...]:
        """The last 32 times that the link went up or down, the latest last."""
        return tuple(self._state.history)

    @property
    def acl(self) -> AccessList:
        """The access list: which addresses may speak on the link.

        At first that is the peer's address; nobody for a dynamic link.
        """
        return self._state.acl

    @property
    def enabled(self) -> bool:
        """Whether the link is in use. See knet_link_set_enable(3).

        A disabled link is silent and takes no data: what the peer still sends over it, until it
        finds the link down, is lost.
        """
        return self._state.enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._check()
        self._state.set_enabled(check_boolean("enabled", enabled))

    @property
    def priority(self) -> int:
        """0 to 255: the passive policy prefers the highest. See knet_link_set_priority(3)."""
        return self._state.config.priority

    @priority.setter
    def priority(self, priority: int) -> None:
        self._check()
        self._state.set_priority(priority)

    @property
    def pong_count(self) -> int:
        """After how many pongs one more takes it up. See knet_link_set_pong_count(3)."""
        return self._state.config.pong_count

    @pong_count.setter
    def pong_count(self, pong_count: int) -> None:
        self._check()
        self._state.set_pong_count(pong_count)

    def set_ping_timers(self, interval: float, timeout: float, samples: int) -> None:
        """Change how often the link pings and how long it waits for a pong.

        Args:
            interval: Seconds between pings, 0.001 to 86400.
            timeout: Seconds without a pong after which the link is down, 0.001 to 86400. With less
                than ``interval`` it goes down between two pings, which the log warns of.
            samples: How many round trips the average latency is made of.

        Raises:
            InvalidArgumentError: A value is out of range; nothing has changed.

        See knet_link_set_ping_timers(3).
        """
        self._check()
        self._state.set_timers(interval, timeout, samples)

    async def wait_connected(self) -> None:
        """Wait until the link is up.

        Raises:
            trio.ClosedResourceError: The link was removed, or the handle has ended.
        """
        self._runtime.check_here()
        await self._state.connected.wait(True)

    async def wait_disconnected(self) -> None:
        """Wait until the link is down.

        Raises:
            trio.ClosedResourceError: The link was removed, or the handle has ended.
        """
        self._runtime.check_here()
        await self._state.connected.wait(False)

    async def ping(self) -> float | None:
        """Send a ping now, beside those of the heartbeat, and wait for its pong.

        It counts among the last pings of ``status``, as any other does.

        Returns:
            The round trip in seconds. None if no pong came within ``pong_timeout``, or the link is
            down or went down meanwhile; ``status.reason`` says why. 0.0 for a loopback link that is
            up.

        Raises:
            UnknownLinkError: The link was removed.
        """
        self._check()
        return await self._state.ping()

    async def discover_mtu(self) -> int:
        """Search the path MTU now and not only every ``pmtud_interval``; wait for the result.

        Messages go by what is known meanwhile. A search takes a few round trips, and seconds where
        packets vanish. With ``mtu`` set in the handle there is none.

        Returns:
            The user bytes that one packet carries, as in ``status``; 0 if the link is down, or the
            path carries no data.

        Raises:
            UnknownLinkError: The link was removed.
        """
        self._check()
        await self._state.discover_mtu()
        status = self._state.status()
        return status.mtu if status.connected else 0

    def diagnose(self) -> LinkDiagnosis:
        """Return what may be wrong with the link, for programs: ``explain`` says it in words.

        Raises:
            UnknownLinkError: The link was removed.
        """
        self._check()
        return self._state.diagnose()

    def explain(self) -> str:
        """Say why the link is up or down, in words that a person can act on."""
        self._runtime.check_here()
        return self._state.explain()

    async def remove(self) -> None:
        """Take the link down and remove it. It is removed even if the call is cancelled.

        See knet_link_clear_config(3).
        """
        self._check()
        await self._host.remove_link(self.link_id)

    def _check(self) -> None:
        self._runtime.check_running()
        if self._host.links.get(self.link_id) is not self:
            raise UnknownLinkError(
                f"link {self.link_id} to host {self._state.host_id} was removed; add it again"
            )
