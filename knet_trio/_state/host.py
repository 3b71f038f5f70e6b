"""The state of one host: its links, the order of its data, and whether it can be reached."""

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
    """What is behind a ``Host``.

    Args:
        changed: Called when the use, the MTU or the address of a link has changed.
        forget: Called when a link over the network is removed.

    Attributes:
        links: All its links by their ids.
        network_links: Those over the network.
        loopback: The link of this host to itself, its only one; None for other hosts.
        by_address: The links over the network by their destinations.
        admitted: Those whose peers may send data now, as far as the access list does not say no.
        inbound: The order of the data that it sends.
        reachable: Whether a link can carry data, and how to wait for that.
        gone: Why it cannot be reached ever again, None while it can.
        ranked: The links over the network that can carry data now, best first.
        turn: Counts messages, with the round-robin policy, to choose their links.
        lane: What waits to be sent to it.
        receive_lane: What it has sent and waits to be decompressed.
        trust: Which lives of it are believed, by envelopes of model ``aead``.
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
        """Work out again what follows from the state of its links."""
        links = self.network_links.values()
        by_address: dict[Address, NetworkLinkState] = {}
        for link in links:
            source = link.address.source
            # Of two that lead to one address, the one in use takes its data.
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
            self.context.tell(HostStatusChanged(self.host_id, reachable))
        self._changed(self)

    def confirm(self, credentials: Credentials) -> None:
        """Believe the life of a pong that has brought back a stamp of now."""
        trust = credentials.trust
        assert trust is not None
        log, slot = self.context.log, self.context.crypto.number(trust.sealer)
        is_first = self.trust.life is None
        again = self.trust.confirm(credentials, reachable=bool(self.ranked))
        if again:
            self.inbound.restarted()
        elif is_first:
            # It may have started again since this host heard of its numbers in other envelopes.
            self.inbound.doubt_numbers()
        text = "host %d (%s) has answered in crypto slot %d: %s"
        what = "another life of it than before" if again else "what it sends from now on is taken"
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
        # Nobody has to look into what was done on purpose.
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
        """End it: the handle has ended."""
        self.ranked = ()
        self.admitted = {}
        self.gone = "the handle has ended"
        self.reachable.close_off(self.gone)
        self._drop_received(DropCause.NO_CHANNEL, "the handle ended")

    def close(self) -> None:
        """End it: the host is being removed."""
        self.gone = "it was removed"
        self.reachable.close(f"host {self.host_id} was removed; add it again")
        # What waits was sent by a host that is gone, and is not to be taken for a new one's.
        self._drop_received(DropCause.UNKNOWN_HOST, "it was removed")

    def _drop_received(self, cause: DropCause, why: str) -> None:
        """Drop what it has sent and is not delivered yet, and take no more."""
        lost = self.receive_lane.close()
        if lost:
            self.context.counters.drop(cause, lost)
            self.context.log.info(
                LogSubsystem.RX,
                "%d messages of host %d are lost, %s before they were worked on",
                lost,
                self.host_id,
                why,
            )
