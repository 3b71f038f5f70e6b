"""The link of a host to itself: messages are copied, and nothing goes over the network.

So it has no heartbeat, no path MTU to find and no socket, is up as long as it is enabled, and plays
no part in the data MTU. Source: man knet_link_set_config (KNET_TRANSPORT_LOOPBACK).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from knet_trio._core.acl import AccessList
from knet_trio._core.liveness import Liveness
from knet_trio._core.sizes import MAX_ONWIRE
from knet_trio._logs.names import LogSubsystem
from knet_trio._state.context import Context
from knet_trio._state.counters import Kind, LinkCounters
from knet_trio._waiting import AsyncBool
from knet_trio.config import LinkConfig
from knet_trio.errors import DropCause
from knet_trio.events import LinkStatusChanged
from knet_trio.message import Message
from knet_trio.status import LinkStatus


class LoopbackLinkState:
    """The only link of the own host. ``deliver`` puts messages into the channels' queues.

    ``changed`` is called when it goes up or down. Its access list and its heartbeat's settings can
    be read and changed like those of other links, and mean nothing.
    """

    def __init__(
        self,
        context: Context,
        config: LinkConfig,
        deliver: Callable[[Sequence[Message]], None],
        changed: Callable[[], None],
    ) -> None:
        self.context = context
        self.host_id = context.host_id
        self.config = config
        self.acl = AccessList()
        self.liveness = Liveness(
            context.now(),
            interval=config.ping_interval,
            timeout=config.pong_timeout,
            samples=config.latency_samples,
            pong_count=config.pong_count,
        )
        self.counters = LinkCounters()
        self.drops: Counter[DropCause] = Counter()
        self.connected = AsyncBool()
        self.reason = "not enabled yet"
        self._deliver = deliver
        self._changed = changed

    def __str__(self) -> str:
        return f"link {self.link_id} of host {self.host_id} to itself"

    @property
    def link_id(self) -> int:
        """0 to 7."""
        return self.config.link_id

    @property
    def enabled(self) -> bool:
        """Whether it runs, which is the same as being up."""
        return self.connected.is_on

    def status(self) -> LinkStatus:
        """How it is. The addresses are those it was given; nothing is bound to them."""
        src, dst = self.config.src, self.config.dst
        return LinkStatus(
            src_ipaddr=src.host,
            src_port=src.port,
            dst_ipaddr=dst.host if dst else None,
            dst_port=dst.port if dst else None,
            enabled=self.enabled,
            connected=self.enabled,
            dynconnected=False,
            latency=0.0,
            pong_last=None,
            mtu=MAX_ONWIRE,
            proto_overhead=0,
            stats=self.counters.snapshot(self.liveness),
        )

    def set_enabled(self, enabled: bool) -> None:
        """Take it up or down, at once."""
        if enabled == self.enabled:
            return
        counters = self.counters
        if enabled:
            self.reason = "messages to this host itself stay within it"
            counters.up_count += 1
            counters.up_times.append(time.time())
        else:
            self.reason = "it was disabled here"
            counters.down_count += 1
            counters.down_times.append(time.time())
        self.connected.set(enabled)
        self.context.log.info(
            LogSubsystem.LINK,
            "link %d to host %d is %s: %s",
            self.link_id,
            self.host_id,
            "up" if enabled else "down",
            self.reason,
        )
        self.context.tell(LinkStatusChanged(self.host_id, self.link_id, enabled, self.reason))
        self._changed()

    def set_timers(self, interval: float, timeout: float, samples: int) -> None:
        """Keep the settings of a heartbeat that it does not have."""
        self.liveness.set_timers(self.context.now(), interval, timeout, samples)

    def carry(self, messages: Sequence[Message]) -> None:
        """Give copies of ``messages`` to this host's own channels."""
        tally = self.counters.tallies[Kind.DATA]
        tally.tx_packets += len(messages)
        tally.tx_bytes += sum(len(message.data) for message in messages)
        self._deliver(messages)

    def close(self) -> None:
        """It is being removed."""
        self.set_enabled(False)
        self.connected.close()
