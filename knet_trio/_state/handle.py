"""This host at work: its peers, and what follows from the state of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from knet_trio._core.onwire import MAX_SEQ
from knet_trio._core.policy import LinkPolicy
from knet_trio._core.sizes import minimum_data_mtu
from knet_trio._logs.names import LogSubsystem
from knet_trio._state.context import Context
from knet_trio._state.host import HostState
from knet_trio._state.link import LinkState
from knet_trio._state.loopback import LoopbackLinkState
from knet_trio.address import Address
from knet_trio.config import DefragBuffers
from knet_trio.events import DataMtuChanged

# Often enough that no peer's window can be half the number space off unnoticed.
FORCED_PING_EVERY: Final = 8191


class HandleState:
    """The peers of a handle and the data MTU they have in common."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.hosts: dict[int, HostState] = {}

        self.reachable: dict[int, HostState] = {}
        self.on_host_lost: Callable[[HostState], None] = lambda _: None
        self.on_links_changed: Callable[[HostState], None] = lambda _: None
        # Whose address it is, for what is wrong with a packet before its sender is known.
        self.by_address: dict[Address, LinkState] = {}
        self.data_mtu = minimum_data_mtu(context.envelope)

    def add(self, host_id: int, name: str, policy: LinkPolicy) -> HostState:
        """Take in a new peer."""
        host = HostState(self.context, host_id, name, policy, self.links_changed)
        self.hosts[host_id] = host
        self.context.log.debug(LogSubsystem.HOST, "host %d (%s) is added", host_id, name)
        return host

    def remove(self, host: HostState) -> None:
        """Let go of a peer that has no path left."""
        host.close()
        del self.hosts[host.host_id]
        if self.reachable.pop(host.host_id, None) is not None:
            self.on_host_lost(host)
        self.context.log.debug(
            LogSubsystem.HOST, "host %d (%s) is removed", host.host_id, host.name
        )

    def network_links(self) -> Iterator[LinkState]:
        """Every path over the network."""
        for host in self.hosts.values():
            yield from host.network_links.values()

    def links(self) -> Iterator[LinkState | LoopbackLinkState]:
        """Every link there is."""
        for host in self.hosts.values():
            yield from host.links.values()

    @property
    def loopback(self) -> LoopbackLinkState | None:
        """The link of this host to itself, if it has one that is up."""
        own = self.hosts.get(self.context.host_id)
        loopback = None if own is None else own.loopback
        return loopback if loopback is not None and loopback.enabled else None

    @property
    def by_name(self) -> dict[str, HostState]:
        return {host.name: host for host in self.hosts.values()}

    def links_changed(self, host: HostState) -> None:
        """What the links of a host can carry has changed."""
        if host.ranked:
            self.reachable[host.host_id] = host
            self.on_links_changed(host)
        elif self.reachable.pop(host.host_id, None) is not None:
            self.on_host_lost(host)
        self.refresh()

    def refresh(self) -> None:
        """Work out anew what follows from the peers; the data MTU is the smallest in use."""
        self.by_address = {
            address: link
            for host in self.hosts.values()
            for address, link in host.by_address.items()
        }
        minimum = minimum_data_mtu(self.context.envelope)
        searches = [link.pmtud for link in self.network_links() if link.usable]
        # A search that has not ended holds everybody to what every path carries.
        mtus = [search.mtu if search.onwire else minimum for search in searches]
        data_mtu = min((mtu for mtu in mtus if mtu is not None), default=minimum)
        if data_mtu != self.data_mtu:
            self.data_mtu = data_mtu
            self.context.log.info(LogSubsystem.PMTUD, "the data MTU is %d bytes", data_mtu)
            self.context.tell(DataMtuChanged(data_mtu))

    def set_defrag_buffers(self, buffers: DefragBuffers) -> None:
        """Put no more messages together at once for each peer than ``buffers`` says."""
        self.context.defrag_buffers = buffers
        for host in self.hosts.values():
            host.inbound.set_buffers(buffers.maximum)

    def set_pmtud_interval(self, interval: float) -> None:
        """Search every path again every ``interval`` seconds."""
        self.context.pmtud_interval = interval
        for link in self.network_links():
            link.set_pmtud_interval(interval)

    def restart_discovery(self) -> None:
        """The envelope or the MTU settings changed: every path is searched again."""
        now = self.context.now()
        for link in list(self.network_links()):
            link.restart_discovery(now)
        self.refresh()

    def next_seqs(self, count: int) -> Sequence[int]:
        """The numbers of the next messages; now and then one is told to every peer at once."""
        before = self.context.seq
        last = before + count
        if last <= MAX_SEQ:
            self.context.seq = last
            seqs: Sequence[int] = range(before + 1, last + 1)
            tell = before // FORCED_PING_EVERY != last // FORCED_PING_EVERY
        else:
            seqs = [self.context.advance_seq() for _ in range(count)]
            tell = any(seq % FORCED_PING_EVERY == 0 for seq in seqs)
        if tell:
            now = self.context.now()
            for link in self.network_links():
                if link.enabled:
                    link.send_ping(now, timed=False)
        return seqs
