"""The link of a host to itself: messages are copied and do not go over the network.

It has no heartbeat, no path MTU and no socket. It is up while it is enabled, and does not affect
the data MTU. See knet_link_set_config(3), KNET_TRANSPORT_LOOPBACK.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from knet_trio._core.acl import AccessList
from knet_trio._core.sizes import MAX_ONWIRE
from knet_trio._logs.names import LogSubsystem
from knet_trio._state.context import Context
from knet_trio._state.counters import Kind
from knet_trio._state.diagnose import diagnose_loopback
from knet_trio._state.link import LinkState
from knet_trio.config import LinkConfig
from knet_trio.message import Message
from knet_trio.status import LinkCause, LinkDiagnosis, LinkStatus


class LoopbackLinkState(LinkState):
    """The only link of this host to itself.

    The access list and the settings of the heartbeat can be read and changed like those of other
    links, without effect.

    Args:
        context: The shared state of the handle.
        config: The settings.
        deliver: Puts messages into the queues of the channels.
        changed: Called when the link goes up or down.
    """

    def __init__(
        self,
        context: Context,
        config: LinkConfig,
        deliver: Callable[[Sequence[Message]], None],
        changed: Callable[[], None],
    ) -> None:
        super().__init__(context, context.host_id, config)
        self._acl = AccessList()
        self._deliver = deliver
        self._changed = changed

    @property
    def enabled(self) -> bool:
        """True if the link is in use, which is the same as being up."""
        return self.connected.is_on

    @property
    def acl(self) -> AccessList:
        """An access list without effect."""
        return self._acl

    def status(self) -> LinkStatus:
        """Return the current state. No socket is bound to its addresses."""
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
            reason=self.reason,
            since=self.since,
            carries_data=self.enabled,
            loss=None,
            jitter=None,
            latency_p50=None,
            latency_p99=None,
            stats=self.counters.snapshot(),
        )

    async def ping(self) -> float | None:
        """Return 0.0 while the link is up, since nothing has to be sent."""
        await trio.lowlevel.checkpoint()
        return 0.0 if self.enabled else None

    async def discover_mtu(self) -> None:
        """Do nothing, since there is no path."""
        await trio.lowlevel.checkpoint()

    def diagnose(self) -> LinkDiagnosis:
        """Return a record in which nothing is wrong."""
        return diagnose_loopback(self)

    def _start(self) -> None:
        self._change(True, "messages to this host itself stay within it", LinkCause.ENABLED)

    def _stop(self, reason: str, cause: LinkCause) -> None:
        if self.enabled:
            self._change(False, reason, cause)

    def _change(self, up: bool, reason: str, cause: LinkCause) -> None:
        """Go up or down at once."""
        self.context.log.info(
            LogSubsystem.LINK, "%s is %s: %s", self.title, "up" if up else "down", reason
        )
        self._set_connected(up, reason, cause)
        self._changed()

    def explain(self) -> str:
        """Return why the link is up or down, and what to do about it, as text."""
        title = f"link {self.link_id} of host {self.host_id} to itself"
        if self.enabled:
            return f"{title} is up: {self.reason}"
        return f"{title} is down: {self.reason}{self.how_to_start}"

    def carry(self, messages: Sequence[Message]) -> None:
        """Deliver ``messages`` to this host's own channels."""
        size = sum(len(message.data) for message in messages)
        self.counters.sent(Kind.DATA, len(messages), size)
        self._deliver(messages)
