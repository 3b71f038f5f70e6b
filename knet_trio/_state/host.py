"""The state of one host: its links, the order of its data, and its reachability."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from knet_trio._core.inbound import InboundSequence
from knet_trio._core.policy import LinkPolicy, hedge, rank, select
from knet_trio._logs.names import LogSubsystem
from knet_trio._state.context import Context
from knet_trio._state.link import LinkState
from knet_trio._state.loopback import LoopbackLinkState
from knet_trio._state.network_link import NetworkLinkState
from knet_trio._state.receive_lane import ReceiveLane
from knet_trio._state.send_lane import SendLane
from knet_trio._state.trust import Credentials, HostTrust
from knet_trio._waiting import AsyncBool
from knet_trio.address import Address
from knet_trio.errors import DropCause
from knet_trio.events import HostStatusChanged


class HostState:
    """The state behind a ``Host``.

    Args:
        context: The shared state of the handle.
        host_id: The id of the host.
        name: The name of the host.
        policy: How the links of messages are chosen.
        changed: Called when the use, the MTU or the address of a link has changed.
        forget: Called when a link over the network is removed.

    Attributes:
        links: All links by their ids.
        network_links: The links over the network by their ids.
        loopback: The link of this host to itself, its only one; None for other hosts.
        by_address: The links over the network by the addresses of their peers.
        admitted: The links whose peers may send data now, before the access list is asked.
        inbound: The sequence of the data that the host sends.
        reachable: On while a link can carry data; tasks can wait for it.
        gone: Why the host is unreachable forever, None while it is not.
        ranked: The links over the network that can carry data now, best first.
        turn: The number of the next message, for the round-robin policy.
        lane: The messages that wait to be sent to the host.
        receive_lane: The messages of the host that wait to be decompressed.
        trust: The confirmed lives of the host in slots of model ``aead``.
    """

    def __init__(
        self,
        context: Context,
        host_id: int,
        name: str,
        policy: LinkPolicy,
        changed: Callable[[HostState], None],
        forget: Callable[[NetworkLinkState], None],
    ) -> None:
        self.context = context
        self.host_id = host_id
        self.name = name
        self.policy: LinkPolicy = policy
        self.links: dict[int, LinkState] = {}
        self.network_links: dict[int, NetworkLinkState] = {}
        self.loopback: LoopbackLinkState | None = None
        self.by_address: dict[Address, NetworkLinkState] = {}
        self.admitted: dict[Address, NetworkLinkState] = {}
        self.inbound: InboundSequence = InboundSequence(
            context.counters.drop, context.defrag_buffers.maximum
        )
        self.reachable: AsyncBool = AsyncBool()
        self.gone: str | None = None
        self.ranked: tuple[NetworkLinkState, ...] = ()
        self.turn = 0
        self.lane: SendLane = SendLane(context.seq)
        self.receive_lane: ReceiveLane = ReceiveLane(host_id)
        self.trust: HostTrust = HostTrust(
            host_id, context.crypto, context.now, self._longest_timeout
        )
        self._changed = changed
        self._forget = forget

    def add(self, link: NetworkLinkState) -> None:
        """Add a link over the network."""
        self.links[link.link_id] = self.network_links[link.link_id] = link
        self.refresh()

    def add_loopback(self, link: LoopbackLinkState) -> None:
        """Add the link of this host to itself."""
        self.links[link.link_id] = self.loopback = link
        self.refresh()

    def remove(self, link: LinkState) -> None:
        """Remove a closed link."""
        del self.links[link.link_id]
        network_link = self.network_links.pop(link.link_id, None)
        if network_link is None:
            self.loopback = None
        else:
            self._forget(network_link)
        self.refresh()

    def refresh(self) -> None:
        """Update the state of the host after a change of a link."""
        links = self.network_links.values()
        by_address: dict[Address, NetworkLinkState] = {}
        for link in links:
            source = link.address.source
            # If two links lead to one address, the enabled one receives its data.
            if source is not None and (link.enabled or source not in by_address):
                by_address[source] = link
        self.by_address = by_address
        self.trust.set_up(any(link.connected.is_on for link in links))
        self.ranked = rank(link for link in links if link.usable)
        self.admitted = {
            source: link for source, link in by_address.items() if self.ranked and link.enabled
        }
        reachable = bool(self.ranked) or (self.loopback is not None and self.loopback.enabled)
        if reachable != self.reachable.is_on:
            if reachable:
                self.inbound.contact_found()
            else:
                self.inbound.contact_lost()
            self.reachable.set(reachable)
            self._log_reachable()
            self.context.publish(HostStatusChanged(self.host_id, reachable))
        self._changed(self)

    def confirm(self, credentials: Credentials) -> None:
        """Confirm the life of the host: its pong has returned a current stamp."""
        trust = credentials.trust
        assert trust is not None
        log, slot = self.context.log, self.context.crypto.number(trust.sealer)
        is_first = self.trust.life is None
        again = self.trust.confirm(credentials, reachable=bool(self.ranked))
        if again:
            self.inbound.restarted()
        elif is_first:
            # The host may have restarted since its numbers came in other envelopes.
            self.inbound.doubt_numbers()
        text = "host %d (%s) has answered in crypto slot %d: %s"
        what = "it is in a new life" if again else "its packets are accepted from now on"
        key = (text, self.host_id, slot)
        log.info(LogSubsystem.CRYPTO, text, self.host_id, self.name, slot, what, key=key)

    def _longest_timeout(self) -> float:
        links = self.network_links.values()
        return max((link.config.pong_timeout for link in links), default=0.0)

    def _log_reachable(self) -> None:
        log = self.context.log
        if self.reachable.is_on:
            text = "host %d (%s) is reachable"
            log.info(LogSubsystem.HOST, text, self.host_id, self.name, key=(text, self.host_id))
            return
        # No warning if the links were disabled on purpose.
        wanted = any(link.enabled for link in self.network_links.values())
        say = log.warning if wanted else log.info
        text = "host %d (%s) is unreachable"
        say(LogSubsystem.HOST, text, self.host_id, self.name, key=(text, self.host_id, wanted))

    @property
    def next_links(self) -> Sequence[NetworkLinkState]:
        """The links for the next message; none if the host is unreachable."""
        if len(self.ranked) < 2:
            return self.ranked
        return self.links_of_turn(self.turn)

    def links_of_turn(self, turn: int) -> Sequence[NetworkLinkState]:
        """Return the links for message number ``turn`` (for the round-robin policy)."""
        chosen = select(self.policy, self.ranked, turn)
        if self.context.hedge and len(self.ranked) > 1:
            now = self.context.now()
            return hedge(chosen, self.ranked, lambda link: link.heartbeat.suspect(now))
        return chosen

    def set_policy(self, policy: LinkPolicy) -> None:
        """Change how the links of messages are chosen."""
        self.policy = policy
        self._changed(self)

    def end(self) -> None:
        """End the host, since the handle has ended."""
        self.ranked = ()
        self.admitted = {}
        self.gone = "the handle has ended"
        self.reachable.close_off(self.gone)
        self._drop_received(DropCause.NO_CHANNEL, "the handle ended")

    def close(self) -> None:
        """End the host, since it is being removed."""
        self.gone = "it was removed"
        self.reachable.close(f"host {self.host_id} was removed; add it again")
        # Messages of the removed host must not be taken for those of a new one.
        self._drop_received(DropCause.UNKNOWN_HOST, "it was removed")

    def _drop_received(self, cause: DropCause, why: str) -> None:
        """Drop the messages of the host that were not delivered yet, and take no more."""
        lost = self.receive_lane.close()
        if lost:
            self.context.counters.drop(cause, lost)
            self.context.log.info(
                LogSubsystem.RX,
                "%d messages of host %d are lost, %s before they were delivered",
                lost,
                self.host_id,
                why,
            )
