"""One host at work: its links, the order of its data, and whether it can be reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from knet_trio._core.inbound import InboundSequence
from knet_trio._core.policy import LinkPolicy, hedge, rank, select
from knet_trio._logs.names import LogSubsystem
from knet_trio._state.context import Context
from knet_trio._state.lane import SendLane
from knet_trio._state.link import LinkState
from knet_trio._state.loopback import LoopbackLinkState
from knet_trio._waiting import AsyncBool
from knet_trio.address import Address
from knet_trio.events import HostStatusChanged


class HostState:
    """Another host. ``changed`` is called when a path's use or MTU has changed."""

    def __init__(
        self,
        context: Context,
        host_id: int,
        name: str,
        policy: LinkPolicy,
        changed: Callable[[HostState], None],
    ) -> None:
        self.context = context
        self.host_id = host_id
        self.name = name
        self.policy = policy
        self.network_links: dict[int, LinkState] = {}
        # Only the own host has one, and then no other link.
        self.loopback: LoopbackLinkState | None = None
        self.by_address: dict[Address, LinkState] = {}
        self.inbound = InboundSequence(context.counters.drop, context.defrag_buffers.maximum)
        self.reachable = AsyncBool()
        # The paths that can carry data now, best first.
        self.ranked: tuple[LinkState, ...] = ()
        # Which link is next, with the round-robin policy.
        self.turn = 0
        self.lane = SendLane(context.seq)
        self._changed = changed

    @property
    def links(self) -> Mapping[int, LinkState | LoopbackLinkState]:
        """All its links by their ids: those over the network, or the one within this host."""
        return (
            self.network_links if self.loopback is None else {self.loopback.link_id: self.loopback}
        )

    def add(self, link: LinkState | LoopbackLinkState) -> None:
        """Take in a new path."""
        if isinstance(link, LoopbackLinkState):
            self.loopback = link
        else:
            self.network_links[link.link_id] = link
            link.lane = self.lane
        self.refresh()

    def remove(self, link: LinkState | LoopbackLinkState) -> None:
        """Let go of a closed path."""
        if isinstance(link, LoopbackLinkState):
            self.loopback = None
        else:
            del self.network_links[link.link_id]
        self.refresh()

    def refresh(self) -> None:
        """Work out anew what follows from the state of the paths."""
        self.by_address = {
            link.destination: link
            for link in self.network_links.values()
            if link.destination is not None
        }
        self.ranked = rank(link for link in self.network_links.values() if link.usable)
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

    def _log_reachable(self) -> None:
        log = self.context.log
        if self.reachable.is_on:
            log.info(LogSubsystem.HOST, "host %d (%s) is reachable", self.host_id, self.name)
            return
        # Nobody has to look into what was done on purpose.
        wanted = any(link.enabled for link in self.network_links.values())
        say = log.warning if wanted else log.info
        say(LogSubsystem.HOST, "host %d (%s) is unreachable", self.host_id, self.name)

    @property
    def next_links(self) -> Sequence[LinkState]:
        """The links for the next message; none if the host cannot be reached."""
        if len(self.ranked) < 2:
            return self.ranked
        return self.links_of_turn(self.turn)

    def links_of_turn(self, turn: int) -> Sequence[LinkState]:
        """The links that carry message number ``turn``, with the round-robin policy."""
        chosen = select(self.policy, self.ranked, turn)
        if self.context.hedge and len(self.ranked) > 1:
            now = self.context.now()
            return hedge(chosen, self.ranked, lambda link: link.liveness.suspect(now))
        return chosen

    def set_policy(self, policy: LinkPolicy) -> None:
        """Choose the links of messages in another way from now on."""
        self.policy = policy
        self._changed(self)

    def close(self) -> None:
        """It is being removed."""
        self.reachable.close()
