"""The observations of a running host over some seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

import attrs

from knet_trio import HandleDiagnosis, LinkDiagnosis, LinkStatistics
from knet_trio.cli.doctor.machine import NetworkCard
from knet_trio.cli.names import title_of
from knet_trio.control import HandleReport, HostReport, LinkPing, LinkReport, LoopReport

# The ping intervals after which a peer that pings would have been heard.
_PINGS_TO_EXPECT: Final = 2.5

LinkKey: TypeAlias = tuple[int, int]
"""The ids of a host and of a link."""


@attrs.frozen(kw_only=True)
class Snapshot:
    """The state of a running host at one time.

    Attributes:
        report: The state of the handle, its hosts and their links.
        handle: Possible faults of the handle.
        links: Possible faults of each link.
        counters: The counters of each link.
        clock_error: The seconds by which the program's time of day is ahead of this command's; 0.0
            if they may be equal.
    """

    report: HandleReport
    handle: HandleDiagnosis
    links: Mapping[LinkKey, LinkDiagnosis]
    counters: Mapping[LinkKey, LinkStatistics]
    clock_error: float = 0.0


@attrs.frozen(kw_only=True)
class Evidence:
    """The observations between two snapshots.

    Attributes:
        seconds: The time between the snapshots, in seconds.
        before: The first snapshot.
        after: The last snapshot.
        pings: The results of pings over each link that is up.
        loop: How late the event loop of the program was.
        arrived: The packets of silent peers that reached this machine, by link. Empty if this user
            may not capture packets.
        interfaces: The network interfaces of the program, by their addresses. Empty if not known.
        stolen: The share of the processor time that the host of this virtual machine took.
        is_service: True if the program is ``knet-trio run``, or another that reads a cluster file.
    """

    seconds: float
    before: Snapshot
    after: Snapshot
    pings: Mapping[LinkKey, LinkPing]
    loop: LoopReport
    arrived: Mapping[LinkKey, int] = attrs.field(factory=dict[LinkKey, int])
    interfaces: Mapping[str, NetworkCard] = attrs.field(factory=dict[str, NetworkCard])
    stolen: float = 0.0
    is_service: bool = False

    def is_present(self, at: float | None, interval: float = 1.0) -> bool:
        """Return whether a packet that came at ``at`` shows that such packets still come.

        Args:
            at: The time, on the program's clock; None for never.
            interval: Seconds between two packets of the sender, such as pings.
        """
        if at is None:
            return False
        # A short observation may lie between two packets.
        now = self.after.handle.at
        return at >= self.before.handle.at or now - at <= _PINGS_TO_EXPECT * interval

    def links(self) -> Iterator[LinkCase]:
        """Yield a case for each link that is in both snapshots."""
        for host in self.after.report.hosts:
            for link in host.links:
                key = host.host_id, link.link_id
                if key in self.after.links and key in self.before.links:
                    yield LinkCase(self, host, link)


class LinkCase:
    """The observations of one link.

    Args:
        evidence: The observations of the host.
        host: The host that the link leads to.
        link: The state of the link in the last snapshot.

    Attributes:
        evidence: The observations of the host.
        host: The host that the link leads to.
        link: The state of the link in the last snapshot.
        before: Possible faults of the link in the first snapshot.
        after: Possible faults of the link in the last snapshot.
        ping: The results of pings over the link, None for none.
        arrived: The packets of the peer that reached this machine, if it was silent.
    """

    def __init__(self, evidence: Evidence, host: HostReport, link: LinkReport) -> None:
        key = host.host_id, link.link_id
        self.evidence = evidence
        self.host = host
        self.link = link
        self.before: LinkDiagnosis = evidence.before.links[key]
        self.after: LinkDiagnosis = evidence.after.links[key]
        self.ping: LinkPing | None = evidence.pings.get(key)
        self.arrived: int = evidence.arrived.get(key, 0)
        self._counters = evidence.before.counters.get(key), evidence.after.counters.get(key)

    @property
    def where(self) -> str:
        """The host and the id of the link, for the finding."""
        return f"{title_of(self.host.host_id, self.host.name)}, link {self.link.link_id}"

    @property
    def peer(self) -> str:
        """The address of the peer, in words."""
        return self.link.dst or "its peer"

    @property
    def protocol(self) -> str:
        """The protocol of its packets, as named in firewalls."""
        return self.link.transport.upper()

    @property
    def peer_host(self) -> str | None:
        """The address of the peer without the port, None if it is not known."""
        return None if self.link.dst is None else host_part(self.link.dst)

    def is_present(self, at: float | None) -> bool:
        """Return whether a packet of the peer at ``at`` shows that such packets still come."""
        if at is None:
            return False
        return at >= self.before.at or self.after.at - at <= (
            _PINGS_TO_EXPECT * self.link.ping_interval
        )

    def is_recent(self, at: float | None) -> bool:
        """Return whether ``at`` is within the observation, or shortly before."""
        patience = max(2 * self.evidence.seconds, 3 * self.link.ping_interval) + 1
        return at is not None and self.after.at - at <= patience

    @property
    def pinged_by_peer(self) -> bool:
        """True if pings of the peer arrive from the address that the link leads to."""
        at = self.after.ping_last
        # Only recent pings show that they still arrive.
        patience = max(0.8 * self.evidence.seconds, _PINGS_TO_EXPECT * self.link.ping_interval)
        return at is not None and self.after.at - at <= patience

    @property
    def pings_sent(self) -> int:
        """The pings that left this machine during the observation."""
        return self._grown("tx_ping_packets") - self._grown("tx_ping_errors")

    @property
    def pongs(self) -> int:
        """The pongs that arrived during the observation."""
        return self._grown("rx_pong_packets")

    @property
    def is_answered(self) -> bool:
        """True if the link is up and pongs arrive, or too few pings were sent to know."""
        return self.link.connected and (self.pongs > 0 or self.pings_sent < 3)

    def _grown(self, name: str) -> int:
        earlier, later = self._counters
        if earlier is None or later is None:
            return 0
        # A counter is smaller than before if it was cleared meanwhile.
        return max(0, int(getattr(later, name)) - int(getattr(earlier, name)))


def host_part(place: str) -> str:
    """Return an address without its port."""
    return place.rpartition(":")[0]
