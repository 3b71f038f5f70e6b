"""The state behind a ``Link``, of any kind of link."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import Final

import attrs
import trio

from knet_trio._core.acl import AccessList
from knet_trio._state.context import Context
from knet_trio._state.counters import LinkCounters
from knet_trio._waiting import AsyncBool
from knet_trio.abc import Endpoint
from knet_trio.config import LinkConfig
from knet_trio.errors import UnknownLinkError
from knet_trio.events import LinkStatusChanged
from knet_trio.status import LinkCause, LinkDiagnosis, LinkStatus, LinkTransition

HISTORY: Final = 32
"""The changes between up and down that a link remembers."""

DISABLED: Final = "it was disabled here"
REMOVED: Final = "it was removed"
_ENDED: Final = "the handle has ended"
_NEXT: Final = {_ENDED: "", REMOVED: "; add_link makes another one"}


class LinkState(ABC):
    """A link of a host: its settings, whether it is up, and its counters.

    Attributes:
        context: The shared state of the handle.
        host_id: The id of its host.
        config: The current settings.
        link_id: The id of the link, 0 to 7.
        title: Its name in the log, which may keep it long after the link is gone.
        counters: Its counters.
        connected: On while the link is up; tasks can wait for it.
        reason: Why the link is up or down, in words.
        since: The time from which ``reason`` holds, in seconds on Trio's clock.
        history: The last changes between up and down, the latest last.
    """

    def __init__(self, context: Context, host_id: int, config: LinkConfig) -> None:
        self.context = context
        self.host_id = host_id
        self.config: LinkConfig = config
        self.link_id: int = config.link_id
        self.title: str = f"link {config.link_id} to host {host_id}"
        self.counters: LinkCounters = LinkCounters()
        self.connected: AsyncBool = AsyncBool()
        self.reason: str = "not enabled yet"
        self.since: float = context.now()
        self.history: deque[LinkTransition] = deque(maxlen=HISTORY)

    @property
    def priority(self) -> int:
        """The priority, 0 to 255; the passive policy prefers the highest."""
        return self.config.priority

    @property
    @abstractmethod
    def enabled(self) -> bool:
        """True if the link may be used."""

    @property
    @abstractmethod
    def acl(self) -> AccessList:
        """The access list: the addresses from which packets are accepted."""

    @property
    def endpoint(self) -> Endpoint | None:
        """The socket that the link shares with others, None if it needs none."""
        return None

    @property
    def how_to_start(self) -> str:
        """The advice for a link that is disabled, to follow the reason."""
        return _NEXT.get(self.reason, "; set enabled = True to start it")

    @abstractmethod
    def status(self) -> LinkStatus:
        """Return the current state and counters."""

    @abstractmethod
    async def ping(self) -> float | None:
        """Send a ping now and wait for its pong.

        Returns:
            The round trip in seconds; None if no pong came in time, or the link is not up.
        """

    @abstractmethod
    async def discover_mtu(self) -> None:
        """Search the path MTU now, if the link has one, and wait for the end of the search."""

    @abstractmethod
    def diagnose(self) -> LinkDiagnosis:
        """Return what may be wrong with the link, as a record."""

    @abstractmethod
    def explain(self) -> str:
        """Return why the link is up or down, and what to do about it, as text."""

    def set_enabled(self, enabled: bool) -> None:
        """Enable or disable the link."""
        if enabled != self.enabled:
            if enabled:
                self._start()
            else:
                self._stop(DISABLED, LinkCause.DISABLED)

    def set_priority(self, priority: int) -> None:
        """Set the priority.

        Raises:
            InvalidArgumentError: The number is out of range.
        """
        self.config = attrs.evolve(self.config, priority=priority)

    def set_pong_count(self, pong_count: int) -> None:
        """Set the number of pongs after which the next one takes the link up.

        Raises:
            InvalidArgumentError: The number is out of range.
        """
        self.config = attrs.evolve(self.config, pong_count=pong_count)

    def set_timers(self, interval: float, timeout: float, samples: int) -> None:
        """Change the timers of the heartbeat.

        Args:
            interval: Seconds between pings.
            timeout: Seconds without a pong until the link goes down.
            samples: The number of round trips that the average latency is calculated from.

        Raises:
            InvalidArgumentError: A value is out of range; nothing has changed.
        """
        self.config = attrs.evolve(
            self.config, ping_interval=interval, pong_timeout=timeout, latency_samples=samples
        )

    def clear_statistics(self) -> None:
        """Set the counters to zero."""
        self.counters.clear()

    def end(self) -> None:
        """Take the link down without an event, since the handle has ended."""
        self._set_reason(_ENDED)
        if self.connected.is_on:
            self._remember(False)
        self.connected.close_off(_ENDED)
        self.acl.close(lambda: trio.ClosedResourceError(_ENDED))

    def close(self) -> None:
        """Take the link down for good, since it is being removed."""
        self._stop(REMOVED, LinkCause.REMOVED)
        self._set_reason(REMOVED)
        why = f"{self.title} was removed; add it again"
        self.connected.close(why)
        self.acl.close(lambda: UnknownLinkError(why))

    @abstractmethod
    def _start(self) -> None:
        """Start to use the link."""

    @abstractmethod
    def _stop(self, reason: str, cause: LinkCause) -> None:
        """Stop using the link because of ``reason``, if it is in use."""

    def _set_reason(self, reason: str) -> None:
        """Set the reason of the state that begins now."""
        self.reason = reason
        self.since = self.context.now()

    def _set_connected(self, connected: bool, reason: str, cause: LinkCause) -> None:
        """Go up or down because of ``reason``, and pass on the event."""
        self._set_reason(reason)
        self._remember(connected)
        if connected:
            self.counters.went_up(cause)
        else:
            self.counters.went_down(cause)
        self.connected.set(connected)
        self.context.publish(LinkStatusChanged(self.host_id, self.link_id, connected, reason))

    def _remember(self, connected: bool) -> None:
        self.history.append(LinkTransition(self.since, connected, self.reason))
