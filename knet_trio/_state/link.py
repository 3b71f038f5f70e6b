"""What is behind a ``Link``, whatever kind of link it is."""

from __future__ import annotations

from abc import ABC, abstractmethod

import attrs

from knet_trio._core.acl import AccessList
from knet_trio._state.context import Context
from knet_trio._state.counters import LinkCounters
from knet_trio._waiting import AsyncBool
from knet_trio.abc import Endpoint
from knet_trio.config import LinkConfig
from knet_trio.status import LinkStatus


class LinkState(ABC):
    """A link of a host: its settings, whether it is up, and what it counts.

    Attributes:
        config: The settings in force.
        title: What the log calls it, which may keep that long after the link is gone.
        counters: What it counts.
        connected: Whether it is up, and how to wait for that.
        reason: Why it is up or down, in words.
    """

    def __init__(self, context: Context, host_id: int, config: LinkConfig) -> None:
        self.context = context
        self.host_id = host_id
        self.config = config
        self.title = f"link {config.link_id} to host {host_id}"
        self.counters = LinkCounters()
        self.connected = AsyncBool()
        self.reason = "not enabled yet"

    @property
    def link_id(self) -> int:
        """0 to 7."""
        return self.config.link_id

    @property
    def priority(self) -> int:
        """0 to 255, more is better."""
        return self.config.priority

    @property
    @abstractmethod
    def enabled(self) -> bool:
        """Whether it runs."""

    @property
    @abstractmethod
    def acl(self) -> AccessList:
        """Which addresses may speak on it."""

    @property
    def endpoint(self) -> Endpoint | None:
        """The socket it sends through, None if it needs none."""
        return None

    @abstractmethod
    def status(self) -> LinkStatus:
        """Return the state and the counters of now."""

    @abstractmethod
    def explain(self) -> str:
        """Return why it is as it is, in words a person can act on."""

    @abstractmethod
    def set_enabled(self, enabled: bool) -> None:
        """Start or stop it."""

    def set_priority(self, priority: int) -> None:
        """Prefer it to links of lower priority. Raises InvalidArgumentError if out of range."""
        self.config = attrs.evolve(self.config, priority=priority)

    def set_pong_count(self, pong_count: int) -> None:
        """Have that many pongs take it up. Raises InvalidArgumentError if out of range."""
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
        """Start the counters again."""
        self.counters.clear()

    def close(self) -> None:
        """Take it down for good: it is being removed."""
        self.set_enabled(False)
        self.connected.close()
