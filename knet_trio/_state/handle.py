"""The state of a handle: its hosts, and what follows from the state of all of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from knet_trio._core.onwire import MAX_SEQ
from knet_trio._core.policy import LinkPolicy
from knet_trio._core.sizes import minimum_data_mtu
from knet_trio._logs.names import LogSubsystem
from knet_trio._state.context import Context
from knet_trio._state.data_mtu import DataMtus
from knet_trio._state.host import HostState
from knet_trio._state.link import LinkState
from knet_trio._state.link_index import LinkIndex
from knet_trio._state.loopback import LoopbackLinkState
from knet_trio._state.network_link import NetworkLinkState
from knet_trio.abc import Endpoint, PathTrouble
from knet_trio.address import Address
from knet_trio.config import DefragBuffers
from knet_trio.events import DataMtuChanged

# Often enough that no host's window gets half the number space behind.
FORCED_PING_EVERY: Final = 8191

TroubleKey = tuple[Endpoint, Address, int, bool]
"""The key of troubles that differ only in their MTU: the socket, the destination, the error, and
whether this machine reports it."""


L = TypeVar("L", bound=LinkState)


class HandleState:
    """The hosts of a handle, and the data MTU they have in common.

    No packet, error or change of a single link makes this class walk all hosts or links. Settings
    of all links are work for ``Context.chores``.

    Attributes:
        context: The shared state of the handle.
        hosts: The hosts by their ids.
        by_address: Links by the address of their peers, to name the link of a bad packet before its
            sender is known.
        data_mtu: The largest message that goes in one packet on every link in use, in bytes.
        loopback: The link of this host to itself, if it has one that is up.
        reachable: The hosts to which a link over the network can carry data.
        troubles: Errors that the system and the network reported and that wait to be handled.
        on_host_lost: Called with a host that is not reachable any more.
        on_links_changed: Called with a host whose messages may go over other links now.
        on_keys_lost: Called when keys of hosts became invalid: a crypto slot was set or cleared, or
            a host removed.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.hosts: dict[int, HostState] = {}
        self.by_address: LinkIndex[Address] = LinkIndex()
        self.data_mtu: int = minimum_data_mtu(context.envelope)
        self.reachable: dict[int, HostState] = {}
        self.loopback: LoopbackLinkState | None = None
        self.troubles: dict[TroubleKey, PathTrouble] = {}
        self.on_host_lost: Callable[[HostState], None] = lambda _: None
        self.on_links_changed: Callable[[HostState], None] = lambda _: None
        self.on_keys_lost: Callable[[], None] = lambda: None
        self._names: dict[str, HostState] = {}
        # A trouble names a socket and a destination, sometimes without its port.
        self._by_way: LinkIndex[tuple[Endpoint, Address]] = LinkIndex()
        self._mtus = DataMtus()
        self._envelope = context.envelope

    # Hosts.

    def add(self, host_id: int, name: str, policy: LinkPolicy) -> HostState:
        """Add a host."""
        host = HostState(self.context, host_id, name, policy, self.update, self._forget)
        self.hosts[host_id] = self._names[name] = host
        self.context.log.debug(LogSubsystem.HOST, "host %d (%s) is added", host_id, name)
        return host

    def remove(self, host: HostState) -> None:
        """Remove a host, whose links are about to be closed and removed."""
        host.close()
        self.on_keys_lost()
        del self.hosts[host.host_id]
        del self._names[host.name]
        if self.reachable.pop(host.host_id, None) is not None:
            self._lost(host)
        self.context.log.debug(
            LogSubsystem.HOST, "host %d (%s) is removed", host.host_id, host.name
        )

    def find(self, name: str) -> HostState | None:
        """Return the host called ``name``, None if there is none."""
        return self._names.get(name)

    def rename(self, host: HostState, name: str) -> None:
        """Change the name of a host to one that no other host has."""
        del self._names[host.name]
        host.name = name
        self._names[name] = host

    # Links.

    def network_links(self) -> Iterator[NetworkLinkState]:
        """Yield every link over the network."""
        for host in self.hosts.values():
            yield from host.network_links.values()

    def links(self) -> Iterator[LinkState]:
        """Yield every link."""
        for host in self.hosts.values():
            yield from host.links.values()

    def links_concerned(
        self, endpoint: Endpoint, destination: Address
    ) -> Sequence[NetworkLinkState]:
        """Return the links that send through ``endpoint`` to ``destination``.

        Port 0 stands for any port: the kernel names only the address when it refuses an IPv4 packet
        for its size.
        """
        return self._by_way.find((endpoint, destination))

    def find_concerned(self, endpoint: Endpoint, destination: Address) -> NetworkLinkState | None:
        """Return one of ``links_concerned``, None if there are none."""
        return self._by_way.get((endpoint, destination))

    def is_concerned(
        self, link: NetworkLinkState, endpoint: Endpoint, destination: Address
    ) -> bool:
        """Return whether ``link`` is one of ``links_concerned``."""
        return self._by_way.has(link, (endpoint, destination))

    def update(self, host: HostState) -> None:
        """Update the indexes, the data MTU and the reachable hosts after a change of a host."""
        if self.hosts.get(host.host_id) is host:
            self._settle_reachable(host)
        if host.host_id == self.context.host_id:
            loopback = host.loopback
            self.loopback = loopback if loopback is not None and loopback.enabled else None
        for link in host.network_links.values():
            destination, source = link.destination, link.address.source
            if destination is None or source is None:
                self.by_address.discard(link)
                self._by_way.discard(link)
            else:
                self.by_address.put(link, (source,))
                anywhere = destination._replace(port=0)
                endpoints = link.sender.endpoints
                ways = [(one, to) for one in endpoints for to in (destination, anywhere)]
                self._by_way.put(link, tuple(ways))
            if link.usable:
                # Until its search has ended, a link limits the data MTU to the minimum.
                self._mtus.put(link, link.path_mtu.found)
            else:
                self._mtus.discard(link)
        self._settle_data_mtu()

    def _settle_reachable(self, host: HostState) -> None:
        if host.ranked:
            self.reachable[host.host_id] = host
            self.on_links_changed(host)
        elif self.reachable.pop(host.host_id, None) is not None:
            self._lost(host)

    def _lost(self, host: HostState) -> None:
        if not self.reachable:
            # Packets that were sealed until now and have not arrived must not be accepted later.
            self.context.crypto.life.renew()
        self.on_host_lost(host)

    def _forget(self, link: NetworkLinkState) -> None:
        """Remove a link from the indexes and the data MTU."""
        self.by_address.discard(link)
        self._by_way.discard(link)
        self._mtus.discard(link)

    def _settle_data_mtu(self) -> None:
        data_mtu = self._mtus.smallest(minimum_data_mtu(self._envelope))
        if data_mtu != self.data_mtu:
            self.data_mtu = data_mtu
            text = "the data MTU is %d bytes"
            # The value found is logged, although the least one was, just before.
            key = text, self._mtus.are_known
            self.context.log.info(LogSubsystem.PMTUD, text, data_mtu, key=key)
            self.context.publish(DataMtuChanged(data_mtu))

    # Settings of all hosts and links.

    def set_defrag_buffers(self, buffers: DefragBuffers) -> None:
        """Set how many messages of each host may be reassembled at once."""
        self.context.defrag_buffers = buffers
        self.context.chores.add(
            self.set_defrag_buffers,
            self.hosts.values(),
            lambda host: host.inbound.set_buffers(buffers.maximum),
        )

    def set_pmtud_interval(self, interval: float) -> None:
        """Search the path MTU of each link every ``interval`` seconds."""
        self.context.pmtud_interval = interval
        now = self.context.now()
        self._do_to_network_links(
            self.set_pmtud_interval, lambda link: link.path_mtu.set_interval(interval, now)
        )

    def restart_discovery(self) -> None:
        """Search every path MTU again: the envelope or the MTU settings changed."""
        envelope = self.context.envelope
        if envelope != self._envelope:
            self._envelope = envelope
            self._mtus.doubt_all()
            self._settle_data_mtu()
        self._do_to_network_links(
            self.restart_discovery, lambda link: link.path_mtu.restart(self.context.now())
        )

    def forget_cleared_slots(self) -> None:
        """Forget the keys and lives of hosts in crypto slots that were replaced or cleared."""
        self.on_keys_lost()
        self.context.chores.add(
            self.forget_cleared_slots,
            self.hosts.values(),
            lambda host: host.trust.forget_cleared(),
        )

    def clear_link_statistics(self) -> None:
        """Set the counters of every link to zero."""
        self.context.chores.add(
            self.clear_link_statistics,
            self.hosts.values(),
            lambda host: _each(host.links.values(), lambda link: link.clear_statistics()),
        )

    def _do_to_network_links(
        self, kind: Hashable, act: Callable[[NetworkLinkState], object]
    ) -> None:
        """Call ``act`` with every link over the network, as a chore."""
        # The links of a host are listed in its turn: there may be thousands.
        self.context.chores.add(
            kind, self.hosts.values(), lambda host: _each(host.network_links.values(), act)
        )

    # Numbers.

    def next_seqs(self, count: int) -> Sequence[int]:
        """Return the numbers of the next ``count`` messages.

        Every 8191 messages a forced ping sends the current number to every host.
        """
        before = self.context.seq
        last = before + count
        if last <= MAX_SEQ:
            self.context.seq = last
            seqs: Sequence[int] = range(before + 1, last + 1)
            is_due = before // FORCED_PING_EVERY != last // FORCED_PING_EVERY
        else:
            seqs = [self.context.advance_seq() for _ in range(count)]
            is_due = any(seq % FORCED_PING_EVERY == 0 for seq in seqs)
        if is_due:
            self._do_to_network_links(self._force_ping, self._force_ping)
        return seqs

    def renew_life(self) -> None:
        """Begin a new life, and send a ping over every link, so that other hosts confirm it."""
        self.context.crypto.life.renew()
        if self.context.crypto.aead:
            self._do_to_network_links(self._announce_life, self._announce_life)

    def _announce_life(self, link: NetworkLinkState) -> None:
        if link.enabled:
            link.heartbeat.ping(self.context.now(), timed=True)

    def _force_ping(self, link: NetworkLinkState) -> None:
        """Send a forced ping, with the number of the last message."""
        if link.enabled:
            link.heartbeat.ping(self.context.now(), timed=False)


def _each(links: Iterable[L], act: Callable[[L], object]) -> Iterator[None]:
    """Call ``act`` with each of ``links``, one for each item that is taken."""
    for number, link in enumerate(tuple(links)):
        if number:
            yield
        act(link)
