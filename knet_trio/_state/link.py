"""What is behind a ``Link``, whatever kind of link it is."""

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
"""How many of the last times that it went up or down a link remembers."""

DISABLED: Final = "it was disabled here"
REMOVED: Final = "it was removed"
_ENDED: Final = "the handle has ended"
_NEXT: Final = {_ENDED: "", REMOVED: "; add_link makes another one"}


class LinkState(ABC):
    """A link of a host: its settings, whether it is up, and its counters.

    Attributes:
        context: What all parts of the handle share.
        host_id: The id of its host.
        config: The settings in force.
        link_id: The id of the link, 0 to 7.
        title: Its name in the log, which may keep it long after the link is gone.
        counters: Its counters.
        connected: Whether it is up, and how to wait for that.
        reason: Why it is up or down, in words.
        since: Since when it is so, on Trio's clock.
        history: The last times that it went up or down, the latest last.
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
        """0 to 255; the passive policy prefers the highest."""
        return self.config.priority

    @property
    @abstractmethod
    def enabled(self) -> bool:
        """Whether it is in use."""

    @property
    @abstractmethod
    def acl(self) -> AccessList:
        """Which addresses may speak on it."""

    @property
    def endpoint(self) -> Endpoint | None:
        """The socket it sends through, None if it needs none."""
        return None

    @property
    def how_to_start(self) -> str:
        """What to do about a link that is disabled, to be said after the reason."""
        return _NEXT.get(self.reason, "; set enabled = True to start it")

    @abstractmethod
    def status(self) -> LinkStatus:
        """Return its state and its counters as they are now."""

    @abstractmethod
    async def ping(self) -> float | None:
        """Send a ping now and wait for its pong.

        Returns:
            The round trip in seconds; None if there was none in time, or the link is not up.
        """

    @abstractmethod
    async def discover_mtu(self) -> None:
        """Search the path MTU now, if there is one to be found, and wait for the end of that."""

    @abstractmethod
    def diagnose(self) -> LinkDiagnosis:
        """Return what may be wrong with it."""

    @abstractmethod
    def explain(self) -> str:
        """Return why it is up or down, in words that a person can act on."""

    def set_enabled(self, enabled: bool) -> None:
        """Take it into use, or out of use."""
        if enabled != self.enabled:
            if enabled:
                self._start()
            else:
                self._stop(DISABLED, LinkCause.DISABLED)

    def set_priority(self, priority: int) -> None:
        """Set its priority. Raises InvalidArgumentError if that is out of range."""
        self.config = attrs.evolve(self.config, priority=priority)

    def set_pong_count(self, pong_count: int) -> None:
        """Set after how many pongs one more takes it up.

        Raises:
            InvalidArgumentError: The number is out of range.
        """
        self.config = attrs.evolve(self.config, pong_count=pong_count)

    def set_timers(self, interval: float, timeout: float, samples: int) -> None:
        """Change the timers of its heartbeat, in seconds.

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
        """Take it down without a word: the handle has ended."""
        self._set_reason(_ENDED)
        if self.connected.is_on:
            self._remember(False)
        self.connected.close_off(_ENDED)
        self.acl.close(lambda: trio.ClosedResourceError(_ENDED))

    def close(self) -> None:
        """Take it down for good: it is being removed."""
        self._stop(REMOVED, LinkCause.REMOVED)
        self._set_reason(REMOVED)
        why = f"{self.title} was removed; add it again"
        self.connected.close(why)
        self.acl.close(lambda: UnknownLinkError(why))

    @abstractmethod
    def _start(self) -> None:
        """Take it into use."""

    @abstractmethod
    def _stop(self, reason: str, cause: LinkCause) -> None:
        """Take it out of use because of ``reason``, if it is in use."""

    def _set_reason(self, reason: str) -> None:
        """Note why it is as it is from now on."""
        self.reason = reason
        self.since = self.context.now()

    def _set_connected(self, connected: bool, reason: str, cause: LinkCause) -> None:
        """Be up or down from now on because of ``reason``, and tell that."""
        self._set_reason(reason)
        self._remember(connected)
        if connected:
            self.counters.went_up(cause)
        else:
            self.counters.went_down(cause)
        self.connected.set(connected)
        self.context.tell(LinkStatusChanged(self.host_id, self.link_id, connected, reason))

    def _remember(self, connected: bool) -> None:
        self.history.append(LinkTransition(self.since, connected, self.reason))
