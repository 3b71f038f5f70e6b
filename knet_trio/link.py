"""A link to a host, as programs see it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, final

from knet_trio._constructors import NoPublicConstructor
from knet_trio._core.acl import AccessList
from knet_trio._facade import Facade
from knet_trio._runtime import Runtime
from knet_trio._state.link import LinkState
from knet_trio.config import LinkConfig, check_boolean
from knet_trio.errors import UnknownLinkError
from knet_trio.status import LinkDiagnosis, LinkStatus, LinkTransition

if TYPE_CHECKING:
    # A link and its host refer to each other.
    from knet_trio.host import Host


@final
class Link(Facade, metaclass=NoPublicConstructor):
    """A link to a host, over one network.

    Returned by ``Host.add_link``.
    """

    _MADE_BY = "Host.add_link()"
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
        """The current settings. Where port 0 was given, ``src`` has the actual port."""
        return self._state.config

    @property
    def status(self) -> LinkStatus:
        """The current state of the link, with its counters. See knet_link_get_status(3)."""
        return self._state.status()

    @property
    def history(self) -> tuple[LinkTransition, ...]:
        """The last 32 times the link went up or down, the latest last."""
        return tuple(self._state.history)

    @property
    def acl(self) -> AccessList:
        """The access list: the addresses from which packets are accepted on the link.

        At first it has the peer's address; for a dynamic link it is empty.
        """
        return self._state.acl

    @property
    def enabled(self) -> bool:
        """True if the link may be used. Can be set. See knet_link_set_enable(3).

        A disabled link sends nothing and drops everything: messages that the peer sends over it
        until its end of the link is down are lost.
        """
        return self._state.enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._check()
        self._state.set_enabled(check_boolean("enabled", enabled))

    @property
    def priority(self) -> int:
        """The priority, 0 to 255. Can be set. See knet_link_set_priority(3).

        The passive policy uses the link with the highest.
        """
        return self._state.config.priority

    @priority.setter
    def priority(self, priority: int) -> None:
        self._check()
        self._state.set_priority(priority)

    @property
    def pong_count(self) -> int:
        """The link comes up with the pong after this many. Can be set.

        See knet_link_set_pong_count(3).
        """
        return self._state.config.pong_count

    @pong_count.setter
    def pong_count(self, pong_count: int) -> None:
        self._check()
        self._state.set_pong_count(pong_count)

    def set_ping_timers(self, interval: float, timeout: float, samples: int) -> None:
        """Set how often the link sends pings and how long it waits for a pong.

        Args:
            interval: Seconds between pings, 0.001 to 86400.
            timeout: Seconds without a pong after which the link is down, 0.001 to 86400. If less
                than ``interval``, the link goes down between two pings; the log has a warning of
                that.
            samples: The number of round trips that the average latency is calculated from.

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
        """Send a ping now, in addition to the heartbeat's, and wait for its pong.

        The ping counts among the last pings of ``status``, as the others do.

        Returns:
            The round trip in seconds; 0.0 for a loopback link that is up. None if no pong came
            within ``pong_timeout``, or the link is down or went down meanwhile: ``status.reason``
            says why.

        Raises:
            UnknownLinkError: The link was removed.
        """
        self._check()
        return await self._state.ping()

    async def discover_mtu(self) -> int:
        """Discover the path MTU now, and wait for the result.

        Without this call it is discovered every ``pmtud_interval``. Messages are fragmented by the
        MTU known so far meanwhile. A discovery takes a few round trips, and seconds if packets are
        lost. With ``mtu`` set in the handle, that is the result.

        Returns:
            The bytes of a message that fit in one packet, as in ``status``; 0 if the link is down,
            or the path carries no data.

        Raises:
            UnknownLinkError: The link was removed.
        """
        self._check()
        await self._state.discover_mtu()
        status = self._state.status()
        return status.mtu if status.connected else 0

    def diagnose(self) -> LinkDiagnosis:
        """Return what may be wrong with the link, as values: ``explain`` is the same as text.

        Raises:
            UnknownLinkError: The link was removed.
        """
        self._check()
        return self._state.diagnose()

    def explain(self) -> str:
        """Return a text for people: why the link is up or down, and what to do."""
        self._runtime.check_here()
        return self._state.explain()

    async def remove(self) -> None:
        """Remove the link. It is removed even if the call is cancelled.

        See knet_link_clear_config(3).
        """
        self._check()
        await self._host.remove_link(self.link_id)

    def _check(self) -> None:
        self._runtime.check_running()
        if self._host.links.get(self.link_id) is not self:
            raise UnknownLinkError(
                f"link {self.link_id} to host {self._state.host_id} was removed: add it again"
            )
