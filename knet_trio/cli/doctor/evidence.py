"""What was seen of a running host within some seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import attrs

from knet_trio import HandleDiagnosis, LinkDiagnosis, LinkStatistics
from knet_trio.cli.names import title_of
from knet_trio.control import HandleReport, HostReport, LinkPing, LinkReport, LoopReport

LinkKey: TypeAlias = tuple[int, int]
"""The ids of a host and of a link."""


@attrs.frozen(kw_only=True)
class Snapshot:
    """What there was to be seen at one time.

    Attributes:
        report: The state of the handle, its hosts and their links.
        handle: What may be wrong with the handle.
        links: What may be wrong with each link.
        counters: What each link counts.
        clock_error: How much the time of day of the program is ahead of this command's, in seconds;
            0.0 if it need not be.
    """

    report: HandleReport
    handle: HandleDiagnosis
    links: Mapping[LinkKey, LinkDiagnosis]
    counters: Mapping[LinkKey, LinkStatistics]
    clock_error: float = 0.0


@attrs.frozen(kw_only=True)
class Evidence:
    """What was seen from a first look to a last one.

    Attributes:
        seconds: The time between them.
        before: The first look.
        after: The last look.
        pings: What became of pings over each link that is up.
        loop: How late the event loop of the program came round.
        arrived: How many packets of silent peers came to this machine, by their links. Empty if
            this user may not listen.
    """

    seconds: float
    before: Snapshot
    after: Snapshot
    pings: Mapping[LinkKey, LinkPing]
    loop: LoopReport
    arrived: Mapping[LinkKey, int] = attrs.field(factory=dict[LinkKey, int])

    def links(self) -> Iterator[LinkCase]:
        """Yield a case for each link that was there all the time."""
        for host in self.after.report.hosts:
            for link in host.links:
                key = host.host_id, link.link_id
                if key in self.after.links and key in self.before.links:
                    yield LinkCase(self, host, link)


class LinkCase:
    """What was seen of one link.

    Args:
        evidence: What was seen of the host.
        host: The host that the link leads to.
        link: Its state in the last look.

    Attributes:
        evidence: As it was given.
        host: As it was given.
        link: As it was given.
        before: What may have been wrong with it in the first look.
        after: What may be wrong with it in the last look.
        ping: What became of pings over it, None for none.
        arrived: How many packets of its peer came to this machine, if it was silent.
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
        """What it is called."""
        return f"{title_of(self.host.host_id, self.host.name)}, link {self.link.link_id}"

    @property
    def peer(self) -> str:
        """Where it leads, in words."""
        return self.link.dst or "its peer"

    @property
    def protocol(self) -> str:
        """What its packets go over, as firewalls call it."""
        return self.link.transport.upper()

    @property
    def peer_host(self) -> str | None:
        """The address that it leads to, without the port; None for none."""
        return None if self.link.dst is None else host_part(self.link.dst)

    def is_recent(self, at: float | None) -> bool:
        """Return whether that was while this looked, or so short before that it still counts."""
        patience = max(2 * self.evidence.seconds, 3 * self.link.ping_interval) + 1
        return at is not None and self.after.at - at <= patience

    @property
    def pinged_by_peer(self) -> bool:
        """Whether pings of the peer arrive from where the link leads."""
        at = self.after.ping_last
        # One that comes now shows more than that one came.
        patience = max(0.8 * self.evidence.seconds, 2.5 * self.link.ping_interval)
        return at is not None and self.after.at - at <= patience

    @property
    def pings_sent(self) -> int:
        """How many pings have left this machine meanwhile."""
        return self._grown("tx_ping_packets") - self._grown("tx_ping_errors")

    @property
    def pongs(self) -> int:
        """How many pongs have come meanwhile."""
        return self._grown("rx_pong_packets")

    @property
    def is_answered(self) -> bool:
        """Whether pongs come while the link is up; True while too few pings have been sent."""
        return self.link.connected and (self.pongs > 0 or self.pings_sent < 3)

    def _grown(self, name: str) -> int:
        earlier, later = self._counters
        if earlier is None or later is None:
            return 0
        # Fewer than before: they were set to zero meanwhile.
        return max(0, int(getattr(later, name)) - int(getattr(earlier, name)))


def host_part(place: str) -> str:
    """Return an address without its port."""
    return place.rpartition(":")[0]
